"""Names, groups and files of one's own select the same benchmarks everywhere."""

from pathlib import Path

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.registry import BENCHMARKS, GROUPS, find_group
from ladder.platform.evaluation.selection import names_benchmarks, select


def names(*words: str) -> list[str]:
    return [benchmark.name for benchmark in select(words).benchmarks]


def test_the_paper_has_fourteen_sets_gpt1_six_and_pages_four() -> None:
    assert len(names("gpt2-paper")) == 14
    assert names("gpt1") == ["sst2", "copa", "race", "story-cloze", "cola", "dprd"]
    assert names("pages") == ["pages-last-word", "pages-cloze", "pages-words", "pages-bytes"]
    scored_by_paper = {name for name, one in BENCHMARKS.items() if one.paper_scores and not one.on_request}
    assert scored_by_paper <= set(names("gpt2-paper"))


def test_all_is_every_one_but_those_on_request() -> None:
    assert set(BENCHMARKS) - set(names("all")) == {name for name, one in BENCHMARKS.items() if one.on_request}
    assert {one.name for group in GROUPS for one in find_group(group)} == set(names("all"))


def test_groups_and_names_join_each_benchmark_once_and_the_named_first() -> None:
    assert names("gpt1,copa", "pages") == ["copa", "sst2", "race", "story-cloze", "cola", "dprd", *names("pages")]
    assert names_benchmarks("copa,gpt1") and not names_benchmarks("checkpoint") and not names_benchmarks("")
    with pytest.raises(InputError, match="unknown benchmark gpt3"):
        select(["gpt3"])


def test_what_is_absent_of_a_group_is_told_and_what_was_named_is_refused(tmp_path: Path, small_corpus: Corpus) -> None:
    chosen, absent = select(["pages", "gpt1"]).at_hand(storage=UPath(tmp_path), corpus=small_corpus)
    assert [benchmark.name for benchmark in chosen] == names("pages")
    assert list(absent) == names("gpt1")
    with pytest.raises(InputError, match="benchmark copa is not at hand"):
        select(["pages", "copa"]).at_hand(storage=UPath(tmp_path), corpus=small_corpus)
    with pytest.raises(InputError, match="name a corpus with --heldout-corpus"):
        select(["pages-words"]).at_hand(storage=UPath(tmp_path), corpus=None)


def test_a_file_of_ones_own_is_one_of_them_under_a_name_that_is_free(tmp_path: Path) -> None:
    mine = tmp_path / "my file.jsonl"
    mine.write_text('{"name": "mine"}\n{"text": "a"}\n')
    selection = select([str(mine), "copa"])
    assert [benchmark.name for benchmark in selection.named] == ["mine", "copa"]
    assert [file.path for file in selection.own] == [str(mine)]
    chosen, _ = select([str(mine)]).at_hand(storage=UPath(tmp_path), corpus=None)
    assert [benchmark.name for benchmark in chosen] == ["mine"], "it needs neither files nor a corpus"
    for taken in ("copa", "gpt1"):
        (tmp_path / "taken.jsonl").write_text(f'{{"name": "{taken}"}}\n{{"text": "a"}}\n')
        with pytest.raises(InputError, match=f"taken.jsonl: a benchmark named {taken} is there already"):
            select([str(tmp_path / "taken.jsonl")])
    (tmp_path / "taken.jsonl").write_text('{"name": "mine"}\n{"text": "b"}\n')
    with pytest.raises(InputError, match="define a benchmark of one name"):
        select([str(mine), str(tmp_path / "taken.jsonl")])
