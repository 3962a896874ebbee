"""Rows of each shape are scored as what they are, and a wrong row is named."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmark import Benchmark
from ladder.platform.evaluation.evaluate import make_setting, measure
from ladder.platform.evaluation.measurement import Measurement
from ladder.platform.evaluation.own.rows import benchmark_of_rows
from ladder.platform.evaluation.protocol import Protocol

QUESTIONS = [
    {"prompt": "ab", "choices": ["ba", "c"], "answer": 0},
    {"prompt": "ab ", "choices": ["ba", "c"], "answer": "c"},
]


def scores_of(benchmark: Benchmark, model: GPT2, folder: Path, **protocol: int) -> dict[str, Measurement]:
    setting = make_setting(
        model,
        load_tokenizer("bytes"),
        storage=UPath(folder),
        corpus=None,
        device="cpu",
        precision="fp32",
        protocol=Protocol(**protocol),
    )
    return {measurement.metric: measurement for measurement in measure(benchmark, setting)}


def nats(table: Any, text: str, start: int) -> float:
    return -sum(float(table[ord(a), ord(b)]) for a, b in zip(text[start - 1 :], text[start:], strict=False))


def test_an_answer_is_an_index_or_a_text_and_a_space_comes_before_a_choice_once(
    bigram: Callable[..., GPT2], tmp_path: Path
) -> None:
    model = bigram(classes=257, context=64)
    table = model.log_probabilities
    table[:] = -9.0
    table[ord(" "), ord("c")] = -1.0
    metrics = ["accuracy", "accuracy_per_token", "accuracy_per_character"]
    made = benchmark_of_rows("mine", QUESTIONS, metric=metrics)
    scores = scores_of(made, model, tmp_path)  # c is chosen twice, and right in the second row
    assert {metric: score.value for metric, score in scores.items()} == dict.fromkeys(metrics, 0.5)
    assert {score.chance for score in scores.values()} == {0.5}
    assert made.texts is not None
    assert made.texts(UPath(tmp_path), None) == ["ab ba", "ab c"]


def test_per_character_counts_no_space_before_the_choice(bigram: Callable[..., GPT2], tmp_path: Path) -> None:
    model = bigram(classes=257, context=64)
    table = model.log_probabilities
    table[:] = -20.0
    table[ord("b"), ord(" ")] = -1.0
    table[ord(" "), ord("x")] = -2.0  # " x": 3 nats, one character
    table[ord(" "), ord("y")] = -2.0
    table[ord("y"), ord("y")] = -1.5  # " yy": 4.5 nats, two characters: 2.25 each, and with the space 1.5 as " x"
    rows = [{"prompt": "ab", "choices": ["x", "yy"], "answer": 1}]
    made = benchmark_of_rows("mine", rows, metric=["accuracy", "accuracy_per_character"])
    scores = scores_of(made, model, tmp_path)
    assert (scores["accuracy"].value, scores["accuracy_per_character"].value) == (0.0, 1.0)


def test_texts_have_perplexity_bits_and_loss_each_text_alone(bigram: Callable[..., GPT2], tmp_path: Path) -> None:
    model = bigram(classes=257, context=64)
    made = benchmark_of_rows("mine", [{"text": "ab ba"}, {"text": "c"}], metric=["perplexity", "bits_per_byte", "loss"])
    scores = scores_of(made, model, tmp_path)
    table, start = model.log_probabilities, 256
    total = (
        nats(table, "ab ba", 1) + nats(table, "c", 1) - float(table[start, ord("a")]) - float(table[start, ord("c")])
    )
    assert scores["loss"].value == pytest.approx(total / 6, rel=1e-5)
    assert scores["bits_per_byte"].value == pytest.approx(total / 6 / math.log(2), rel=1e-5)
    assert scores["perplexity"].value == pytest.approx(math.exp(total / 3), rel=1e-5)
    assert scores_of(made, model, tmp_path, limit=1)["loss"].count == 5
    assert made.reads == {"limit", "window", "stride"}


def test_last_words_of_texts_are_scored_as_lambada_is(bigram: Callable[..., GPT2], tmp_path: Path) -> None:
    scores = scores_of(
        benchmark_of_rows("mine", [{"text": "ab ba\n"}], metric="last_word"), bigram(classes=257, context=64), tmp_path
    )
    assert list(scores) == ["last_word_perplexity", "last_word_accuracy", "last_word_accuracy_last_token"]
    with pytest.raises(InputError, match="benchmark mine, row 2: wanted several words"):
        benchmark_of_rows("mine", [{"text": "ab ba"}, {"text": "ab "}], metric="last_word")


def test_written_answers_are_compared_to_the_end_of_the_line(byte_gpt2: GPT2, tmp_path: Path) -> None:
    rows = [{"prompt": "Q: a\nA:", "answers": ["b", "c"]}]
    scores = scores_of(benchmark_of_rows("mine", rows, metric=["exact_match", "f1"]), byte_gpt2, tmp_path)
    assert [score.count for score in scores.values()] == [1, 1]
    assert all(0 <= score.value <= 1 for score in scores.values())


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([], "benchmark mine has no rows"),
        ([{"prompt": "a"}], 'row 1: wanted {"prompt", "choices", "answer"}'),
        ([{"text": "a"}, {"prompt": "a", "answers": ["b"]}], "row 2: wanted 'text' as in the first row, got .*answers"),
        ([{"text": " "}], "row 1: wanted text as 'text', got ' '"),
        ([{"choices": ["a", "b"], "answer": 0}], "row 1: wanted text as 'prompt', got None"),
        ([{"prompt": "", "choices": ["a"], "answer": 0}], "row 1: wanted a list of 2 or more texts as 'choices'"),
        ([{"prompt": "", "choices": ["a", ""], "answer": 0}], "row 1: wanted texts that are not empty in 'choices'"),
        ([{"prompt": "", "choices": ["a", "b"], "answer": 2}], "row 1: wanted an index from 0 to 1, or one of the"),
        ([{"prompt": "", "choices": ["a", "b"], "answer": "c"}], "got 'c'"),
        ([{"prompt": "", "choices": ["a", "a"], "answer": "a"}], "got 'a'"),
        ([{"prompt": "", "choices": ["a", "b"], "answer": True}], "got True"),
        ([{"prompt": "", "answers": []}], "row 1: wanted a list of 1 or more texts as 'answers'"),
    ],
)
def test_a_wrong_row_is_named(rows: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        benchmark_of_rows("mine", rows)


def test_an_unknown_metric_and_a_name_that_is_no_name_are_refused() -> None:
    with pytest.raises(InputError, match="unknown metric f1: rows with 'text' have perplexity, bits_per_byte, loss"):
        benchmark_of_rows("mine", [{"text": "a"}], metric="f1")
    with pytest.raises(InputError, match="got 'a/b', wanted letters"):
        benchmark_of_rows("a/b", [{"text": "a"}])


def test_the_definition_follows_rows_and_metrics() -> None:
    first = benchmark_of_rows("mine", [{"text": "a"}]).definition
    assert first == benchmark_of_rows("mine", [{"text": "a"}]).definition
    assert first != benchmark_of_rows("mine", [{"text": "b"}]).definition
    assert first != benchmark_of_rows("mine", [{"text": "a"}], metric="loss").definition
