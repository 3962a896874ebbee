"""The report's figures: each a function from a table (and a fit) to a matplotlib Figure, reading no file.

seaborn takes no polars frame, so that it is handed dictionaries of columns.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ladder.analysis.canvas import (
    FAINT,
    INK,
    MARKERS,
    apart,
    colours,
    draw_band,
    format_power,
    format_tick,
    label_lines,
    log_axis,
    log_axis_of_sizes,
    new_figure,
    styled,
)
from ladder.analysis.findings import PARAMS, ScoreFinding
from ladder.analysis.fits import Fit
from ladder.analysis.laws import Hoffmann
from ladder.analysis.points import DISTINCT
from ladder.analysis.units import format_count

Floats = NDArray[np.float64]

N_LABEL = "N, parameters with embeddings"
LOSS_LABEL = "held-out loss, nats per token"
CURVE_POINTS = 160
"""Points per drawn training curve, spaced evenly in log tokens."""
LABEL_SHARE = 0.18
"""Least distance of the names of sizes over their first points, as a share of these points' range."""
GRID = 80
"""Points per drawn law."""


def as_columns(table: pl.DataFrame, names: Sequence[str]) -> dict[str, Floats | list[str]]:
    """Columns for seaborn."""
    return {name: table[name].to_list() if table[name].dtype == pl.String else table[name].to_numpy() for name in names}


def group_budgets(table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """The runs by token budget, least first; token counts within 1 % are one budget (batches round them)."""
    groups: list[tuple[str, pl.DataFrame]] = []
    rest = table.sort("tokens")
    while rest.height:
        least = float(rest["tokens"][0])
        same = rest["tokens"] <= least * (1 + DISTINCT)
        groups.append((f"{format_count(least)} tokens", rest.filter(same)))
        rest = rest.filter(~same)
    return groups


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

    A law in N and D is drawn with its band per budget; one in N alone once, dashed, through each size's largest budget.
    """
    groups = group_budgets(table)
    grid = size_grid(table)
    ends = []
    with styled():
        figure, axes = new_figure()
        for (name, rows), colour, marker in zip(groups, colours(len(groups)), cycle_markers(len(groups)), strict=True):
            columns = as_columns(rows, (PARAMS, "score"))
            sns.scatterplot(
                x=columns[PARAMS], y=columns["score"], ax=axes, color=colour, marker=marker, s=42, linewidth=0, zorder=3
            )
            last = (float(rows[PARAMS].max()), float(rows.sort(PARAMS)["score"][-1]))  # type: ignore[arg-type]
            if fit is not None and fit.law.inputs == ("N", "D"):
                tokens = np.full(GRID, float(rows["tokens"].median()))  # type: ignore[arg-type]
                inputs = {"N": grid, "D": tokens}
                curve = fit.predict(inputs)
                axes.plot(grid, curve, color=colour, linewidth=1.3)
                draw_band(axes, grid, fit.band(inputs), colour)
                last = (grid[-1], float(curve[-1]))
            ends.append((*last, name, colour))
        if fit is not None and fit.law.inputs == ("x",):
            axes.plot(grid, fit.predict({"x": grid}), color=INK, linewidth=1.2, linestyle=(0, (5, 3)), zorder=2)
            draw_band(axes, grid, fit.band({"x": grid}), FAINT)
            axes.set_ylim(*padded(table["score"].to_numpy()))
        log_axis_of_sizes(axes, table[PARAMS].to_list(), N_LABEL)
        axes.set_ylabel(LOSS_LABEL)
        label_lines(axes, ends)
    return figure


def padded(values: Floats) -> tuple[float, float]:
    """Limits a quarter beyond the values: a wide band is cut off, or it would press the runs into a line."""
    low, high = float(values.min()), float(values.max())
    pad = 0.25 * (high - low) or 0.05 * abs(high) or 1.0
    return low - pad, high + pad


def cycle_markers(count: int) -> list[str]:
    """One marker per category, repeating beyond ten."""
    return [MARKERS[index % len(MARKERS)] for index in range(count)]


def draw_score(finding: ScoreFinding) -> Figure:
    """A measurement against size: the runs on the line large, other budgets faint, the log-linear law with its band."""
    others = finding.rows.join(finding.fitted.select("run"), on="run", how="anti")
    main = colours(1)[0]
    with styled():
        figure, axes = new_figure()
        if others.height:
            sns.scatterplot(
                x=others[PARAMS].to_numpy(),
                y=others["score"].to_numpy(),
                ax=axes,
                color=FAINT,
                s=22,
                alpha=0.7,
                zorder=2,
            )
        fitted = finding.fitted
        x, y = fitted[PARAMS].to_numpy(), fitted["score"].to_numpy()
        error = fitted["standard_error"].fill_null(0.0).to_numpy() * 1.96
        axes.errorbar(x, y, yerr=error if error.any() else None, fmt="none", ecolor=main, elinewidth=1, zorder=3)
        sns.scatterplot(x=x, y=y, ax=axes, color=main, s=46, linewidth=0, zorder=4)
        shown = np.concatenate([finding.rows["score"].to_numpy(), y - error, y + error])
        if finding.fit is not None:
            grid = size_grid(fitted)
            axes.plot(grid, finding.fit.predict({"x": grid}), color=main, linewidth=1.4)
            draw_band(axes, grid, finding.fit.band({"x": grid}), main)
        axes.set_ylim(*score_limits(shown, finding))
        log_axis_of_sizes(axes, finding.rows[PARAMS].to_list(), N_LABEL)
        if finding.log_score:
            log_axis(axes, "y", score_label(finding), format_tick)
        else:
            axes.set_ylabel(score_label(finding))
        draw_chance(axes, finding.chance)
    return figure


def score_label(finding: ScoreFinding) -> str:
    """The y axis' words: the metric, with its unit where the unit says more."""
    metric = finding.name.rsplit("/", 1)[-1].replace("_", " ")
    if not finding.unit or finding.unit == metric:
        return metric
    return finding.unit if finding.unit.startswith(metric) else f"{metric}, {finding.unit}"


def score_limits(shown: Floats, finding: ScoreFinding) -> tuple[float, float]:
    """Limits that hold every run with its error bar."""
    values = shown[np.isfinite(shown) & ((shown > 0) | (not finding.log_score))]
    if finding.log_score:
        low, high = float(values.min()), float(values.max())
        pad = max((high / low) ** 0.25, 1.05)
        return low / pad, high * pad
    return padded(values)


def draw_chance(axes: Axes, chance: float | None) -> None:
    """A labelled line at the level of guessing, where the axis shows it."""
    low, high = axes.get_ylim()
    if chance is not None and low <= chance <= high:
        axes.axhline(chance, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.text(0.99, chance, "chance", transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=9)


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


def draw_compute(table: pl.DataFrame, fit: Fit | None) -> Figure:
    """Held-out loss against training compute, a colour per size, with the law's curves and its frontier."""
    sizes = table.group_by("size", PARAMS).agg(pl.col("flops_6nd").min()).sort(PARAMS)
    named = set(apart(np.log(sizes["flops_6nd"].to_numpy()), LABEL_SHARE)) if sizes.height > 1 else {0}
    flops = table["flops_6nd"].to_numpy()
    with styled():
        figure, axes = new_figure()
        axes.set_xlim(flops.min() / 1.6, flops.max() * 1.6)
        pairs = zip(sizes.iter_rows(), colours(sizes.height), cycle_markers(sizes.height), strict=True)
        for index, ((size, params, _), colour, marker) in enumerate(pairs):
            rows = table.filter(pl.col(PARAMS) == params).sort("tokens")
            x, y = rows["flops_6nd"].to_numpy(), rows["score"].to_numpy()
            sns.scatterplot(x=x, y=y, ax=axes, color=colour, marker=marker, s=40, linewidth=0, zorder=3)
            if fit is not None and fit.law.inputs == ("N", "D"):
                tokens = np.geomspace(float(rows["tokens"].min()), float(rows["tokens"].max()), GRID)  # type: ignore[arg-type]
                curve = fit.predict({"N": np.full(GRID, params), "D": tokens})
                axes.plot(6 * params * tokens, curve, color=colour, linewidth=1.2)
            # Above its first point, where the sizes lie far apart; at their ends the curves meet.
            words = size if index in named else ""
            axes.annotate(
                words, (x[0], y[0]), xytext=(0, 7), textcoords="offset points", color=colour, ha="center", fontsize=9
            )
        if fit is not None and isinstance(fit.law, Hoffmann):
            budgets = np.geomspace(flops.min(), flops.max(), GRID)
            least = [fit.law.optimum(float(c)).loss for c in budgets]
            axes.plot(budgets, least, color=INK, linewidth=1.4, linestyle=(0, (5, 3)), label="least loss by the law")
            axes.legend(loc="upper right", fontsize=9)
        log_axis(axes, "x", "training compute 6 N D, FLOPs", format_power)
        axes.set_ylabel(LOSS_LABEL)
        axes.margins(y=0.1)
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
            sns.scatterplot(x=x, y=y, ax=axes, color=colour, marker=marker, s=40, linewidth=0, zorder=3)
            axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.6)
            ends.append((float(x[-1]), float(y[-1]), name, colour))
        log_axis_of_sizes(axes, shown[PARAMS].to_list(), N_LABEL)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_ylabel("observed - fitted, %")
        label_lines(axes, ends)
    return figure
