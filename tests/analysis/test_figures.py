"""Figures are made of what they are given and leave matplotlib as they found it."""

from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import polars as pl

from ladder.analysis.canvas import colours, spread, to_svg
from ladder.analysis.figures import draw_loss, draw_training, group_budgets, thin
from ladder.analysis.findings import find
from ladder.analysis.fits import FitOptions
from ladder.analysis.runs import SweepData
from ladder.analysis.units import format_count, format_number

QUICK = FitOptions(bootstrap=50, starts=20)


def test_drawing_changes_no_global_setting(planted: Callable[..., SweepData]) -> None:
    before = dict(mpl.rcParams)
    findings = find(planted(), QUICK)
    to_svg(draw_loss(findings.loss, findings.surface))
    assert dict(mpl.rcParams) == before


def test_drawing_opens_no_window_and_no_pyplot_figure(planted: Callable[..., SweepData]) -> None:
    from matplotlib import pyplot

    findings = find(planted(), QUICK)
    draw_loss(findings.loss, findings.surface)
    assert pyplot.get_fignums() == []


def test_every_budget_is_labelled_beside_its_line(planted: Callable[..., SweepData]) -> None:
    findings = find(planted(), QUICK)
    svg = to_svg(draw_loss(findings.loss, findings.surface))
    assert all(f"{budget} tokens" in svg for budget in ("400k", "1.6M", "6.4M"))


def test_a_drawing_is_the_same_twice(planted: Callable[..., SweepData]) -> None:
    data = planted()
    first, second = (to_svg(figure) for figure in (draw_training(data.curves, data.table) for _ in range(2)) if figure)
    assert first == second


def test_labels_are_moved_apart_and_keep_their_order() -> None:
    placed = spread([0.5, 0.51, 0.49, 0.0], 0.1)
    assert np.diff(np.sort(placed)).min() > 0.1 - 1e-6
    assert list(np.argsort(placed)) == list(np.argsort([0.5, 0.51, 0.49, 0.0]))
    assert min(placed) >= 0 and max(placed) <= 1


def test_token_counts_rounded_by_the_batch_are_one_budget() -> None:
    table = pl.DataFrame({"tokens": [393_216, 392_000, 1_600_000]})
    assert [rows.height for _, rows in group_budgets(table)] == [2, 1]


def test_a_long_curve_is_thinned_to_means() -> None:
    curve = pl.DataFrame({"tokens": np.arange(1.0, 5001.0), "train_loss": np.ones(5000)})
    thinned = thin(curve)
    assert thinned.height <= 161 and thinned["train_loss"].to_list() == [1.0] * thinned.height


def test_more_categories_than_the_palette_still_get_colours_of_their_own() -> None:
    assert len(set(colours(9))) == 9 and len(set(colours(6))) == 6


def test_numbers_are_short_and_keep_their_size() -> None:
    assert [format_count(v) for v in (124_439_808, 999_999, 5e9, 42)] == ["124M", "1M", "5B", "42"]
    assert [format_number(v) for v in (0.34731, 1.0182740e-3, 1e21, None)] == ["0.3473", "0.001018", "1.000e21", "-"]
