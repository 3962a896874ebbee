"""One question has one answer, whichever command is asked: `fit`, `plan`, `report` and `compare`."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ladder.analysis import api
from ladder.analysis.laws.surfaces import Hoffmann
from ladder.analysis.report.answers import answers
from ladder.analysis.report.comparison import Comparison, compare
from ladder.analysis.report.findings import Findings, find
from ladder.analysis.tables.table_runs import TableColumns, table_runs

LAW = Hoffmann(E=1.8, A=480.0, B=2000.0, alpha=0.35, beta=0.37)
COLUMNS = TableColumns(scores=("loss",), params="N", tokens="D")


def runs(seed: int = 0, order: int = 0) -> pl.DataFrame:
    """Thirty runs of a planted law, in one of many orders."""
    N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 3e8, 6), np.geomspace(2e8, 2e10, 5)))
    loss = LAW.score(N=N, D=D) * np.exp(0.003 * np.random.default_rng(seed).standard_normal(30))
    return pl.DataFrame({"N": N, "D": D, "loss": loss})[np.random.default_rng(order).permutation(30).tolist()]


@pytest.fixture(scope="module")
def fitted() -> api.Fit:
    """What `ladder fit` gives."""
    fit = api.fit(runs(), law="hoffmann", score="loss", params="N", tokens="D")
    assert isinstance(fit, api.Fit)
    return fit


@pytest.fixture(scope="module")
def reported() -> Findings:
    """What `ladder report --table` gives, of a file whose rows are in another order."""
    return find(table_runs(runs(order=7), COLUMNS, "runs", {}))


@pytest.fixture(scope="module")
def compared(reported: Findings) -> Comparison:
    """What `ladder report SWEEP OTHER` gives."""
    return compare(reported, find(table_runs(runs(seed=1), COLUMNS, "others", {})))


def test_fit_report_and_compare_give_a_parameter_the_same_interval(
    fitted: api.Fit, reported: Findings, compared: Comparison
) -> None:
    assert reported.surface is not None and fitted.draws is not None
    for row in compared.laws[0].parameters:
        ends = fitted.intervals[row.name]
        assert ends.known and ends == reported.surface.intervals[row.name] == row.first_interval


def test_fit_plan_report_and_compare_give_a_budget_the_same_intervals(
    fitted: api.Fit, reported: Findings, compared: Comparison, tmp_path: Path
) -> None:
    """The report plans at multiples of the largest run's compute, and compares the least loss at that compute."""
    runs(order=3).write_csv(tmp_path / "runs.csv")
    request = api.TableFit(path=tmp_path / "runs.csv", law_name="hoffmann", score="loss", params="N", tokens="D")
    planned_by = api.fit_table(request)
    assert isinstance(planned_by, api.Fit)
    for told in reported.next_runs:
        flops = told.best.flops
        planned, asked = api.plan_budget(planned_by, flops), fitted.optimum(flops)
        for name in ("params", "tokens", "ratio", "loss", "new_run"):
            assert getattr(asked, name).known
            assert getattr(asked, name) == getattr(planned, name) == getattr(told, name), name
        rows = api.predict_places(fitted, pl.DataFrame({"C": [flops]}))
        assert (rows["N_low"][0], rows["N_high"][0]) == (asked.params.low, asked.params.high)
    budget = compared.budgets[-1]
    best = fitted.optimum(float(6 * (runs()["N"] * runs()["D"]).max()))  # type: ignore[arg-type]
    assert budget.first == pytest.approx(best.best.loss, rel=1e-9)
    assert budget.first_interval.as_list() == pytest.approx(best.least_loss.as_list(), rel=1e-9)


def test_the_interval_of_a_line_is_the_same_in_fit_and_report() -> None:
    """A score's line: fitted by `ladder fit --law log-linear`, and by the report at each size's largest budget."""
    table = runs().filter(pl.col("D") > 1.9e10).with_columns(acc=0.9 - pl.col("loss") / 6)
    fit = api.fit(table, law="log-linear", score="acc", params="N", bootstrap=0)
    scores = TableColumns(scores=("acc=accuracy",), params="N", tokens="D")
    (score,) = find(table_runs(table[::-1], scores, "runs", {})).scores
    assert isinstance(fit, api.Fit) and score.fit is not None and fit.line is not None and score.fit.line is not None
    for name in ("a", "b"):
        assert fit.interval(name).as_list() == pytest.approx(score.fit.interval(name).as_list(), rel=1e-9)


def test_the_report_tells_every_warning_of_plan_for_the_same_budget(fitted: api.Fit, reported: Findings) -> None:
    """`ladder plan` warned of what lies far beyond the data, and the report gave the same numbers without a word."""
    told = " ".join(next(answer for answer in answers(reported) if answer.label == "Train next").sentences)
    warnings = [warning for run in reported.next_runs for warning in api.plan_budget(fitted, run.best.flops).warnings]
    assert any("far beyond the data" in warning for warning in warnings)
    assert any("tokens per parameter" in warning or "above the largest fitted one" in warning for warning in warnings)
    for warning in warnings:
        assert warning in told, warning
