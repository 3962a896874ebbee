"""What a status is made of: other end points that fit as well, starts that found the best one, and no stray warning."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from ladder.analysis.fitting.fits import Fit, FitOptions, fit_law
from ladder.analysis.fitting.health import Status, find_rival, status_of
from ladder.analysis.fitting.points import make_points
from ladder.analysis.fitting.solver import Kind, Objective, Solutions
from ladder.analysis.laws.surfaces import KAPLAN


def ends(excess: float, distance: float = 1.0) -> Solutions:
    """Two end points so far apart, the second worse by a share of the objective."""
    return Solutions(theta=np.array([[0.0, 0.0], [distance, 0.0]]), objective=np.array([2.0, 2.0 * (1 + excess)]))


@pytest.mark.parametrize(("kind", "few", "many"), [("squares", 0.46, 0.0164), ("huber", 0.21, 0.0081)])
def test_many_points_tell_apart_what_few_do_not(kind: Kind, few: float, many: float) -> None:
    """A share of 1 % was the threshold for any number of points. With 10 and 235 degrees of freedom it is now
    exp(3.84 / 10) - 1 = 47 % and exp(3.84 / 235) - 1 = 1.65 % of squares; of absolute values half the exponents."""
    objective = Objective(kind=kind)
    for freedom, allowed in ((10, few), (235, many)):
        assert find_rival(ends(0.98 * allowed), 0, objective, freedom) == pytest.approx(0.98 * allowed)
        assert find_rival(ends(1.05 * allowed), 0, objective, freedom) is None


def test_an_end_point_beside_the_best_is_no_rival() -> None:
    assert find_rival(ends(0.001, distance=0.04), 0, Objective(kind="squares"), 10) is None
    assert find_rival(ends(0.001, distance=0.06), 0, Objective(kind="squares"), 10) is not None


def kaplan_fit(starts: int = 30) -> Fit:
    """Kaplan's law with Huber's objective, as a user has it without options."""
    N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e9, 6), np.geomspace(2e8, 2e10, 6)))
    noise = np.exp(0.01 * np.random.default_rng(0).standard_normal(36))
    points = make_points(KAPLAN.score(N=N, D=D) * noise, params=N, tokens=D)
    return fit_law("kaplan", points, FitOptions(bootstrap=100, starts=starts))


def test_a_best_end_that_hardly_any_start_reached_is_ambiguous() -> None:
    """0 % of the starts stood beside the word converged."""
    health = kaplan_fit().health
    assert status_of(health, None, None, smooth=True) == (Status.CONVERGED, "")
    status, reason = status_of(replace(health, starts=3000, best_share=0.0003), None, None, smooth=True)
    assert status is Status.AMBIGUOUS and "0.0% of 3000 starts reached the best objective" in reason
    assert "give more --starts" in reason


@pytest.mark.parametrize("law", ["kaplan", "hoffmann", "power-offset"])
def test_no_warning_of_an_overflow_leaks(law: str) -> None:
    """From starts and refits that go far out, intervals, the optimum and the words of a fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = kaplan_fit()
        fit = fit if law == "kaplan" else fit_law(law, fit.points, FitOptions(bootstrap=100, starts=30))
        assert repr(fit) and fit.to_json()
        if law != "power-offset":
            assert fit.optimum(1e24).best.params > 0 and fit.interval("a") is not None
