"""RACE: English exams of middle and high schools, four options a question; read from the published archive.

Passage and question stand a line each and have no delimiter between them ([z; q; $; a], section 3.3 of the paper). How
the paper cut its passages is not printed: here they lose their beginning, and question and options lose nothing.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.benchmarks.gpt1.race import read_questions
from ladder.platform.evaluation.files.archive import ArchiveError, unpack
from ladder.platform.finetuning.task import Example, Kind, Task

MOST_BYTES = 1 << 29
"""Of a split, unpacked: the largest has some 60 MB."""


def read(paths: Sequence[UPath], split: str) -> list[Example]:
    """Passage, question and options, with the index of the right one."""
    examples: list[Example] = []
    for path in paths:
        with tempfile.TemporaryDirectory(prefix="ladder-race-") as scratch:
            lines = UPath(scratch) / f"{split}.jsonl"
            try:
                unpack(Path(path.path), {f"RACE/{split}/": lines}, most_bytes=MOST_BYTES)
            except ArchiveError as error:
                raise InputError(f"{path}: {error}; wanted the archive RACE.tar.gz as it is published") from error
            for question in read_questions(lines, folder=f"{path}, RACE/{split}/"):
                passage = (question.about or "").strip()
                asked = question.context.removeprefix(passage)
                options = (choice.text for choice in question.choices)
                examples.append(Example(texts=(passage, asked, *options), label=question.answer))
    return examples


RACE = Task(
    name="race",
    source="RACE, middle and high schools together",
    citation="Lai et al. 2017, RACE, arXiv:1704.04683",
    kind=Kind.CHOICE,
    metrics=("accuracy",),
    options=4,
    folder="RACE",
    splits={
        "train": (("RACE.tar.gz",), ("RACE_train*.tar.gz",)),
        "dev": (("RACE.tar.gz",), ("RACE_dev*.tar.gz",)),
    },
    read=read,
    counts={"train": 87_866, "dev": 4887},
)
