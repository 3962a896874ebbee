"""How intervals are read from draws."""

import numpy as np
import pytest

from ladder.analysis.fitting.intervals import Draws, expanded_tail


def test_the_kth_of_39_draws_is_their_k_fortieth() -> None:
    draws = Draws(values={"alpha": np.arange(1.0, 40.0)}, tail=0.025, kind="noise")
    assert draws.interval("alpha").as_list() == [1.0, 39.0]


def test_an_end_among_draws_that_overflowed_is_unknown() -> None:
    values = np.arange(1.0, 101.0)
    values[-5:] = np.inf
    ends = Draws(values={"A": values}, tail=0.025, kind="points").interval("A")
    assert ends.low is not None and ends.high is None


def test_percentiles_are_taken_further_out_the_fewer_points_there_are() -> None:
    assert expanded_tail(100_000, 5, 0.95) == pytest.approx(0.025, rel=1e-3)
    tails = [expanded_tail(n, 5, 0.95) for n in (100, 20, 10)]
    assert 0.025 > tails[0] > tails[1] > tails[2]
    # Ten points, five parameters: t(5) = 2.571 times sqrt(10 / 5) is 3.64 normal standard deviations.
    assert tails[2] == pytest.approx(1.386e-4, rel=1e-2)
