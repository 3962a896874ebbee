"""MRPC: do two sentences of news say the same? Two thirds do: all-positive answers have an F1 of .81 on dev."""

from collections.abc import Sequence

from upath import UPath

from ladder.platform.finetuning.pairs import numbered, read_labelled
from ladder.platform.finetuning.task import Example, Kind, Task

CLASSES = ("different", "equivalent")
TEXTS = ("#1 String", "#2 String")


def read(paths: Sequence[UPath], split: str) -> list[Example]:
    """Both texts and the label."""
    labels = numbered(CLASSES)
    return [example for path in paths for example in read_labelled(path, texts=TEXTS, label="Quality", labels=labels)]


MRPC = Task(
    name="mrpc",
    source="Microsoft Research Paraphrase Corpus, GLUE's split",
    citation="Dolan and Brockett 2005, Automatically constructing a corpus of sentential paraphrases",
    kind=Kind.SIMILARITY,
    metrics=("f1", "accuracy"),
    classes=CLASSES,
    folder="MRPC",
    splits={"train": (("train.tsv",),), "dev": (("dev.tsv",),)},
    read=read,
    counts={"train": 3668, "dev": 408},
)
