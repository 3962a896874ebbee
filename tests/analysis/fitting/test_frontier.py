"""The two power laws through optima, and intervals that admit what a draw could not say."""

import numpy as np
import pytest

from ladder.analysis.fitting.frontiers import Frontier, FrontierDraws, fit_frontiers, make_frontier
from ladder.analysis.fitting.intervals import interval_of

FRONTIER = Frontier(a=0.49, b=0.51, params_at_one=0.1, tokens_at_one=1.6)
LOG_FLOPS = np.log([[1e18, 1e19, 1e20, 1e21]])


def optima(frontier: Frontier) -> tuple[np.ndarray, np.ndarray]:
    """ln N and ln D of the best runs at the budgets, each [1, 4]."""
    return np.log(frontier.params(np.exp(LOG_FLOPS))), np.log(frontier.tokens(np.exp(LOG_FLOPS)))


def test_optima_on_a_frontier_give_it_back() -> None:
    found = make_frontier(fit_frontiers(LOG_FLOPS, *optima(FRONTIER)))
    assert found is not None
    assert found.parameters == pytest.approx(FRONTIER.parameters, rel=1e-9)


def test_an_optimum_that_is_missing_is_left_out() -> None:
    params, tokens = optima(FRONTIER)
    params[0, 1] = np.nan
    found = make_frontier(fit_frontiers(LOG_FLOPS, params, tokens))
    assert found is not None and found.parameters == pytest.approx(FRONTIER.parameters, rel=1e-9)
    params[0, 2:] = np.nan
    assert make_frontier(fit_frontiers(LOG_FLOPS, params, tokens)) is None, "one budget has no exponent"


def test_draws_without_a_value_count_as_beyond_both_ends() -> None:
    values = np.linspace(0, 1, 1001)
    assert interval_of(values, 0.025).as_list() == pytest.approx([0.025, 0.975], abs=2e-3)
    few, many = values.copy(), values.copy()
    few[::100], many[::20] = np.nan, np.nan
    wider = interval_of(few, 0.025)
    assert wider.low is not None and wider.low < 0.025 - 5e-3, "1 % without a value pushes both ends out"
    assert interval_of(many, 0.025).as_list() == [None, None]


def test_the_band_is_the_interval_of_the_best_size_at_each_budget() -> None:
    a = np.linspace(0.48, 0.5, 199)
    values = {"a": a, "b": 1 - a, "params_at_one": np.full(199, 0.1), "tokens_at_one": np.full(199, 1.6)}
    low, high = FrontierDraws(values=values, tail=0.005).band(np.array([1e18, 1e21]))
    assert low == pytest.approx([0.1 * 1e18**0.48, 0.1 * 1e21**0.48])
    assert high == pytest.approx([0.1 * 1e18**0.5, 0.1 * 1e21**0.5])
