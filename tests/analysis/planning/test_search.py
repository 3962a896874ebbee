"""The best learning rate of each size, from the trials of a search, and how it grows."""

import numpy as np
import polars as pl
import pytest

from ladder.analysis import api
from ladder.analysis.fitting.parabolas import find_winners
from ladder.models.errors import InputError

SIZES = (1e7, 3e7, 1e8, 3e8, 1e9)
DATA = (2e8, 1e9, 5e9)


def best_rate(params: float, tokens: float) -> float:
    """The planted rule."""
    return float(2e-3 * (params / 1e8) ** -0.3 * (tokens / 1e9) ** 0.1)


def trials(noise: float = 0.0, seed: int = 0, rates: tuple[float, float, int] = (1e-4, 3e-2, 9)) -> pl.DataFrame:
    """Losses that are parabolas in ln learning rate about the rule."""
    generator = np.random.default_rng([15, seed])
    rows = [
        {"N": n, "D": d, "lr": lr, "loss": 3 + 0.05 * np.log(lr / best_rate(n, d)) ** 2 + noise * generator.normal()}
        for n in SIZES
        for d in DATA
        for lr in np.geomspace(*rates)
    ]
    return pl.DataFrame(rows)


def test_winners_lie_between_the_values_that_were_tried() -> None:
    winners, left = find_winners(trials(), ["N", "D"], "lr", "loss")
    assert left == [] and winners.height == 15 and winners["trials"].to_list() == [9] * 15
    for row in winners.to_dicts():
        assert row["lr"] == pytest.approx(best_rate(row["N"], row["D"]), rel=1e-6)
        assert row["loss"] == pytest.approx(3.0, abs=1e-9)


def test_a_best_trial_at_the_edge_is_no_winner() -> None:
    winners, left = find_winners(trials(rates=(2e-3, 3e-2, 6)), ["N", "D"], "lr", "loss")
    assert winners.height < 15 and winners.height + len(left) == 15
    assert any(
        "N 1B, D 200M: the best lr, 0.002, is at the edge of the search; try lower ones" in reason for reason in left
    )
    with pytest.raises(InputError, match="no size has a best lr: .* is at the edge of the search"):
        request = api.TableFit(path=trials(rates=(0.1, 1, 4)), law_name="power-rule", score="loss", params="N")
        api.fit_search(request, "lr")


def test_two_values_have_no_lowest_point() -> None:
    winners, left = find_winners(trials(rates=(1e-3, 3e-3, 2)), ["N", "D"], "lr", "loss")
    assert winners.height == 0 and "2 values of lr; a lowest point needs 3" in left[0]


def test_the_rule_in_size_and_data_holds_the_planted_exponents() -> None:
    held = {"p": 0, "q": 0}
    for seed in range(40):
        request = api.TableFit(
            path=trials(0.003, seed), law_name="power-rule-nd", score="loss", params="N", tokens="D", seed=seed,
            bootstrap=300, starts=20,
        )  # fmt: skip
        fit = api.fit_search(request, "lr")[0]
        assert isinstance(fit, api.Fit)
        for name, value in (("p", -0.3), ("q", 0.1)):
            low, high = fit.intervals[name].as_list()
            held[name] += low is not None and high is not None and low <= value <= high
    assert all(count >= 34 for count in held.values()), held


def test_a_rule_in_one_variable_may_rise() -> None:
    """A batch grows with the data, which `power` refuses; a table of winners is fitted as it is."""
    x = np.geomspace(1e9, 1e12, 6)
    noise = np.exp(0.02 * np.random.default_rng(0).standard_normal(6))
    table = pl.DataFrame({"D": x, "batch": 0.29 * x**0.57 * noise})
    fit = api.fit(table, law="power-rule", score="batch", tokens="D")
    assert isinstance(fit, api.Fit) and fit.objective.kind == "squares"
    low, high = fit.intervals["p"].as_list()
    assert low is not None and high is not None and low < 0.57 < high < 0.65


def test_a_search_without_sizes_is_refused() -> None:
    with pytest.raises(InputError, match="--search needs --params, --tokens or --flops"):
        api.fit_search(api.TableFit(path=trials(), law_name="power-rule", score="loss"), "lr")
