"""The law of repeated data: planted constants come back, also with the fresh-data part held; too few epochs say so."""

import numpy as np
import pytest

from ladder.analysis.fitting.fits import Fit, FitOptions, fit_law
from ladder.analysis.fitting.health import Status
from ladder.analysis.fitting.points import Points, make_points
from ladder.analysis.fitting.solver import Objective
from ladder.analysis.laws.law import Floats
from ladder.analysis.laws.surfaces import MUENNIGHOFF

FRESH = {name: MUENNIGHOFF.parameters[name] for name in ("E", "A", "B", "alpha", "beta")}


def places(epochs: tuple[float, ...] = (1, 2, 5, 15, 40)) -> tuple[Floats, Floats, Floats]:
    """N, D and U of four sizes on three sets of unique tokens."""
    N, U, times = (a.ravel() for a in np.meshgrid([2e7, 1e8, 5e8, 2e9], [1e8, 1e9, 1e10], epochs))
    return N, U * times, U


def points(noise: float, seed: int = 0, epochs: tuple[float, ...] = (1, 2, 5, 15, 40)) -> Points:
    """Losses of Muennighoff et al.'s law there."""
    N, D, U = places(epochs)
    error = noise * np.random.default_rng([14, seed]).standard_normal(len(N))
    return make_points(MUENNIGHOFF.score(N=N, D=D, U=U) * np.exp(error), params=N, tokens=D, unique=U)


def fit(noise: float, seed: int = 0) -> Fit:
    """The law fitted by squares."""
    options = FitOptions(objective=Objective(kind="squares"), bootstrap=200, starts=30, seed=seed)
    return fit_law("repeated", points(noise, seed), options)


def test_planted_constants_come_back_from_data_without_noise() -> None:
    found = fit_law("repeated", points(0.0), FitOptions(bootstrap=0))
    assert found.status is Status.CONVERGED
    assert found.law.parameters == pytest.approx(MUENNIGHOFF.parameters, rel=1e-4)


def test_intervals_hold_the_planted_constants() -> None:
    held, known = dict.fromkeys(MUENNIGHOFF.fitted, 0), 0
    for seed in range(40):
        found = fit(0.003, seed)
        for name, value in MUENNIGHOFF.parameters.items():
            low, high = found.intervals[name].as_list()
            known += low is not None
            held[name] += low is not None and high is not None and low <= value <= high
    # 95 % of 40 has a standard error of 3.4 %.
    assert all(count >= 34 for count in held.values()), held
    assert known == 40 * len(held)


def test_with_the_fresh_part_held_the_two_scales_are_fitted_as_in_the_paper() -> None:
    found = fit_law("repeated", points(0.003), FitOptions(fixed=FRESH, bootstrap=200))
    for name in ("R_D", "R_N"):
        low, high = found.intervals[name].as_list()
        assert low is not None and high is not None and low < MUENNIGHOFF.parameters[name] < high
    assert found.health.degrees_of_freedom == 58


def test_fresh_data_alone_says_nothing_of_repeats() -> None:
    found = fit_law("repeated", points(0.001, epochs=(0.25, 0.5, 1)), FitOptions(bootstrap=0))
    assert found.status is Status.NOT_IDENTIFIABLE and "no run repeats its data" in found.reason


def test_predictions_read_the_unique_tokens() -> None:
    found = fit(0.001)
    place = {"N": np.array([1e9]), "D": np.array([1e10]), "U": np.array([1e9])}
    band = found.band(place)
    assert band is not None and band[0][0] < float(MUENNIGHOFF.score(**place)[0]) < band[1][0]


def test_unique_tokens_that_a_run_never_reached_count_as_those_it_saw() -> None:
    place = {"N": 1e8, "D": 1e9}
    assert float(MUENNIGHOFF.score(**place, U=1e12)) == float(MUENNIGHOFF.score(**place, U=1e9))
