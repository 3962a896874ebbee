"""What one checkpoint says of a text: plain numbers in JSON's own types, for the page and for its saved copy.

Each function reads the text as `reading.read` says and makes one pass. Probabilities are softmax of the model's logits
in fp32, at the temperature where one is asked for.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ladder.models.errors import InputError
from ladder.models.inspection import attention_from, lens_log_probabilities
from ladder.models.loss import token_nats
from ladder.platform.explore.reading import Reading, read, tokenize, write
from ladder.platform.explore.shelf import Opened

LENS_POSITIONS = 32
"""Positions of the logit lens at most, the last ones: more do not fit a page."""

Answer = dict[str, Any]


def next_token(opened: Opened, text: str, *, top_k: int = 10, temperature: float = 1.0, own: str = "") -> Answer:
    """The likeliest next tokens with their probabilities, and the probability that a text of one's own comes next."""
    reading = _read(opened, text)
    likely = _log_probabilities(opened, [(reading.tokens, 1)], temperature)[0][0]
    values, tokens = likely.topk(min(top_k, len(likely)))
    return _describe(opened, reading) | {
        "options": [
            {"text": write(opened.tokenizer, int(token)), "token": int(token), "p": math.exp(value)}
            for value, token in zip(values.tolist(), tokens.tolist(), strict=True)
        ],
        "own": _parts(opened, reading, own, temperature) if own else None,
    }


def rung(opened: Opened, text: str, candidates: Sequence[str]) -> Answer:
    """A checkpoint's cell in the ladder: its likeliest next token, and the probability of each candidate in whole."""
    reading = _read(opened, text)
    words = [tokenize(opened.tokenizer, candidate) for candidate in candidates]
    rows = [(reading.tokens, 1), *((_before(opened, reading, word), len(word)) for word in words if word)]
    likely = _log_probabilities(opened, rows)
    value, token = likely[0][0].max(-1)
    following = iter(likely[1:])
    return {
        "cut": reading.cut,
        "top": {"text": write(opened.tokenizer, int(token)), "p": math.exp(value)},
        "candidates": [math.exp(_sum(next(following), word)) if word else None for word in words],
    }


def surprise(opened: Opened, text: str) -> Answer:
    """-log2 p of each token of a text read as the beginning of a document, as `ladder evaluate` reads one, and the mean
    in nats. Where the text is cut, the first token that is left has nothing before it and no number."""
    reading = read(opened.tokenizer, text, context=opened.model.size.context, start=True)
    tokens = torch.tensor(reading.tokens, device=opened.model.wte.weight.device)
    nats: list[float] = []
    if len(tokens) > 1:
        hidden = opened.model.hidden(tokens[None, :-1])[0]
        nats = token_nats(hidden, opened.model.wte.weight, tokens[1:]).tolist()
    shown = nats if reading.started else [None, *nats]
    return _describe(opened, reading) | {
        "bits": [None if value is None else value / math.log(2) for value in shown],
        "mean_nats": sum(nats) / len(nats) if nats else None,
    }


def attention(opened: Opened, text: str, position: int | None) -> Answer:
    """Where a position looks, by layer, head and earlier position; positions count the tokens that are read, and None
    is the last."""
    reading = _read(opened, text)
    position = len(reading.tokens) - 1 if position is None else position
    if not 0 <= position < len(reading.tokens):
        raise InputError(f"position {position} is not of this text, which has {len(reading.tokens)} tokens")
    tokens = torch.tensor(reading.tokens, device=opened.model.wte.weight.device)
    weights = attention_from(opened.model, tokens, position)  # [L, H, position + 1]
    rounded = [[[round(w, 6) for w in head] for head in layer] for layer in weights.tolist()]
    return _describe(opened, reading) | {"position": position, "weights": rounded}


def lens(opened: Opened, text: str) -> Answer:
    """The likeliest next token after each layer at each of the last positions, the embedding first."""
    reading = _read(opened, text)
    first = max(0, len(reading.tokens) - LENS_POSITIONS)
    tokens = torch.tensor(reading.tokens, device=opened.model.wte.weight.device)
    layers = []
    for likely in lens_log_probabilities(opened.model, tokens, first=first):
        values, best = likely.max(-1)
        cells = zip(values.exp().tolist(), best.tolist(), strict=True)
        layers.append([{"text": write(opened.tokenizer, token), "p": p} for p, token in cells])
    return _describe(opened, reading) | {"first": first, "layers": layers}


def _read(opened: Opened, text: str) -> Reading:
    return read(opened.tokenizer, text, context=opened.model.size.context)


def _describe(opened: Opened, reading: Reading) -> Answer:
    """The tokens that were read, as the page shows them; the end-of-text token is named apart."""
    tokens = reading.tokens[1:] if reading.started else reading.tokens
    return {
        "started": reading.started,
        "cut": reading.cut,
        "read": [write(opened.tokenizer, token) for token in tokens],
    }


def _log_probabilities(
    opened: Opened, rows: Sequence[tuple[Sequence[int], int]], temperature: float = 1.0
) -> list[Tensor]:
    """ln p of the next token after the last n tokens of each (tokens, n): [n, V] each, from one pass over all.

    A temperature of 0 leaves the likeliest alone.
    """
    longest = max(len(tokens) for tokens, _ in rows)
    padded = torch.tensor([[*tokens, *[0] * (longest - len(tokens))] for tokens, _ in rows])  # no token sees the right
    head = opened.model.wte.weight
    hidden = opened.model.hidden(padded.to(head.device))
    least = torch.finfo(torch.float32).tiny
    found = []
    for states, (tokens, n) in zip(hidden, rows, strict=True):
        logits = F.linear(states[len(tokens) - n : len(tokens)], head)
        logits = (logits - logits.max(-1, keepdim=True).values) / max(temperature, least)
        found.append(logits.log_softmax(-1))
    return found


def _before(opened: Opened, reading: Reading, word: Sequence[int]) -> tuple[int, ...]:
    """What the model reads to predict the last token of a word after a text, the text cut further where it must be."""
    context = opened.model.size.context
    if len(word) > context:
        raise InputError(f"the candidate has {len(word)} tokens and the model a context of {context}; take a shorter")
    return (*reading.tokens, *word[:-1])[-context:]


def _sum(likely: Tensor, word: Sequence[int]) -> float:
    """ln p of a word whose tokens the rows of [length, V] predict."""
    return float(likely.gather(1, torch.tensor(word, device=likely.device)[:, None]).sum())


def _parts(opened: Opened, reading: Reading, own: str, temperature: float) -> Answer:
    """The probability of a text in whole and of each of its tokens given those before."""
    word = tokenize(opened.tokenizer, own)
    (likely,) = _log_probabilities(opened, [(_before(opened, reading, word), len(word))], temperature)
    each = [float(row[token]) for row, token in zip(likely, word, strict=True)]
    tokens = [{"text": write(opened.tokenizer, t), "p": math.exp(p)} for t, p in zip(word, each, strict=True)]
    return {"p": math.exp(sum(each)), "tokens": tokens}
