"""MNLI: as SNLI, on ten genres; scored on the dev split of the genres trained on (m) and on that of others (mm)."""

from collections.abc import Sequence

from upath import UPath

from ladder.platform.evaluation.text.rows import first_line
from ladder.platform.finetuning.pairs import numbered, read_labelled
from ladder.platform.finetuning.task import Example, Kind, Task
from ladder.platform.finetuning.tasks.snli import CLASSES, TEXTS

UNNAMED = ("gold_label", *TEXTS)
"""The columns of a table without names."""


def read(paths: Sequence[UPath], split: str) -> list[Example]:
    """Premise, hypothesis and label."""
    labels = numbered(CLASSES)
    examples = []
    for path in paths:
        unnamed = path.suffix != ".jsonl" and "gold_label" not in first_line(path).split("\t")
        columns = UNNAMED if unnamed else None
        examples += read_labelled(path, texts=TEXTS, label="gold_label", labels=labels, columns=columns, left_out={"-"})
    return examples


MNLI = Task(
    name="mnli",
    source="Multi-Genre Natural Language Inference 1.0",
    citation="Williams et al. 2018, A broad-coverage challenge corpus for sentence understanding, arXiv:1704.05426",
    kind=Kind.ENTAILMENT,
    metrics=("accuracy",),
    classes=CLASSES,
    folder="MNLI",
    splits={
        "train": (("train.tsv",), ("multinli_1.0_train.jsonl",)),
        "dev": (("dev_matched.tsv",), ("multinli_1.0_dev_matched.jsonl",)),
        "dev_mismatched": (("dev_mismatched.tsv",), ("multinli_1.0_dev_mismatched.jsonl",)),
    },
    read=read,
    counts={"train": 392_702, "dev": 9815, "dev_mismatched": 9832},
)
