"""Answers: how a model comes to write them, and the comparison with the right ones."""

from pathlib import Path

import pytest
import torch
from upath import UPath

from ladder.models.generation import GREEDY, Sampling, generate
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmark import Setting
from ladder.platform.evaluation.evaluate import make_setting
from ladder.platform.evaluation.kinds import generation
from ladder.platform.evaluation.kinds.generation import (
    first_line,
    matches,
    normalize,
    overlap_f1,
    write_answers,
)
from ladder.platform.evaluation.kinds.shots import describe_shots
from ladder.platform.evaluation.protocol import DEFAULT_PROTOCOL


def set_up(model: GPT2, folder: Path, precision: str = "fp32") -> Setting:
    return make_setting(
        model,
        load_tokenizer("bytes"),
        storage=UPath(folder),
        corpus=None,
        device="cpu",
        precision=precision,
        protocol=DEFAULT_PROTOCOL,
    )


def test_words_are_compared_without_case_articles_and_punctuation() -> None:
    assert normalize("  The U.S.A.,\tan  Apple-pie! ") == ["usa", "applepie"]
    assert normalize("theory of a anthem") == ["theory", "of", "anthem"]
    assert matches("the Beatles.", ["Queen", "Beatles"])
    assert not matches("Beatles band", ["Queen", "Beatles"])
    assert not matches("", ["Queen"])


@pytest.mark.parametrize(
    ("answer", "right", "f1"),
    [
        ("a white house", "White House!", 1.0),
        ("the big white house", "a white cat", 2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2)),
        ("no no no", "no no", 2 * (2 / 3) * 1 / (2 / 3 + 1)),
        ("yes", "no", 0.0),
        ("", "no", 0.0),
        ("the", "a", 1.0),  # no word is left on either side
    ],
)
def test_f1_is_that_of_words_in_common(answer: str, right: str, f1: float) -> None:
    assert overlap_f1(answer, right) == pytest.approx(f1)


def test_answers_are_the_models_own_and_stop_where_told(byte_gpt2: GPT2, tmp_path: Path) -> None:
    prompts = ["Q: who?\nA:", "One", "x" * 40]
    whole = [
        continuation.tokens
        for continuation in generate(byte_gpt2, [list(p.encode()) for p in prompts], n_tokens=20, sampling=GREEDY)
    ]
    mark = chr(whole[0][3])
    answers = write_answers(set_up(byte_gpt2, tmp_path), prompts, n_tokens=20, stop=lambda text: mark in text)
    for answer, tokens in zip(answers, whole, strict=True):
        text = bytes(tokens).decode(errors="replace")
        wanted = text[: text.index(mark) + 1] if mark in text else text
        assert answer.text == wanted
        assert answer.n_tokens == len(wanted)
        assert answer.nats > 0
        assert not answer.cut


def test_a_prompt_too_long_is_cut_on_the_left_and_said_to_be(byte_gpt2: GPT2, tmp_path: Path) -> None:
    setting = set_up(byte_gpt2, tmp_path)
    tail = "b" * 55  # 64 positions hold it and nine of ten tokens written: the last is never read
    fits, cut = write_answers(setting, [tail, "aaa" + tail], n_tokens=10, stop=lambda text: False)
    assert (fits.cut, cut.cut) == (False, True)
    assert fits.text == cut.text
    longer = write_answers(setting, ["a" + "b" * 32, "b" * 32], n_tokens=100, stop=lambda text: False)
    assert [answer.cut for answer in longer] == [True, False]
    assert longer[0].text == longer[1].text
    assert longer[0].n_tokens == 100  # more than the context holds


def test_each_answer_that_has_ended_is_told_once_with_its_tokens(byte_gpt2: GPT2, tmp_path: Path) -> None:
    setting, told = set_up(byte_gpt2, tmp_path), []
    setting.scorer.progress = lambda **more: told.append(more)
    answers = write_answers(setting, ["a" + "b" * 32, "cd", "e"], n_tokens=100, stop=lambda text: "q" in text)
    assert told[0] == {"expected": 3} and [one["answered"] for one in told[1:]] == [1, 1, 1]
    assert sorted(one["tokens"] for one in told[1:]) == sorted(answer.n_tokens for answer in answers)


def test_an_answer_does_not_depend_on_the_others(byte_gpt2: GPT2, tmp_path: Path) -> None:
    setting, prompts = set_up(byte_gpt2, tmp_path), ["ab", "c", "defgh"]
    options = {"n_tokens": 12, "stop": lambda text: False, "sampling": Sampling()}
    together = write_answers(setting, prompts, seeds=["0", "1", "2"], **options)
    assert write_answers(setting, prompts[1:2], seeds=["1"], **options)[0].text == together[1].text


def test_in_bf16_answers_are_written_as_well(byte_gpt2: GPT2, tmp_path: Path) -> None:
    setting = set_up(byte_gpt2, tmp_path, precision="bf16")
    (answer,) = write_answers(setting, ["ab"], n_tokens=5, stop=lambda text: False)
    assert answer.n_tokens == 5


def test_the_first_line_has_no_space_around_it() -> None:
    assert first_line(" Paris \nQ: next") == "Paris"
    assert first_line("\nParis") == ""


def test_a_protocol_says_how_many_examples_there_are() -> None:
    assert describe_shots(0, 3, "lines") == "zero-shot"
    assert describe_shots(2, 3, "the train split") == "2-shot, examples drawn from the train split (seed 3)"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_answers_are_written_in_the_precision_asked_for(
    byte_gpt2: GPT2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    seen: list[bool] = []

    def watch(*arguments: object, **options: object) -> object:
        seen.append(torch.is_autocast_enabled("cpu"))
        return generate(*arguments, **options)

    monkeypatch.setattr(generation, "generate", watch)
    write_answers(set_up(byte_gpt2, tmp_path, precision=precision), ["ab"], n_tokens=2, stop=lambda text: False)
    assert seen == [precision == "bf16"]
