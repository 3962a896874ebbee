"""Two sweeps in one report: planted differences are found, equal laws are not told apart, and meanings are minded."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ladder.analysis.fitting.fits import FitOptions
from ladder.analysis.fitting.intervals import Draws, fit_line
from ladder.analysis.report.comparison import Comparison, compare, independent, percentile_interval, slope_interval
from ladder.analysis.report.comparison_page import answers, render_comparison
from ladder.analysis.report.findings import find
from ladder.analysis.tables.sweeps import SweepData

QUICK = FitOptions(bootstrap=200, starts=30)
Planted = Callable[..., SweepData]


def changed(data: SweepData, name: str, factor: float) -> SweepData:
    """The sweep under another name with its losses multiplied."""
    return replace(data, name=name, table=data.table.with_columns(pl.col("heldout/loss") * factor))


def both(planted: Planted, factor: float, seed: int = 1) -> Comparison:
    """A sweep and another with losses by a factor and noise of its own."""
    first = planted(noise=0.001)
    noise = np.exp(0.001 * np.random.default_rng(seed).standard_normal(first.table.height))
    second = replace(first, name="other", table=first.table.with_columns(pl.col("heldout/loss") * factor * noise))
    return compare(find(first, QUICK), find(second, QUICK))


def lead(comparison: Comparison, label: str) -> str:
    """What one question of the first screen is answered with."""
    return next(answer.lead for answer in answers(comparison) if answer.label == label)


def test_a_lower_loss_at_equal_compute_is_found(planted: Planted) -> None:
    comparison = both(planted, 0.95)
    assert all(one.sure and one.value < 0 for one in comparison.budgets)
    assert re.fullmatch(r"other reaches the lower loss at \S+ FLOPs\.", lead(comparison, "Equal compute"))
    assert comparison.paired is not None and comparison.paired.count == 12
    assert comparison.paired.ratio == pytest.approx(0.95, abs=0.002)
    assert "other's loss is 5.0" in lead(comparison, "Pairs") or "other's loss is 4.9" in lead(comparison, "Pairs")


def test_equal_laws_are_not_told_apart(planted: Planted) -> None:
    comparison = both(planted, 1.0)
    assert not any(one.sure for one in comparison.laws[0].parameters)
    assert lead(comparison, "Exponents") == "No difference of an exponent excludes zero."
    assert lead(comparison, "Equal compute").startswith("No difference beyond its interval")


def test_draws_of_both_sweeps_are_paired_at_random(planted: Planted) -> None:
    """Both fits are redrawn with the same random numbers: paired in order, their noise would cancel."""
    values = np.random.default_rng(0).standard_normal(4000)
    assert np.std(independent(values, values)) == pytest.approx(2**0.5, rel=0.05)
    draws = Draws(values={"alpha": values}, tail=0.025, kind="points")
    interval = percentile_interval(independent(values, values), draws, draws)
    assert interval.low is not None and interval.low == pytest.approx(-1.96 * 2**0.5, rel=0.05)


def test_the_slopes_interval_is_welchs() -> None:
    x = np.log(np.array([1.0, 2.0, 4.0, 8.0, 16.0]))
    first, second = fit_line(x, 2 * x + np.array([0.1, -0.1, 0.1, -0.1, 0.0])), fit_line(x, 5 * x)
    interval = slope_interval(first, second, 0.95)
    assert interval.low is not None and interval.high is not None and interval.low < 3 < interval.high
    exact = slope_interval(second, second, 0.95)
    assert exact.low == pytest.approx(0, abs=1e-9) and exact.high == pytest.approx(0, abs=1e-9)


def test_the_page_shows_both_sweeps_side_by_side_and_loads_nothing(planted: Planted) -> None:
    html = render_comparison(both(planted, 0.97))
    assert "planted and other compared" in html
    assert not re.findall(r"(?:src|href)=\"([^\"#][^\"]*)\"", html)
    svg = html[html.index("<svg") : html.index("</svg>")]
    assert "planted" in svg and "other" in svg, "the sweeps are named beside their lines"
    assert "None" not in re.sub(r"<svg.*?</svg>|<style.*?</style>|<[^>]+>", "", html, flags=re.DOTALL)


def test_other_text_and_other_tokens_are_minded(planted: Planted) -> None:
    first = planted()
    settings = {"corpus": ("web",), "corpus_fingerprint": ("f00",)}
    second = replace(first, name="other", provenance=replace(first.provenance, settings=settings))
    comparison = compare(find(first, QUICK), find(second, QUICK))
    assert [name for name, _, _ in comparison.settings] == ["corpus", "corpus fingerprint"]
    mind = next(answer for answer in answers(comparison) if answer.label == "Caution")
    assert "differ in meaning" in " ".join(mind.sentences)


def test_sweeps_without_a_law_in_common_are_compared_run_by_run(planted: Planted) -> None:
    few = planted(rows=planted().table.head(2).to_dicts())
    comparison = compare(find(few, QUICK), find(replace(few, name="other"), QUICK))
    assert comparison.laws == [] or all(pair.first.law.name == "log-linear" for pair in comparison.laws)
    assert comparison.budgets == [] and comparison.paired is not None and comparison.paired.ratio == 1.0
    assert "Cannot be compared by the laws" in lead(comparison, "Equal compute")
    render_comparison(comparison)
