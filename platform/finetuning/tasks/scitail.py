"""SciTail: does a sentence of the web entail the answer to a question of a science exam?

Three columns without names, or JSON lines in the names of SNLI. A quote is text: read as in comma-separated values, the
23,596 training pairs become 23,097.
"""

from collections.abc import Sequence

from upath import UPath

from ladder.platform.evaluation.text.rows import read_json_lines, read_tabs
from ladder.platform.finetuning.task import Example, Kind, Patterns, Task

CLASSES = ("entails", "neutral")
LABELS = {"entails": 0, "entailment": 0, "neutral": 1}
COLUMNS = ("sentence1", "sentence2", "gold_label")


def read(paths: Sequence[UPath], split: str) -> list[Example]:
    """Premise, hypothesis and label."""
    return [
        Example(texts=(row.text("sentence1"), row.text("sentence2")), label=row.label("gold_label", LABELS))
        for path in paths
        for row in (
            read_json_lines(path, COLUMNS) if path.suffix == ".txt" else read_tabs(path, COLUMNS, columns=COLUMNS)
        )
    ]


def _files(split: str) -> Patterns:
    return ((f"tsv_format/scitail_1.0_{split}.tsv",), (f"snli_format/scitail_1.0_{split}.txt",))


SCITAIL = Task(
    name="scitail",
    source="SciTail 1.1",
    citation="Khot et al. 2018, SciTail: a textual entailment dataset from science question answering",
    kind=Kind.ENTAILMENT,
    metrics=("accuracy",),
    classes=CLASSES,
    folder="SciTail",
    splits={"train": _files("train"), "dev": _files("dev")},
    read=read,
    counts={"train": 23_596, "dev": 1304},
)
