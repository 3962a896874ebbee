"""SST-2: is a phrase of a film review positive? Trained on GLUE's phrases, scored on whole sentences.

The files have lower-case Penn Treebank tokens, written here as ordinary text. GLUE's 67,349 training phrases are not
the 6,920 sentences of `stsa.binary.train`: another task.
"""

from collections.abc import Sequence

from upath import UPath

from ladder.platform.evaluation.benchmarks.gpt1.sst2 import write_sentence
from ladder.platform.evaluation.text.rows import read_tabs
from ladder.platform.finetuning.pairs import numbered
from ladder.platform.finetuning.task import Example, Kind, Task

CLASSES = ("negative", "positive")


def read(paths: Sequence[UPath], split: str) -> list[Example]:
    """Sentence and label."""
    return [
        Example(texts=(write_sentence(row.text("sentence")),), label=row.label("label", numbered(CLASSES)))
        for path in paths
        for row in read_tabs(path, ("sentence", "label"))
    ]


SST2 = Task(
    name="sst2",
    source="Stanford Sentiment Treebank, positive or negative, as GLUE has it",
    citation="Socher et al. 2013, Recursive deep models for semantic compositionality",
    kind=Kind.CLASSIFICATION,
    metrics=("accuracy",),
    classes=CLASSES,
    folder="SST-2",
    splits={"train": (("train.tsv",), ("train_*.tsv",)), "dev": (("dev.tsv",),)},
    read=read,
    counts={"train": 67_349, "dev": 872},
)
