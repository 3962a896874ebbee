"""The minimum over training curves, on curves of a planted law."""

import numpy as np
import pytest

from ladder.analysis.fitting.frontiers import EnvelopeOptions, fit_envelope
from ladder.analysis.fitting.health import Status
from ladder.analysis.fitting.points import Points, make_points
from ladder.analysis.laws.law import Floats
from ladder.analysis.laws.surfaces import BESIROGLU
from ladder.models.errors import InputError


def curves(sizes: Floats, *, longest: float = 400.0) -> Points:
    """The loss of each size at 60 numbers of tokens, from 1 to `longest` tokens per parameter."""
    N, ratio = (grid.ravel() for grid in np.meshgrid(sizes, np.geomspace(1, longest, 60), indexing="ij"))
    run = np.repeat(np.arange(len(sizes)), 60)
    return make_points(BESIROGLU.score(N=N, D=ratio * N), params=N, tokens=ratio * N, clusters=run)


def test_exponents_of_planted_curves_come_out_within_the_steps_of_the_sizes() -> None:
    fit = fit_envelope(curves(np.geomspace(1e7, 1e10, 16)), EnvelopeOptions(bootstrap=200))
    assert fit.frontier is not None and fit.status is Status.CONVERGED
    # The best size climbs in steps of a factor 1.6; half a step at either end of three decades is about 3 %.
    assert fit.frontier.a == pytest.approx(BESIROGLU.a, abs=0.015)
    assert fit.frontier.a + fit.frontier.b == pytest.approx(1.0, abs=1e-3)
    low, high = fit.intervals["a"].low, fit.intervals["a"].high
    assert low is not None and high is not None and low < BESIROGLU.a < high


def test_more_sizes_make_finer_steps() -> None:
    errors = []
    for count in (8, 60):
        frontier = fit_envelope(curves(np.geomspace(1e7, 1e10, count)), EnvelopeOptions(bootstrap=0)).frontier
        assert frontier is not None
        errors.append(abs(frontier.a - BESIROGLU.a))
    assert errors[1] < 0.004 < errors[0]


def test_minima_at_the_edge_of_the_sizes_are_left_out() -> None:
    sizes = np.geomspace(1e7, 1e10, 16)
    minima = fit_envelope(curves(sizes), EnvelopeOptions(bootstrap=0)).minima
    assert 0 < minima.kept.sum() < len(minima.kept)
    kept = minima.params[minima.kept]
    assert kept.min() > 1.01 * sizes[0] and kept.max() < 0.99 * sizes[-1]
    assert not minima.kept[0] and not minima.kept[-1]


def test_short_curves_never_cross_and_have_no_exponent() -> None:
    fit = fit_envelope(curves(np.geomspace(1e7, 1e10, 6), longest=2.0))
    assert fit.frontier is None and fit.status is Status.NOT_IDENTIFIABLE
    assert "longer curves" in fit.reason
    assert fit.intervals["a"].low is None and fit.band(np.array([1e20])) is None


def test_points_without_runs_are_no_curves() -> None:
    points = curves(np.geomspace(1e7, 1e9, 4))
    loose = make_points(points.score, params=points.params, tokens=points.tokens)
    with pytest.raises(InputError, match="which points are of one run"):
        fit_envelope(loose)


def test_final_losses_are_sent_to_isoflop() -> None:
    with pytest.raises(InputError, match="choose isoflop"):
        fit_envelope(make_points([3.0, 2.9], params=[1e6, 2e6], tokens=[1e8, 1e8], clusters=["x", "y"]))


def test_a_run_of_two_sizes_is_refused() -> None:
    with pytest.raises(InputError, match="run 1 of the column of runs has more than one size"):
        fit_envelope(make_points([3.0, 2.9], params=[1e6, 2e6], tokens=[1e8, 1e8], clusters=["x", "x"]))


def test_the_summary_says_how_many_minima_it_goes_through() -> None:
    fit = fit_envelope(curves(np.geomspace(1e7, 1e10, 12)), EnvelopeOptions(bootstrap=0))
    assert "of 200 budgets have a best size between smaller and larger ones, of 12 runs" in repr(fit)
    found = fit.to_json()
    assert found["law"] == "envelope" and len(found["minima"]["params"]) == found["points"]
