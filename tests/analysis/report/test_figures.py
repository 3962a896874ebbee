"""Figures are made of what they are given and leave matplotlib as they found it."""

from collections.abc import Callable
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import polars as pl

from ladder.analysis.fitting.fits import FitOptions
from ladder.analysis.laws.law import format_count, format_number
from ladder.analysis.report import canvas
from ladder.analysis.report.canvas import (
    VERY_MANY,
    bins,
    colours,
    draw_panel,
    group_budgets,
    level_words,
    mark_look,
    score_limits,
    spread,
    to_svg,
)
from ladder.analysis.report.figures import (
    draw_compute,
    draw_loss,
    draw_ratios,
    draw_training,
    thin,
)
from ladder.analysis.report.findings import find
from ladder.analysis.tables.sweeps import SweepData

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


def test_the_band_of_the_curve_is_shaded_and_that_of_a_new_run_dotted(planted: Callable[..., SweepData]) -> None:
    findings = find(planted(), QUICK)
    axes = draw_loss(findings.loss, findings.surface).axes[0]
    assert len(axes.collections) >= 6, "three budgets of runs and three shaded bands"
    dotted = [line for line in axes.lines if line.get_linestyle() == ":" or line.is_dashed()]
    assert len(dotted) == 6, "two edges for each of three budgets"
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["95% of the curve", "95% of a new run"]


def test_the_frontier_is_drawn_under_every_run_of_a_determined_law_alone(planted: Callable[..., SweepData]) -> None:
    findings = find(planted(noise=1e-4), QUICK)
    for draw in (draw_compute, draw_ratios):
        axes = draw(findings.loss, findings.surface).axes[0]
        frontier = next(line for line in axes.lines if line.is_dashed())
        x, y = (np.asarray(data, dtype=float) for data in frontier.get_data())
        flops, loss = findings.loss["flops_6nd"].to_numpy(), findings.loss["score"].to_numpy()
        assert (loss > np.interp(flops, x, y) * 0.999).all(), "no run is below the least loss that its budget buys"
        assert not any(line.is_dashed() for line in draw(findings.loss, None).axes[0].lines)


def test_more_levels_than_colours_are_put_into_stretches() -> None:
    values = np.geomspace(1, 1e6, 100)
    parts = bins(values, 7)
    assert len(parts) == 7 and sorted(np.concatenate(parts).tolist()) == list(range(100))
    assert [part.tolist() for part in bins(np.array([5.0, 1.0, 5.01, 1.0]), 7)] == [[1, 3], [0, 2]]
    assert level_words(np.array([1e6, 4e6]), "tokens") == "1M-4M tokens"
    assert level_words(np.array([392_000, 393_216]), "tokens") == "393k tokens"


def test_limits_of_a_share_leave_no_room_below_zero() -> None:
    assert score_limits(np.array([0.0, 0.1, 0.2]), log_score=False)[0] > -0.02
    assert score_limits(np.array([-0.3, 0.1]), log_score=False)[0] < -0.3


def test_thousands_of_marks_are_drawn_as_pixels() -> None:
    assert mark_look(VERY_MANY + 1)["rasterized"] and not mark_look(VERY_MANY)["rasterized"]


def test_a_panel_shows_runs_of_smaller_budgets_faintly_and_chance(planted: Callable[..., SweepData]) -> None:
    data = planted()
    kinds = data.measurements.with_columns(
        chance=pl.when(pl.col("name") == "cloze/accuracy").then(0.7).otherwise(pl.col("chance"))
    )
    findings = find(replace(data, measurements=kinds), QUICK)
    svg = to_svg(draw_panel(findings.scores[-1]))
    assert "chance" in svg and "N, parameters" in svg and "fraction" in svg


def test_labels_keep_the_order_they_are_given_in_where_lines_meet() -> None:
    with canvas.styled():
        figure, axes = canvas.new_figure()
        axes.plot([0, 1], [0, 3])
        canvas.label_lines(axes, [(1, 2.0, "1k", "#000"), (1, 2.01, "10k", "#000"), (1, 1.5, "100k", "#000")])
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert heights["1k"] > heights["10k"] > heights["100k"]
