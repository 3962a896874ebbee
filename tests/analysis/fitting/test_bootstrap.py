"""How intervals are read from draws."""

import numpy as np
import pytest

from ladder.analysis.fitting.fits import FitOptions, fit_law
from ladder.analysis.fitting.formulation import make_form
from ladder.analysis.fitting.intervals import Draws, expanded_tail
from ladder.analysis.fitting.points import Points, make_points
from ladder.analysis.fitting.solver import Objective, Sample, refit
from ladder.analysis.laws.surfaces import BESIROGLU, Hoffmann


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


def many_points(count: int) -> Points:
    """A planted law at as many places."""
    generator = np.random.default_rng(0)
    N, D = 10 ** generator.uniform(7, 10, count), 10 ** generator.uniform(8.5, 11.5, count)
    return make_points(BESIROGLU.score(N=N, D=D) * np.exp(0.005 * generator.standard_normal(count)), params=N, tokens=D)


@pytest.mark.parametrize("kind", ["points", "noise"])
def test_one_newton_step_of_many_points_is_a_refit_to_the_end(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points, generator = many_points(21_000), np.random.default_rng(1)
    form = make_form(Hoffmann, points, FitOptions())
    objective = Objective()
    theta = refit(form, objective, form.starts(generator, 1), Sample.whole(form, 1))[0]
    if kind == "points":
        weights = generator.multinomial(21_000, np.full(21_000, 1 / 21_000), size=40).astype(np.float64)
        sample = Sample(weights=weights, targets=np.broadcast_to(form.target, weights.shape))
    else:
        targets = form.evaluate(theta[None]).prediction + 0.005 * generator.standard_normal((40, 21_000))
        sample = Sample(weights=np.ones_like(targets), targets=targets)
    quick = refit(form, objective, theta, sample)
    monkeypatch.setattr("ladder.analysis.fitting.solver.MANY_POINTS", 10**9)
    whole = refit(form, objective, theta, sample)
    assert (np.abs(quick - whole).max(axis=0) < 0.15 * whole.std(axis=0)).all()
    assert quick.std(axis=0) == pytest.approx(whole.std(axis=0), rel=0.02)


def test_a_large_table_says_how_many_refits_are_done_and_holds_the_truth() -> None:
    """`make bench-fit` times 100,000 rows with 1,000 refits."""
    told: list[tuple[int, int]] = []
    options = FitOptions(bootstrap=600, progress=lambda done, count: told.append((done, count)))
    fit = fit_law("hoffmann", many_points(50_000), options)
    assert fit.draws is not None and len(fit.draws.values["E"]) == 600
    assert told == [(200, 600), (400, 600), (600, 600)]
    for name, value in BESIROGLU.parameters.items():
        ends = fit.intervals[name]
        assert ends.low is not None and ends.high is not None
        assert ends.low - (ends.high - ends.low) < value < ends.high + (ends.high - ends.low)
