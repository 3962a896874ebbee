"""CoLA: is a sentence acceptable English?

Four columns without names: source, label, the author's mark, sentence. The dev split is the in-domain and the
out-of-domain one together, as in GLUE.
"""

from collections.abc import Sequence

from upath import UPath

from ladder.platform.finetuning.pairs import numbered, read_labelled
from ladder.platform.finetuning.task import Example, Kind, Task

CLASSES = ("unacceptable", "acceptable")
COLUMNS = ("source", "label", "mark", "sentence")


def read(paths: Sequence[UPath], split: str) -> list[Example]:
    """Sentence and label."""
    labels = numbered(CLASSES)
    return [
        example
        for path in paths
        for example in read_labelled(path, texts=("sentence",), label="label", labels=labels, columns=COLUMNS)
    ]


COLA = Task(
    name="cola",
    source="Corpus of Linguistic Acceptability",
    citation="Warstadt et al. 2018, Neural network acceptability judgments, arXiv:1805.12471",
    kind=Kind.CLASSIFICATION,
    metrics=("mcc", "accuracy"),
    classes=CLASSES,
    folder="CoLA",
    splits={
        "train": (("train.tsv",), ("raw/in_domain_train.tsv",)),
        "dev": (("dev.tsv",), ("raw/in_domain_dev.tsv", "raw/out_of_domain_dev.tsv")),
    },
    read=read,
    counts={"train": 8551, "dev": 1043},
)
