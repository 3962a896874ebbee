"""The two scoring functions that carry every benchmark: log-likelihood of continuations, and rolling over long texts.

Both come down to rows: a run of tokens of which the last few are scored. Rows of like length are batched together up to
a bound on tokens, the network runs once over each batch, and the vocabulary projection is made only where a score is
read. Padding goes to the right, where a causal model cannot see it. Requests that share a context share its computation
(`ladder.models.branches`).

Shapes: B rows of at most T tokens, M scored positions of a batch, D width, V classes.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ladder.models.branches import Tree, branch_hidden, pad_rows
from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.loss import scoring_head, token_nats, token_nats_and_likeliest
from ladder.models.sizes import Size

BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Tokens of a batch, padding included, by kind of device. On a CPU a batch's activations should stay in its cache: 8192
measured 8 to 20 % slower (6 layers of 384, contexts of 90 and 1024)."""


class Progress(Protocol):
    """Who is told how far scoring is."""

    def __call__(self, *, expected: int = 0, answered: int = 0, tokens: int = 0) -> None:
        """So many more requests are to be answered; so many more are, with so many tokens through the network."""


def tell_nobody(*, expected: int = 0, answered: int = 0, tokens: int = 0) -> None:
    """Where nobody asks how far scoring is."""


class LanguageModel(Protocol):
    """What scoring asks of a model: GPT2, or a fake one with known probabilities."""

    size: Size
    wte: nn.Embedding

    def hidden(self, tokens: Tensor) -> Tensor:
        """Hidden states [B, T, D] of tokens [B, T], position t having seen tokens up to t."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A continuation to be scored after a context."""

    context: tuple[int, ...]
    """Tokens before the continuation; none means the start of a document."""
    continuation: tuple[int, ...]
    """Tokens to be scored, at least one."""


@dataclass(frozen=True, kw_only=True)
class TokenScores:
    """What the model gives to the scored tokens of a row or of a continuation."""

    nats: np.ndarray
    """-ln p of each token, in nats [n_scored] float32."""
    greedy: np.ndarray
    """Whether each token is the likeliest one at its place [n_scored] bool; empty where it was not asked for."""
    n_cut: int = 0
    """Tokens left out, since the whole did not fit the model's context."""

    @property
    def total_nats(self) -> float:
        """-ln p of all tokens together, in nats."""
        return float(self.nats.sum(dtype=np.float64))


@dataclass(frozen=True, kw_only=True)
class Row:
    """Tokens to run through the model, of which the last `n_scored` are scored."""

    tokens: Sequence[int] | np.ndarray
    """Context and scored tokens; one more than the model sees, since the last is only predicted."""
    n_scored: int
    """How many tokens at the end are scored; at least one token stands before them."""


def windows(n_tokens: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(start, scored_from, end) of the windows over a text of `n_tokens`; each token is scored exactly once.

    A window sees tokens start .. end - 1 shifted right by one (the token before `start`, or the document's start, comes
    first) and scores scored_from .. end - 1. The first scores `window` tokens, each later one `stride` more, seeing
    window - stride tokens before them. Plain windows (stride = window = 4, the paper's) and sliding ones (stride = 2):

        tokens      0 1 2 3 4 5 6 7 8 9        tokens      0 1 2 3 4 5 6 7 8 9
        window 0    S S S S                    window 0    S S S S
        window 1            S S S S            window 1        . . S S
        window 2                    S S        window 2            . . S S
                                               window 3                . . S S     S scored, . only seen
    """
    assert 1 <= stride <= window, (stride, window)
    scored_from, end = 0, min(window, n_tokens)
    while scored_from < n_tokens:
        yield max(0, scored_from - (window - stride)) if scored_from else 0, scored_from, end
        scored_from, end = end, min(end + stride, n_tokens)


class Scorer:
    """Scores token sequences with one model, in its device's memory, without touching its mode or gradients."""

    def __init__(
        self,
        model: LanguageModel,
        *,
        device: torch.device | str,
        precision: str,
        start_token: int,
        batch_tokens: int | None = None,
        progress: Progress = tell_nobody,
    ) -> None:
        """`precision` is fp32 or bf16 (autocast); `start_token` stands before a document's first token.

        `batch_tokens` bounds the tokens of a batch and with it the memory; None takes the device's BATCH_TOKENS.
        The head is made for it here, once, so the model's weights must stay as they are while it scores.
        """
        if precision not in ("fp32", "bf16"):
            raise InputError(f"unknown precision {precision!r}: wanted fp32 or bf16")
        self.model = model
        self.device = torch.device(device)
        self.precision = precision
        self.start_token = start_token
        self.progress = progress
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(self.device.type, BATCH_TOKENS["cpu"])
        self.context = model.size.context
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.head = scoring_head(model.wte.weight.detach(), dtype)  # [V, D] or [V, D + S], tied

    def loglikelihood(self, requests: Sequence[Request]) -> list[TokenScores]:
        """The score of each request, in order.

        A context too long is cut on the left, by the same tokens for all requests that share it, so that candidates
        stay comparable. Raises InputError for a continuation longer than the model's context.
        """
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(request.context, []).append(index)
        rows, cut = {}, {}
        for context, members in groups.items():
            kept, n_cut = self._fit(context, max(len(requests[index].continuation) for index in members))
            for index in members:
                continuation = requests[index].continuation
                rows[index] = Row(tokens=(*kept, *continuation), n_scored=len(continuation))
                cut[index] = n_cut
        scores: dict[int, TokenScores] = {}
        if isinstance(self.model, GPT2):
            shared = [[(index, rows[index]) for index in members] for members in groups.values()]
            scores = self._score_shared(self.model, shared)
        alone = [index for index in rows if index not in scores]
        scores.update(zip(alone, self.score_rows([rows[index] for index in alone]), strict=True))
        return [replace(scores[index], n_cut=cut[index]) for index in range(len(requests))]

    def rolling(
        self,
        texts: Sequence[Sequence[int] | np.ndarray],
        *,
        window: int | None = None,
        stride: int | None = None,
        full_last_window: bool = False,
    ) -> list[np.ndarray]:
        """-ln p in nats of every token of each text, float32 [n_tokens]; the first follows the start token.

        `window` defaults to the model's context and `stride` to the window: see `windows`. With `full_last_window` a
        text's last window reaches back as far as the others do, as lm-evaluation-harness has it.
        """
        window = self.context if window is None else window
        stride = window if stride is None else stride
        if not 1 <= window <= self.context:
            raise InputError(f"window of {window} tokens: wanted 1 to the model's context of {self.context}")
        if not 1 <= stride <= window:
            raise InputError(f"stride of {stride} tokens: wanted 1 to the window's {window}")
        rows, n_rows = [], []
        for text in texts:
            tokens = np.concatenate([[self.start_token], np.asarray(text, dtype=np.int64)])
            spans = list(windows(len(text), window, stride))
            if full_last_window:
                spans = [(max(0, end - window), scored, end) for _, scored, end in spans]
            rows += [Row(tokens=tokens[start : end + 1], n_scored=end - scored) for start, scored, end in spans]
            n_rows.append(len(spans))
        scores = iter(self.score_rows(rows, greedy=False))
        empty = np.zeros(0, np.float32)
        return [np.concatenate([empty, *(score.nats for score in itertools.islice(scores, n))]) for n in n_rows]

    def next_log_probabilities(
        self, groups: Sequence[tuple[tuple[int, ...], Sequence[tuple[int, ...]]]]
    ) -> Iterator[tuple[int, Tensor]]:
        """(index, ln p of the token that follows each end [ends, V] float32) of every (context, ends), in any order.

        An end stands after the context and may be empty. A context too long is cut as in `loglikelihood`.
        """
        open_ends = [[(*end, 0) for end in ends] for _, ends in groups]  # the last is predicted, so any token does
        trees = [
            Tree(trunk=self._fit(context, max(map(len, ends)))[0], ends=tuple(ends))
            for (context, _), ends in zip(groups, open_ends, strict=True)
        ]
        self.progress(expected=len(trees))
        with self._quietly():
            for batch in self._tree_batches(trees):
                chosen = [trees[index] for index in batch]
                states = self._end_states(chosen)  # [B, ends, D]
                log_probabilities = (
                    (states.to(self.head.dtype) @ self.head[:, : states.shape[-1]].T).float().log_softmax(-1)
                )
                self.progress(answered=len(batch), tokens=sum(tree.n_tokens for tree in chosen))
                yield from zip(batch, log_probabilities, strict=True)

    def _end_states(self, trees: Sequence[Tree]) -> Tensor:
        """Hidden states [B, ends, D] that predict the last token of each end of trees with equally many."""
        if isinstance(self.model, GPT2):
            lasts = np.cumsum([len(end) for tree in trees for end in tree.ends]) - 1
            states = branch_hidden(self.model, trees, self.device)[torch.from_numpy(lasts).to(self.device)]
        else:
            rows = [(*tree.trunk, *end[:-1]) for tree in trees for end in tree.ends]
            lasts = np.array([len(row) - 1 for row in rows])
            hidden = self.model.hidden(pad_rows(rows).to(self.device))
            states = hidden[torch.arange(len(rows), device=self.device), torch.from_numpy(lasts).to(self.device)]
        return states.view(len(trees), -1, states.shape[-1])

    def score_rows(self, rows: Sequence[Row], *, greedy: bool = True) -> list[TokenScores]:
        """The score of each row, in order; rows are batched by length, the longest first.

        Without `greedy` it is not found out whether tokens are the likeliest, which costs a tenth more.
        """
        scores: dict[int, TokenScores] = {}
        self.progress(expected=len(rows))
        with self._quietly():
            for batch in bucket([len(row.tokens) - 1 for row in rows], self.batch_tokens):
                chosen = [rows[index] for index in batch]
                hidden = self.model.hidden(pad_rows([row.tokens[:-1] for row in chosen]).to(self.device))  # [B, T, D]
                flat = torch.from_numpy(_scored_positions(chosen, hidden.shape[1])).to(self.device)
                states = hidden.flatten(0, 1)[flat]  # [M, D]
                scores.update(zip(batch, self._read(states, chosen, greedy=greedy), strict=True))
                self.progress(answered=len(chosen), tokens=sum(len(row.tokens) - 1 for row in chosen))
        return [scores[index] for index in range(len(rows))]

    def _score_shared(self, model: GPT2, groups: Sequence[Sequence[tuple[int, Row]]]) -> dict[int, TokenScores]:
        """Scores by index of the (index, row) in `groups`, each one context with several continuations.

        A group longer than a batch is left out: alone, its rows need less memory.
        """
        pairs = [(members, _tree([row for _, row in members])) for members in groups]
        pairs = [(members, tree) for members, tree in pairs if tree.n_tokens <= self.batch_tokens]
        scores: dict[int, TokenScores] = {}
        self.progress(expected=sum(len(members) for members, _ in pairs))
        with self._quietly():
            for batch in self._tree_batches([tree for _, tree in pairs]):
                hidden = branch_hidden(model, [pairs[index][1] for index in batch], self.device)  # [M, D]
                indices, rows = zip(*(member for index in batch for member in pairs[index][0]), strict=True)
                scores.update(zip(indices, self._read(hidden, rows, greedy=True), strict=True))
                self.progress(answered=len(rows), tokens=sum(pairs[index][1].n_tokens for index in batch))
        return scores

    def _tree_batches(self, trees: Sequence[Tree]) -> Iterator[list[int]]:
        """Batches of indices of trees with equally many ends."""
        by_ends: dict[int, list[int]] = {}
        for index, tree in enumerate(trees):
            by_ends.setdefault(len(tree.ends), []).append(index)
        for alike in by_ends.values():
            for batch in bucket([trees[index].n_tokens for index in alike], self.batch_tokens):
                yield [alike[position] for position in batch]

    def _read(self, hidden: Tensor, rows: Sequence[Row], *, greedy: bool) -> list[TokenScores]:
        """Scores of `rows` from the hidden states [M, D] that predict their scored tokens, row after row."""
        targets = torch.from_numpy(np.concatenate([np.asarray(row.tokens[-row.n_scored :]) for row in rows]))
        targets = targets.to(self.device)
        if greedy:
            nats_tensor, flags_tensor = token_nats_and_likeliest(hidden, self.head, targets)
        else:
            nats_tensor, flags_tensor = token_nats(hidden, self.head, targets), torch.zeros(0, dtype=torch.bool)
        nats, flags = nats_tensor.cpu().numpy(), flags_tensor.cpu().numpy()  # the one wait for the device
        if not np.isfinite(nats).all():
            raise InputError("the model gives scores that are not finite numbers: its weights are broken")
        ends = np.cumsum([row.n_scored for row in rows])
        starts = ends - [row.n_scored for row in rows]
        return [TokenScores(nats=nats[a:b], greedy=flags[a:b]) for a, b in zip(starts, ends, strict=True)]

    def _fit(self, context: tuple[int, ...], n_continuation: int) -> tuple[tuple[int, ...], int]:
        """The end of a context that fits before `n_continuation` tokens, at least one, and how many tokens were cut."""
        if n_continuation > self.context:
            wanted = f"the model's context is {self.context} tokens"
            raise InputError(f"a continuation of {n_continuation} tokens does not fit: {wanted}")
        context = context or (self.start_token,)
        # The last continuation token is predicted and never an input, hence the + 1.
        n_kept = min(len(context), self.context + 1 - n_continuation)
        return context[-n_kept:], len(context) - n_kept

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Inference mode, and autocast where bf16 was asked for."""
        bf16 = self.precision == "bf16"
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            yield


def bucket(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Batches of indices, longest first, so that a batch padded to its longest holds at most `batch_tokens` tokens.

    A single item longer than that is a batch of its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _scored_positions(rows: Iterable[Row], width: int) -> np.ndarray:
    """Flat positions [M] in a batch of `width` columns whose hidden states predict the scored tokens, row after row."""
    spans = []
    for index, row in enumerate(rows):
        last = index * width + len(row.tokens) - 1  # one after the last input, which predicts the last token
        spans.append(np.arange(last - row.n_scored, last))
    return np.concatenate(spans)


def _tree(rows: Sequence[Row]) -> Tree:
    """Rows of one context as branches of it."""
    trunk = rows[0].tokens[: -rows[0].n_scored]
    return Tree(trunk=tuple(trunk), ends=tuple(tuple(row.tokens[len(trunk) :]) for row in rows))
