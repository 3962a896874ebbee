"""The last word that a model expects, by beam search over whole words, with stop words left out.

A word is a first token that begins with a space and all tokens after it that go on with letters, so " don" and "uts"
are "donuts" and no stop word, though " don" alone is one. A word's probability is that of its tokens and of its end:
the sum over all tokens that do not go on with it.

    " the"  .50  ->  ends  .9   =  .45   a stop word, left out
                 ->  "n"   .1   ->  ends 1.0   =  .05
    " cab"  .40  ->  ends 1.0   =  .40   the word expected

A token that begins no word (a comma) is a guess as well, of its own probability, and a wrong one.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from ladder.models.tokenizer import Tokenizer
from ladder.platform.evaluation.text.words import STOP_WORDS

BEAM = 8
"""Beginnings of words that are followed at one time. The GPT-2 paper does not say how its filter searched."""

MOST_TOKENS = 24
"""Tokens of a word at most; of bytes the longest English words have about as many."""

_GOES_ON = re.compile(rb"[A-Za-z0-9]|'[A-Za-z]|-$|-[A-Za-z0-9]|(?!\xe2\x80)[\x80-\xff]")
"""Bytes of a token that goes on with a word. \\xe2\\x80 begins curly quotes and long dashes."""

_BEGINS = re.compile(rb" (?:[\"'(]|\xe2\x80[\x98\x9c])?(?:$|[A-Za-z0-9]|(?!\xe2\x80)[\x80-\xff])")
"""Bytes of a token that begins a word, a quote before it included; in a tokenizer of bytes that is the space alone."""

_OPENING = "\"'(\u2018\u201c"


class NextTokens(Protocol):
    """What the search asks of a scorer."""

    def next_log_probabilities(
        self, groups: Sequence[tuple[tuple[int, ...], Sequence[tuple[int, ...]]]]
    ) -> Iterable[tuple[int, Tensor]]:
        """As `ladder.platform.evaluation.scorer.Scorer.next_log_probabilities`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Guess:
    """The beginning of a word, or a whole one."""

    tokens: tuple[int, ...]
    """Its tokens after the context."""
    nats: float
    """-ln p of the tokens, and of the word's end where it has ended."""


@dataclass(kw_only=True)
class _Search:
    """The search after one context."""

    context: tuple[int, ...]
    open: list[Guess]
    """Beginnings that may go on, the likeliest first."""
    best: Guess | None = None
    """The likeliest guess that has ended and is no stop word."""

    def end(self, guess: Guess) -> None:
        if self.best is None or guess.nats < self.best.nats:
            self.best = guess


def expected_words(
    scorer: NextTokens,
    tokenizer: Tokenizer,
    contexts: Sequence[tuple[int, ...]],
    *,
    n_classes: int,
    most_tokens: int = MOST_TOKENS,
) -> list[str]:
    """The likeliest text after each context that is no stop word, with the space before it; empty where none ended.

    `n_classes` is the number of classes of the model, which may have more than the tokenizer has tokens. Words of more
    than `most_tokens` tokens are not found.
    """
    begins, goes_on = _word_tokens(tokenizer, n_classes)
    searches = [_Search(context=context, open=[Guess(tokens=(), nats=0.0)]) for context in contexts]
    for _ in range(most_tokens + 1):
        live = [search for search in searches if search.open]
        if not live:
            break
        asked = [(search.context, [guess.tokens for guess in search.open]) for search in live]
        for index, log_probabilities in scorer.next_log_probabilities(asked):
            _advance(live[index], log_probabilities, tokenizer, begins, goes_on)
    return ["" if search.best is None else tokenizer.decode(search.best.tokens) for search in searches]


def _advance(search: _Search, log_probabilities: Tensor, tokenizer: Tokenizer, begins: Tensor, goes_on: Tensor) -> None:
    """One more token: ends the open guesses and follows the likeliest ways on; ln p [open guesses, V]."""
    device = log_probabilities.device
    nats = torch.tensor([guess.nats for guess in search.open], device=device)
    is_first = not search.open[0].tokens
    if not is_first:
        ends = log_probabilities[:, ~goes_on.to(device)].logsumexp(1)  # [open guesses]
        for guess, its_nats in zip(search.open, (nats - ends).tolist(), strict=True):
            if not is_stop_word(tokenizer.decode(guess.tokens).strip()):
                search.end(Guess(tokens=guess.tokens, nats=its_nats))
        log_probabilities = log_probabilities.masked_fill(~goes_on.to(device), -torch.inf)
    ways = nats[:, None] - log_probabilities  # [open guesses, V]
    found = ways.flatten().topk(min(BEAM, ways.numel()), largest=False)
    guesses = []
    for value, place in zip(found.values.tolist(), found.indices.tolist(), strict=True):
        parent, token = divmod(place, ways.shape[1])
        guess = Guess(tokens=(*search.open[parent].tokens, token), nats=value)
        if is_first and not begins[token]:
            search.end(guess)
        else:
            guesses.append(guess)
    # A guess only loses by going on, so that one behind the best is through.
    bound = torch.inf if search.best is None else search.best.nats
    search.open = [guess for guess in guesses if guess.nats < bound]


def is_stop_word(word: str) -> bool:
    """Whether a word, as it is written, is a stop word or a contraction of one ("don't", "it's").

    With a capital it is a name ("Will"), since what is asked for stands inside a sentence; but "I".
    """
    word = word.lstrip(_OPENING)
    stems = {word, word.partition("'")[0], word.removesuffix("n't")}
    return bool(stems & STOP_WORDS) or "I" in stems


@cache
def _word_tokens(tokenizer: Tokenizer, n_classes: int) -> tuple[Tensor, Tensor]:
    """Whether each class [V] begins a word, and whether it goes on with one; classes that are no tokens do neither."""
    begins = torch.zeros(n_classes, dtype=torch.bool)
    goes_on = torch.zeros(n_classes, dtype=torch.bool)
    for token in range(tokenizer.vocabulary):
        content = b"" if token == tokenizer.end_of_text else tokenizer.decode_bytes([token])
        begins[token] = _BEGINS.match(content) is not None
        goes_on[token] = _GOES_ON.match(content) is not None
    return begins, goes_on
