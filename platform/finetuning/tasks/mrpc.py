"""MRPC: do two sentences of news say the same? Two thirds do: all-positive answers have an F1 of .81 on dev.

GLUE's train and dev, or Microsoft's training file with GLUE's list of the pairs in it that are dev.
"""

from collections.abc import Sequence

from upath import UPath

from ladder.platform.evaluation.text.rows import read_tabs
from ladder.platform.finetuning.pairs import numbered, read_labelled
from ladder.platform.finetuning.task import Example, Kind, Task

CLASSES = ("different", "equivalent")
TEXTS = ("#1 String", "#2 String")
IDS = ("#1 ID", "#2 ID")
DEV_IDS = "mrpc_dev_ids.tsv"
WHOLE = ("msr_paraphrase_train.txt", DEV_IDS)


def read(paths: Sequence[UPath], split: str) -> list[Example]:
    """Both sentences and the label."""
    labels = numbered(CLASSES)
    lists = [path for path in paths if path.name == DEV_IDS]
    if not lists:
        return [one for path in paths for one in read_labelled(path, texts=TEXTS, label="Quality", labels=labels)]
    dev = {tuple(row.text(name) for name in IDS) for row in read_tabs(lists[0], IDS, columns=IDS)}
    return [
        Example(texts=tuple(row.text(name) for name in TEXTS), label=row.label("Quality", labels))
        for path in paths
        if path not in lists
        for row in read_tabs(path, ("Quality", *IDS, *TEXTS))
        if (tuple(row.text(name) for name in IDS) in dev) == (split == "dev")
    ]


MRPC = Task(
    name="mrpc",
    source="Microsoft Research Paraphrase Corpus, GLUE's split",
    citation="Dolan and Brockett 2005, Automatically constructing a corpus of sentential paraphrases",
    kind=Kind.SIMILARITY,
    metrics=("f1", "accuracy"),
    classes=CLASSES,
    folder="MRPC",
    splits={"train": (("train.tsv",), WHOLE), "dev": (("dev.tsv",), WHOLE)},
    read=read,
    counts={"train": 3668, "dev": 408},
)
