"""Last-word prediction, the protocol of LAMBADA (Paperno et al. 2016), for any passages.

The last word is everything after the last space. Perplexity is per last word: exp of the mean nats of the whole word,
however many tokens it has. What published reproductions differ in is what counts as right, so all are given by name:
the whole word greedily (what lm-evaluation-harness prints), its last token alone (what the GPT-2 paper prints), and, as
a benchmark of its own since it needs a search, the whole word with stop words left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ladder.models.tokenizer import Tokenizer
from ladder.platform.evaluation.benchmark import Setting
from ladder.platform.evaluation.item_scores import ItemScores, mean_of, perplexity_of
from ladder.platform.evaluation.kinds.word_beam import MOST_TOKENS, expected_words
from ladder.platform.evaluation.scorer import Request, TokenScores


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A text whose last word is to be predicted."""

    context: str
    """Everything before the space before the last word."""
    word: str
    """The last word, with the space."""


def split_passage(text: str) -> Passage:
    """A passage of a text with a space in it, cut at the last one (as lm-evaluation-harness cuts LAMBADA)."""
    context, _, word = text.rpartition(" ")
    return Passage(context=context, word=" " + word)


def make_requests(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> list[Request]:
    """Requests of (context, continuation) texts, tokenized together and cut where the context's own tokens end.

    White space at the end of a context belongs to the continuation, since tokens begin with it.
    """
    pairs = [(context.rstrip(), context[len(context.rstrip()) :] + continuation) for context, continuation in pairs]
    contexts = tokenizer.encode_batch([context for context, _ in pairs])
    wholes = tokenizer.encode_batch([context + continuation for context, continuation in pairs])
    requests = []
    for (_, continuation), context, whole in zip(pairs, contexts, wholes, strict=True):
        joined = whole[: len(context)] == context
        rest = whole[len(context) :] if joined else tokenizer.encode(continuation)  # a token across the border
        requests.append(Request(context=tuple(context), continuation=tuple(rest)))
    return requests


def score_passages(setting: Setting, passages: Sequence[Passage], *, benchmark: str, protocol: str) -> list[ItemScores]:
    """Perplexity per last word and the two accuracies.

    A word longer than the model's context is scored as far as it fits, counts as cut and is never right.
    """
    pairs = [(passage.context, passage.word) for passage in passages]
    requests = make_requests(setting.tokenizer, pairs)
    room = setting.scorer.context
    whole = np.array([len(request.continuation) <= room for request in requests])
    fitted = [replace(request, continuation=request.continuation[:room]) for request in requests]
    scores = setting.scorer.loglikelihood(fitted)
    nats = np.array([score.total_nats for score in scores])
    right = whole & np.array([all(score.greedy) for score in scores])
    items = [
        {"prompt": passage.context, "answer": passage.word, "nats": score.total_nats, "right": bool(is_right)}
        for passage, score, is_right in zip(passages, scores, right, strict=True)
    ]
    ones = np.ones(len(scores))
    totals = {
        "nats": nats,
        "items": ones,
        "tokens": np.array([len(score.nats) for score in scores]),
        "words": ones,
        "characters": np.array([len(passage.word) for passage in passages]),
        "bytes": np.array([len(passage.word.encode()) for passage in passages]),
        "items_cut": ~whole | np.array([score.n_cut > 0 for score in scores]),
    }
    perplexity = ItemScores(
        benchmark=benchmark,
        protocol=protocol,
        metric="perplexity",
        unit="perplexity per last word",
        direction="lower",
        description="exp of the mean nats of the whole last word; standard error over passages, delta method",
        estimate=perplexity_of(nats, ones),
        counted=ones,
        totals=totals,
        items=items,
    )
    accuracies = [
        ItemScores(
            benchmark=benchmark,
            protocol=protocol,
            metric=metric,
            unit="share of passages",
            direction="higher",
            description=f"{description}; standard error over passages",
            estimate=mean_of(hits * whole),
            counted=ones,
            totals={**totals, "hits": hits * whole},
            items=items,
        )
        for metric, (hits, description) in _hits(scores).items()
    ]
    return [perplexity, *accuracies]


def score_expected_words(
    setting: Setting, passages: Sequence[Passage], *, benchmark: str, protocol: str
) -> list[ItemScores]:
    """The share of passages whose last word is the likeliest word that is no stop word."""
    scorer = setting.scorer
    contexts = setting.tokenizer.encode_batch([passage.context.rstrip() for passage in passages])
    starts = [tuple(context) or (scorer.start_token,) for context in contexts]
    most_tokens = min(MOST_TOKENS, scorer.context - 1)  # and one that is predicted after them
    words = expected_words(scorer, setting.tokenizer, starts, n_classes=scorer.head.shape[0], most_tokens=most_tokens)
    hits = np.array([word == passage.word for word, passage in zip(words, passages, strict=True)], dtype=np.float64)
    return [
        ItemScores(
            benchmark=benchmark,
            protocol=protocol,
            metric="accuracy",
            unit="share of passages",
            direction="higher",
            description="the last word is the likeliest whole word that is no stop word; standard error over passages",
            estimate=mean_of(hits),
            counted=np.ones(len(hits)),
            totals={"items": np.ones(len(hits)), "hits": hits},
            items=[
                {"prompt": passage.context, "answer": passage.word, "written": word, "right": word == passage.word}
                for passage, word in zip(passages, words, strict=True)
            ],
        )
    ]


def _hits(scores: Sequence[TokenScores]) -> dict[str, tuple[np.ndarray, str]]:
    """For each accuracy, whether each passage counts as right, and in what sense."""
    return {
        "accuracy": (
            np.array([all(score.greedy) for score in scores], dtype=np.float64),
            "every token of the last word is the likeliest",
        ),
        "accuracy_last_token": (
            np.array([score.greedy[-1] for score in scores], dtype=np.float64),
            "the last token of the last word is the likeliest, the word's other tokens given",
        ),
    }
