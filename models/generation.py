"""Text that a model writes after prompts: many at once, token by token, with the keys and values of what was read kept.

A prompt's text does not depend on which others are written with it: each has its own positions, seed and end. Prompts
of like length share a cache of fixed size; a text that ends leaves it, and the next prompt takes its row. A prompt with
which another begins is not read again.

Shapes: B rows, T tokens of the longest prompt, V classes, D width.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ladder.models.cache import KeyValueCache, position_bytes
from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.loss import scoring_head

CACHE_BYTES = {"cpu": 2**28, "cuda": 2**31}
"""Bytes of the keys and values of the texts that are written together, by kind of device; one text may take more."""

BATCH_ROWS = {"cpu": 64, "cuda": 512}
"""Texts that are written together at most, which bounds the logits: 64 rows of 50,257 are 13 MB."""

PROMPT_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Tokens of prompts read in one pass, padding included: on a CPU their activations should stay in its cache."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen. InputError for values that make no choice."""

    temperature: float = 1.0
    """0 takes the likeliest token; otherwise one is drawn from softmax(logits / temperature)."""
    top_k: int | None = None
    """Draws among so many likeliest tokens; None among all."""
    top_p: float | None = None
    """Draws among the fewest likeliest tokens whose probabilities reach this (Holtzman et al. 2020, arXiv:1904.09751),
    after `top_k`; None among all."""

    def __post_init__(self) -> None:
        for name, value, right, wanted in (
            ("temperature", self.temperature, 0 <= self.temperature < float("inf"), "0 (the likeliest token) or more"),
            ("top_k", self.top_k, self.top_k is None or self.top_k >= 1, "1 or more"),
            ("top_p", self.top_p, self.top_p is None or 0 < self.top_p <= 1, "more than 0 and at most 1"),
        ):
            if not right:
                raise InputError(f"{name} is {value}; wanted {wanted}")


GREEDY = Sampling(temperature=0)


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """What a model wrote after a prompt."""

    tokens: tuple[int, ...]
    """The tokens that follow the prompt, without the end token."""
    nats: float
    """-ln p by the model itself, before temperature and cuts, of the tokens and of the end token where it was drawn."""
    ended: bool
    """Whether it came to its end, and not only to the number of tokens asked for."""


@dataclass(kw_only=True)
class _Row:
    """A text being written."""

    tokens: list[int]
    """The prompt and what was written so far."""
    n_prompt: int
    """Tokens of the prompt."""
    draws: random.Random
    """Generator of its own draws."""
    nats: float = 0.0
    """-ln p of what was written so far, in nats."""
    ended: bool = False
    """Whether it came to its end."""

    @property
    def written(self) -> list[int]:
        """The tokens after the prompt."""
        return self.tokens[self.n_prompt :]

    @property
    def n_read(self) -> int:
        """Tokens that the model has read once the first was written: all but the last."""
        return len(self.tokens) - 1


def generate(
    model: GPT2,
    prompts: Sequence[Sequence[int]],
    *,
    n_tokens: int,
    sampling: Sampling,
    seeds: Sequence[int | str] | None = None,
    end_token: int | None = None,
    stop: Callable[[Sequence[int]], bool] | None = None,
    on_token: Callable[[int], None] | None = None,
    on_end: Callable[[int], None] | None = None,
    cache_bytes: int | None = None,
) -> list[Continuation]:
    """What the model writes after each prompt, in order: at most `n_tokens` tokens each.

    A text ends before an `end_token`, or with the token after which `stop`, given the tokens written so far, is true.
    `seeds` holds one seed for each prompt and may be absent where the likeliest token is taken. `on_token` is called
    with every token as it is written, which tells something where there is one prompt; `on_end` with the tokens of each
    text that has ended. `cache_bytes` bounds what is remembered at once; None takes the device's CACHE_BYTES.

    Past the model's context the oldest tokens are dropped; positions are learned, so each token then costs a full pass.
    """
    _check(model, prompts, n_tokens)
    assert seeds is not None or sampling.temperature == 0, "draws need a seed for each prompt"
    assert seeds is None or len(seeds) == len(prompts), f"{len(seeds or ())} seeds for {len(prompts)} prompts"
    rows = [
        _Row(tokens=list(prompt), n_prompt=len(prompt), draws=random.Random(seed))
        for prompt, seed in zip(prompts, seeds or [0] * len(prompts), strict=True)
    ]
    if n_tokens > 0:
        kind = model.wte.weight.device.type
        bound = cache_bytes or CACHE_BYTES.get(kind, CACHE_BYTES["cpu"])
        writer = _Writer(
            model=model,
            head=scoring_head(model.wte.weight, _activation_dtype(model))[:, : model.size.d_model].contiguous(),
            n_tokens=n_tokens,
            sampling=sampling,
            end_token=end_token,
            stop=stop,
            on_token=on_token,
            on_end=on_end,
        )
        with torch.inference_mode():
            writer.write(rows, bound)
    return [Continuation(tokens=tuple(row.written), nats=row.nats, ended=row.ended) for row in rows]


@dataclass(kw_only=True)
class _Writer:
    """Writes rows with one model and one way of choosing."""

    model: GPT2
    head: Tensor
    """What logits are made with [V, D], in the precision of the activations."""
    n_tokens: int
    sampling: Sampling
    end_token: int | None
    stop: Callable[[Sequence[int]], bool] | None
    on_token: Callable[[int], None] | None
    on_end: Callable[[int], None] | None

    @property
    def context(self) -> int:
        return self.model.size.context

    @property
    def device(self) -> torch.device:
        return self.model.wte.weight.device

    def write(self, rows: Sequence[_Row], cache_bytes: int) -> None:
        """Writes each row to its end."""
        dtype = _activation_dtype(self.model)
        families = _find_families([row for row in rows if row.n_prompt <= self.context])
        for group in _group_by_slots(families, self._n_slots):
            n_slots = self._n_slots(group[0][0])
            n_rows = cache_bytes // (n_slots * position_bytes(self.model.size, dtype))
            n_rows = max(1, min(n_rows, sum(map(len, group)), BATCH_ROWS.get(self.device.type, BATCH_ROWS["cpu"])))
            cache = KeyValueCache(self.model.size, n_rows=n_rows, n_slots=n_slots, dtype=dtype, device=self.device)
            parts = (family[start : start + n_rows] for family in group for start in range(0, len(family), n_rows))
            self._write_cached(deque(parts), cache)
        self._write_sliding([row for row in rows if self._goes_on(row)])

    def _n_slots(self, row: _Row) -> int:
        """Positions that the row may come to read; the last token written is not read."""
        return min(self.context, row.n_prompt + self.n_tokens - 1)

    def _goes_on(self, row: _Row) -> bool:
        return not row.ended and len(row.written) < self.n_tokens

    def _write_cached(self, waiting: deque[list[_Row]], cache: KeyValueCache) -> None:
        """Writes the rows of families until each has ended or read as many tokens as the context holds."""
        live: list[_Row] = []
        while waiting or live:
            n_free = cache.n_rows - len(live)
            # A fourth of the rows is waited for, since a prompt at a time would be read too slowly.
            if waiting and len(waiting[0]) <= n_free and 4 * n_free >= cache.n_rows:
                live += self._read_prompts(waiting, cache, len(live))
            else:
                tokens = torch.tensor([row.tokens[-1:] for row in live], device=self.device)
                place = cache.place_tokens([row.n_read for row in live])
                self._append(live, self.model.hidden(tokens, place)[:, 0])
            self._drop_finished(live, cache)

    def _read_prompts(self, waiting: deque[list[_Row]], cache: KeyValueCache, start: int) -> list[_Row]:
        """Reads the prompts of the next families into the cache from row `start` on, and writes each row's first token.

        The rows are given back in the order of the cache: first the longest of each family, which is read, then the
        others, which take what they need of its keys and values.
        """
        n_tokens = PROMPT_TOKENS.get(self.device.type, PROMPT_TOKENS["cpu"])
        families: list[list[_Row]] = []
        n_free, width = cache.n_rows - start, waiting[0][0].n_prompt  # the longest comes first
        while waiting and len(waiting[0]) <= n_free and (not families or (len(families) + 1) * width <= n_tokens):
            families.append(waiting.popleft())
            n_free -= len(families[-1])
        longest = [family[0] for family in families]
        padded = torch.zeros(len(longest), max(row.n_prompt for row in longest), dtype=torch.int64)  # [B, T]
        for index, row in enumerate(longest):
            padded[index, : row.n_prompt] = torch.tensor(row.tokens)
        hidden = self.model.hidden(padded.to(self.device), cache.place_prompts(start, start + len(longest)))
        rows, read = list(longest), list(range(len(longest)))
        for index, family in enumerate(families):
            for row in family[1:]:
                cache.copy_row(start + index, start + len(rows), row.n_prompt)
                rows.append(row)
                read.append(index)
        last = torch.tensor([row.n_prompt - 1 for row in rows], device=self.device)
        self._append(rows, hidden[torch.tensor(read, device=self.device), last])
        return rows

    def _drop_finished(self, live: list[_Row], cache: KeyValueCache) -> None:
        """Takes out the rows that go on no more in the cache; the last row in use moves into the gap."""
        for index in reversed(range(len(live))):
            if not self._goes_on(live[index]) or live[index].n_read >= self.context:
                last = live.pop()
                if index < len(live):
                    live[index] = last
                    cache.copy_row(len(live), index, last.n_read)

    def _write_sliding(self, rows: Sequence[_Row]) -> None:
        """Writes rows whose text is longer than the context, reading the end of it anew for every token."""
        tokens = PROMPT_TOKENS.get(self.device.type, PROMPT_TOKENS["cpu"])
        n_rows = max(1, tokens // self.context)
        for start in range(0, len(rows), n_rows):
            live = list(rows[start : start + n_rows])
            while live:
                ends = torch.tensor([row.tokens[-self.context :] for row in live], device=self.device)
                self._append(live, self.model.hidden(ends)[:, -1])
                live = [row for row in live if self._goes_on(row)]

    def _append(self, rows: Sequence[_Row], hidden: Tensor) -> None:
        """Chooses the next token of each row from hidden [B, D]; here the processor waits for the device."""
        logits = F.linear(hidden.to(self.head.dtype), self.head).float()  # [B, V]
        totals = logits.logsumexp(-1)  # [B]
        if not bool(totals.isfinite().all()):
            raise InputError("the model gives scores that are not finite numbers: its weights are broken")
        uniforms = [row.draws.random() for row in rows] if self.sampling.temperature > 0 else []
        chosen = draw(logits, self.sampling, uniforms)  # [B]
        nats = totals - logits.gather(-1, chosen[:, None])[:, 0]
        for row, token, its_nats in zip(rows, chosen.tolist(), nats.tolist(), strict=True):
            row.nats += its_nats
            if token == self.end_token:
                row.ended = True
            else:
                row.tokens.append(token)
                row.ended = self.stop is not None and self.stop(row.written)
                if self.on_token is not None:
                    self.on_token(token)
            if self.on_end is not None and not self._goes_on(row):
                self.on_end(len(row.written))


def draw(logits: Tensor, sampling: Sampling, uniforms: Sequence[float]) -> Tensor:
    """One token for each row of logits [B, V]: the first whose cumulated probability exceeds the row's uniform number.

    `uniforms` holds a number from [0, 1) for each row. Sums are float64: in float32 those over 50,257 tokens err by
    more than the rare ones' probability.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    tokens = None  # of each column, where the columns are not the vocabulary
    if sampling.top_k is not None:
        logits, tokens = logits.topk(min(sampling.top_k, logits.shape[-1]), -1)
    temperature = max(sampling.temperature, torch.finfo(logits.dtype).tiny)  # less is 0 there, and 0 / 0 no number
    probabilities = ((logits - logits.max(-1, keepdim=True).values) / temperature).softmax(-1)
    if sampling.top_p is not None and sampling.top_p < 1:
        probabilities = probabilities * (probabilities >= _least_kept(probabilities, sampling.top_p))
    sums = probabilities.cumsum(-1, dtype=torch.float64)
    targets = torch.tensor(uniforms, dtype=torch.float64, device=logits.device)[:, None] * sums[:, -1:]
    columns = torch.searchsorted(sums, targets, right=True)  # [B, 1]; less than the last sum, so always a column
    return (columns if tokens is None else tokens.gather(-1, columns))[:, 0]


def _least_kept(probabilities: Tensor, top_p: float) -> Tensor:
    """The least probability [B, 1] among the fewest largest of each row of [B, V] that reach `top_p` together.

    The 256 largest are looked at first: to find them takes a fortieth of the time of sorting 50,257 (1 core).
    """
    n_rows, n_classes = probabilities.shape
    least = probabilities.new_zeros(n_rows)
    rows = torch.arange(n_rows, device=probabilities.device)  # those whose largest so far do not reach it
    for n_largest in (256, 4096, n_classes):
        largest = probabilities[rows].topk(min(n_largest, n_classes), -1).values
        sums = largest.cumsum(-1, dtype=torch.float64)
        kept = sums - largest < top_p  # the first token always stays
        least[rows] = largest.masked_fill(~kept, float("inf")).amin(-1)
        rows = rows[sums[:, -1] < top_p]
        if not len(rows):
            break
    return least[:, None]


def _find_families(rows: Sequence[_Row]) -> list[list[_Row]]:
    """The rows in families: the prompt of the first row of each begins with the prompts of the others."""
    families: list[list[_Row]] = []
    for row in sorted(rows, key=lambda row: row.tokens, reverse=True):  # right after all that begin with it
        if families and families[-1][0].tokens[: row.n_prompt] == row.tokens:
            families[-1].append(row)
        else:
            families.append([row])
    return families


def _group_by_slots(families: Sequence[list[_Row]], n_slots: Callable[[_Row], int]) -> Iterator[list[list[_Row]]]:
    """The families, the longest first, in groups within which none needs less than half the slots of the longest."""
    group: list[list[_Row]] = []
    for family in sorted(families, key=lambda family: -family[0].n_prompt):
        if group and 2 * n_slots(family[0]) < n_slots(group[0][0]):
            yield group
            group = []
        group.append(family)
    if group:
        yield group


def _activation_dtype(model: GPT2) -> torch.dtype:
    """What the model's keys and values are in: the weights' type, or the one that autocast has set."""
    weight = model.wte.weight
    return (
        torch.get_autocast_dtype(weight.device.type) if torch.is_autocast_enabled(weight.device.type) else weight.dtype
    )


def _check(model: GPT2, prompts: Sequence[Sequence[int]], n_tokens: int) -> None:
    if n_tokens < 0:
        raise InputError(f"n_tokens is {n_tokens}; wanted 0 or more")
    for prompt in prompts:
        if not prompt:
            raise InputError("the prompt has no tokens; wanted at least one, such as the end-of-text token")
        if not 0 <= min(prompt) <= max(prompt) < model.size.vocabulary:
            raise InputError(
                f"the prompt has tokens from {min(prompt)} to {max(prompt)} and the model a vocabulary of "
                f"{model.size.vocabulary}; encode it with the tokenizer that the model was trained with"
            )
