"""SST-2: the real file, the text made of its tokens, and chance."""

from collections.abc import Callable
from pathlib import Path

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmarks.gpt1.sst2 import (
    EXAMPLES,
    FILE,
    SST2,
    make_questions,
    read_sentences,
    write_sentence,
)
from ladder.platform.evaluation.evaluate import evaluate
from ladder.platform.evaluation.files.published import sha256_of
from ladder.platform.evaluation.protocol import Protocol


@pytest.fixture
def real(shared: Path) -> UPath:
    return UPath(shared / "benchmarks" / "sst2" / FILE.name)


def install(storage: Path, content: bytes) -> None:
    path = storage / "benchmarks" / "sst2" / FILE.name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def test_the_real_file_holds_872_sentences_of_which_444_are_positive(real: UPath) -> None:
    sentences = read_sentences(real)
    assert len(sentences) == 872
    assert sum(label for _, label in sentences) == 444
    assert sha256_of(real) == FILE.sha256


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("it 's played , but i do n't care .", "it's played, but i don't care."),
        ("-lrb- grant 's -rrb- magic", "(grant's) magic"),
        ("`` elling '' is a funny\\/gritty fable", '"elling" is a funny/gritty fable'),
    ],
)
def test_tokens_become_ordinary_text(tokens: str, text: str) -> None:
    assert write_sentence(tokens) == text


def test_very_is_appended_and_two_words_are_compared(tmp_path: Path) -> None:
    path = UPath(tmp_path) / FILE.name
    path.write_text("1 a fine film .\n0 dull .\n")
    first, second = make_questions(path)
    assert first.context == "a fine film. very"
    assert [choice.text for choice in first.choices] == [" negative", " positive"]
    assert (first.solved, second.solved) == ("a fine film. very positive", "dull. very negative")


def test_the_words_are_one_token_each(gpt2_vocabulary: None) -> None:
    assert [len(load_tokenizer("gpt2").encode(word)) for word in (" negative", " positive")] == [1, 1]


def test_an_untrained_model_scores_at_chance(real: UPath, gpt2_vocabulary: None, tmp_path: Path) -> None:
    install(tmp_path, real.read_bytes())
    model = GPT2(parse_size("1x32", context=128), seed=0)
    (score,) = evaluate(model, load_tokenizer("gpt2"), ["sst2"], storage=UPath(tmp_path))
    assert (score.count, score.chance) == (872, 0.5)
    assert score.standard_error is not None
    assert abs(score.value - 0.5) <= 3 * score.standard_error


def test_a_model_that_knows_the_word_after_very_is_right(bigram: Callable[..., GPT2], tmp_path: Path) -> None:
    install(tmp_path, b"1 a film .\n1 b film .\n0 c film .\n")
    model = bigram(classes=257, context=64)
    model.log_probabilities[ord(" "), ord("p")] = 99.0
    model.log_probabilities.copy_(model.log_probabilities.log_softmax(1))
    (score,) = evaluate(model, load_tokenizer("bytes"), ["sst2"], storage=UPath(tmp_path))
    assert score.value == pytest.approx(2 / 3)


def test_shots_and_limit_are_honoured(byte_gpt2: GPT2, tmp_path: Path) -> None:
    install(tmp_path, b"1 a film .\n1 b film .\n0 c film .\n")
    protocol = Protocol(limit=2, shots=2)
    with pytest.raises(InputError, match="stsa.binary.train: get it with `ladder fetch sst2 --examples`"):
        evaluate(byte_gpt2, load_tokenizer("bytes"), ["sst2"], storage=UPath(tmp_path), protocol=protocol)
    examples = tmp_path / "benchmarks" / "sst2" / EXAMPLES.name
    examples.write_bytes(b"1 a film of this year .\n0 a longer film of this year .\n")
    (score,) = evaluate(byte_gpt2, load_tokenizer("bytes"), ["sst2"], storage=UPath(tmp_path), protocol=protocol)
    assert score.count == 2
    assert score.protocol.endswith("2-shot, examples drawn from the train split (seed 0)")
    assert score.totals["items_cut"] == 2  # three sentences are more than 64 bytes


def test_texts_are_the_sentences_alone(tmp_path: Path) -> None:
    install(tmp_path, b"1 a film .\n0 c 's film .\n")
    assert SST2.texts is not None
    assert SST2.texts(UPath(tmp_path), None) == ["a film.", "c's film."]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"1 good .\n2 what .\n", "line 2: wanted 0 or 1, a space and a sentence, got '2 what .'"),
        (b"1 good .\n1\n", "line 2: wanted 0 or 1"),
        (b"1 good .\n\n", "line 2: wanted 0 or 1"),
        (b"good .\n", "line 1: wanted 0 or 1"),
        (b"1 caf\xe9 .\n", "line 1: not UTF-8 at byte 6"),
        (b"", "is empty"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = UPath(tmp_path) / FILE.name
    path.write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        read_sentences(path)
