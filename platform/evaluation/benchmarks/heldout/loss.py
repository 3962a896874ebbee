"""Held-out loss: the corpus' own held-out split, per token, per word and per byte.

The split is read as training reads it, one stream with every document ended by the end of text, in plain windows of
the model's context. Ends of text count as tokens, as they do in training; they are in no word and no byte, so the
per-word and per-byte numbers leave their nats out.
"""

import math
from dataclasses import dataclass

import numpy as np
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus, heldout_documents
from ladder.platform.evaluation import measurement
from ladder.platform.evaluation.benchmark import Benchmark, Setting
from ladder.platform.evaluation.item_scores import Estimator, ItemScores, bits_of, perplexity_of, ratio_of
from ladder.platform.evaluation.text.words import text_totals


@dataclass(frozen=True, kw_only=True)
class DocumentSums:
    """Sums of each held-out document that was scored, the last one perhaps not whole."""

    nats: np.ndarray
    """-ln p of the document's tokens, end of text included, in nats [documents]."""
    text_nats: np.ndarray
    """The same without the end of text."""
    tokens: np.ndarray
    """Tokens, end of text included."""
    words: np.ndarray
    """Words of the text."""
    characters: np.ndarray
    """Characters of the text."""
    bytes: np.ndarray
    """Bytes of the text."""


def score_documents(setting: Setting) -> DocumentSums:
    """Sums over the documents at the start of the corpus' held-out split."""
    assert setting.corpus is not None
    stream = setting.corpus.heldout
    n_tokens = min(stream.n_tokens, setting.protocol.heldout_tokens or stream.n_tokens)
    if n_tokens == 0:
        raise InputError(f"corpus {setting.corpus.name} holds nothing out: build it with a larger --heldout")
    tokens = stream.read(0, n_tokens)
    nats = setting.scorer.rolling([tokens])[0].astype(np.float64)
    is_end = tokens == setting.tokenizer.end_of_text
    owner = np.concatenate([[0], np.cumsum(is_end)[:-1]])  # the document of each token
    n_documents = int(owner[-1]) + 1
    starts = np.searchsorted(owner, np.arange(n_documents))
    totals = [
        text_totals(setting.tokenizer.decode(part[part != setting.tokenizer.end_of_text].tolist()))
        for part in np.split(tokens, starts[1:])
    ]
    return DocumentSums(
        nats=np.bincount(owner, weights=nats, minlength=n_documents),
        text_nats=np.bincount(owner, weights=np.where(is_end, 0.0, nats), minlength=n_documents),
        tokens=np.bincount(owner, minlength=n_documents),
        words=np.array([total["words"] for total in totals]),
        characters=np.array([total["characters"] for total in totals]),
        bytes=np.array([total["bytes"] for total in totals]),
    )


def score(setting: Setting) -> list[ItemScores]:
    """Loss and perplexity per token, loss per word, bits per byte."""
    assert setting.corpus is not None
    sums = score_documents(setting)
    vocabulary = setting.tokenizer.vocabulary
    per_token = ("nats per token", ratio_of(sums.nats, sums.tokens), sums.tokens, math.log(vocabulary))
    exponential = ("perplexity per token", perplexity_of(sums.nats, sums.tokens), sums.tokens, float(vocabulary))
    numbers: dict[str, tuple[str, Estimator, np.ndarray, float | None]] = {"loss": per_token, "perplexity": exponential}
    if sums.words.sum():
        numbers["loss_per_word"] = ("nats per word", ratio_of(sums.text_nats, sums.words), sums.words, None)
        numbers["bits_per_byte"] = ("bits per byte", bits_of(sums.text_nats, sums.bytes), sums.bytes, None)
    return [
        ItemScores(
            benchmark=measurement.HELDOUT,
            protocol=f"first {int(sums.tokens.sum())} held-out tokens of corpus {setting.corpus.name}, plain windows",
            metric=metric,
            unit=unit,
            direction="lower",
            chance=chance,
            description="text held out of the training corpus; standard error over documents, ratio estimator",
            estimate=estimate,
            counted=counted,
            totals={**vars(sums), "documents": np.ones(len(sums.tokens))},
        )
        for metric, (unit, estimate, counted, chance) in numbers.items()
    ]


def read_texts(storage: UPath, corpus: Corpus | None) -> list[str]:
    """The text of each held-out document; the last one scored may be scored in part."""
    assert corpus is not None
    return list(heldout_documents(corpus))


HELDOUT = Benchmark(
    name=measurement.HELDOUT,
    source="the held-out split of the corpus, from its start",
    score=score,
    reads=frozenset({"heldout_tokens"}),
    texts=read_texts,
    citation="the loss that L(N, D) is fitted to: Hoffmann et al. 2022, arXiv:2203.15556",
    reads_corpus_tokens=True,
)
