"""How a byte model would go on to the next space: whole strings, by a beam, since a single byte says little.

A string ends with white space or the end of the document, which is part of its probability; one that has not ended
after MOST_BYTES is shown as a beginning.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ladder.platform.explore.reading import read
from ladder.platform.explore.shelf import Opened

BEAM = 10
"""Strings that are followed at one time."""
MOST_BYTES = 12
"""Bytes of a string at most."""
_ENDS = frozenset(b" \n\t\r")


@dataclass(frozen=True, kw_only=True)
class _String:
    """What could come next."""

    tokens: tuple[int, ...] = ()
    nats: float = 0.0
    """-ln p of the tokens."""
    ended: bool = False


def continued(opened: Opened, text: str) -> list[dict[str, Any]]:
    """The likeliest strings up to the next space with their probabilities, the likeliest first."""
    reading = read(opened.tokenizer, text, context=opened.model.size.context)
    end = opened.tokenizer.end_of_text
    beam = [_String()]
    for _ in range(MOST_BYTES):
        going = [string for string in beam if not string.ended]
        if not going:
            break
        likely = _next(opened, reading.tokens, [string.tokens for string in going])
        values, tokens = likely.topk(min(BEAM, likely.shape[1]))
        grown = [
            _String(tokens=(*string.tokens, token), nats=string.nats - value, ended=_ends(string.tokens, token, end))
            for string, row, best in zip(going, values.tolist(), tokens.tolist(), strict=True)
            for value, token in zip(row, best, strict=True)
        ]
        beam = sorted([s for s in beam if s.ended] + grown, key=lambda string: string.nats)[:BEAM]
    return [
        {
            "text": opened.tokenizer.decode_bytes([t for t in string.tokens if t != end]).decode(
                "utf-8", "surrogateescape"
            ),
            "p": math.exp(-string.nats),
            "ended": string.ended,
        }
        for string in beam
    ]


def _ends(before: Sequence[int], token: int, end: int) -> bool:
    """Whether a token ends a string; a space that begins one does not."""
    return token == end or (token in _ENDS and len(before) > 0)


def _next(opened: Opened, prompt: Sequence[int], strings: Sequence[Sequence[int]]) -> Tensor:
    """ln p of the token after the prompt and each string, all of one length: [strings, V]."""
    rows = [[*prompt, *string][-opened.model.size.context :] for string in strings]
    hidden = opened.model.hidden(torch.tensor(rows, device=opened.model.wte.weight.device))[:, -1]
    return F.linear(hidden, opened.model.wte.weight).log_softmax(-1, dtype=torch.float32)
