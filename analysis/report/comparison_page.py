"""The report of two sweeps in one page: laws side by side, differences with intervals, figures over each other."""

from pathlib import Path
from typing import Any

from ladder.analysis.fitting.fits import FitOptions
from ladder.analysis.fitting.health import Status
from ladder.analysis.laws.units import format_number
from ladder.analysis.report.answers import Answer
from ladder.analysis.report.comparison import Comparison, Difference, LawPair, compare
from ladder.analysis.report.comparison_figures import COLOURS, draw_computes, draw_pair, draw_sizes
from ladder.analysis.report.findings import find
from ladder.analysis.report.page import Drawing, count_words, drawing, law_rows, render, runs_table, write_page
from ladder.analysis.report.phrases import counted, equation, interval, listed
from ladder.analysis.report.words import conventions, provenance
from ladder.analysis.tables.sweeps import SweepData

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
        return [Answer(label="Exponents", lead="Not to be compared: the sweeps have no determined law in common.")]
    pair = comparison.laws[0]
    shown = [one for one in pair.parameters if one.name in EXPONENTS]
    if not shown:
        return []
    sure = [one.name for one in shown if one.sure]
    lead = (
        f"{listed(sure)} of {pair.first.law.name} differ." if sure else "No exponent differs by more than its interval."
    )
    if any(fit.status is not Status.CONVERGED for fit in (pair.first, pair.second)):
        lead = f"Not to be trusted: {pair.first.law.name} is {pair.first.status} and {pair.second.status}."
    told = "; ".join(f"{one.name} {format_number(one.value, 3)} ({interval(one.interval)})" for one in shown)
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
        return Answer(label=label, lead=f"Not to be compared by the laws: {why}.")
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


def difference_row(one: Difference) -> list[str]:
    """A difference as text."""
    return [
        one.name,
        format_number(one.first),
        format_number(one.second),
        f"{one.value:+.3g}",
        interval(one.interval),
    ]


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
                f"{interval(paired.interval)}."
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
    return [Answer(label="Mind", lead=f"The sweeps differ in {listed(names)}.", sentences=[*caution, *told])]


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


def law_table(pair: LawPair) -> dict[str, Any]:
    """A law's parameters of both sweeps."""
    return {
        "name": pair.first.law.name,
        "equation": pair.first.law.equation,
        "status": f"{pair.first.status} and {pair.second.status}",
        "rows": [
            [
                one.name,
                f"{format_number(one.first)} ({interval(one.first_interval)})",
                f"{format_number(one.second)} ({interval(one.second_interval)})",
                format_number(one.value),
                interval(one.interval),
            ]
            for one in pair.parameters
        ],
    }


def slope_row(one: Difference) -> list[str]:
    """A measurement's slopes."""
    return [
        one.name,
        f"{format_number(one.first, 3)} ({interval(one.first_interval)})",
        f"{format_number(one.second, 3)} ({interval(one.second_interval)})",
        format_number(one.value, 3),
        interval(one.interval),
        "differ" if one.sure else "",
    ]
