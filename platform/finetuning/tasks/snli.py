"""SNLI: does a caption of a picture entail, contradict or leave open another sentence?

Official are JSON lines and tables with tabs; a pair whose annotators did not agree has the label "-" and is left out.
The form of three files of lines (s1, s2, labels), which has the labelled pairs only, is in Penn Treebank tokens,
written here as ordinary text.
"""

from collections.abc import Sequence

from upath import UPath

from ladder.platform.evaluation.benchmarks.gpt1.sst2 import write_sentence
from ladder.platform.evaluation.text.rows import read_side_by_side
from ladder.platform.finetuning.pairs import numbered, read_labelled
from ladder.platform.finetuning.task import Example, Kind, Patterns, Task

CLASSES = ("entailment", "neutral", "contradiction")
TEXTS = ("sentence1", "sentence2")


def read(paths: Sequence[UPath], split: str) -> list[Example]:
    """Premise, hypothesis and label."""
    parts = {path.stem: path for path in paths}
    if {"s1", "s2", "labels"} == set(parts):
        return _read_side_by_side(parts)
    labels = numbered(CLASSES)
    return [
        example
        for path in paths
        for example in read_labelled(path, texts=TEXTS, label="gold_label", labels=labels, left_out={"-"})
    ]


def _read_side_by_side(parts: dict[str, UPath]) -> list[Example]:
    rows = read_side_by_side({"sentence1": parts["s1"], "sentence2": parts["s2"], "gold_label": parts["labels"]})
    return [
        Example(
            texts=tuple(write_sentence(row.text(column)) for column in TEXTS),
            label=row.label("gold_label", numbered(CLASSES)),
        )
        for row in rows
    ]


def _files(split: str) -> Patterns:
    lines = tuple(f"{part}.{split}" for part in ("labels", "s1", "s2"))
    return ((f"snli_1.0_{split}.jsonl",), (f"snli_1.0_{split}.txt",), lines)


SNLI = Task(
    name="snli",
    source="Stanford Natural Language Inference 1.0",
    citation="Bowman et al. 2015, A large annotated corpus for learning natural language inference, arXiv:1508.05326",
    kind=Kind.ENTAILMENT,
    metrics=("accuracy",),
    classes=CLASSES,
    folder="SNLI",
    splits={"train": _files("train"), "dev": _files("dev")},
    read=read,
    counts={"train": 549_367, "dev": 9842},
)
