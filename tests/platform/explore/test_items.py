"""Benchmarks' items come from the files of `ladder evaluate --samples`; the sentence says who leads."""

import json
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.explore.catalogue import find_entries
from ladder.platform.explore.items import read_items
from ladder.platform.explore.lead import Pair, describe_lead


def record(checkpoint: str, item: int, right: bool, **fields: Any) -> dict[str, Any]:
    question = {"prompt": f"question {item}", "candidates": [" a", " b"], "answer": 0}
    return {"checkpoint": checkpoint, "benchmark": "copa", "metric": "accuracy", "item": item, "right": right} | (
        question | fields
    )


def written(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    return path


def test_items_say_which_checkpoints_have_them_right(swept: UPath, tmp_path: Path) -> None:
    small, *_, large = find_entries(["mine"], swept)
    first = written(tmp_path / "a", record(str(small.folder), 1, False), record(str(small.folder), 0, True))
    second = written(tmp_path / "b", record(str(large.folder), 1, True), record("/another/checkpoint", 1, True))
    items = read_items([first, second], [small, large])
    assert [(item["item"], item["prompt"]) for item in items] == [(0, "question 0"), (1, "question 1")]
    assert [item["right"] for item in items] == [{small.name: True}, {small.name: False, large.name: True}]


def test_files_of_other_checkpoints_and_other_files_are_a_message(swept: UPath, tmp_path: Path) -> None:
    entries = find_entries(["mine"], swept)
    with pytest.raises(InputError, match="no item of a checkpoint on this page"):
        read_items([written(tmp_path / "a", record("/another", 1, True))], entries)
    for line in ("no JSON", "[1]", '{"checkpoint": "x"}'):
        (tmp_path / "b").write_text(line)
        with pytest.raises(InputError, match="line 1: no record"):
            read_items([tmp_path / "b"], entries)


def pairs(*leads: tuple[float, float]) -> list[Pair]:
    sizes = [(f"{n}x16", 1000 * (n + 1)) for n in range(len(leads))]
    return [
        Pair(size=size, params=params, tokens=9, first=a, second=b)
        for (size, params), (a, b) in zip(sizes, leads, strict=True)
    ]


@pytest.mark.parametrize(
    ("leads", "said"),
    [
        ([(0.1, 0.2), (0.3, 0.2), (0.4, 0.2)], '"tired" is likelier than "wide" from 2,000 parameters on (1x16).'),
        ([(0.3, 0.2), (0.1, 0.2), (0.4, 0.2)], "from 3,000 parameters on (2x16). Below that it leads at some sizes"),
        ([(0.3, 0.2), (0.4, 0.2)], "at every size"),
        ([(0.1, 0.2), (0.2, 0.2)], "not likelier than"),
        ([(0.3, 0.2), (0.1, 0.2)], "at 1 of 2 sizes, but not at the largest"),
        ([(0.3, 0.1)], '3 times likelier than "wide" for the model of 1,000 parameters'),
        ([(0.1, 0.3)], "3 times less likely than"),
        ([], ""),
    ],
)
def test_the_sentence_says_from_which_size_on_the_first_leads(leads: list[tuple[float, float]], said: str) -> None:
    assert said in describe_lead(pairs(*leads), " tired", " wide")


def test_a_size_counts_by_its_checkpoints_of_most_tokens_with_seeds_averaged() -> None:
    early = Pair(size="1x16", params=5, tokens=1, first=0.9, second=0.1)
    seeds = [Pair(size="1x16", params=5, tokens=2, first=first, second=0.2) for first in (0.1, 0.2)]
    assert "less likely" in describe_lead([early, *seeds], "a", "b")
