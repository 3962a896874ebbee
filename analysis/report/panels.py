"""Small multiples: one panel per measurement against size, as in figure 1 of the GPT-2 paper.

A panel has the runs with error bars, the law with its bands, the level of guessing, and the paper's own models in grey
where they were scored on the same measurement.
"""

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from ladder.analysis.fitting.fits import Fit
from ladder.analysis.report.canvas import (
    FAINT,
    PALETTE,
    PANEL_HEIGHT,
    PANEL_TICK_GAP,
    PANEL_WIDTH,
    VERY_MANY,
    draw_band,
    draw_new_run,
    format_tick,
    log_axis,
    log_axis_of_sizes,
    new_figure,
    styled,
)
from ladder.analysis.report.figures import padded, size_grid
from ladder.analysis.report.scores import PARAMS, ScoreFinding

Floats = NDArray[np.float64]

MAIN = PALETTE[0]
SIZE_LABEL = "N, parameters"
TWO_SIDED = 1.96
"""Standard errors in the bars of the runs: 95 % of a normal distribution."""


def draw_panel(finding: ScoreFinding) -> Figure:
    """One measurement against size."""
    fitted = finding.fitted
    x, y = fitted[PARAMS].to_numpy(), fitted["score"].to_numpy()
    error = fitted["standard_error"].fill_null(0.0).to_numpy() * TWO_SIDED
    with styled():
        figure, axes = new_figure(PANEL_HEIGHT, PANEL_WIDTH)
        others = finding.rows.join(fitted.select("run"), on="run", how="anti")
        scatter(axes, others, color=FAINT, s=14, alpha=0.6, zorder=2)
        axes.errorbar(x, y, yerr=error if error.any() else None, fmt="none", ecolor=MAIN, elinewidth=0.9, zorder=3)
        scatter(axes, fitted, color=MAIN, s=30, zorder=4)
        draw_laws(axes, finding)
        # Open marks: known points, not runs of this sweep.
        scatter(axes, finding.references, facecolor="none", edgecolor=FAINT, marker="D", s=24, linewidth=1.2, zorder=2)
        set_scales(axes, finding, np.concatenate([finding.rows["score"].to_numpy(), y - error, y + error]))
        draw_chance(axes, finding.chance)
        name_references(axes, finding.references)
    return figure


def scatter(axes: Axes, rows: pl.DataFrame, **look: object) -> None:
    """Rows as points; nothing for none."""
    if rows.height:
        look = {"linewidth": 0, "rasterized": rows.height > VERY_MANY} | look
        sns.scatterplot(x=rows[PARAMS].to_numpy(), y=rows["score"].to_numpy(), ax=axes, **look)


def draw_laws(axes: Axes, finding: ScoreFinding) -> None:
    """The measurement's law with its bands; where it bends, the line too, thin and dashed."""
    if finding.law is None:
        return
    grid = size_grid(finding.fitted)
    if finding.bent is not None and finding.fit is not None:
        axes.plot(grid, finding.fit.predict({"x": grid}), color=FAINT, linewidth=1.1, linestyle=(0, (5, 3)))
    draw_law(axes, grid, finding.law)


def draw_law(axes: Axes, grid: Floats, law: Fit) -> None:
    """A law in N with the band of the curve and that of a new run."""
    axes.plot(grid, law.predict({"x": grid}), color=MAIN, linewidth=1.3)
    draw_band(axes, grid, law.band({"x": grid}), MAIN)
    draw_new_run(axes, grid, law.band({"x": grid}, new_run=True), MAIN)


def set_scales(axes: Axes, finding: ScoreFinding, shown: Floats) -> None:
    """Limits that hold every run with its error bar and the paper's models; ln scale for perplexities."""
    values = np.concatenate([shown, finding.references["score"].to_numpy()])
    sizes = [*finding.rows[PARAMS].to_list(), *finding.references[PARAMS].to_list()]
    axes.set_ylim(*score_limits(values, log_score=finding.log_score))
    if max(sizes) / min(sizes) > 1e3:
        axes.set_xlim(min(sizes) / 1.6, max(sizes) * 1.6)
        log_axis(axes, "x", SIZE_LABEL, format_tick)
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
    else:
        log_axis_of_sizes(axes, sizes, SIZE_LABEL, PANEL_TICK_GAP)
    if finding.log_score:
        log_axis(axes, "y", score_label(finding), format_tick)
    else:
        axes.set_ylabel(score_label(finding))
        axes.yaxis.set_major_locator(MaxNLocator(5))


def score_label(finding: ScoreFinding) -> str:
    """The y axis' words: the unit where it is known, else the metric."""
    return finding.unit or finding.name.rsplit("/", 1)[-1].replace("_", " ")


def score_limits(shown: Floats, *, log_score: bool) -> tuple[float, float]:
    """Limits that hold the values; scores that are never negative leave no room below 0."""
    values = shown[np.isfinite(shown) & ((shown > 0) | (not log_score))]
    if log_score:
        low, high = float(values.min()), float(values.max())
        pad = max((high / low) ** 0.15, 1.05)
        return low / pad, high * pad
    low, high = padded(values)
    return (max(low, -0.04 * high), high) if low < 0 <= np.quantile(values, 0.25) and high > 0 else (low, high)


def draw_chance(axes: Axes, chance: float | None) -> None:
    """A labelled line at the level of guessing, where the axis shows it."""
    low, high = axes.get_ylim()
    if chance is not None and low <= chance <= high:
        axes.axhline(chance, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.text(0.99, chance, "chance", transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=8)


def name_references(axes: Axes, references: pl.DataFrame) -> None:
    """The words left of the smallest of the paper's models, where they cover none of them."""
    if references.height:
        first = references.sort(PARAMS).row(0, named=True)
        axes.annotate(
            "GPT-2 paper", (first[PARAMS], first["score"]), xytext=(-7, 0), textcoords="offset points", ha="right",
            va="center", fontsize=8,
        )  # fmt: skip
