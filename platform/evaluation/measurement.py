"""One number of a benchmark, with everything a reader needs to use it without knowing the benchmark.

Analysis, reports and MLflow read measurements as data: unit, direction and chance travel with the value, so that none
of them holds a list of benchmarks. The sums and counts behind the value travel too: every other normalisation (per
token, per word, per byte) can be had from them without scoring again.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Direction = Literal["lower", "higher"]

HELDOUT = "heldout"
"""Name of the held-out loss, which every run is scored on."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A value with its unit, direction, count and standard error."""

    benchmark: str
    """Name of the benchmark, as in `ladder evaluate --benchmarks`."""
    protocol: str
    """How the text was prepared and what was scored, in a few words."""
    metric: str
    """Name of the number within the benchmark; with the benchmark's name, the name of the measurement."""
    value: float
    """The number itself, in `unit`."""
    unit: str
    """What the value is counted in, such as nats per token or share of items."""
    direction: Direction
    """Whether a better model has a lower or a higher value."""
    count: int
    """Items scored, or units (tokens, words, bytes) that the value is divided by."""
    standard_error: float | None = None
    """Standard error of the value over the sampled items or documents; None where one item leaves it undefined."""
    chance: float | None = None
    """Value of guessing without reading; None where guessing has no single value."""
    seconds: float = 0.0
    """Wall time of scoring the benchmark; what benchmarks share is counted with the first that needs it."""
    description: str = ""
    """One clause for a caption, standard error's unit of sampling included."""
    totals: dict[str, float] = field(default_factory=dict)
    """Sums behind the value: nats, tokens, words, characters, bytes, items, and how many items were cut."""
    scored_with: dict[str, Any] = field(default_factory=dict)
    """What made the number: the benchmark's version, the hash of what defines it where that is no part of ladder, the
    settings that it reads, precision, device, tokenizer, a hash of the scoring code and, of a checkpoint, of its config
    and weights."""
    paper_scores: dict[str, float] = field(default_factory=dict)
    """Scores of the GPT-2 paper's models in the same unit, by size (Radford et al. 2019); none where it has none."""

    @property
    def name(self) -> str:
        """The measurement's name in MLflow and in the table of runs: `lambada/accuracy`."""
        return f"{self.benchmark}/{self.metric}"

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON's own types; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Measurement":
        """The measurement of a dict written by `to_json`; keys of later versions are left out."""
        known = {entry.name for entry in fields(cls)}
        return cls(**{key: value for key, value in record.items() if key in known})
