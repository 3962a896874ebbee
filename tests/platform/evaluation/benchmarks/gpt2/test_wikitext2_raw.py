"""WikiText-2 by lm-evaluation-harness' protocol: pages, its de-tokenizer, its counts and its last windows."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from lm_eval.tasks.wikitext.preprocess_wikitext import wikitext_detokenizer
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmarks.gpt2.wikitext2_raw import count_words, detokenize, read_pages
from ladder.platform.evaluation.evaluate import evaluate
from ladder.platform.evaluation.protocol import Protocol
from ladder.platform.evaluation.scorer import Row, Scorer

TEXT = ' \n = One = \n \n A 1 @,@ 000 thing . \n = = Part = = \n It \'s " so " . \n = Two = \n \n Short . \n'


def install(storage: Path, content: str) -> UPath:
    path = UPath(storage) / "benchmarks" / "wikitext2-raw" / "wiki.test.raw"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode())
    return path


def test_pages_begin_with_their_title_and_keep_their_lines(tmp_path: Path) -> None:
    one, two = read_pages(install(tmp_path, TEXT))
    assert one == ' = One = \n \n A 1 @,@ 000 thing . \n = = Part = = \n It \'s " so " . '
    assert two == " = Two = \n \n Short . \n"
    assert count_words(two) == 7  # five, and an empty one at either end


def test_the_real_pages_are_written_as_the_harness_writes_them(shared: Path) -> None:
    pages = read_pages(UPath(shared / "benchmarks" / "wikitext2" / "wiki.test.tokens"))
    assert len(pages) == 62
    assert [detokenize(page) for page in pages] == [wikitext_detokenizer({"page": page}) for page in pages]


def test_nats_are_divided_by_words_and_bytes_of_the_raw_page(bigram: Callable[..., GPT2], tmp_path: Path) -> None:
    install(tmp_path, TEXT)
    model = bigram(classes=257, context=64)
    scores = {m.metric: m for m in evaluate(model, load_tokenizer("bytes"), ["wikitext2-raw"], storage=UPath(tmp_path))}
    pages = read_pages(UPath(tmp_path) / "benchmarks" / "wikitext2-raw" / "wiki.test.raw")
    rows = [[256, *detokenize(page).encode()] for page in pages]
    nats = -sum(model.log_probabilities[a, b].item() for row in rows for a, b in zip(row, row[1:], strict=False))
    words, n_bytes = sum(map(count_words, pages)), sum(len(page.encode()) for page in pages)
    assert scores["word_perplexity"].value == pytest.approx(math.exp(nats / words), rel=1e-5)
    assert scores["byte_perplexity"].value == pytest.approx(math.exp(nats / n_bytes), rel=1e-5)
    assert scores["bits_per_byte"].value == pytest.approx(nats / n_bytes / math.log(2), rel=1e-5)
    assert (scores["word_perplexity"].count, scores["bits_per_byte"].count) == (words, n_bytes)


def test_the_last_window_reaches_back_until_it_is_full(byte_gpt2: GPT2, tmp_path: Path) -> None:
    install(tmp_path, " = One = \n " + "abc def " * 12)
    tokenizer, storage = load_tokenizer("bytes"), UPath(tmp_path)
    (page,) = read_pages(storage / "benchmarks" / "wikitext2-raw" / "wiki.test.raw")
    measured = evaluate(byte_gpt2, tokenizer, ["wikitext2-raw"], storage=storage, protocol=Protocol(window=48))[0]
    text = [256, *detokenize(page).encode()]
    assert 96 < len(text) - 1 < 144
    rows = [Row(tokens=text[:49], n_scored=48), Row(tokens=text[48:97], n_scored=48)]
    rows.append(Row(tokens=text[-49:], n_scored=len(text) - 97))
    scorer = Scorer(byte_gpt2, device="cpu", precision="fp32", start_token=256)
    wanted = sum(score.nats.sum() for score in scorer.score_rows(rows))
    assert measured.totals["nats"] == pytest.approx(wanted, rel=1e-6)


def test_a_file_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no text"):
        read_pages(install(tmp_path, " \n \n"))
