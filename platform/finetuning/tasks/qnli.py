"""QNLI: does a sentence of Wikipedia answer a question? The paper's order is not printed; the question comes first.

These are the data of today (v2); GPT-1's 88.1 is of an older version that cannot be had.
"""

from collections.abc import Sequence

from upath import UPath

from ladder.platform.finetuning.pairs import numbered, read_labelled
from ladder.platform.finetuning.task import Example, Kind, Task

CLASSES = ("entailment", "not_entailment")


def read(paths: Sequence[UPath], split: str) -> list[Example]:
    """Question, sentence and label."""
    labels = numbered(CLASSES)
    return [
        example
        for path in paths
        for example in read_labelled(path, texts=("question", "sentence"), label="label", labels=labels)
    ]


QNLI = Task(
    name="qnli",
    source="SQuAD as question and sentence, GLUE's second version",
    citation="Rajpurkar et al. 2016, arXiv:1606.05250; Wang et al. 2018, GLUE, arXiv:1804.07461",
    kind=Kind.ENTAILMENT,
    metrics=("accuracy",),
    classes=CLASSES,
    whole=(0,),
    folder="QNLI",
    splits={"train": (("train.tsv",),), "dev": (("dev.tsv",),)},
    read=read,
    counts={"train": 104_743, "dev": 5463},
)
