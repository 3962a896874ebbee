"""What a benchmark is: its text, its protocol, and a function from a model's setting to scores by item.

A benchmark of files is one file in `benchmarks/`, listed in `registry.py`. Its files stand in storage under
`benchmarks/<name>/`, put there by `ladder fetch`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from upath import UPath

from ladder.models.errors import InputError
from ladder.models.tokenizer import Tokenizer
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.item_scores import ItemScores
from ladder.platform.evaluation.protocol import DEFAULT_PROTOCOL, Protocol
from ladder.platform.evaluation.scorer import Scorer


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a benchmark scores with."""

    scorer: Scorer
    """The model, ready to score."""
    tokenizer: Tokenizer
    """The model's tokenizer."""
    storage: UPath
    """The storage root."""
    corpus: Corpus | None
    """The corpus whose held-out pages are scored; None where there is none."""
    protocol: Protocol = DEFAULT_PROTOCOL
    """What a user chose."""
    shared: dict[str, Any] = field(default_factory=dict)
    """What benchmarks that read the same text keep here for each other, by name."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A data set, its protocol and its metrics."""

    name: str
    """Name in commands, folders and measurements."""
    source: str
    """What the text is: data set, version and split."""
    score: Callable[[Setting], list[ItemScores]]
    """Scores a setting: its metrics, over the same items."""
    version: int = 1
    """Raised whenever its numbers change their meaning, so that numbers kept are not mixed with new ones."""
    reads: frozenset[str] = frozenset({"limit", "shots", "seed", "window", "stride", "heldout_tokens", "limits"})
    """What of a user's choices (`Protocol`) changes its numbers; every one unless said otherwise."""
    samples: bool = False
    """Whether answers are drawn at random, so that the seed is read without solved examples too."""
    texts: Callable[[UPath, Corpus | None], list[str]] | None = None
    """The text of each item, in the order of the scores, of (storage, corpus); None where it has none of its own."""
    citation: str
    """The paper that the data set is from, or the protocol."""
    files: tuple[BenchmarkFile, ...] = ()
    """Its files; none where it is made from a corpus."""
    example_files: tuple[BenchmarkFile, ...] = ()
    """Files of another split that solved examples are drawn from; needed only where a prompt has any."""
    shots: int = 0
    """Solved examples in a prompt unless asked otherwise."""
    folder_name: str = ""
    """Name of its files' folder in storage; empty for its own name. Protocols of one data set share a folder."""
    paper_scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Scores of the GPT-2 paper (Radford et al. 2019, table 3): metric to size to value."""
    on_request: bool = False
    """Whether it is left out of "all": a split or a protocol that the paper does not score."""
    definition: str = ""
    """Hash (hex) of what defines it, where that is a user's file or another package; empty for those of ladder."""
    reads_corpus_tokens: bool = False
    """Whether it scores the corpus' own tokens, so that the model must have the corpus' tokenizer."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder_name", self.folder_name or self.name)

    def folder(self, storage: UPath) -> UPath:
        """Where its files stand."""
        return benchmark_folder(storage, self.folder_name)

    @property
    def from_corpus(self) -> bool:
        """Whether it is made from a corpus' held-out split instead of files."""
        return not self.files and not self.definition

    def settings_read(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Of what a user chose, by name, what changes the numbers."""
        read = {name: chosen[name] for name in sorted(self.reads)}
        if "shots" in read:
            read["shots"] = self.shots if read["shots"] is None else read["shots"]
            if not read["shots"] and not self.samples:
                del read["seed"]
        return read

    def needed_files(self, shots: int | None) -> tuple[BenchmarkFile, ...]:
        """The files that scoring reads with so many solved examples in a prompt; None is its own number."""
        has_examples = (self.shots if shots is None else shots) > 0
        return self.files + (self.example_files if has_examples else ())

    def check(self, *, storage: UPath, corpus: Corpus | None, tokenizer: Tokenizer, shots: int | None = None) -> None:
        """Raises InputError, with the remedy, where what the benchmark reads is absent or not the model's."""
        missing = self.missing(storage=storage, corpus=corpus, shots=shots)
        if missing is not None:
            raise InputError(missing)
        if self.reads_corpus_tokens and corpus is not None and corpus.tokenizer_fingerprint != tokenizer.fingerprint:
            raise InputError(
                f"benchmark {self.name} scores the tokens of corpus {corpus.name}, made by {corpus.tokenizer}, "
                f"and the model's tokenizer is {tokenizer.name}: name a corpus built with --tokenizer {tokenizer.name}"
            )

    def missing(self, *, storage: UPath, corpus: Corpus | None, shots: int | None = None) -> str | None:
        """What is not at hand and how to get it; None where everything is there."""
        if self.from_corpus:
            if corpus is not None:
                return None
            return f"benchmark {self.name} is made from a corpus' held-out split: name a corpus with --heldout-corpus"
        for file in self.needed_files(shots):
            path = self.folder(storage) / file.name
            if not path.exists():
                return f"benchmark {self.name} is not at hand, there is no {path}: get it with {self._remedy(file)}"
        return None

    def _remedy(self, file: BenchmarkFile) -> str:
        """How to get one of its files."""
        fetch = f"ladder fetch {self.name}" + ("" if file in self.needed_files(None) else " --examples")
        if file.downloadable:
            return f"`{fetch}`"
        return f"`{fetch} --from DIR`, DIR holding {file.name}, which {file.address} gives on request"


def benchmark_folder(storage: UPath, name: str) -> UPath:
    """Where a benchmark's files stand."""
    return storage / "benchmarks" / name


def describe_windows(setting: Setting) -> str:
    """How long texts are cut, for a protocol's words."""
    window = setting.protocol.window or setting.scorer.context
    stride = setting.protocol.stride or window
    return f"plain windows of {window}" if stride == window else f"windows of {window} with a stride of {stride}"
