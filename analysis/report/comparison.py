"""Two sweeps against each other: their laws side by side, and what of the difference is more than noise.

The sweeps are independent, so that a difference's interval comes from independent refits of both; runs of equal size
and tokens in both are compared in pairs too, which needs no law.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from scipy import special

from ladder.analysis.fitting.fits import Fit, FitOptions
from ladder.analysis.fitting.health import Status, interval_words
from ladder.analysis.fitting.intervals import UNKNOWN, Draws, Interval, Line, interval_of, t_quantile
from ladder.analysis.laws.law import Floats, format_number
from ladder.analysis.laws.surfaces import Surface
from ladder.analysis.report.findings import Findings, find
from ladder.analysis.report.scores import ScoreFinding, holm
from ladder.analysis.tables.sweeps import PARAMS, SweepData
from ladder.models.errors import InputError

BUDGETS = 3
"""Budgets at which the least losses are compared: the ends and the middle of the compute that both sweeps have."""
COMPARED = ("corpus", "corpus_fingerprint", "tokenizer", "context", "vocabulary", "schedule", "precision")
"""Settings in which two sweeps may differ so that their losses mean different things."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One number of both sweeps; the difference is second less first."""

    name: str
    first: float
    second: float
    interval: Interval
    """Of second - first; unknown where either sweep does not know its own."""
    first_interval: Interval = UNKNOWN
    second_interval: Interval = UNKNOWN
    established: bool | None = None
    """Whether the difference stands among all that were looked at (`holm`); None where it was the only question."""

    @property
    def value(self) -> float:
        """second - first."""
        return self.second - self.first

    @property
    def sure(self) -> bool:
        """True where the interval leaves out 0, and the difference stands among all that were looked at."""
        if self.established is not None:
            return self.established
        low, high = self.interval.low, self.interval.high
        return low is not None and high is not None and (low > 0 or high < 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class LawPair:
    """A law that both sweeps have, parameter by parameter."""

    first: Fit
    second: Fit
    parameters: list[Difference]


@dataclass(frozen=True, kw_only=True)
class PairedRuns:
    """Runs of equal size, tokens and seed in both sweeps."""

    count: int
    ratio: float
    """Geometric mean of second loss / first loss."""
    interval: Interval
    """t interval of it over the pairs; unknown with one pair."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """All that the report of two sweeps states."""

    first: Findings
    second: Findings
    laws: list[LawPair]
    budgets: list[Difference]
    """Least loss by each sweep's law at common budgets, named by FLOPs; empty where a law has no frontier or the
    sweeps have no compute in common."""
    paired: PairedRuns | None
    """None where no run of one has a counterpart in the other."""
    slopes: list[Difference]
    """Slope of each common measurement in ln N."""
    settings: list[tuple[str, str, str]]
    """Name and both values of what differs of COMPARED."""


def compare(first: Findings, second: Findings) -> Comparison:
    """Everything about two sweeps together."""
    return Comparison(
        first=first,
        second=second,
        laws=pair_laws(first, second),
        budgets=compare_budgets(first, second),
        paired=pair_runs(first.loss, second.loss, first.level),
        slopes=compare_slopes(first.scores, second.scores),
        settings=differing_settings(first, second),
    )


def pair_laws(first: Findings, second: Findings) -> list[LawPair]:
    """Laws of the loss that both sweeps determine, with their differences."""
    others = {fit.law.name: fit for fit in second.fits if fit.status is not Status.NOT_IDENTIFIABLE}
    own = [fit for fit in first.fits if fit.status is not Status.NOT_IDENTIFIABLE and fit.law.name in others]
    return [pair_law(fit, others[fit.law.name]) for fit in own]


def pair_law(first: Fit, second: Fit) -> LawPair:
    """One law's parameters."""
    parameters = [
        Difference(
            name=name,
            first=value,
            second=second.law.parameters[name],
            interval=difference_interval(first, second, name),
            first_interval=first.intervals[name],
            second_interval=second.intervals[name],
        )
        for name, value in first.law.parameters.items()
    ]
    return LawPair(first=first, second=second, parameters=parameters)


def difference_interval(first: Fit, second: Fit, name: str) -> Interval:
    """The interval of a parameter's difference."""
    if first.line is not None and second.line is not None:
        return slope_interval(first.line, second.line, first.level) if name == "b" else UNKNOWN
    if first.draws is None or second.draws is None:
        return UNKNOWN
    own, other = (fit.draws.pinned.get(name, fit.draws.values[name]) for fit in (first, second) if fit.draws)
    with np.errstate(invalid="ignore"):
        values = independent(own, other)
    return percentile_interval(values, first.draws, second.draws)


def independent(first: Floats, second: Floats) -> Floats:
    """Differences of draws paired at random: both fits may have been redrawn with the same random numbers."""
    count = min(len(first), len(second))
    shuffled = np.random.default_rng(0).permutation(len(second))[:count]
    return np.asarray(second[shuffled] - first[:count])


def percentile_interval(values: Floats, first: Draws, second: Draws) -> Interval:
    """Percentiles of a difference, as far out as the more careful of the two bootstraps."""
    return interval_of(values, min(first.tail, second.tail))


def slope_interval(first: Line, second: Line, level: float) -> Interval:
    """Welch's interval of the difference of two slopes, degrees of freedom after Satterthwaite."""
    if first.covariance is None or second.covariance is None:
        return UNKNOWN
    if not first.covariance[1] + second.covariance[1] > 0:
        return Interval(low=second.b - first.b, high=second.b - first.b)
    total, freedom = welch(first, second)
    reach = t_quantile(0.5 + level / 2, freedom) * float(np.sqrt(total))
    return Interval(low=second.b - first.b - reach, high=second.b - first.b + reach)


def common_compute(first: Findings, second: Findings) -> tuple[float, float] | None:
    """The compute that both sweeps have runs around; None where their ranges do not meet."""
    columns = [findings.loss["flops_6nd"].drop_nulls() for findings in (first, second)]
    if any(column.is_empty() for column in columns):
        return None
    low = max(float(column.min()) for column in columns)  # type: ignore[arg-type]
    high = min(float(column.max()) for column in columns)  # type: ignore[arg-type]
    return (low, high) if high > low else None


def frontier_law(fit: Fit | None) -> Surface | None:
    """The law of a fit that can say what a budget buys."""
    return fit.law if fit is not None and isinstance(fit.law, Surface) and fit.status is Status.CONVERGED else None


def compare_budgets(first: Findings, second: Findings) -> list[Difference]:
    """The least loss at common budgets by both laws."""
    compute = common_compute(first, second)
    laws = frontier_law(first.surface), frontier_law(second.surface)
    if compute is None or laws[0] is None or laws[1] is None or first.surface is None or second.surface is None:
        return []
    fits = (first.surface, second.surface)
    return [compare_at(fits, float(flops)) for flops in np.geomspace(*compute, BUDGETS)]


def compare_at(fits: tuple[Fit, Fit], flops: float) -> Difference:
    """The least loss at one budget by both laws, with the intervals that either fit gives by itself."""
    runs, drawn = [fit.optimum(flops) for fit in fits], [fit.optima(flops) for fit in fits]
    interval = UNKNOWN
    if drawn[0] is not None and drawn[1] is not None and fits[0].draws and fits[1].draws:
        interval = percentile_interval(independent(drawn[0]["loss"], drawn[1]["loss"]), fits[0].draws, fits[1].draws)
    return Difference(
        name=format_number(flops, 3),
        first=runs[0].best.loss,
        second=runs[1].best.loss,
        interval=interval,
        first_interval=runs[0].least_loss,
        second_interval=runs[1].least_loss,
    )


def pair_runs(first: pl.DataFrame, second: pl.DataFrame, level: float) -> PairedRuns | None:
    """The ratio of losses over runs of equal size, tokens and seed."""
    keys = [PARAMS, "tokens", "seed"]
    pairs = first.select(*keys, "score").join(second.select(*keys, "score"), on=keys, nulls_equal=True)
    if pairs.height == 0:
        return None
    logs = np.log(pairs["score_right"].to_numpy() / pairs["score"].to_numpy())
    interval = UNKNOWN
    if len(logs) > 1:
        reach = t_quantile(0.5 + level / 2, len(logs) - 1) * float(logs.std(ddof=1)) / np.sqrt(len(logs))
        interval = Interval(low=float(np.exp(logs.mean() - reach)), high=float(np.exp(logs.mean() + reach)))
    return PairedRuns(count=len(logs), ratio=float(np.exp(logs.mean())), interval=interval)


def compare_slopes(first: list[ScoreFinding], second: list[ScoreFinding]) -> list[Difference]:
    """The slopes of measurements that both sweeps have; which differ is judged over all of them together."""
    others = {score.name: score for score in second}
    found, doubts = [], []
    for score in first:
        other = others.get(score.name)
        if other is None or score.fit is None or other.fit is None or not score.fit.line or not other.fit.line:
            continue
        lines = score.fit.line, other.fit.line
        found.append(
            Difference(
                name=score.name,
                first=lines[0].b,
                second=lines[1].b,
                interval=slope_interval(*lines, score.fit.level),
                first_interval=score.fit.intervals["b"],
                second_interval=other.fit.intervals["b"],
            )
        )
        doubts.append(slope_doubt(*lines))
    allowed = 1 - (first[0].fit.level if first and first[0].fit else 0.95)
    return [replace(one, established=sure) for one, sure in zip(found, holm(doubts, allowed), strict=True)]


def slope_doubt(first: Line, second: Line) -> float:
    """Two-sided p value of the difference of two slopes; 1 where either is unknown."""
    if not first.slope_error or not second.slope_error:
        return 1.0
    total, freedom = welch(first, second)
    return float(2 * special.stdtr(freedom, -abs(second.b - first.b) / np.sqrt(total)))


def welch(first: Line, second: Line) -> tuple[float, float]:
    """Variance of the difference of two slopes, and its degrees of freedom after Satterthwaite."""
    variances = [float(line.slope_error or 0.0) ** 2 for line in (first, second)]
    freedoms = (first.degrees_of_freedom, second.degrees_of_freedom)
    total = sum(variances)
    return total, total**2 / sum(v**2 / f for v, f in zip(variances, freedoms, strict=True))


def differing_settings(first: Findings, second: Findings) -> list[tuple[str, str, str]]:
    """What of COMPARED differs."""
    own, other = first.data.provenance.settings, second.data.provenance.settings
    return [
        (name.replace("_", " "), ", ".join(own.get(name, ("-",))), ", ".join(other.get(name, ("-",))))
        for name in COMPARED
        if own.get(name) != other.get(name)
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """One of several families of models in a table, fitted by itself."""

    name: str
    findings: Findings | None
    """None where nothing can be said of it."""
    refusal: str
    """Why; empty where something can."""


def find_family(name: str, data: SweepData, options: FitOptions | None) -> Family:
    """What a family's rows amount to, or why nothing."""
    try:
        return Family(name=name, findings=find(data, options), refusal="")
    except InputError as error:
        return Family(name=name, findings=None, refusal=str(error))


EXPONENTS_OF = {"N": ("alpha", "alpha_N", "b"), "D": ("beta", "alpha_D")}
"""Parameters that are the exponent (or slope) of size and of data, by law."""


def find_families(column: str, tables: Mapping[str, SweepData], options: FitOptions | None) -> list[Family]:
    """The families of a table by a column's values; InputError where nothing can be said of any."""
    families = [find_family(family, data, options) for family, data in tables.items()]
    if all(family.findings is None for family in families):
        raise InputError(f"no value of {column} can be reported: {families[0].refusal}")
    return families


def family_row(family: Family) -> list[str]:
    """A family's law of the loss: runs, status, exponents with intervals, error on its largest size."""
    fit = None if family.findings is None else family.findings.drawn
    if family.findings is None or fit is None:
        return [family.name, "-", family.refusal or "no law of the loss is determined", "-", "-", "-", "-"]
    cells = []
    for names in EXPONENTS_OF.values():
        name = next((name for name in names if name in fit.law.parameters), None)
        told = (
            "-" if name is None else f"{format_number(fit.law.parameters[name])}\n{interval_words(fit.intervals[name])}"
        )
        cells.append(told)
    optimum = "-"
    if isinstance(fit.law, Surface):
        optimum = f"C^{format_number(fit.law.a, 3)}\n{interval_words(fit.interval('a'))}"
    windows = family.findings.windows
    error = f"{windows[-1].relative_error:.2%}" if windows else "-"
    return [family.name, str(len(fit.points)), f"{fit.law.name}\n{fit.status}", *cells, optimum, error]


def family_slopes(families: Sequence[Family]) -> list[list[str]]:
    """Each measurement's change per doubling of N in each family, with its interval; a dash where it is not fitted."""
    scores = {(family.name, one.name): one for family in families if family.findings for one in family.findings.scores}
    rows = []
    for name in dict.fromkeys(score for _, score in scores):
        row = [name]
        for family in families:
            score = scores.get((family.name, name))
            fit = None if score is None else score.fit
            doubling = np.log(2)
            cell = "-"
            if fit is not None:
                ends = fit.intervals["b"]
                low, high = (None if end is None else end * doubling for end in (ends.low, ends.high))
                told = f"{fit.law.parameters['b'] * doubling:+.3g}"
                cell = f"{told}\n{interval_words(Interval(low=low, high=high))}"
            row.append(cell)
        rows.append(row)
    return rows


def law_table(pair: LawPair) -> dict[str, Any]:
    """A law's parameters of both sweeps."""
    return {
        "name": pair.first.law.name,
        "equation": pair.first.law.equation,
        "status": f"{pair.first.status} and {pair.second.status}",
        "rows": [
            [
                one.name,
                f"{format_number(one.first)} ({interval_words(one.first_interval)})",
                f"{format_number(one.second)} ({interval_words(one.second_interval)})",
                format_number(one.value),
                interval_words(one.interval),
            ]
            for one in pair.parameters
        ],
    }


def difference_row(one: Difference) -> list[str]:
    """A difference as text."""
    return [
        one.name,
        f"{format_number(one.first)}\n{interval_words(one.first_interval)}",
        f"{format_number(one.second)}\n{interval_words(one.second_interval)}",
        f"{one.value:+.3g}",
        interval_words(one.interval),
    ]


def slope_row(one: Difference) -> list[str]:
    """A measurement's slopes."""
    return [
        one.name,
        f"{format_number(one.first, 3)} ({interval_words(one.first_interval)})",
        f"{format_number(one.second, 3)} ({interval_words(one.second_interval)})",
        format_number(one.value, 3),
        interval_words(one.interval),
        "differ" if one.sure else "",
    ]
