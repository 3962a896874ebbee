"""STS-B: how similar are two sentences, from 0 to 5?

Its own files have no names of columns and may have two more, the sources; GLUE's have names. A quote is text. The loss
of the paper is not printed; here it is the squared error of the score as a share of 5.
"""

from collections.abc import Sequence

from upath import UPath

from ladder.platform.evaluation.text.rows import first_line
from ladder.platform.finetuning.pairs import read_rows
from ladder.platform.finetuning.task import Example, Kind, Task

LARGEST = 5.0
WANTED = ("score", "sentence1", "sentence2")
COLUMNS = ("genre", "file", "year", "id", *WANTED)


def read(paths: Sequence[UPath], split: str) -> list[Example]:
    """Both sentences and the score."""
    return [
        Example(texts=(row.text("sentence1"), row.text("sentence2")), label=row.number("score", LARGEST))
        for path in paths
        for row in read_rows(path, WANTED, columns=None if "score" in first_line(path).split("\t") else COLUMNS)
    ]


STSB = Task(
    name="stsb",
    source="Semantic Textual Similarity Benchmark",
    citation="Cer et al. 2017, SemEval-2017 task 1, arXiv:1708.00055",
    kind=Kind.SIMILARITY,
    metrics=("pearson", "spearman"),
    largest=LARGEST,
    folder="STS-B",
    splits={"train": (("train.tsv",), ("sts-train.csv",)), "dev": (("dev.tsv",), ("sts-dev.csv",))},
    read=read,
    counts={"train": 5749, "dev": 1500},
)
