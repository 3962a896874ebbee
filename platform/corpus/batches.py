"""The batch at a step: which tokens a run sees when, as a pure function.

A stream is cut into windows of `context` targets. Sequence g of a run (counted over all steps and workers) is window
permutation(seed, epoch)(position), with epoch and position from divmod(g, windows). So the batch depends on nothing but
(stream, seed, step, rows): not on workers, micro-batches or restarts; and within an epoch each target is seen at most
once. The permutation is a Feistel network, so a corpus of any length needs no memory for its order.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ladder.models.errors import InputError

# Four rounds make a Feistel network pseudo-random (Luby and Rackoff 1988); the others cost microseconds and make up
# for halves of few bits.
ROUNDS = 8
Integers = npt.NDArray[np.uint64]


class Tokens(Protocol):
    """A stream of tokens: a split of a corpus, or anything that reads like one."""

    n_tokens: int

    def read(self, start: int, n: int) -> npt.NDArray[np.int64]:
        """Tokens start to start + n, int64 [n]."""


def batch_at(
    stream: Tokens, *, step: int, rows: Sequence[int], batch_sequences: int, context: int, seed: int
) -> npt.NDArray[np.int64]:
    """Rows of the batch at `step`, int64 [len(rows), context + 1]: inputs are [:, :-1], targets [:, 1:].

    `rows` are positions in the whole batch of `batch_sequences`; a worker asks for its own.
    """
    assert all(0 <= row < batch_sequences for row in rows), f"rows {rows} of {batch_sequences}"
    windows = window_indices(
        np.asarray(rows, dtype=np.int64) + step * batch_sequences,
        n_windows=count_windows(stream, context),
        seed=seed,
    )
    batch = np.empty((len(rows), context + 1), dtype=np.int64)
    for row in np.argsort(windows).tolist():  # in the stream's order: no shard is left and come back to
        batch[row] = stream.read(int(windows[row]) * context, context + 1)
    return batch


def count_windows(stream: Tokens, context: int) -> int:
    """Windows of `context` targets in the stream; InputError if there is not one."""
    n_windows = (stream.n_tokens - 1) // context
    if n_windows < 1:
        raise InputError(
            f"the corpus has {stream.n_tokens} tokens, fewer than one window of context {context} and a target; "
            "train on more text or with a shorter context"
        )
    return n_windows


def window_indices(sequences: npt.NDArray[np.int64], *, n_windows: int, seed: int) -> npt.NDArray[np.int64]:
    """The window of each sequence of a run, int64 [len(sequences)]."""
    epochs, positions = np.divmod(sequences, n_windows)
    windows = np.empty_like(positions)
    for epoch in np.unique(epochs).tolist():
        chosen = epochs == epoch
        windows[chosen] = permute(positions[chosen], n=n_windows, seed=seed, epoch=epoch)
    return windows


def permute(positions: npt.NDArray[np.int64], *, n: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Where a permutation of 0..n-1, drawn by seed and epoch, sends each position, int64 [len(positions)].

    The network permutes a power of four that is at least n; a value outside n is sent on until it falls inside (cycle
    walking, Black and Rogaway 2002), which keeps it a permutation of n.
    """
    half_bits = max(1, (int(n - 1).bit_length() + 1) // 2)
    keys = np.random.SeedSequence([seed, epoch]).generate_state(ROUNDS, np.uint64).astype(np.uint64)
    values = _feistel(positions.astype(np.uint64), keys, half_bits)
    while (outside := values >= n).any():
        values[outside] = _feistel(values[outside], keys, half_bits)
    return values.astype(np.int64)


def _feistel(values: Integers, keys: Integers, half_bits: int) -> Integers:
    bits, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << bits) | right


def _mix(values: Integers) -> Integers:
    """A hash of 64-bit integers: the finalizer of splitmix64 (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
