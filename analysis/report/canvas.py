"""The look that all figures share, and the small multiples that are drawn with it: one panel per measurement.

Figures are matplotlib `Figure` objects made without pyplot; seaborn draws into their axes. One marker colour stands for
the page's ink; `to_svg` turns it into `currentColor`, so that one drawing serves light and dark pages. A panel, as in
figure 1 of the GPT-2 paper, has the runs with error bars, the law with its bands, the level of guessing, and the
paper's own models in grey where they were scored on the same measurement.
"""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from ladder.analysis.fitting.fits import Fit
from ladder.analysis.fitting.points import DISTINCT
from ladder.analysis.laws.law import Floats, format_count, format_number, format_power
from ladder.analysis.report.scores import ScoreFinding
from ladder.analysis.tables.sweeps import PARAMS

INK = "#101112"
"""Text and axes; becomes currentColor."""
FAINT = "#8b9098"
"""Grid, chance lines and points in the background: a grey that shows on white and on black."""
WIDTH, HEIGHT = 4.8, 3.3
"""Inches: at this width the text stays readable when a phone scales the figure to its screen."""
PANEL_WIDTH, PANEL_HEIGHT = 3.1, 2.35
"""Inches of a panel among small multiples: three or four stand side by side on a desktop, one on a phone."""
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
"""Okabe and Ito 2008 without black and yellow: told apart by the colour-blind, visible on white and on black; the page
may put a lighter blue, --blue, in place of the first."""
MOST_GROUPS = 7
"""Most token budgets, sizes or ratios that get a colour each; more are put together into stretches."""
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p")
MANY, VERY_MANY = 60, 1500
"""Runs from which on their marks are small, and drawn as pixels."""
LABEL_GAP = 12.0
"""Least distance of direct labels, points: a line of their text."""
TICK_GAP = 0.17
"""Least distance of ticks at sizes, as a share of the axis."""
PANEL_TICK_GAP = 0.22
"""The same in a panel."""
TWO_SIDED = 1.96
"""Standard errors in the bars of the runs: 95 % of a normal distribution."""
GRID = 80
"""Points per drawn law."""
STYLE: Any = {
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.titlesize": 10.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of a user's sizes may hold dollar signs
    "savefig.dpi": 200,  # of what is drawn as pixels, see `mark_look`
    "svg.hashsalt": "ladder",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
}


@contextmanager
def styled() -> Iterator[None]:
    """The look for as long as a figure is drawn or saved; matplotlib's settings are as before afterwards."""
    with mpl.rc_context(STYLE):
        yield


def new_figure(height: float = HEIGHT, width: float = WIDTH) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes; to be called within `styled()`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def colours(count: int) -> list[str]:
    """One colour per category; beyond six a part of viridis that is visible on white and on black."""
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    return [to_hex(mpl.colormaps["viridis"](share)) for share in np.linspace(0.3, 0.9, count)]


def mark_look(count: int) -> dict[str, Any]:
    """How `count` runs are marked: small where there are many, as pixels where each would weigh on the page."""
    return {"s": 42.0 if count <= MANY else 16.0, "linewidth": 0, "rasterized": count > VERY_MANY}


def to_svg(figure: Figure) -> str:
    """The figure as an SVG element that takes its ink from the page."""
    buffer = io.StringIO()
    with styled():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor").replace(PALETTE[0].lower(), f"var(--blue, {PALETTE[0].lower()})")
    # The page's own font instead of matplotlib's: the text stays text and is not shipped as outlines.
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    # Names of groups that nothing refers to: they would stand on the page once per figure, where a name is unique.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    head, rest = svg.split(">", 1)
    return re.sub(r'\s(width|height)="[^"]*"', "", head) + ' role="img">' + rest


def log_axis_of_sizes(axes: Axes, sizes: Sequence[float], label: str, gap: float = TICK_GAP) -> None:
    """A logarithmic x axis with ticks at the sizes themselves: sizes are few, and decades often fewer."""
    axes.set_xscale("log")
    distinct = np.unique(np.asarray(sizes, dtype=np.float64))
    axes.xaxis.set_major_locator(FixedLocator([distinct[index] for index in apart(np.log(distinct), gap)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
    low, high = float(distinct[0]), float(distinct[-1])
    pad = max((high / low) ** 0.06, 1.15)
    axes.set_xlim(low / pad, high * pad)
    axes.set_xlabel(label)


def apart(places: Floats, gap: float) -> list[int]:
    """Indices of ascending places that are at least `gap` of the whole range apart, first and last among them."""
    least = gap * float(places[-1] - places[0])
    kept = [0]
    for index in range(1, len(places)):
        if places[index] - places[kept[-1]] >= least:
            kept.append(index)
    if kept[-1] != len(places) - 1:
        kept = [*(index for index in kept[1:] if places[-1] - places[index] >= least), len(places) - 1]
        kept = [0, *kept]
    return kept


def log_axis(axes: Axes, which: str, label: str, words: Callable[[float], str]) -> None:
    """A logarithmic axis with ticks at 1, 2, 5 where the range is short; `words` writes a tick's value."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    decades = np.log10(high / low) if low > 0 else 3.0
    if decades < 0.7:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    else:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.2 else (1.0,), numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))
    axis.set_label_text(label)


def format_tick(value: float) -> str:
    """1k and 10M where a prefix serves, three digits below a thousand, 1e15 far beyond."""
    if value >= 1e13:
        return format_power(value)
    return format_count(value) if value >= 1e3 else format_number(value, 3)


def label_lines(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Direct labels right of (x, y, text, colour), moved apart where they would touch, in the order they are given in.

    The caller lists them by value, and lines that meet at their ends would shuffle them; whether the first stands
    above or below is as the lines do. The words are in the page's ink after a stroke in the colour: coloured words
    would be too pale to read.
    """
    if not ends:
        return
    to_axes = axes.transAxes.inverted()
    heights = [float(to_axes.transform(axes.transData.transform((x, y)))[1]) for x, y, _, _ in ends]
    gap = LABEL_GAP * mpl.rcParams["figure.dpi"] / 72 / axes.bbox.height
    falling = float(np.dot(np.arange(len(heights)) - (len(heights) - 1) / 2, heights)) < 0
    heights = sorted(heights, reverse=falling)
    for (_, _, text, colour), height in zip(ends, spread(heights, gap), strict=True):
        axes.plot([1.012, 1.04], [height, height], color=colour, linewidth=2.5, transform=axes.transAxes, clip_on=False)
        axes.text(1.052, height, text, transform=axes.transAxes, va="center", ha="left", fontsize=9)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights moved as little as needed to be at least `gap` apart and inside 0 to 1, order kept."""
    order = np.argsort(heights, kind="stable")
    placed = np.asarray(heights, dtype=np.float64)[order]
    step = min(gap, 1.0 / max(len(placed) - 1, 1))
    for _ in range(200):
        close = np.diff(placed) < step - 1e-9
        if not close.any():
            break
        for index in np.flatnonzero(close):
            middle = (placed[index] + placed[index + 1]) / 2
            placed[index], placed[index + 1] = middle - step / 2, middle + step / 2
    placed += max(0.0, -placed[0])
    placed -= max(0.0, placed[-1] - 1.0)
    result = np.empty(len(placed))
    result[order] = placed
    return [float(value) for value in result]


def draw_band(axes: Axes, x: Floats, band: tuple[Floats, Floats] | None, colour: str, **extra: Any) -> None:
    """The interval of a curve as a shaded band, if it is known."""
    if band is not None:
        axes.fill_between(x, band[0], band[1], color=colour, alpha=0.2, linewidth=0, **extra)


def draw_new_run(axes: Axes, x: Floats, band: tuple[Floats, Floats] | None, colour: str) -> None:
    """The interval of a new run's score as dotted lines, if it is known: told from the curve's band by its look."""
    for edge in band or ():
        axes.plot(x, edge, color=colour, linewidth=1.0, linestyle=(0, (1, 2)), zorder=1.5)


def tell_bands(axes: Axes, level: float) -> None:
    """What shading and dots are, over the axes."""
    shade = Patch(facecolor=FAINT, alpha=0.35, label=f"{level:.0%} of the curve")
    dots = Line2D([], [], color=FAINT, linewidth=1.2, linestyle=(0, (1, 2)), label=f"{level:.0%} of a new run")
    # Over the axes: inside them a legend would hide runs, and beside them stand the labels.
    axes.legend(
        handles=[shade, dots], loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=9, borderaxespad=0.2,
        handlelength=1.6, columnspacing=1.2,
    )  # fmt: skip


def bins(values: Floats, most: int) -> list[NDArray[np.intp]]:
    """Places of the values by level, least first: levels within 1 % of each other are one, and more than `most` levels
    are put together into that many stretches of equal ratio."""
    logs = np.log(values)
    order = np.argsort(logs, kind="stable")
    level = np.concatenate([[0], np.cumsum(np.diff(logs[order]) > DISTINCT)])
    if level[-1] >= most:
        low, high = float(logs.min()), float(logs.max())
        level = np.minimum(((logs[order] - low) / (high - low) * most).astype(np.int64), most - 1)
    return [order[level == one] for one in np.unique(level)]


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


def cycle_markers(count: int) -> list[str]:
    """One marker per category, repeating beyond ten."""
    return [MARKERS[index % len(MARKERS)] for index in range(count)]


def draw_lines(axes: Axes, lines: Sequence[tuple[str, Floats, Floats, Floats]]) -> list[tuple[float, float, str, str]]:
    """Lines of (words, x, y, standard errors of y) with their bars; returns the ends, to be labelled."""
    ends = []
    looks = zip(lines, colours(len(lines)), cycle_markers(len(lines)), strict=True)
    for (words, x, y, errors), colour, marker in looks:
        axes.errorbar(x, y, yerr=TWO_SIDED * errors, color=colour, marker=marker, ms=5, linewidth=1.2, capsize=2)
        ends.append((float(x[-1]), float(y[-1]), words, colour))
    return ends


MAIN = PALETTE[0]
SIZE_LABEL = "N, parameters"


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


def size_grid(table: pl.DataFrame) -> Floats:
    """N from the smallest to the largest size, evenly in its logarithm."""
    sizes = table[PARAMS].to_numpy()
    return np.geomspace(sizes.min(), sizes.max(), GRID)


def padded(values: Floats) -> tuple[float, float]:
    """Limits a quarter beyond the values: a wide band is cut off, or it would press the runs into a line."""
    low, high = float(values.min()), float(values.max())
    pad = 0.25 * (high - low) or 0.05 * abs(high) or 1.0
    return low - pad, high + pad
