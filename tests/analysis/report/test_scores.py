"""Forms are compared where a score rises with size beyond its noise, and the comparison is by held-out sizes alone."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from ladder.analysis.fitting.fits import FitOptions
from ladder.analysis.report.scores import ScoreFinding, find_score, largest_budget
from ladder.analysis.tables.sweeps import SweepData

QUICK = FitOptions(bootstrap=50, starts=30)
SIZES = {f"{place}": round(1e5 * 3**place) for place in range(7)}
Planted = Callable[..., SweepData]


def found(planted: Planted, scores: np.ndarray) -> ScoreFinding:  # type: ignore[type-arg]
    """The finding of `cloze/accuracy` (standard error 0.01 each) with a score per size, least first."""
    data = planted(sizes=SIZES, budgets=(400_000,))
    rows = data.table.sort("params_total").with_columns(pl.Series("cloze/accuracy", scores))
    return find_score(planted(rows=rows.to_dicts()), "cloze/accuracy", QUICK)


LOGS = np.log(np.array(list(SIZES.values()), dtype=float))


def test_a_planted_saturation_is_found_and_drawn(planted: Planted) -> None:
    score = found(planted, 0.8 - 0.6 * np.exp(-0.5 * (LOGS - LOGS[0])))
    assert score.best_form == "saturating" and score.bent is not None and score.law is score.bent
    assert score.bent.law.parameters["ceiling"] == pytest.approx(0.8, abs=0.01)
    assert score.errors["saturating"] < 0.1 * score.errors["log-linear"]


def test_a_planted_line_stays_a_line(planted: Planted) -> None:
    score = found(planted, 0.2 + 0.05 * (LOGS - LOGS[0]))
    assert score.best_form == "log-linear" and score.bent is None and score.law is score.fit


def test_scores_that_lie_on_a_line_by_chance_do_not_narrow_its_interval(planted: Planted) -> None:
    """Each has a standard error of 0.01, which the slope's t interval on 5 degrees of freedom carries."""
    score = found(planted, 0.2 + 0.05 * (LOGS - LOGS[0]))
    assert score.fit is not None and score.fit.line is not None
    slope = score.fit.intervals["b"]
    assert slope.low is not None and slope.high is not None
    reach = 2.5706 * 0.01 / np.sqrt(np.sum((LOGS - LOGS.mean()) ** 2))
    assert (slope.high - slope.low) / 2 == pytest.approx(reach, rel=1e-4)


def test_forms_are_not_compared_on_noise(planted: Planted) -> None:
    """Within four standard errors, or with no direction, the better form would be a draw of lots."""
    flat = found(planted, 0.25 + 0.005 * np.arange(7))
    assert flat.monotone and not flat.resolved and flat.best_form is None and flat.windows == []
    wild = found(planted, np.array([0.1, 0.5, 0.2, 0.4, 0.1, 0.5, 0.2]))
    assert wild.resolved and not wild.rises and wild.best_form is None


def test_forms_are_compared_in_the_same_windows(planted: Planted) -> None:
    score = found(planted, 0.8 - 0.6 * np.exp(-0.5 * (LOGS - LOGS[0])))
    by_form = {
        form: [window.size for window in score.windows if window.law == form]
        for form in ("log-linear", "saturating", "sigmoid")
    }
    assert by_form["log-linear"] == by_form["saturating"] == by_form["sigmoid"] == sorted(by_form["sigmoid"])
    assert by_form["log-linear"][-1] == max(SIZES.values())


def test_the_largest_budget_is_per_size_and_unknown_tokens_keep_all() -> None:
    table = pl.DataFrame({"params_total": [1, 1, 2, 3], "tokens": [10, 1000, 999, None]})
    assert largest_budget(table).rows() == [(1, 1000), (2, 999), (3, None)]


def test_a_lower_score_that_falls_improves(planted: Planted) -> None:
    data = planted(sizes=SIZES, budgets=(400_000,))
    loss = find_score(data, "heldout/loss", QUICK)
    assert loss.direction == "lower" and loss.monotone and loss.improves and loss.bent is None
