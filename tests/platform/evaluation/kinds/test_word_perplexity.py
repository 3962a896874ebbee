"""Perplexity per original word: what it divides by, items of a stream and items alone, limits and windows."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmark import Setting
from ladder.platform.evaluation.benchmarks.gpt2 import lm1b, ptb, wikitext2
from ladder.platform.evaluation.evaluate import make_setting
from ladder.platform.evaluation.item_scores import ItemScores
from ladder.platform.evaluation.kinds.rolling_texts import separate_nats, stream_nats
from ladder.platform.evaluation.kinds.word_perplexity import WordSet
from ladder.platform.evaluation.protocol import Protocol

ARTICLES = " \n = One = \n \n A two @-@ part thing , in 1 @,@ 000 parts . \n \n = Two = \n \n Short <unk> . \n"
SENTENCES = "He doesn 't .\n\" Yes , \" said Mr. O 'Brien .\n"


def small(words: WordSet, storage: Path, content: str) -> WordSet:
    """The set with a small file in storage instead of the published one."""
    folder = storage / "benchmarks" / words.benchmark
    folder.mkdir(parents=True)
    (folder / words.file).write_bytes(content.encode())
    return replace(words, n_words=len(content.split()) + content.count("\n"), n_unknown=content.count("<unk>"))


def setting_of(model: GPT2, storage: Path, tokenizer: str = "bytes", **protocol: int) -> Setting:
    return make_setting(
        model, load_tokenizer(tokenizer), storage=UPath(storage), corpus=None, device="cpu", precision="fp32",
        protocol=Protocol(**protocol),
    )  # fmt: skip


def table_nats(model: GPT2, text: str) -> float:
    """-ln p of a text's bytes after the start token, from the model's table."""
    tokens = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
    return float(-model.log_probabilities.numpy()[np.concatenate([[256], tokens[:-1]]), tokens].sum())


def by_metric(scores: list[ItemScores]) -> dict[str, ItemScores]:
    return {score.metric: score for score in scores}


def test_perplexity_divides_the_nats_of_each_text_by_the_original_words(
    bigram: Callable[..., GPT2], tmp_path: Path
) -> None:
    model = bigram(classes=257, context=16)
    scores = by_metric(small(wikitext2.WORDS, tmp_path, ARTICLES).score(setting_of(model, tmp_path)))
    words = len(ARTICLES.split()) + ARTICLES.count("\n")
    plain = "\n= One =\n\nA two-part thing, in 1,000 parts.\n\n= Two =\n\nShort <unk>.\n"
    assert list(scores) == ["perplexity"], "the text is scored once"
    measured = scores["perplexity"].measure()
    assert measured.value == pytest.approx(math.exp(table_nats(model, plain) / words), rel=1e-4)
    assert measured.count == measured.totals["words"] == words
    assert measured.totals["bytes"] == measured.totals["tokens"] == measured.totals["characters"] == len(plain)
    assert measured.totals["articles"] == 2
    assert measured.standard_error is not None  # there are two articles


def test_sentences_are_scored_each_after_the_start_token_and_their_ends_are_words(
    bigram: Callable[..., GPT2], tmp_path: Path
) -> None:
    model = bigram(classes=257, context=64)
    words = small(lm1b.WORDS, tmp_path, SENTENCES)
    scores = by_metric(words.score(setting_of(model, tmp_path)))
    plain = ["He doesn't.\n", '"Yes," said Mr. O\'Brien.\n']
    assert words.read_texts(UPath(tmp_path), None) == plain
    assert scores["perplexity"].totals["nats"] == pytest.approx([table_nats(model, text) for text in plain], rel=1e-5)
    assert scores["perplexity"].counted.tolist() == [5, 10]


def test_a_limit_scores_the_first_items_as_if_there_were_no_more(byte_gpt2: GPT2, tmp_path: Path) -> None:
    words = small(wikitext2.WORDS, tmp_path, ARTICLES)
    first = by_metric(words.score(setting_of(byte_gpt2, tmp_path, limit=1)))["perplexity"]
    whole = by_metric(words.score(setting_of(byte_gpt2, tmp_path)))["perplexity"]
    assert first.n_items == 1
    assert first.measure().value == pytest.approx(whole.measure(np.array([0])).value, rel=1e-5)
    assert first.measure().value != pytest.approx(whole.measure().value, rel=1e-3)


def test_window_and_stride_are_those_of_the_setting_and_named_in_the_protocol(byte_gpt2: GPT2, tmp_path: Path) -> None:
    words = small(ptb.WORDS, tmp_path, " no it was n't black monday \n but <unk> 's $ N fell \n")
    plain = by_metric(words.score(setting_of(byte_gpt2, tmp_path, window=8)))["perplexity"]
    sliding = by_metric(words.score(setting_of(byte_gpt2, tmp_path, window=8, stride=2)))["perplexity"]
    assert "plain windows of 8" in plain.protocol
    assert "windows of 8 with a stride of 2" in sliding.protocol
    tokens = list(b"no it wasn't black monday\nbut <unk>'s $N fell\n")
    for scores, stride in ((plain, 8), (sliding, 2)):
        nats = setting_of(byte_gpt2, tmp_path).scorer.rolling([tokens], window=8, stride=stride)[0].sum()
        assert scores.totals["nats"].sum() == pytest.approx(nats, rel=1e-5)
    assert plain.totals["nats"].sum() != pytest.approx(sliding.totals["nats"].sum(), rel=1e-5)


@pytest.mark.parametrize(("words", "is_stream"), [(ptb.WORDS, True), (wikitext2.WORDS, True), (lm1b.WORDS, False)])
def test_a_set_is_one_stream_or_each_item_stands_alone(
    byte_gpt2: GPT2, tmp_path: Path, words: WordSet, is_stream: bool
) -> None:
    lines = [f" line {number} of the set " for number in range(2 * ptb.BLOCK_LINES)]
    content = {"lm1b": "\n".join(line.strip() for line in lines) + "\n", "ptb": "\n".join(lines) + "\n"}
    words = small(words, tmp_path, content.get(words.benchmark, ARTICLES))
    setting = setting_of(byte_gpt2, tmp_path)
    (scores,) = words.score(setting)
    texts = words.read_texts(UPath(tmp_path), None)
    assert len(texts) >= 2
    tokens = [list(text.encode()) for text in texts]
    stream = setting.scorer.rolling([sum(tokens, [])])[0].sum(dtype=np.float64)
    alone = sum(nats.sum(dtype=np.float64) for nats in setting.scorer.rolling(tokens))
    assert scores.totals["nats"].sum() == pytest.approx(stream if is_stream else alone, rel=1e-6)
    assert stream != pytest.approx(alone, rel=1e-5)


def test_another_number_of_words_is_another_split(byte_gpt2: GPT2, tmp_path: Path) -> None:
    small(ptb.WORDS, tmp_path, " no it was n't black monday \n")
    with pytest.raises(InputError, match=r"ptb.test.txt is not the split .* wanted 82430 words .* got 7, 0 of them"):
        ptb.PTB.score(setting_of(byte_gpt2, tmp_path))


def test_a_token_across_a_border_of_a_stream_counts_once_where_it_ends(gpt2_vocabulary: None, tmp_path: Path) -> None:
    model = GPT2(parse_size("1x8h1", context=32, vocabulary=50257), seed=0)
    setting = setting_of(model, tmp_path, tokenizer="gpt2")
    parts = ["One\n", "Two thr", "ee four\n", "more"]
    nats, tokens = stream_nats(setting, parts)
    stream = setting.tokenizer.encode("".join(parts))
    assert tokens.tolist() == [2, 1, 3, 1]  # One, line end | Two | three, four, line end | more
    assert nats.sum() == pytest.approx(setting.scorer.rolling([stream])[0].sum(), rel=1e-6)
    assert nats[0] == pytest.approx(setting.scorer.rolling([stream[:2]])[0].sum(), rel=1e-6)
    alone, counts = separate_nats(setting, parts)
    assert counts.tolist() == [2, 2, 3, 1]
    assert alone[3] == pytest.approx(setting.scorer.rolling([stream[-1:]])[0].sum(), rel=1e-6)
    assert alone[3] != pytest.approx(nats[3], rel=1e-6)  # the stream's last part has seen the others
