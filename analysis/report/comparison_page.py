"""What is set side by side: two sweeps in one page, with laws, differences and figures over each other; the families of
a table; the learning rates of a search."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ladder.analysis.fitting.fits import Fit, FitOptions
from ladder.analysis.fitting.health import Status, interval_words
from ladder.analysis.laws.law import format_count, format_number, format_power
from ladder.analysis.report.answers import Answer, counted, equation, listed
from ladder.analysis.report.canvas import (
    GRID,
    MARKERS,
    PALETTE,
    PANEL_HEIGHT,
    PANEL_TICK_GAP,
    PANEL_WIDTH,
    SIZE_LABEL,
    colours,
    draw_band,
    draw_new_run,
    format_tick,
    label_lines,
    log_axis,
    log_axis_of_sizes,
    mark_look,
    new_figure,
    padded,
    score_label,
    score_limits,
    size_grid,
    styled,
    tell_bands,
)
from ladder.analysis.report.captions import conventions, provenance
from ladder.analysis.report.comparison import (
    Comparison,
    compare,
    difference_row,
    family_row,
    family_slopes,
    find_families,
    frontier_law,
    law_table,
    slope_row,
)
from ladder.analysis.report.figures import COMPUTE_LABEL, LOSS_LABEL, N_LABEL
from ladder.analysis.report.findings import Findings, find
from ladder.analysis.report.page import (
    Drawing,
    count_words,
    drawing,
    law_rows,
    render,
    render_report,
    runs_table,
    write_page,
)
from ladder.analysis.report.scores import ScoreFinding, largest_budget
from ladder.analysis.tables.sweeps import PARAMS, SweepData

EXPONENTS = ("alpha", "beta", "alpha_N", "alpha_D")
"""Parameters whose difference is told first."""


def write_comparison(first: SweepData, second: SweepData, path: Path, options: FitOptions | None = None) -> Path:
    """Writes the report of two sweeps; InputError where one of them has nothing to compare."""
    return write_page(path, render_comparison(compare(find(first, options), find(second, options))))


def render_comparison(comparison: Comparison) -> str:
    """The report of two sweeps as HTML."""
    return render("comparison.html", page(comparison))


def page(comparison: Comparison) -> dict[str, Any]:
    """Everything that the template shows."""
    both = (comparison.first, comparison.second)
    return {
        "name": " and ".join(one.data.name for one in both),
        "names": [one.data.name for one in both],
        "colours": COLOURS,
        "counts": [count_words(one.data) for one in both],
        "answers": answers(comparison),
        "main_figures": main_figures(comparison),
        "panels": draw_panels(comparison),
        "laws": [law_table(pair) for pair in comparison.laws],
        "level": f"{comparison.first.level:.0%}",
        "budgets": [difference_row(one) for one in comparison.budgets],
        "slopes": [slope_row(one) for one in comparison.slopes],
        "settings": comparison.settings,
        "cards": [[law_rows(fit) for fit in one.fits] for one in both],
        "runs": [runs_table(one.data) for one in both],
        "conventions": conventions(comparison.first),
        "provenance": [provenance(one.data) for one in both],
    }


def answers(comparison: Comparison) -> list[Answer]:
    """The first screen: whether the sweeps differ, and where."""
    return [
        law_answer(comparison),
        *exponent_answer(comparison),
        compute_answer(comparison),
        *pair_answer(comparison),
        *slope_answer(comparison),
        *setting_answer(comparison),
    ]


def law_answer(comparison: Comparison) -> Answer:
    """Both laws."""
    told = []
    for one in (comparison.first, comparison.second):
        fit = one.drawn
        law = "no law is determined" if fit is None else f"{equation(fit)} ({fit.status})"
        told.append(f"{one.data.name}: {law}")
    return Answer(label="Laws", lead="; ".join(told) + ".")


def exponent_answer(comparison: Comparison) -> list[Answer]:
    """The difference of the exponents of the first law that both have."""
    if not comparison.laws:
        return [Answer(label="Exponents", lead="Cannot be compared: no law is determined by both sweeps.")]
    pair = comparison.laws[0]
    shown = [one for one in pair.parameters if one.name in EXPONENTS]
    if not shown:
        return []
    sure = [one.name for one in shown if one.sure]
    lead = f"{listed(sure)} of {pair.first.law.name} differ." if sure else "No difference of an exponent excludes zero."
    if any(fit.status is not Status.CONVERGED for fit in (pair.first, pair.second)):
        lead = f"Not identified: {pair.first.law.name} is {pair.first.status} and {pair.second.status}."
    told = "; ".join(f"{one.name} {format_number(one.value, 3)} ({interval_words(one.interval)})" for one in shown)
    name = comparison.second.data.name
    return [
        Answer(
            label="Exponents",
            lead=lead,
            sentences=[
                f"{name} less {comparison.first.data.name}: {told}, {pair.first.level:.0%} by independent refits."
            ],
        )
    ]


def compute_answer(comparison: Comparison) -> Answer:
    """Which sweep has the lower loss at equal compute."""
    label = "Equal compute"
    first, second = comparison.first.data.name, comparison.second.data.name
    if not comparison.budgets:
        why = "one of the laws has no frontier, or the sweeps have no compute in common"
        return Answer(label=label, lead=f"Cannot be compared by the laws: {why}.")
    last = comparison.budgets[-1]
    better = second if last.value < 0 else first
    lead = (
        f"{better} reaches the lower loss at {last.name} FLOPs."
        if last.sure
        else f"No difference beyond its interval at {last.name} FLOPs."
    )
    return Answer(
        label=label,
        lead=lead,
        head=["FLOPs", first, second, "difference", "interval"],
        rows=[difference_row(one) for one in comparison.budgets],
        sentences=["Least loss that a budget buys by each law, nats per token, within the compute that both have."],
    )


def pair_answer(comparison: Comparison) -> list[Answer]:
    """Runs of equal size, tokens and seed."""
    paired = comparison.paired
    if paired is None:
        return []
    name, other = comparison.second.data.name, comparison.first.data.name
    side = "lower" if paired.ratio < 1 else "higher"
    return [
        Answer(
            label="Pairs",
            lead=f"{name}'s loss is {abs(paired.ratio - 1):.2%} {side} than {other}'s in runs alike.",
            sentences=[
                f"{counted(paired.count, 'pair')} of equal size, tokens and seed; ratio {paired.ratio:.4f}, t interval "
                f"{interval_words(paired.interval)}."
            ],
        )
    ]


def slope_answer(comparison: Comparison) -> list[Answer]:
    """Measurements that grow differently with size."""
    if not comparison.slopes:
        return []
    sure = [one.name for one in comparison.slopes if one.sure]
    lead = f"{len(sure)} of {counted(len(comparison.slopes), 'common measurement')} grow differently with size."
    return [Answer(label="Scores", lead=lead, sentences=[f"These do: {listed(sure)}."] if sure else [])]


def setting_answer(comparison: Comparison) -> list[Answer]:
    """What else differs, which the differences may come from."""
    if not comparison.settings:
        return []
    names = [name for name, _, _ in comparison.settings]
    caution = []
    if {"corpus", "corpus fingerprint", "tokenizer", "vocabulary"} & set(names):
        caution = ["Losses are per token of each sweep's own held-out text and tokenizer: they differ in meaning too."]
    shown = [f"{name}: {first} and {second}" for name, first, second in comparison.settings if "print" not in name]
    told = [f"{'; '.join(shown)}."] if shown else []
    return [Answer(label="Caution", lead=f"The sweeps differ in {listed(names)}.", sentences=[*caution, *told])]


def main_figures(comparison: Comparison) -> list[Drawing]:
    """Loss against size and compute of both."""
    both = (comparison.first, comparison.second)
    size = drawing(
        "Held-out loss against size",
        draw_sizes(both),
        "Each size at its largest token count, with each sweep's law; shaded the band of the curve, dotted that of a "
        "new run.",
    )
    compute = drawing(
        "Held-out loss against compute",
        draw_computes(both),
        "All runs; dashed the least loss that a budget buys, where a law converged, with its band.",
    )
    return [made for made in (size, compute) if made is not None]


def draw_panels(comparison: Comparison) -> list[Drawing]:
    """A panel per measurement that both have."""
    others = {score.name: score for score in comparison.second.scores if score.rows.height}
    pairs = [
        (score, others[score.name]) for score in comparison.first.scores if score.rows.height and score.name in others
    ]
    made = [drawing(pair[0].name, draw_pair(pair), "") for pair in pairs]
    return [one for one in made if one is not None]


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


def write_families(
    name: str, column: str, tables: Mapping[str, SweepData], folder: Path, options: FitOptions | None = None
) -> Path:
    """Writes a page that sets the families of a table side by side, and the report of each in a folder of its own.

    Raises InputError where nothing can be said of any.
    """
    families = find_families(column, tables, options)
    told = [family for family in families if family.findings is not None]
    links = []
    for place, family in enumerate(told):
        path = f"{place + 1}-{re.sub(r'[^A-Za-z0-9.-]+', '-', family.name)}/index.html"
        assert family.findings is not None, "the others were left out"
        write_page(folder / path, render_report(family.findings))
        links.append((family.name, path))
    values = {"name": name, "column": column, "links": links, "level": f"{told[0].findings.level:.0%}"}  # type: ignore[union-attr]
    values |= {"laws": [family_row(family) for family in families], "names": [family.name for family in told]}
    return write_page(folder / "index.html", render("families.html", values | {"slopes": family_slopes(told)}))


def draw_search(table: pl.DataFrame, winners: Mapping[str, float]) -> Figure:
    """Loss over learning rate, a line for each budget and batch, the winner's learning rate marked.

    `table` has the columns size, tokens, rung, lr, batch_tokens and loss (None where a run failed), a row a run;
    `winners` the learning rate by size.
    """
    sizes = table["size"].unique(maintain_order=True).to_list()
    with styled():
        figure = Figure(figsize=(PANEL_WIDTH * len(sizes) + 1, PANEL_HEIGHT + 0.9), layout="constrained")
        for axes, size in zip(figure.subplots(1, len(sizes), squeeze=False)[0], sizes, strict=True):
            rows = table.filter((pl.col("size") == size) & pl.col("loss").is_not_null())
            lines = rows.partition_by(["rung", "batch_tokens"], maintain_order=True, as_dict=False)
            lines.sort(key=lambda line: (line["rung"][0], line["batch_tokens"][0]))
            rungs = sorted(rows["rung"].unique())
            batches = sorted(rows["batch_tokens"].unique())
            for line in lines:
                line = line.sort("lr")
                batch = f", batch {format_count(line['batch_tokens'][0])}" if len(batches) > 1 else ""
                marker = MARKERS[batches.index(line["batch_tokens"][0])]
                colour = colours(len(rungs))[rungs.index(line["rung"][0])]
                words = f"{format_count(line['tokens'][0])} tokens{batch}"
                axes.plot(line["lr"], line["loss"], marker=marker, color=colour, label=words)
            axes.axvline(winners[size], color=PALETTE[3], linewidth=1, linestyle="--", zorder=0)
            log_axis(axes, "x", "peak learning rate", format_number)
            axes.set_title(f"{size}, best {format_number(winners[size])}")
            axes.legend(fontsize=8)
        figure.axes[0].set_ylabel("held-out loss, nats per token")
    return figure
