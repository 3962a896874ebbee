"""A text as a model reads it, and tokens as the page shows them.

The page's text may hold bytes that are no UTF-8, since a byte model offers them one by one: such a byte is written as
Python's surrogateescape writes it (U+DC80 to U+DCFF), and tokenized by itself. JSON and JavaScript carry these as they
are.
"""

import re
from dataclasses import dataclass

from ladder.models.errors import InputError
from ladder.models.tokenizer import Tokenizer

MOST_CHARACTERS = 20_000
"""Of a text: four contexts of GPT-2, of which a model reads the last."""

_RAW = re.compile("([\udc80-\udcff])")
_OTHER_SURROGATES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a model reads of a text."""

    tokens: tuple[int, ...]
    """The tokens, at least one."""
    started: bool
    """Whether the first token is the end-of-text token, which is no part of the text."""
    cut: int
    """Tokens left out on the left, since the whole does not fit the model's context."""


def read(tokenizer: Tokenizer, text: str, *, context: int, start: bool = False) -> Reading:
    """The last tokens of a text that fit a context.

    With `start`, or where there is no text, the end-of-text token stands first: the beginning of a document. InputError
    for a text of more than MOST_CHARACTERS.
    """
    tokens = tokenize(tokenizer, text)
    if start or not tokens:
        tokens = [tokenizer.end_of_text, *tokens]
    kept = tokens[-context:]
    cut = len(tokens) - len(kept)
    return Reading(tokens=tuple(kept), started=(start or not text) and not cut, cut=cut)


def tokenize(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of a text of the page; InputError for one of more than MOST_CHARACTERS."""
    if len(text) > MOST_CHARACTERS:
        raise InputError(
            f"the text has {len(text):,} characters; wanted at most {MOST_CHARACTERS:,}, since a model reads only the "
            "end of it"
        )
    known = _OTHER_SURROGATES.sub("\ufffd", text)
    whole = known.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")  # halves that now make a whole
    tokens: list[int] = []
    for part in _RAW.split(whole):
        if _RAW.fullmatch(part):
            tokens.append(tokenizer.encoding.encode_single_token(part.encode("utf-8", "surrogateescape")))
        else:
            tokens += tokenizer.encode(part)
    return tokens


def write(tokenizer: Tokenizer, token: int) -> str:
    """A token as text of the page; an empty one for a class that pads the vocabulary."""
    if token >= tokenizer.vocabulary:
        return ""
    return tokenizer.decode_bytes([token]).decode("utf-8", "surrogateescape")
