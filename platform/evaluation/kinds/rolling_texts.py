"""Nats of the parts of a text, for scores that are sums over long texts.

Two ways: the parts are one stream, each seeing what stands before it as far as the window goes (articles of one file,
blocks of a stream), or every part is a text of its own (shuffled sentences).
"""

from collections.abc import Callable, Sequence

import numpy as np

from ladder.platform.evaluation.benchmark import Setting

PartNats = Callable[[Setting, Sequence[str]], tuple[np.ndarray, np.ndarray]]
"""-ln p in nats and number of tokens of each part [parts], of (setting, texts of the parts)."""


def stream_nats(setting: Setting, parts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Nats and tokens of each part [parts], all scored as one text; a token across a border counts where it ends."""
    tokens = setting.tokenizer.encode("".join(parts))
    nats = setting.scorer.rolling([tokens], window=setting.protocol.window, stride=setting.protocol.stride)[0].astype(
        np.float64
    )
    token_ends = np.cumsum([len(token) for token in setting.tokenizer.encoding.decode_tokens_bytes(tokens)])
    part_ends = np.cumsum([len(part.encode()) for part in parts])
    owner = np.searchsorted(part_ends, token_ends)
    return np.bincount(owner, weights=nats, minlength=len(parts)), np.bincount(owner, minlength=len(parts))


def separate_nats(
    setting: Setting, parts: Sequence[str], *, full_last_window: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Nats and tokens of each part [parts], each a text of its own after the start token."""
    tokens = setting.tokenizer.encode_batch(list(parts))
    nats = setting.scorer.rolling(
        tokens, window=setting.protocol.window, stride=setting.protocol.stride, full_last_window=full_last_window
    )
    return np.array([part.sum(dtype=np.float64) for part in nats]), np.array([len(part) for part in tokens])
