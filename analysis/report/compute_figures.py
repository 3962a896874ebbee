"""Figures of the loss against compute: sizes, tokens per parameter, the frontier, and parabolas at equal compute."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ladder.analysis.fitting.fits import Fit
from ladder.analysis.fitting.health import Status
from ladder.analysis.fitting.isoflop import Budget, BudgetStatus, IsoFlopFit
from ladder.analysis.laws.surfaces import Surface
from ladder.analysis.laws.units import format_count, format_number
from ladder.analysis.report.canvas import (
    INK,
    MARKERS,
    colours,
    draw_band,
    format_power,
    label_lines,
    log_axis,
    log_axis_of_sizes,
    mark_look,
    new_figure,
    styled,
)
from ladder.analysis.report.figures import GRID, LOSS_LABEL, N_LABEL, cycle_markers, group_by_level, padded
from ladder.analysis.report.scores import PARAMS

Floats = NDArray[np.float64]

MOST_BUDGETS = 8
"""Parabolas in one figure; of more an even choice is drawn."""
COMPUTE_LABEL = "training compute 6 N D, FLOPs"


def has_frontier(fit: Fit | None) -> bool:
    """True for a law whose optimum can be stated."""
    return fit is not None and isinstance(fit.law, Surface) and fit.status is Status.CONVERGED


def draw_compute(table: pl.DataFrame, fit: Fit | None) -> Figure:
    """Held-out loss against training compute, a colour per size, with the law's curves and its frontier."""
    groups = group_by_level(table, PARAMS, "")
    words = [name if rows["size"].n_unique() > 1 else str(rows["size"][0]) for name, rows in groups]
    with styled():
        figure, axes = new_figure()
        for (_, rows), colour, marker in zip(groups, colours(len(groups)), cycle_markers(len(groups)), strict=True):
            x, y = rows["flops_6nd"].to_numpy(), rows["score"].to_numpy()
            sns.scatterplot(x=x, y=y, ax=axes, color=colour, marker=marker, zorder=3, **mark_look(table.height))
            if fit is not None and fit.law.inputs == ("N", "D"):
                params = float(rows[PARAMS].median())  # type: ignore[arg-type]
                flops = np.geomspace(x.min(), x.max(), GRID)
                axes.plot(flops, fit.predict({"N": np.full(GRID, params), "D": flops / (6 * params)}), color=colour)
        axes.set_ylim(*padded(table["score"].to_numpy()))
        finish_compute(axes, table, fit)
        shown = zip(groups, words, colours(len(groups)), strict=True)
        label_lines(axes, [right_end(rows, word, colour) for (_, rows), word, colour in shown])
    return figure


def right_end(rows: pl.DataFrame, words: str, colour: str) -> tuple[float, float, str, str]:
    """The run of most compute, to be labelled."""
    last = rows.sort("flops_6nd").row(-1, named=True)
    return last["flops_6nd"], last["score"], words, colour


def finish_compute(axes: Axes, table: pl.DataFrame, fit: Fit | None) -> None:
    """The axes of compute and loss, and the law's frontier where it has one."""
    flops = table["flops_6nd"].to_numpy()
    axes.set_xlim(flops.min() / 1.6, flops.max() * 1.6)
    if fit is not None and isinstance(fit.law, Surface) and has_frontier(fit):
        budgets = np.geomspace(flops.min(), flops.max(), GRID)
        best = [fit.law.optimum(float(c)) for c in budgets]
        axes.plot(budgets, [one.loss for one in best], color=INK, linewidth=1.6, linestyle=(0, (5, 3)))
        inputs = {"N": np.array([one.params for one in best]), "D": np.array([one.tokens for one in best])}
        draw_band(axes, budgets, fit.band(inputs), INK)
        middle = (budgets[GRID // 2], best[GRID // 2].loss)
        axes.annotate("frontier", middle, xytext=(-4, -5), textcoords="offset points", va="top", ha="right", fontsize=9)
    log_axis(axes, "x", COMPUTE_LABEL, format_power)
    axes.set_ylabel(LOSS_LABEL)


def draw_ratios(table: pl.DataFrame, fit: Fit | None) -> Figure:
    """Held-out loss against training compute, a colour per number of tokens per parameter, with the law's curve of
    each and its frontier, which touches them one after the other."""
    groups = group_by_level(table.with_columns(ratio=pl.col("tokens") / pl.col(PARAMS)), "ratio", "")
    flops = table["flops_6nd"].to_numpy()
    grid = np.geomspace(flops.min(), flops.max(), GRID)
    ends = []
    with styled():
        figure, axes = new_figure()
        for (name, rows), colour, marker in zip(groups, colours(len(groups)), cycle_markers(len(groups)), strict=True):
            x, y = rows["flops_6nd"].to_numpy(), rows["score"].to_numpy()
            sns.scatterplot(x=x, y=y, ax=axes, color=colour, marker=marker, zorder=3, **mark_look(table.height))
            end = right_end(rows, f"{name} tokens/N", colour)
            if fit is not None and fit.law.inputs == ("N", "D"):
                params = np.sqrt(grid / (6 * float(rows["ratio"].median())))  # type: ignore[arg-type]
                curve = fit.predict({"N": params, "D": grid / (6 * params)})
                axes.plot(grid, curve, color=colour, linewidth=1.1)
                end = (float(grid[-1]), float(curve[-1]), *end[2:])
            ends.append(end)
        axes.set_ylim(*padded(table["score"].to_numpy()))
        finish_compute(axes, table, fit)
        label_lines(axes, ends)
    return figure


def draw_isoflop(fit: IsoFlopFit) -> Figure | None:
    """Loss against size at equal compute, with the parabola of each budget and its lowest point (Hoffmann et al. 2022,
    figure 3); None where no budget has a parabola."""
    drawn = some_of([budget for budget in fit.budgets if budget.coefficients is not None])
    if not drawn:
        return None
    params, loss = fit.points.quantity("params"), fit.points.score
    ends = []
    with styled():
        figure, axes = new_figure()
        for budget, colour, marker in zip(drawn, colours(len(drawn)), cycle_markers(len(drawn)), strict=True):
            rows = np.asarray(budget.rows)
            look = mark_look(len(params))
            sns.scatterplot(x=params[rows], y=loss[rows], ax=axes, color=colour, marker=marker, zorder=3, **look)
            grid = np.geomspace(params[rows].min(), params[rows].max(), GRID)
            curve = budget.parabola(grid)
            assert curve is not None, "a curvature was fitted"
            axes.plot(grid, curve, color=colour, linewidth=1.1)
            draw_vertex(axes, budget, colour)
            ends.append((float(grid[-1]), float(curve[-1]), f"{format_number(budget.flops, 2)} FLOPs", colour))
        shown = np.concatenate([np.asarray(budget.rows) for budget in drawn])
        axes.set_ylim(*padded(loss[shown]))
        log_axis_of_sizes(axes, params[shown].tolist(), N_LABEL)
        axes.set_ylabel(LOSS_LABEL)
        label_lines(axes, ends)
    return figure


def some_of(budgets: Sequence[Budget]) -> list[Budget]:
    """At most MOST_BUDGETS of the budgets, evenly from first to last, usable ones where there are enough."""
    used = [budget for budget in budgets if budget.status is BudgetStatus.USED]
    shown = used if len(used) >= MOST_BUDGETS else list(budgets)
    places = np.unique(np.linspace(0, len(shown) - 1, min(len(shown), MOST_BUDGETS)).round().astype(int))
    return [shown[place] for place in places] if shown else []


def draw_vertex(axes: Axes, budget: Budget, colour: str) -> None:
    """The lowest point of a parabola, where it may be used."""
    if budget.status is BudgetStatus.USED and budget.params is not None and budget.loss is not None:
        axes.plot(
            [budget.params], [budget.loss], marker="*", markersize=11, color=colour, markeredgecolor=INK, zorder=4
        )


def draw_optimal_size(isoflop: IsoFlopFit, fit: Fit | None) -> Figure | None:
    """The best size against compute: the parabolas' lowest points with their intervals and line, and the law's.

    None where neither knows it.
    """
    used = isoflop.used
    flops = isoflop.points.quantity("flops")
    grid = np.geomspace(flops.min(), flops.max(), GRID)
    ends = []
    with styled():
        figure, axes = new_figure()
        law_colour, parabola_colour = colours(2)
        if fit is not None and isinstance(fit.law, Surface) and has_frontier(fit):
            best = [fit.law.optimum(float(c)).params for c in grid]
            axes.plot(grid, best, color=law_colour, linewidth=1.4, linestyle=(0, (5, 3)))
            ends.append((float(grid[-1]), best[-1], fit.law.name, law_colour))
        for budget in used:
            assert budget.params is not None, "a used budget has a lowest point"
            axes.plot([budget.flops], [budget.params], marker=MARKERS[1], color=parabola_colour, linestyle="none")
            low, high = budget.interval.low, budget.interval.high
            if low is not None and high is not None:
                axes.plot([budget.flops] * 2, [low, high], color=parabola_colour, linewidth=1)
        if isoflop.frontier is not None:
            line = isoflop.frontier.params(grid)
            axes.plot(grid, line, color=parabola_colour, linewidth=1.4)
            draw_band(axes, grid, isoflop.band(grid), parabola_colour)
            ends.append((float(grid[-1]), float(line[-1]), "IsoFLOP", parabola_colour))
        if not ends:
            return None
        axes.set_xlim(flops.min() / 1.6, flops.max() * 1.6)
        log_axis(axes, "x", COMPUTE_LABEL, format_power)
        log_axis(axes, "y", f"best {N_LABEL}", format_count)
        label_lines(axes, ends)
    return figure
