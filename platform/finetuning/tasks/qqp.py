"""QQP: do two questions ask the same? GLUE's tables with tabs, or Quora's own comma-separated values."""

from collections.abc import Sequence

from upath import UPath

from ladder.platform.finetuning.pairs import numbered, read_labelled
from ladder.platform.finetuning.task import Example, Kind, Task

CLASSES = ("different", "duplicate")
TEXTS = ("question1", "question2")


def read(paths: Sequence[UPath], split: str) -> list[Example]:
    """Both texts and the label."""
    labels = numbered(CLASSES)
    return [
        example for path in paths for example in read_labelled(path, texts=TEXTS, label="is_duplicate", labels=labels)
    ]


QQP = Task(
    name="qqp",
    source="Quora Question Pairs",
    citation="Iyer et al. 2017, First Quora dataset release; Wang et al. 2018, GLUE, arXiv:1804.07461",
    kind=Kind.SIMILARITY,
    metrics=("f1", "accuracy"),
    classes=CLASSES,
    folder="QQP",
    splits={"train": (("train.tsv",),), "dev": (("dev.tsv",),)},
    read=read,
    counts={"train": 363_846, "dev": 40_430},
)
