"""RTE: does a passage of news entail a sentence? Files have the classes' names or their numbers; 0 is entailment."""

from collections.abc import Sequence

from upath import UPath

from ladder.platform.finetuning.pairs import numbered, read_labelled
from ladder.platform.finetuning.task import Example, Kind, Task

CLASSES = ("entailment", "not_entailment")
TEXTS = ("sentence1", "sentence2")


def read(paths: Sequence[UPath], split: str) -> list[Example]:
    """Both texts and the label."""
    labels = numbered(CLASSES)
    return [example for path in paths for example in read_labelled(path, texts=TEXTS, label="label", labels=labels)]


RTE = Task(
    name="rte",
    source="Recognising Textual Entailment 1, 2, 3 and 5, as GLUE has them",
    citation="Dagan et al. 2006; Bentivogli et al. 2009; Wang et al. 2018, GLUE, arXiv:1804.07461",
    kind=Kind.ENTAILMENT,
    metrics=("accuracy",),
    classes=CLASSES,
    folder="RTE",
    splits={"train": (("train.tsv",),), "dev": (("dev.tsv",),)},
    read=read,
    counts={"train": 2490, "dev": 277},
)
