"""What a labelled task is: its kind of input, its classes, its files and its metrics.

A task is one file in `tasks/`, listed in `registry.py`. Its files stand in a folder of the task's own, under their
published names, all labelled splits of them: `train` is trained on and every split called `dev...` is scored.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.storage import list_files

logger = logging.getLogger(__name__)


class Kind(Enum):
    """How an example becomes sequences (Radford et al. 2018, figure 1, right)."""

    CLASSIFICATION = "classification"
    """start, text, extract."""
    ENTAILMENT = "entailment"
    """start, premise, delimiter, hypothesis, extract."""
    SIMILARITY = "similarity"
    """Both orders of two texts as in entailment; the two states are added."""
    CHOICE = "choice"
    """start, document and question, delimiter, option, extract, for each option; one number for each."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A labelled example."""

    texts: tuple[str, ...]
    """The text; premise and hypothesis; the two texts; or document, question and the options."""
    label: float
    """Index of the class, or of the right option; the value itself where the task asks for a number."""


Patterns = tuple[tuple[str, ...], ...]
"""Ways to find a split: in each the patterns of paths below the task's folder that together are the split; the first
that is at hand is taken."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A labelled data set."""

    name: str
    """Name in commands and measurements."""
    source: str
    """What it is, in one line."""
    citation: str
    """The paper that the data set is from."""
    kind: Kind
    """How an example becomes sequences."""
    metrics: tuple[str, ...]
    """Names of its metrics, the one that is compared first."""
    folder: str
    """Name of the folder that its files are published in."""
    splits: Mapping[str, Patterns]
    """Where each split is found; `train`, `dev` and others whose names begin with dev."""
    read: Callable[[Sequence[UPath], str], list[Example]]
    """Reads files of a split; InputError names file and line of what is wrong."""
    classes: tuple[str, ...] = ()
    """The classes in the order of their labels; none where the options are, or where the task asks for a number."""
    options: int | None = None
    """Options of a question, where the task is a choice."""
    largest: float | None = None
    """The largest value, where the task asks for a number from 0; it is trained and scored as a share of it."""
    whole: tuple[int, ...] = ()
    """Which of an example's texts are never cut."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Published number of labelled examples by split."""

    @property
    def outputs(self) -> int:
        """Numbers that the head gives for what it reads."""
        return len(self.classes) if self.classes else 1

    @property
    def together(self) -> int:
        """Sequences of an example."""
        if self.kind is Kind.CHOICE:
            assert self.options is not None, self.name
            return self.options
        return 2 if self.kind is Kind.SIMILARITY else 1

    @property
    def answers(self) -> int | None:
        """How many answers there are to choose from; None where the answer is a number."""
        return None if self.largest is not None else self.options or len(self.classes)

    @property
    def scored_splits(self) -> list[str]:
        """The splits that are scored and reported."""
        return [split for split in self.splits if split.startswith("dev")]


def read_split(task: Task, data: UPath, split: str) -> list[Example]:
    """The labelled examples of a split, from the task's folder in `data`.

    InputError where there are no files, a line is wrong or a class has no training example; a number of examples that
    is not the published one is logged, since a part of a set is a set too.
    """
    paths = find_files(task, data, split)
    examples = task.read(paths, split)
    names = ", ".join(path.name for path in paths)
    _check(task, split, examples, str(paths[0]) if len(paths) == 1 else f"{paths[0].parent}: {names}")
    published = task.counts.get(split)
    if published is not None and len(examples) != published:
        logger.warning(
            "task %s has %d examples in %s (%s), published are %d", task.name, len(examples), split, names, published
        )
    return examples


def find_files(task: Task, data: UPath, split: str) -> list[UPath]:
    """The files of a split, in the order of their names; InputError where there are none."""
    folders = [data / task.folder, data / task.name]
    for folder in folders:
        names = sorted(list_files(folder))
        for patterns in task.splits[split]:
            found = [[name for name in names if fnmatchcase(name, pattern)] for pattern in patterns]
            if all(found):
                return [folder / name for name in dict.fromkeys(name for group in found for name in group)]
    wanted = ", or ".join(" and ".join(patterns) for patterns in task.splits[split])
    raise InputError(
        f"task {task.name}: no files of its split {split} in {folders[0]} (or {folders[1].name}): wanted {wanted}. Get "
        f"the published files with `ladder fetch --tasks {task.name}`, or name the folder above with --data."
    )


def _check(task: Task, split: str, examples: Sequence[Example], where: str) -> None:
    if not examples:
        raise InputError(f"{where}: no labelled examples of task {task.name}; wanted at least one")
    if not task.classes:
        return
    seen = Counter(int(example.label) for example in examples)
    missing = [name for label, name in enumerate(task.classes) if not seen[label]]
    if missing and split == "train":
        raise InputError(
            f"{where}: no example of the class {missing[0]}; wanted some of each of {', '.join(task.classes)}"
        )
