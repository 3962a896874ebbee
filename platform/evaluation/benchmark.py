"""What a benchmark is: its text, its protocol, and a function from a model's setting to measurements.

A benchmark of files is one file in `benchmarks/`, listed in `registry.py`. Its files stand in storage under
`benchmarks/<name>/`, put there by `ladder fetch`.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from upath import UPath

from ladder.models.errors import InputError
from ladder.models.tokenizer import Tokenizer
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.heldout_pages import Pages
from ladder.platform.evaluation.measurement import Measurement
from ladder.platform.evaluation.scoring import Scorer


@dataclass(frozen=True, kw_only=True)
class BenchmarkFile:
    """One file of a benchmark."""

    name: str
    """File name in the benchmark's folder."""
    sha256: str
    """sha256 (hex) of its bytes."""
    address: str
    """Where it is published."""


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
    pages: Pages | None
    """The pages held out of the corpus, under the limits; None where there is no corpus."""
    heldout_tokens: int | None
    """Tokens of the held-out split that the held-out loss reads, from its start; None reads all."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A data set, its protocol and its metrics."""

    name: str
    """Name in commands, folders and measurements."""
    source: str
    """What the text is: data set, version and split."""
    score: Callable[[Setting], list[Measurement]]
    """Scores a setting; `seconds` of the measurements is filled in by `evaluate`."""
    citation: str
    """The paper that the data set is from, or the protocol."""
    files: tuple[BenchmarkFile, ...] = ()
    """Its files; none where it is made from a corpus."""
    paper_scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Scores of the GPT-2 paper (Radford et al. 2019, table 3): metric to size to value."""

    reads_corpus_tokens: bool = False
    """Whether it scores the corpus' own tokens, so that the model must have the corpus' tokenizer."""

    @property
    def from_corpus(self) -> bool:
        """Whether it is made from a corpus' held-out split instead of files."""
        return not self.files

    def check(self, *, storage: UPath, corpus: Corpus | None, tokenizer: Tokenizer) -> None:
        """Raises InputError, with the remedy, where what the benchmark reads is absent or not the model's."""
        missing = self.missing(storage=storage, corpus=corpus)
        if missing is not None:
            raise InputError(missing)
        if self.reads_corpus_tokens and corpus is not None and corpus.tokenizer_fingerprint != tokenizer.fingerprint:
            raise InputError(
                f"benchmark {self.name} scores the tokens of corpus {corpus.name}, made by {corpus.tokenizer}, "
                f"and the model's tokenizer is {tokenizer.name}: name a corpus built with --tokenizer {tokenizer.name}"
            )

    def missing(self, *, storage: UPath, corpus: Corpus | None) -> str | None:
        """What is not at hand and how to get it; None where everything is there."""
        if self.from_corpus:
            if corpus is not None:
                return None
            return f"benchmark {self.name} is made from a corpus' held-out split: name a corpus with --corpus"
        for file in self.files:
            path = benchmark_folder(storage, self.name) / file.name
            if not path.exists():
                return (
                    f"benchmark {self.name} is not at hand, there is no {path}: get it with "
                    f"`ladder fetch {self.name} --from DIR`, DIR holding {file.name} (published at {file.address})"
                )
        return None


def benchmark_folder(storage: UPath, name: str) -> UPath:
    """Where a benchmark's files stand."""
    return storage / "benchmarks" / name


def sha256_of(path: UPath) -> str:
    """sha256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_text_lines(path: UPath) -> list[str]:
    """The lines of a UTF-8 file without their ends; InputError for an empty file or bytes that are not UTF-8."""
    content = path.read_bytes()
    if not content:
        raise InputError(f"{path} is empty: fetch the benchmark again")
    lines = []
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(f"{path}, line {number}: not UTF-8 at byte {error.start + 1} of the line") from error
    return lines
