"""The look that all figures share: sizes, inks that follow light and dark pages, honest ticks, labels beside lines.

Figures are matplotlib `Figure` objects made without pyplot; seaborn draws into their axes. One marker colour stands for
the page's ink; `to_svg` turns it into `currentColor`, so that one drawing serves light and dark pages.
"""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from ladder.analysis.units import format_count, format_number

Floats = NDArray[np.float64]

INK = "#101112"
"""Text and axes; becomes currentColor."""
FAINT = "#8b9098"
"""Grid, chance lines and points in the background: a grey that shows on white and on black."""
WIDTH, HEIGHT = 5.2, 3.5
"""Inches: at this width the text stays readable when a phone scales the figure to its screen."""
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
"""Okabe and Ito 2008 without black and yellow: told apart by the colour-blind, visible on white and on black."""
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p")
LABEL_GAP = 12.0
"""Least distance of direct labels, points: a line of their text."""
TICK_GAP = 0.13
"""Least distance of ticks at sizes, as a share of the axis."""
STYLE: Any = {
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.titlesize": 10.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "svg.fonttype": "none",
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


def new_figure(height: float = HEIGHT) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes; to be called within `styled()`."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def colours(count: int) -> list[str]:
    """One colour per category; beyond six a part of viridis that is visible on white and on black."""
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    return [to_hex(mpl.colormaps["viridis"](share)) for share in np.linspace(0.3, 0.9, count)]


def to_svg(figure: Figure) -> str:
    """The figure as an SVG element that takes its ink from the page."""
    buffer = io.StringIO()
    with styled():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor")
    # The page's own font instead of matplotlib's: the text stays text and is not shipped as outlines.
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    head, rest = svg.split(">", 1)
    return re.sub(r'\s(width|height)="[^"]*"', "", head) + ' role="img">' + rest


def log_axis_of_sizes(axes: Axes, sizes: Sequence[float], label: str) -> None:
    """A logarithmic x axis with ticks at the sizes themselves: sizes are few, and decades often fewer."""
    axes.set_xscale("log")
    distinct = np.unique(np.asarray(sizes, dtype=np.float64))
    axes.xaxis.set_major_locator(FixedLocator([distinct[index] for index in apart(np.log(distinct), TICK_GAP)]))
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


def format_power(value: float) -> str:
    """1e15, 2e15: compute, for which no prefix is usual."""
    return f"{value:.3g}".replace("e+", "e")


def label_lines(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Direct labels right of (x, y, text, colour), moved apart where they would touch."""
    if not ends:
        return
    to_axes = axes.transAxes.inverted()
    heights = [float(to_axes.transform(axes.transData.transform((x, y)))[1]) for x, y, _, _ in ends]
    gap = LABEL_GAP * mpl.rcParams["figure.dpi"] / 72 / axes.bbox.height
    for (_, _, text, colour), height in zip(ends, spread(heights, gap), strict=True):
        axes.text(1.015, height, text, color=colour, transform=axes.transAxes, va="center", ha="left", fontsize=9)


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
    """A shaded interval, if it is known."""
    if band is not None:
        axes.fill_between(x, band[0], band[1], color=colour, alpha=0.16, linewidth=0, **extra)
