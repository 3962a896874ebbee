"""What a user asks for, the same everywhere: names of benchmarks, groups of them, and files of the user's own.

A benchmark that is named must be at hand. Of a group those that are absent are left out, with what to do to get them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Benchmark
from ladder.platform.evaluation.harness.names import is_harness_name
from ladder.platform.evaluation.own.file import OwnFile, is_own_file, read_own_file
from ladder.platform.evaluation.registry import GROUPS, find_benchmarks, find_group, known_benchmarks


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Benchmarks that were asked for."""

    named: tuple[Benchmark, ...]
    """Those asked for by name or by file."""
    grouped: tuple[Benchmark, ...]
    """Those that only a group holds."""
    own: tuple[OwnFile, ...] = ()
    """The files that define the user's own among them."""

    @property
    def benchmarks(self) -> tuple[Benchmark, ...]:
        """All of them."""
        return self.named + self.grouped

    def at_hand(
        self, *, storage: UPath, corpus: Corpus | None, shots: int | None = None
    ) -> tuple[list[Benchmark], dict[str, Benchmark]]:
        """Those whose data are there, and by name those of groups whose data are not.

        InputError, with the remedy, where one that was named is absent.
        """
        for benchmark in self.named:
            reason = benchmark.missing(storage=storage, corpus=corpus, shots=shots)
            if reason is not None:
                raise InputError(reason)
        absent = {
            benchmark.name: benchmark
            for benchmark in self.grouped
            if benchmark.missing(storage=storage, corpus=corpus, shots=shots) is not None
        }
        return [benchmark for benchmark in self.benchmarks if benchmark.name not in absent], absent


def select(words: Sequence[str]) -> Selection:
    """The benchmarks that words name, separated by commas or spaces; InputError for what is none."""
    names = split_words(words)
    own = tuple(read_own_file(name) for name in dict.fromkeys(names) if is_own_file(name))
    paths = {file.path: file.benchmark().name for file in own}
    if len(set(paths.values())) < len(paths):
        raise InputError(f"two of the files {', '.join(paths)} define a benchmark of one name: rename one of them")
    singles = [one for name in names if name not in GROUPS for one in _tasks(name)]
    named = find_benchmarks([paths.get(name, name) for name in singles], own)
    grouped = {one.name: one for name in names if name in GROUPS for one in find_group(name)}
    for benchmark in named:
        grouped.pop(benchmark.name, None)
    return Selection(named=tuple(named), grouped=tuple(grouped.values()), own=own)


def _tasks(name: str) -> list[str]:
    """The tasks of a group of lm-evaluation-harness; any other name as it is."""
    if not is_harness_name(name):
        return [name]
    from ladder.platform.evaluation.harness.tasks import find_tasks

    return find_tasks(name)


def split_words(words: Sequence[str]) -> list[str]:
    """Words separated by commas or spaces."""
    names: list[str] = []
    for word in words:
        is_file = is_own_file(word) and Path(word).is_file()  # its path may have spaces
        names += [word] if is_file else word.replace(",", " ").split()
    return names


def names_benchmarks(word: str) -> bool:
    """Whether a word is made of names of benchmarks, of groups and of files of a user's own."""
    known = {*known_benchmarks(), *GROUPS}
    names = split_words([word])
    return bool(names) and all(name in known or is_own_file(name) or is_harness_name(name) for name in names)
