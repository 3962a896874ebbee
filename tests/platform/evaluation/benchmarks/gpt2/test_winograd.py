"""Winograd: the real file, substitution beside another release of the same items, and the two scorings."""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmarks.gpt2.winograd import FILE, POSSESSIVE_ITEMS, read_questions, write_candidate
from ladder.platform.evaluation.evaluate import evaluate
from ladder.platform.evaluation.files.published import sha256_of
from ladder.platform.evaluation.protocol import Protocol


@pytest.fixture
def folder(shared: Path) -> UPath:
    return UPath(shared / "benchmarks" / "wsc273")


def install(storage: Path, content: bytes) -> None:
    path = storage / "benchmarks" / "winograd" / FILE.name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def test_the_real_file_holds_273_items_and_is_the_one_named(folder: UPath) -> None:
    questions = read_questions(folder / FILE.name)
    assert len(questions) == 273
    assert sha256_of(folder / FILE.name) == FILE.sha256
    assert {len(question.choices) for question in questions} == {2}


def test_substitution_equals_that_of_another_release_in_all_but_one_pair(folder: UPath) -> None:
    """The pair that differs follows an exclamation mark, after which the other release has a small letter."""
    lines = (folder / "winograd_wsc_llmfoundry.jsonl").read_text().splitlines()
    others = [json.loads(line) for line in lines]
    differing = []
    for index, (question, other) in enumerate(zip(read_questions(folder / FILE.name), others, strict=True)):
        ours = {(question.context + choice.text, choice.rest.strip()) for choice in question.choices}
        right = question.choices[question.answer]
        theirs = {(text, other["continuation"]) for text in other["context_options"]}
        answer = (other["context_options"][other["gold"]], other["continuation"])
        if ours != theirs or (question.context + right.text, right.rest.strip()) != answer:
            differing.append(index)
            assert {(text.lower(), rest) for text, rest in ours} == {(text.lower(), rest) for text, rest in theirs}
    assert differing == [172, 173]


def test_possessive_items_are_those_whose_pronoun_is_his_or_her_in_the_collection(folder: UPath) -> None:
    schemas = ET.fromstring((folder / "WSCollection.xml").read_bytes()).findall("schema")[:273]
    pronouns = [(schema.findtext("text/pron") or "").strip().lower() for schema in schemas]
    assert {index for index, pronoun in enumerate(pronouns) if pronoun in ("his", "her")} == POSSESSIVE_ITEMS


def test_texts_have_no_space_before_a_mark_and_none_doubled(folder: UPath) -> None:
    for question in read_questions(folder / FILE.name):
        assert re.search(r" [.,;:!?]|  | $|^ ", question.solved) is None


@pytest.mark.parametrize(
    ("candidate", "before", "possessive", "wanted"),
    [
        ("The trophy", "because", False, "the trophy"),
        ("the trophy", "It fell.", False, "The trophy"),
        ("The trophy", "Look!", False, "The trophy"),
        ("His son", "because of", True, "his son's"),
        ("Ann", "because", False, "Ann"),
        ("Theo", "because", False, "Theo"),
        ("the boy", "", True, "The boy's"),
    ],
)
def test_a_candidate_is_written_as_its_place_asks(candidate: str, before: str, possessive: bool, wanted: str) -> None:
    assert write_candidate(candidate, before, possessive=possessive) == wanted


def test_an_untrained_model_scores_at_chance_both_ways(folder: UPath, gpt2_vocabulary: None, tmp_path: Path) -> None:
    install(tmp_path, (folder / FILE.name).read_bytes())
    model = GPT2(parse_size("1x32", context=128), seed=0)
    partial, full = evaluate(model, load_tokenizer("gpt2"), ["winograd"], storage=UPath(tmp_path))
    assert (partial.name, full.name) == ("winograd/accuracy_partial", "winograd/accuracy_full")
    for score in (partial, full):
        assert (score.count, score.chance) == (273, 0.5)
        assert score.standard_error is not None
        assert abs(score.value - 0.5) <= 3 * score.standard_error
    assert dict(partial.paper_scores) == {"1542M": 0.7070}


def test_partial_scoring_reads_what_follows_and_full_the_candidate_too(
    bigram: Callable[..., GPT2], tmp_path: Path
) -> None:
    item = "we saw [MASK] go\n[MASK]\nxb,xa\nxb\n\n"
    install(tmp_path, item.encode())
    model = bigram(classes=257, context=64)
    table = model.log_probabilities
    table[:] = 0.0
    table[ord("b"), ord(" ")] = 3.0  # what follows is likelier after b, the right one
    table[ord("x"), ord("a")] = 9.0  # the wrong one is likelier by itself
    table.copy_(table.log_softmax(1))
    partial, full = evaluate(model, load_tokenizer("bytes"), ["winograd"], storage=UPath(tmp_path))
    assert (partial.value, full.value) == (1.0, 0.0)


def test_only_as_many_items_as_asked_are_scored(folder: UPath, byte_gpt2: GPT2, tmp_path: Path) -> None:
    install(tmp_path, (folder / FILE.name).read_bytes())
    protocol = Protocol(limit=7, shots=2)
    scores = evaluate(byte_gpt2, load_tokenizer("bytes"), ["winograd"], storage=UPath(tmp_path), protocol=protocol)
    assert [score.count for score in scores] == [7, 7]
    assert all("zero-shot" in score.protocol for score in scores)  # there is no prompt to put examples in
    assert scores[0].totals["items_cut"] > 0  # 64 bytes are less than most sentences


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("We saw it go.\n[MASK]\na,b\na\n\n", r"line 1: wanted a sentence with one \[MASK\]"),
        ("[MASK] saw [MASK].\n[MASK]\na,b\na\n\n", "line 1: wanted a sentence with one"),
        ("[MASK] saw.\n[MASK]\na,b\na\nWe\n", "line 1: wanted .* an empty line; got .*'We'"),
        ("[MASK] saw.\n[MASK]\na,b\na\n\n[MASK] saw.\n", "line 6: wanted a sentence with one"),
        ("[MASK] saw.\n[MASK]\na\na\n\n", "line 3: wanted two candidates"),
        ("[MASK] saw.\n[MASK]\na,\na\n\n", "line 3: wanted two candidates"),
        ("[MASK] saw.\n[MASK]\na,b\nc\n\n", "line 4: wanted one of 'a,b' as the answer, got 'c'"),
        ("We saw [MASK] \n[MASK]\na,b\na\n\n", r"line 1: wanted text after \[MASK\]"),
        ("", "is empty"),
    ],
)
def test_a_bad_item_is_named_with_its_line(tmp_path: Path, content: str, complaint: str) -> None:
    path = UPath(tmp_path) / FILE.name
    path.write_text(content)
    with pytest.raises(InputError, match=complaint):
        read_questions(path)


def test_a_last_empty_line_may_be_missing(folder: UPath, tmp_path: Path) -> None:
    shutil.copy(str(folder / FILE.name), tmp_path / FILE.name)
    path = UPath(tmp_path) / FILE.name
    path.write_bytes(path.read_bytes().rstrip())
    assert len(read_questions(path)) == 273
