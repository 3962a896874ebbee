"""RACE: files made in the format, and what is wrong in them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmarks.gpt1.race import EXAMPLES, FILE, RACE, read_questions
from ladder.platform.evaluation.evaluate import evaluate
from ladder.platform.evaluation.protocol import Protocol


def make_line(file: str = "high/1.txt", **changes: Any) -> str:
    """A line as `ladder fetch` writes one of the archive's files, with two questions."""
    exam = {
        "article": "A fox ran.\nIt was red. ",
        "questions": ["What ran?", "It was _ ."],
        "options": [["a fox", "a cat", "a dog", "a hen"], ["red", "blue", "old", "ill"]],
        "answers": ["A", "C"],
        "id": file,
        **changes,
    }
    return json.dumps({"file": file, "text": json.dumps(exam)})


def write_lines(path: UPath, *lines: str) -> UPath:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))
    return path


def install(storage: Path, *lines: str) -> None:
    write_lines(UPath(storage) / "benchmarks" / "race" / FILE.name, *lines)


def test_a_question_is_passage_question_and_option(tmp_path: Path) -> None:
    first, second = read_questions(write_lines(UPath(tmp_path) / FILE.name, make_line("middle/9.txt")))
    assert first.group == "middle"
    assert first.solved == "A fox ran.\nIt was red.\nWhat ran? a fox"
    assert second.solved == "A fox ran.\nIt was red.\nIt was _ . old"
    assert [choice.text for choice in second.choices] == [" red", " blue", " old", " ill"]


def test_accuracy_is_given_for_all_and_for_each_school(bigram: Callable[..., GPT2], tmp_path: Path) -> None:
    install(tmp_path, make_line("high/1.txt"), make_line("middle/1.txt", answers=["A", "A"]))
    model = bigram(classes=257, context=128)
    table = model.log_probabilities
    table[:] = 0.0
    for a, b in zip("? a fo", " a fox", strict=True):
        table[ord(a), ord(b)] = 9.0
    for a, b in zip(". re", " red", strict=True):
        table[ord(a), ord(b)] += 5.0
    table.copy_(table.log_softmax(1))
    scores = {
        score.metric: score for score in evaluate(model, load_tokenizer("bytes"), ["race"], storage=UPath(tmp_path))
    }
    assert {metric: score.value for metric, score in scores.items()} == {
        "accuracy": 0.75,
        "accuracy_middle": 1.0,
        "accuracy_high": 0.5,
    }
    assert [scores[metric].count for metric in ("accuracy", "accuracy_middle", "accuracy_high")] == [4, 2, 2]
    assert all(score.chance == 0.25 for score in scores.values())


def test_the_average_per_token_decides_and_not_the_sum(bigram: Callable[..., GPT2], tmp_path: Path) -> None:
    options = [["a", "bbbbbb", "c", "d"]] * 2
    install(tmp_path, make_line(options=options, answers=["B", "B"]))
    model = bigram(classes=257, context=128)
    table = model.log_probabilities
    table[:] = 0.0
    table[ord("b"), ord("b")] = 2.0  # more likely than another letter, yet six are less likely than one
    (score, _) = evaluate(model, load_tokenizer("bytes"), ["race"], storage=UPath(tmp_path))
    assert score.value == 1.0


def test_a_school_without_a_question_has_no_score(byte_gpt2: GPT2, tmp_path: Path) -> None:
    install(tmp_path, make_line("high/1.txt"), make_line("middle/1.txt"))
    write_lines(UPath(tmp_path) / "benchmarks" / "race" / EXAMPLES.name, make_line("high/2.txt"))
    protocol = Protocol(limit=2, shots=1)
    scores = evaluate(byte_gpt2, load_tokenizer("bytes"), ["race"], storage=UPath(tmp_path), protocol=protocol)
    assert [score.metric for score in scores] == ["accuracy", "accuracy_high"]
    assert [score.count for score in scores] == [2, 2]
    assert scores[0].protocol.endswith("1-shot, examples drawn from the dev split (seed 0)")
    assert scores[0].totals["items_cut"] == 2  # passages of 64 bytes and more


def test_texts_are_the_passages_of_the_questions(tmp_path: Path) -> None:
    install(tmp_path, make_line())
    assert RACE.texts is not None
    assert RACE.texts(UPath(tmp_path), None) == ["A fox ran.\nIt was red. "] * 2


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 2: JSONDecodeError"),
        ("[]", "line 2: TypeError"),
        ('{"file": "high/1.txt", "text": "{"}', "line 2: JSONDecodeError"),
        ('{"file": "high/1.txt"}', "line 2: KeyError"),
        (make_line("college/1.txt"), "line 2: wanted a file in middle or high, got 'college/1.txt'"),
        (make_line(answers=["A"]), "line 2: wanted as many of each, got 2 questions, 2 lists of options, 1 answers"),
        (make_line(answers=["A", "E"]), "line 2: wanted a question, 4 options .* 'E'"),
        (make_line(options=[["a", "b", "c"]] * 2), "line 2: wanted a question, 4 options"),
        (make_line(options=[["a", "b", "c", " "]] * 2), "line 2: wanted a question, 4 options that are not empty"),
        (make_line(questions=["", "b"]), "line 2: wanted a question"),
        (make_line(article=None), "line 2: wanted an article and lists"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = write_lines(UPath(tmp_path) / FILE.name, make_line(), line)
    with pytest.raises(InputError, match=complaint):
        read_questions(path)
