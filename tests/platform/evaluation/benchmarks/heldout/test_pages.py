"""Benchmarks made from a corpus' held-out pages, and the held-out loss."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.corpus.store import Corpus, heldout_documents
from ladder.platform.evaluation.benchmarks.heldout.page_texts import opening
from ladder.platform.evaluation.benchmarks.heldout.pages import CANDIDATES, find_passages, find_questions
from ladder.platform.evaluation.evaluate import evaluate
from ladder.platform.evaluation.measurement import Measurement
from ladder.platform.evaluation.protocol import Limits, Protocol

PAGES = ["pages-last-word", "pages-cloze", "pages-words", "pages-bytes"]


def measure(model: GPT2, corpus: Corpus, names: list[str], **options: object) -> dict[str, Measurement]:
    measured = evaluate(model, load_tokenizer("bytes"), names, storage=UPath("nowhere"), corpus=corpus, **options)
    return {measurement.name: measurement for measurement in measured}


def test_heldout_loss_is_that_of_the_table_per_token_word_and_byte(
    bigram: Callable[..., GPT2], small_corpus: Corpus
) -> None:
    model = bigram(classes=257, context=32)
    n_tokens = 6000
    scores = measure(model, small_corpus, ["heldout"], protocol=Protocol(heldout_tokens=n_tokens))
    tokens = small_corpus.heldout.read(0, n_tokens)
    nats = -model.log_probabilities.numpy()[np.concatenate([[256], tokens[:-1]]), tokens].astype(np.float64)
    text = load_tokenizer("bytes").decode_bytes(tokens[tokens != 256].tolist())
    assert (tokens == 256).sum() >= 2
    assert scores["heldout/loss"].value == pytest.approx(nats.mean(), rel=1e-5)
    assert scores["heldout/loss"].count == n_tokens
    assert scores["heldout/perplexity"].value == pytest.approx(math.exp(nats.mean()), rel=1e-4)
    in_text = nats[tokens != 256].sum()
    assert scores["heldout/bits_per_byte"].value == pytest.approx(in_text / math.log(2) / len(text), rel=1e-5)
    whole = load_tokenizer("bytes").decode(tokens.tolist())
    n_words = sum(len(part.split()) for part in whole.split("<|endoftext|>"))
    assert scores["heldout/loss_per_word"].count == n_words
    assert scores["heldout/loss_per_word"].value == pytest.approx(in_text / n_words, rel=1e-5)
    assert all(score.standard_error for score in scores.values())


def test_perplexity_per_word_and_bits_per_byte_are_those_of_the_starts_of_pages(
    bigram: Callable[..., GPT2], small_corpus: Corpus
) -> None:
    model = bigram(classes=257, context=32)
    limits = Limits(pages=3, page_characters=200)
    scores = measure(model, small_corpus, ["pages-words", "pages-bytes"], protocol=Protocol(limits=limits))
    texts = [opening(text, 200) for text in list(heldout_documents(small_corpus))[:3]]
    rows = [np.frombuffer(text.encode(), np.uint8).astype(np.int64) for text in texts]
    nats = sum(-model.log_probabilities.numpy()[np.concatenate([[256], row[:-1]]), row].sum() for row in rows)
    assert scores["pages-words/perplexity"].value == pytest.approx(
        math.exp(nats / sum(len(text.split()) for text in texts)), rel=1e-3
    )
    assert scores["pages-bytes/bits_per_byte"].value == pytest.approx(
        nats / math.log(2) / sum(map(len, rows)), rel=1e-5
    )
    assert scores["pages-bytes/bits_per_byte"].count == sum(map(len, rows))


def test_an_untrained_model_answers_cloze_questions_at_chance(byte_gpt2: GPT2, small_corpus: Corpus) -> None:
    score = measure(byte_gpt2, small_corpus, ["pages-cloze"])["pages-cloze/accuracy"]
    assert score.chance == 1 / CANDIDATES
    assert score.count >= 20
    assert abs(score.value - 0.1) <= 3 * math.sqrt(0.09 / score.count)
    assert score.totals["items_cut"] > 0  # 40 words do not fit 64 bytes


def test_questions_hold_the_answer_among_ten_words_that_came_before(small_corpus: Corpus) -> None:
    found = [question for text in heldout_documents(small_corpus) for question in find_questions(text)]
    assert found
    for text in heldout_documents(small_corpus):
        for question in find_questions(text):
            candidates = {choice.text.strip() for choice in question.choices}
            assert len(candidates) == CANDIDATES
            before = text[: text.index(question.solved) + len(question.context)]
            assert all(candidate in before for candidate in candidates)
    assert found == [question for text in heldout_documents(small_corpus) for question in find_questions(text)]


def test_passages_end_in_a_word_said_before(small_corpus: Corpus) -> None:
    for text in heldout_documents(small_corpus):
        for passage in find_passages(text):
            assert passage.context + passage.word in text
            assert passage.word.strip().lower() in passage.context.lower()
            assert len(passage.context.split()) == 40


def test_all_pages_benchmarks_are_labelled_as_made_from_the_corpus(byte_gpt2: GPT2, small_corpus: Corpus) -> None:
    scores = measure(byte_gpt2, small_corpus, PAGES, protocol=Protocol(limits=Limits(last_word_items=5, cloze_items=5)))
    assert {name.split("/")[0] for name in scores} == set(PAGES)
    assert all("pages held out of corpus pages" in score.protocol for score in scores.values())
    assert scores["pages-cloze/accuracy"].count <= 5


def test_text_without_prose_is_refused_and_said(byte_gpt2: GPT2, tmp_path: Path) -> None:
    from ladder.platform.corpus.build import build_corpus

    source = tmp_path / "numbers.jsonl"
    source.write_text("".join(f'{{"text": "{number} 1 2 3 4 5"}}\n' for number in range(30)))
    corpus = build_corpus(
        UPath(tmp_path) / "s", "n", [source], tokenizer="bytes", heldout=0.5, workers=1, progress=False
    )
    with pytest.raises(InputError, match="pages-cloze: no item in the first .* pages held out of corpus n"):
        measure(byte_gpt2, corpus, ["pages-cloze"])


@pytest.mark.parametrize(
    ("text", "characters", "wanted"), [("one two", 7, "one two"), ("one two", 6, "one"), ("onetwo", 3, "one")]
)
def test_an_opening_cuts_no_word_if_it_can(text: str, characters: int, wanted: str) -> None:
    assert opening(text, characters) == wanted


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(InputError, match="cloze_items is 0"):
        Limits(cloze_items=0)
