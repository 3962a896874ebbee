"""Figures of the loss against size and over training: each a function from a table (and a fit) to a matplotlib Figure.

They read no file. seaborn takes no polars frame, so that it is handed columns.
"""

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ladder.analysis.fitting.fits import Fit
from ladder.analysis.laws.units import format_count
from ladder.analysis.report.canvas import (
    FAINT,
    INK,
    MARKERS,
    bins,
    colours,
    draw_band,
    draw_new_run,
    format_tick,
    label_lines,
    log_axis,
    log_axis_of_sizes,
    mark_look,
    new_figure,
    styled,
    tell_bands,
)
from ladder.analysis.report.scores import PARAMS

Floats = NDArray[np.float64]

N_LABEL = "N, parameters with embeddings"
LOSS_LABEL = "held-out loss, nats per token"
CURVE_POINTS = 160
"""Points per drawn training curve, spaced evenly in log tokens."""
GRID = 80
"""Points per drawn law."""
MOST_BANDS = 4
"""Budgets up to which each has its bands; of more the largest alone, or the bands would cover each other."""
MOST_GROUPS = 7
"""Most token budgets, sizes or ratios that get a colour each; more are put together into stretches."""


def group_by_level(table: pl.DataFrame, column: str, unit: str) -> list[tuple[str, pl.DataFrame]]:
    """The rows by the level of a column, least first, with the level in words."""
    values = table[column].to_numpy().astype(np.float64)
    groups = [table[rows.tolist()] for rows in bins(values, MOST_GROUPS)]
    return [(level_words(group[column].to_numpy(), unit), group) for group in groups]


def level_words(values: Floats, unit: str) -> str:
    """`400k tokens`, or `400k-900k tokens` for a stretch."""
    low, high = format_count(float(values.min())), format_count(float(values.max()))
    # Counts within a batch of each other are one level, though the third digit may differ.
    return f"{high if values.max() / values.min() < 1.02 else f'{low}-{high}'} {unit}".strip()


def group_budgets(table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """The runs by token budget, least first; batches round token counts, so that counts within 1 % are one budget."""
    return group_by_level(table, "tokens", "tokens")


def size_grid(table: pl.DataFrame) -> Floats:
    """N from the smallest to the largest size, evenly in its logarithm."""
    sizes = table[PARAMS].to_numpy()
    return np.geomspace(sizes.min(), sizes.max(), GRID)


def thin(curve: pl.DataFrame) -> pl.DataFrame:
    """At most CURVE_POINTS rows, each the mean over a stretch of equal ratio in tokens."""
    if curve.height <= CURVE_POINTS:
        return curve
    logs = np.log(curve["tokens"].to_numpy())
    stretch = ((logs - logs[0]) / (logs[-1] - logs[0]) * CURVE_POINTS).astype(np.int64)
    return curve.with_columns(stretch=stretch).group_by("stretch").mean().sort("stretch")


def draw_training(curves: pl.DataFrame, table: pl.DataFrame) -> Figure | None:
    """Training loss of every run against tokens seen; None where nothing was logged.

    Colour is the size; runs of one size at different budgets share it and end at different token counts.
    """
    sizes = table.select("size", PARAMS).unique().sort(PARAMS)["size"].to_list()
    colour = dict(zip(sizes, colours(len(sizes)), strict=True))
    joined = curves.drop_nulls(["train_loss", "tokens"]).join(table.select("run", "size"), on="run")
    if joined.height == 0:
        return None
    ends: dict[str, tuple[float, float, str, str]] = {}
    lowest, highest = [], []
    with styled():
        figure, axes = new_figure()
        for (_, size), curve in joined.group_by(["run", "size"], maintain_order=True):
            thinned = thin(curve.sort("tokens").select("tokens", "train_loss"))
            x, y = thinned["tokens"].to_numpy(), thinned["train_loss"].to_numpy()
            sns.lineplot(x=x, y=y, ax=axes, color=colour[str(size)], linewidth=1.1, alpha=0.85, errorbar=None)
            lowest.append(float(y.min()))
            highest.append(float(np.quantile(y, 0.95)))
            if str(size) not in ends or x[-1] >= ends[str(size)][0]:
                ends[str(size)] = (float(x[-1]), float(y[-1]), str(size), colour[str(size)])
        axes.set_ylim(min(lowest) - 0.05 * (max(highest) - min(lowest)), max(highest))
        log_axis(axes, "x", "tokens seen", format_count)
        axes.set_ylabel("training loss, nats per token")
        label_lines(axes, list(ends.values()))
    return figure


def draw_loss(table: pl.DataFrame, fit: Fit | None) -> Figure:
    """Held-out loss against size, a colour per token budget.

    A law in N and D is drawn with its bands per budget, of many budgets those of the largest; one in N alone once,
    dashed, through each size's largest budget. The curve's band is shaded, a new run's is dotted.
    """
    known = table["tokens"].null_count() == 0
    groups = group_budgets(table) if known else [("", table)]
    with styled():
        figure, axes = new_figure()
        ends = []
        for (name, rows), colour, marker in zip(groups, colours(len(groups)), cycle_markers(len(groups)), strict=True):
            x, y = rows[PARAMS].to_numpy(), rows["score"].to_numpy()
            sns.scatterplot(x=x, y=y, ax=axes, color=colour, marker=marker, zorder=3, **mark_look(table.height))
            last = (float(rows[PARAMS].max()), float(rows.sort(PARAMS)["score"][-1]))  # type: ignore[arg-type]
            if fit is not None and fit.law.inputs == ("N", "D"):
                last = draw_surface(axes, size_grid(table), rows, fit, colour)
                if len(groups) <= MOST_BANDS or rows is groups[-1][1]:
                    draw_bands(axes, size_grid(table), rows, fit, colour)
            ends.append((*last, name, colour))
        if fit is not None and fit.law.inputs == ("x",):
            draw_size_law(axes, size_grid(table), fit)
        axes.set_ylim(*padded(table["score"].to_numpy()))
        log_axis_of_sizes(axes, table[PARAMS].to_list(), N_LABEL)
        axes.set_ylabel(LOSS_LABEL)
        if fit is not None:
            tell_bands(axes, fit.level)
        label_lines(axes, ends if known else [])
    return figure


def draw_surface(axes: Axes, grid: Floats, rows: pl.DataFrame, fit: Fit, colour: str) -> tuple[float, float]:
    """A law in N and D over N at the rows' median tokens; returns the right end of the curve."""
    curve = fit.predict({"N": grid, "D": np.full(GRID, float(rows["tokens"].median()))})  # type: ignore[arg-type]
    axes.plot(grid, curve, color=colour, linewidth=1.3)
    return float(grid[-1]), float(curve[-1])


def draw_bands(axes: Axes, grid: Floats, rows: pl.DataFrame, fit: Fit, colour: str) -> None:
    """The bands of a law in N and D over N at the rows' median tokens."""
    inputs = {"N": grid, "D": np.full(GRID, float(rows["tokens"].median()))}  # type: ignore[arg-type]
    draw_band(axes, grid, fit.band(inputs), colour)
    draw_new_run(axes, grid, fit.band(inputs, new_run=True), colour)


def draw_size_law(axes: Axes, grid: Floats, fit: Fit) -> None:
    """A law in N alone, dashed, with its bands."""
    axes.plot(grid, fit.predict({"x": grid}), color=INK, linewidth=1.2, linestyle=(0, (5, 3)), zorder=2)
    draw_band(axes, grid, fit.band({"x": grid}), FAINT)
    draw_new_run(axes, grid, fit.band({"x": grid}, new_run=True), FAINT)


def padded(values: Floats) -> tuple[float, float]:
    """Limits a quarter beyond the values: a wide band is cut off, or it would press the runs into a line."""
    low, high = float(values.min()), float(values.max())
    pad = 0.25 * (high - low) or 0.05 * abs(high) or 1.0
    return low - pad, high + pad


def cycle_markers(count: int) -> list[str]:
    """One marker per category, repeating beyond ten."""
    return [MARKERS[index % len(MARKERS)] for index in range(count)]


def draw_perplexity(table: pl.DataFrame) -> Figure | None:
    """Train and held-out perplexity per token against size at each size's largest budget (figure 4 of the GPT-2 paper).

    `table` has params, score (held-out loss) and train_loss; None where no training loss was logged.
    """
    known = table.drop_nulls("train_loss").sort(PARAMS)
    if known.height == 0:
        return None
    series = (("training", "train_loss"), ("held out", "score"))
    with styled():
        figure, axes = new_figure()
        ends = []
        for (name, column), colour, marker in zip(series, colours(2), MARKERS, strict=False):
            means = known.group_by(PARAMS, maintain_order=True).agg(pl.col(column).mean())
            x, y = means[PARAMS].to_numpy(), np.exp(means[column].to_numpy())
            sns.lineplot(x=x, y=y, ax=axes, color=colour, marker=marker, markersize=7, linewidth=1.4, errorbar=None)
            ends.append((float(x[-1]), float(y[-1]), name, colour))
        log_axis_of_sizes(axes, known[PARAMS].to_list(), N_LABEL)
        log_axis(axes, "y", "perplexity per token", format_tick)
        label_lines(axes, ends)
    return figure


def draw_residuals(table: pl.DataFrame, fit: Fit) -> Figure:
    """Observed over fitted loss in percent against size, a colour per token budget.

    `table` has the fit's points in the fit's order.
    """
    shown = table.with_columns(percent=100 * (np.exp(fit.residuals) - 1))
    groups = group_budgets(shown)
    with styled():
        figure, axes = new_figure(2.7)
        axes.axhline(0, color=INK, linewidth=0.8)
        ends = []
        for (name, rows), colour, marker in zip(groups, colours(len(groups)), cycle_markers(len(groups)), strict=True):
            ordered = rows.sort(PARAMS)
            x, y = ordered[PARAMS].to_numpy(), ordered["percent"].to_numpy()
            sns.scatterplot(x=x, y=y, ax=axes, color=colour, marker=marker, zorder=3, **mark_look(table.height))
            if ordered.height == len(set(x)):  # one run a size: the eye wants the thread
                axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.6)
            ends.append((float(x[-1]), float(y[-1]), name, colour))
        log_axis_of_sizes(axes, shown[PARAMS].to_list(), N_LABEL)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_ylabel("observed - fitted, %")
        label_lines(axes, ends)
    return figure
