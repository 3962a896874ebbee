"""Figures of the loss against size, over training and against compute: each a function from a table to a Figure.

They read no file. seaborn takes no polars frame, so that it is handed columns.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from ladder.analysis.fitting.fits import Fit
from ladder.analysis.fitting.health import Status
from ladder.analysis.fitting.isoflop import IsoFlopFit
from ladder.analysis.fitting.parabolas import Budget, BudgetStatus
from ladder.analysis.laws.law import Floats, format_count, format_number, format_power
from ladder.analysis.laws.surfaces import Surface
from ladder.analysis.report.canvas import (
    FAINT,
    GRID,
    INK,
    MARKERS,
    colours,
    cycle_markers,
    draw_band,
    draw_chance,
    draw_lines,
    draw_new_run,
    format_tick,
    group_budgets,
    group_by_level,
    label_lines,
    log_axis,
    log_axis_of_sizes,
    mark_look,
    new_figure,
    padded,
    size_grid,
    styled,
    tell_bands,
)
from ladder.analysis.tables.sweeps import PARAMS

N_LABEL = "N, parameters with embeddings"
LOSS_LABEL = "held-out loss, nats per token"
CURVE_POINTS = 160
"""Points per drawn training curve, spaced evenly in log tokens."""
UNTRAINED_GAP = 3.0
"""How far left of the first checkpoint the untrained network stands, as a ratio of tokens."""
MOST_BANDS = 4
"""Budgets up to which each has its bands; of more the largest alone, or the bands would cover each other."""


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


def draw_layers(rows: pl.DataFrame) -> Figure | None:
    """A score after fine-tuning against what was taken over, a line for each checkpoint (Radford et al. 2018, figure 2
    left); None where nothing but all or nothing was. `rows` are of one task, metric and setting."""
    words = [name for name in ("nothing", "embeddings") if name in rows["layers"]]
    words += sorted((name for name in rows["layers"].unique() if name.isdecimal()), key=int)
    words += ["all"] if "all" in rows["layers"] else []
    if len(words) < 3:
        return None
    lines = []
    for part in rows.sort(PARAMS, "tokens").partition_by("checkpoint", maintain_order=True):
        found = {words.index(str(one["layers"][0])): one for one in part.partition_by("layers")}
        x = np.array(sorted(found))
        y = np.array([found[place]["score"].mean() for place in x])
        errors = np.array([found[place]["standard_error_seeds"][0] or 0.0 for place in x])
        lines.append((str(part["size"][0]), x, y, errors))
    with styled():
        figure, axes = new_figure()
        ends = draw_lines(axes, lines)
        axes.set_xticks(range(len(words)), words)
        axes.set_xlabel("taken over: blocks")
        axes.set_ylabel(f"{rows['metric'][0]} after fine-tuning")
        label_lines(axes, ends)
    return figure


def draw_over_training(rows: pl.DataFrame, label: str, chance: float | None) -> Figure:
    """A zero-shot score over training, a line for each `line` of rows line, tokens, score, standard_error (Radford et
    al. 2018, figure 2 right). The untrained network, which a logarithmic axis has no place for, stands leftmost."""
    left = float(rows.filter(pl.col("tokens") > 0)["tokens"].min()) / UNTRAINED_GAP  # type: ignore[arg-type]
    lines = [
        (str(part["line"][0]), np.maximum(part["tokens"].to_numpy(), left), part["score"].to_numpy(),
         part["standard_error"].fill_null(0.0).to_numpy())
        for part in rows.sort("tokens").partition_by("line", maintain_order=True)
    ]  # fmt: skip
    with styled():
        figure, axes = new_figure()
        ends = draw_lines(axes, lines)
        log_axis(axes, "x", "tokens seen", lambda value: "0" if value == left else format_count(value))
        later = [tick for tick in axes.xaxis.get_ticklocs() if tick > left * UNTRAINED_GAP**0.5]
        axes.xaxis.set_major_locator(FixedLocator([left, *later]))
        axes.axvline(left * UNTRAINED_GAP**0.5, color=FAINT, linewidth=0.8, linestyle=(0, (1, 3)))
        axes.set_ylabel(label)
        draw_chance(axes, chance)
        label_lines(axes, ends)
    return figure


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
