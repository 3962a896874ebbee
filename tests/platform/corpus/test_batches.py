from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ladder.models.errors import InputError
from ladder.platform.corpus.batches import batch_at, permute, window_indices
from ladder.platform.corpus.stream import TokenStream


class CountingStream(TokenStream):
    """A stream whose token at position p is p."""

    def __init__(self, n_tokens: int) -> None:
        self.n_tokens = n_tokens

    def read(self, start: int, n: int) -> np.ndarray:
        assert start + n <= self.n_tokens
        return np.arange(start, start + n)


@given(n=st.integers(1, 3000), seed=st.integers(0, 2**40), epoch=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_every_position_goes_to_another_window(n: int, seed: int, epoch: int) -> None:
    assert sorted(permute(np.arange(n), n=n, seed=seed, epoch=epoch)) == list(range(n))


@given(
    n_tokens=st.integers(20, 400),
    context=st.integers(1, 16),
    batch_sequences=st.integers(1, 7),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_within_an_epoch_each_target_is_seen_once(n_tokens: int, context: int, batch_sequences: int, seed: int) -> None:
    stream = CountingStream(n_tokens)
    n_windows = (n_tokens - 1) // context
    steps = -(-2 * n_windows // batch_sequences)
    rows = range(batch_sequences)
    batches = [
        batch_at(stream, step=step, rows=rows, batch_sequences=batch_sequences, context=context, seed=seed)
        for step in range(steps)
    ]
    sequences = np.concatenate(batches)[: 2 * n_windows]  # two epochs
    for epoch in (sequences[:n_windows], sequences[n_windows:]):
        targets = Counter(epoch[:, 1:].ravel().tolist())
        assert set(targets.values()) == {1}
        assert len(targets) == n_windows * context


def test_workers_together_read_the_whole_batch() -> None:
    stream = CountingStream(10_000)
    whole = batch_at(stream, step=7, rows=range(12), batch_sequences=12, context=32, seed=3)
    parts = [
        batch_at(stream, step=7, rows=range(start, 12, 3), batch_sequences=12, context=32, seed=3) for start in range(3)
    ]
    for start, part in enumerate(parts):
        assert np.array_equal(part, whole[start::3])
    assert whole.dtype == np.int64 and whole.shape == (12, 33)


def test_the_batch_is_the_one_that_earlier_versions_drew() -> None:
    # Known values: a change here means that no unfinished run can be resumed.
    windows = window_indices(np.arange(995, 1005), n_windows=1000, seed=17)
    assert windows.tolist() == [537, 544, 256, 507, 733, 373, 6, 951, 748, 914]


def test_epochs_and_seeds_have_different_orders() -> None:
    orders = [
        permute(np.arange(1000), n=1000, seed=seed, epoch=epoch) for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]
    ]
    for first in range(4):
        for second in range(first):
            # Independent orders agree at one position on average; ten has a chance of 1e-7.
            assert (orders[first] == orders[second]).sum() < 10


def test_the_order_looks_random() -> None:
    order = permute(np.arange(100_000), n=100_000, seed=5, epoch=0).astype(float)
    for lag in (1, 2, 7, 1000):
        # The standard error of the correlation of independent values is 0.003.
        assert abs(np.corrcoef(order[:-lag], order[lag:])[0, 1]) < 0.015


def test_terabytes_need_no_memory_for_their_order() -> None:
    n = 10**12
    windows = permute(np.arange(n - 5, n), n=n, seed=0, epoch=0)
    assert len(set(windows.tolist())) == 5
    assert ((windows >= 0) & (windows < n)).all()


def test_a_corpus_shorter_than_a_window_is_an_error() -> None:
    with pytest.raises(InputError, match="has 32 tokens, fewer than one window of context 32"):
        batch_at(CountingStream(32), step=0, rows=[0], batch_sequences=1, context=32, seed=0)
