"""What a user may choose of how benchmarks are scored."""

from dataclasses import dataclass

from ladder.models.errors import InputError

HELDOUT_TOKENS = 65_536
"""Tokens of the held-out loss unless asked otherwise: about a second for a small model on one core."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much of a corpus' held-out pages is scored; the defaults take seconds for a small model on one core."""

    pages: int = 48
    """Pages from the start of the held-out split."""
    page_characters: int = 1_024
    """Characters from the start of each page, cut at a word's end, for words and bytes."""
    last_word_items: int = 160
    """Passages for last-word prediction, taken from the pages in turn."""
    cloze_items: int = 80
    """Questions of ten candidates, taken from the pages in turn."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise InputError(f"{name} is {value}: wanted at least 1")


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What a user may choose of how benchmarks are scored; part of what a number means."""

    heldout_tokens: int | None = HELDOUT_TOKENS
    """Tokens of the held-out split that the held-out loss reads, from its start; None reads all."""
    limits: Limits = DEFAULT_LIMITS
    """Bounds of the benchmarks made from held-out pages."""
    limit: int | None = None
    """Items scored of every other benchmark, from the first; None scores all."""
    shots: int | None = None
    """Solved examples in a prompt; None takes each benchmark's own number."""
    seed: int = 0
    """Seed of the draw of examples, and of sampling."""
    window: int | None = None
    """Tokens of a window over a long text; None takes the model's context."""
    stride: int | None = None
    """Tokens from one window to the next; None takes the window."""

    def __post_init__(self) -> None:
        for name, least in {"heldout_tokens": 1, "limit": 1, "shots": 0, "window": 1, "stride": 1}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} is {value}: wanted at least {least}")


DEFAULT_PROTOCOL = Protocol()
