"""WNLI: does a sentence hold with the pronoun of a Winograd schema replaced?

Dev repeats the sentences of train with other answers, so what is learnt by heart is wrong there.
"""

from collections.abc import Sequence

from upath import UPath

from ladder.platform.finetuning.pairs import numbered, read_labelled
from ladder.platform.finetuning.task import Example, Kind, Task

CLASSES = ("not_entailment", "entailment")
TEXTS = ("sentence1", "sentence2")


def read(paths: Sequence[UPath], split: str) -> list[Example]:
    """Both texts and the label."""
    labels = numbered(CLASSES)
    return [example for path in paths for example in read_labelled(path, texts=TEXTS, label="label", labels=labels)]


WNLI = Task(
    name="wnli",
    source="Winograd schemas as pairs, as GLUE has them",
    citation="Levesque et al. 2011, The Winograd schema challenge; Wang et al. 2018, GLUE, arXiv:1804.07461",
    kind=Kind.ENTAILMENT,
    metrics=("accuracy",),
    classes=CLASSES,
    folder="WNLI",
    splits={"train": (("train.tsv",), ("train_*.tsv",)), "dev": (("dev.tsv",),)},
    read=read,
    counts={"train": 635, "dev": 71},
)
