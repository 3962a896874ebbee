"""Forms compared on sizes they did not see."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ladder.analysis.fits import FitOptions, fit_gadre
from ladder.analysis.holdout import hold_out, mean_errors, split_sizes
from ladder.analysis.laws import Hoffmann
from ladder.analysis.objectives import Objective
from ladder.analysis.points import make_points

QUICK = FitOptions(bootstrap=0, starts=60)


def test_a_planted_law_predicts_the_size_it_did_not_see() -> None:
    N, D = (a.ravel() for a in np.meshgrid([1e6, 3e6, 1e7, 3e7], [2e7, 1e8, 5e8]))
    law = Hoffmann(E=1.8, A=480.0, B=2000.0, alpha=0.35, beta=0.37)
    windows = hold_out(["hoffmann"], make_points(law.score(N=N, D=D), params=N, tokens=D), QUICK, largest_only=True)
    assert [(window.size, window.n_fitted) for window in windows] == [(3e7, 9)]
    assert windows[0].relative_error < 1e-6


def test_forms_are_compared_only_on_windows_that_all_can_predict() -> None:
    x = np.geomspace(1e6, 1e9, 6)
    windows = hold_out(["log-linear", "saturating"], make_points(0.7 - 30 * x**-0.3, params=x), QUICK)
    sizes = [{w.size for w in windows if w.law == law} for law in ("log-linear", "saturating")]
    assert sizes[0] == sizes[1] == set(x[3:])
    errors = mean_errors(windows)
    assert errors["saturating"] < 1e-6 < errors["log-linear"]


def test_sizes_within_a_percent_are_one() -> None:
    points = make_points([3.0, 3.0, 2.0], params=[1e6, 1.005e6, 2e6])
    assert split_sizes(points) == [1e6, 2e6]


def test_a_saturating_form_beats_the_line_on_pythias_lambada_accuracy(shared: Path) -> None:
    table = pl.read_csv(shared / "laws" / "pythia_zeroshot" / "pythia_v1_zeroshot.csv")
    chosen = (pl.col("task") == "lambada_openai") & (pl.col("metric") == "acc") & (pl.col("step") == 143000)
    rows = table.filter(chosen & ~pl.col("model").str.contains("deduped"))
    unit = {"m": 1e6, "b": 1e9}
    named = rows["model"].str.extract_groups(r"pythia-([\d.]+)([mb])").struct
    sizes = [float(size) * unit[letter] for size, letter in zip(named.field("1"), named.field("2"), strict=True)]
    assert len(sizes) == 8
    windows = hold_out(["log-linear", "saturating"], make_points(rows["value"].to_numpy(), params=sizes), QUICK)
    largest = mean_errors([window for window in windows if window.size > 5e9])
    assert largest["saturating"] < largest["log-linear"]


def test_gadres_form_predicts_their_large_runs_as_published(shared: Path) -> None:
    table = pl.read_csv(shared / "laws" / "gadre_overtraining" / "gadre_104_models.csv")
    runs = table.filter(pl.col("dataset_name") == "rpj")
    # Their five: four sizes at 20 tokens per parameter and the smallest at 320 (their table 2), squares of the loss.
    compute_optimal = (pl.col("cc_mult") == 1) & (pl.col("N") < 5e8)
    five = runs.filter(compute_optimal | ((pl.col("cc_mult") == 16) & (pl.col("N") < 2e7)))
    options = FitOptions(bootstrap=0, log_residual=False, objective=Objective(kind="squares"))
    fit = fit_gadre(five["N"].to_numpy(), five["D"].to_numpy(), five["loss_c4_val"].to_numpy(), options=options)
    assert fit.law.parameters["E"] == pytest.approx(1.83664841, rel=1e-5)
    assert fit.law.parameters["alpha"] == pytest.approx(0.272850706, rel=1e-5)
    assert fit.law.parameters["A"] == pytest.approx(166.210992, rel=1e-5)
    for params, multiple, published in ((1.4e9, 640.0, 0.7103), (6.9e9, 20.0, 0.7320)):
        run = runs.filter((pl.col("N") / params - 1).abs() < 0.05, pl.col("tok_mult") == multiple).row(0, named=True)
        predicted = float(fit.predict({"N": run["N"], "D": run["D"]}))
        assert 100 * abs(predicted / run["loss_c4_val"] - 1) == pytest.approx(published, abs=5e-5)
