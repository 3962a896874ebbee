"""Figures of two sweeps in one: a colour and a mark per sweep, its law and bands, the sweep's name beside it."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ladder.analysis.fitting.fits import Fit
from ladder.analysis.report.canvas import (
    MARKERS,
    PALETTE,
    PANEL_HEIGHT,
    PANEL_TICK_GAP,
    PANEL_WIDTH,
    draw_band,
    draw_new_run,
    format_power,
    format_tick,
    label_lines,
    log_axis,
    log_axis_of_sizes,
    mark_look,
    new_figure,
    styled,
    tell_bands,
)
from ladder.analysis.report.comparison import frontier_law
from ladder.analysis.report.compute_figures import COMPUTE_LABEL
from ladder.analysis.report.figures import GRID, LOSS_LABEL, N_LABEL, padded, size_grid
from ladder.analysis.report.findings import Findings
from ladder.analysis.report.panels import SIZE_LABEL, score_label, score_limits
from ladder.analysis.report.scores import PARAMS, ScoreFinding, largest_budget

COLOURS = PALETTE[:2]


def scatter(axes: Axes, rows: pl.DataFrame, column: str, place: int, size: float | None = None) -> None:
    """A sweep's runs."""
    sns.scatterplot(
        x=rows[column].to_numpy(), y=rows["score"].to_numpy(), ax=axes, color=COLOURS[place], marker=MARKERS[place],
        zorder=3, alpha=0.9, **(mark_look(rows.height) | ({"s": size} if size is not None else {})),
    )  # fmt: skip


def draw_computes(sweeps: Sequence[Findings]) -> Figure | None:
    """Held-out loss against compute with each law's frontier; None where a sweep's compute is not known."""
    if any(one.loss.height == 0 or one.loss["flops_6nd"].null_count() for one in sweeps):
        return None
    ends = []
    with styled():
        figure, axes = new_figure()
        for place, one in enumerate(sweeps):
            scatter(axes, one.loss, "flops_6nd", place)
            last = one.loss.sort("flops_6nd").row(-1, named=True)
            end = (last["flops_6nd"], last["score"])
            law = frontier_law(one.surface)
            if law is not None and one.surface is not None:
                end = draw_frontier(axes, one.loss, one.surface, COLOURS[place])
            ends.append((*end, one.data.name, COLOURS[place]))
        axes.set_ylim(*padded(np.concatenate([one.loss["score"].to_numpy() for one in sweeps])))
        log_axis(axes, "x", COMPUTE_LABEL, format_power)
        axes.set_ylabel(LOSS_LABEL)
        label_lines(axes, ends)
    return figure


def draw_frontier(axes: Axes, table: pl.DataFrame, fit: Fit, colour: str) -> tuple[float, float]:
    """A law's least loss over the compute of its runs with its band; returns its right end."""
    law = frontier_law(fit)
    assert law is not None, "asked for only where there is one"
    flops = table["flops_6nd"].to_numpy()
    budgets = np.geomspace(flops.min(), flops.max(), GRID)
    best = [law.optimum(float(budget)) for budget in budgets]
    axes.plot(budgets, [one.loss for one in best], color=colour, linewidth=1.5, linestyle=(0, (5, 3)))
    inputs = {"N": np.array([one.params for one in best]), "D": np.array([one.tokens for one in best])}
    draw_band(axes, budgets, fit.band(inputs), colour)
    return float(budgets[-1]), best[-1].loss


def draw_sizes(sweeps: Sequence[Findings]) -> Figure | None:
    """Held-out loss against size at each sweep's largest budget with the law; None where a sweep has no loss."""
    if any(one.loss.height == 0 for one in sweeps):
        return None
    ends = []
    with styled():
        figure, axes = new_figure()
        for place, one in enumerate(sweeps):
            rows = largest_budget(one.loss)
            scatter(axes, rows, PARAMS, place)
            last = rows.sort(PARAMS).row(-1, named=True)
            end = (last[PARAMS], last["score"])
            if one.drawn is not None:
                end = draw_size_law(axes, rows, one.drawn, COLOURS[place])
            ends.append((*end, one.data.name, COLOURS[place]))
        axes.set_ylim(*padded(np.concatenate([largest_budget(one.loss)["score"].to_numpy() for one in sweeps])))
        log_axis_of_sizes(axes, [size for one in sweeps for size in one.loss[PARAMS].to_list()], N_LABEL)
        axes.set_ylabel(LOSS_LABEL)
        tell_bands(axes, sweeps[0].level)
        label_lines(axes, ends)
    return figure


def draw_size_law(axes: Axes, rows: pl.DataFrame, fit: Fit, colour: str) -> tuple[float, float]:
    """A law over the sizes at the largest budgets, with its bands; returns its right end."""
    grid = size_grid(rows)
    if fit.law.inputs == ("x",):
        inputs = {"x": grid}
    else:
        ordered = rows.sort(PARAMS)
        sizes, tokens = np.log(ordered[PARAMS].to_numpy()), np.log(ordered["tokens"].to_numpy())
        inputs = {"N": grid, "D": np.exp(np.interp(np.log(grid), sizes, tokens))}
    curve = fit.predict(inputs)
    axes.plot(grid, curve, color=colour, linewidth=1.3)
    draw_band(axes, grid, fit.band(inputs), colour)
    draw_new_run(axes, grid, fit.band(inputs, new_run=True), colour)
    return float(grid[-1]), float(curve[-1])


def draw_pair(scores: Sequence[ScoreFinding]) -> Figure:
    """One measurement of both sweeps against size; the page says which colour is which."""
    with styled():
        figure, axes = new_figure(PANEL_HEIGHT, PANEL_WIDTH)
        for place, score in enumerate(scores):
            scatter(axes, score.fitted, PARAMS, place, 28)
            if score.law is not None:
                grid = size_grid(score.fitted)
                axes.plot(grid, score.law.predict({"x": grid}), color=COLOURS[place], linewidth=1.3)
                draw_band(axes, grid, score.law.band({"x": grid}), COLOURS[place])
        shown = np.concatenate([score.fitted["score"].to_numpy() for score in scores])
        axes.set_ylim(*score_limits(shown, log_score=scores[0].log_score))
        log_axis_of_sizes(
            axes, [size for score in scores for size in score.fitted[PARAMS].to_list()], SIZE_LABEL, PANEL_TICK_GAP
        )
        if scores[0].log_score:
            log_axis(axes, "y", score_label(scores[0]), format_tick)
        else:
            axes.set_ylabel(score_label(scores[0]))
    return figure
