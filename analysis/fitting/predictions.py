"""What fits say of runs that they were not fitted to: sizes held out of them, and any place that is asked for.

Expanding window: every form is fitted to the k smallest sizes and predicts the next one, for every k that determines
it. The last window, which predicts the largest size, is the one that an extrapolation resembles most. Where points
have no sizes, whatever the law reads takes their place: tokens, compute, or (from the largest down) a loss. The same
windows stand beside Akaike's criterion where laws are compared on the same points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from ladder.analysis.fitting.fits import Fit, FitOptions, at_one_place, fit_law
from ladder.analysis.fitting.frontiers import EnvelopeFit
from ladder.analysis.fitting.health import Status, finite, interval_words
from ladder.analysis.fitting.intervals import Interval
from ladder.analysis.fitting.isoflop import IsoFlopFit
from ladder.analysis.fitting.points import DISTINCT, Points, as_numbers, find_groups
from ladder.analysis.fitting.solver import Objective
from ladder.analysis.fitting.two_step import TwoStepFit
from ladder.analysis.laws.law import FLOPS_PER_PARAMETER_TOKEN, Floats, Variable, format_count, format_number
from ladder.analysis.laws.surfaces import Surface, find_law
from ladder.models.errors import InputError

AnyFit = Fit | TwoStepFit | IsoFlopFit | EnvelopeFit
"""Whatever `ladder fit` gives."""


@dataclass(frozen=True, kw_only=True)
class HoldOut:
    """One form's prediction of one size from the smaller ones."""

    law: str
    variable: Variable
    """What was held out: params, or what the law reads where points have no sizes."""
    size: float
    """N of the size that was held out, parameters (or the variable's value)."""
    n_fitted: int
    """Points that the form was fitted to."""
    observed: float
    """Mean score of the size's runs."""
    predicted: float
    """Mean prediction for them."""
    relative_error: float
    """Mean over the size's runs of |predicted - observed| / |observed|."""
    low: float | None = None
    """Lower end of the interval of one new run at the size's run of most compute; None where it is unknown."""
    high: float | None = None
    """Upper end."""
    inside: bool | None = None
    """Whether that run's score lies within it; None where the interval is unknown."""


def held_variable(laws: Sequence[str], points: Points) -> Variable:
    """Along what the points are held out: sizes where they have any, or else what the first law reads."""
    reads = points.variable_of(find_law(laws[0]))
    if reads == "loss":
        return reads
    given = sum(points.quantities[name] is not None for name in ("params", "tokens", "flops"))
    return "params" if points.params is not None or given > 1 else reads


def split_sizes(points: Points, variable: Variable = "params") -> list[float]:
    """Distinct sizes in ascending order; within 1 % they are one. Losses come in descending order, each its own."""
    values = points.quantity(variable)
    if variable == "loss":
        return [float(loss) for loss in np.unique(values)[::-1]]
    sizes: list[float] = []
    for size in np.sort(values):
        if not sizes or np.log(size / sizes[-1]) > DISTINCT:
            sizes.append(float(size))
    return sizes


def split_at(values: Floats, size: float, variable: Variable) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which points come before a size and which are of it; `size` is the least of its own, so that none is both."""
    if variable == "loss":
        return values > size, values == size
    return values < size, (values >= size) & (np.log(values / size) <= DISTINCT)


def predict_next(
    law: str, points: Points, size: float, options: FitOptions, variable: Variable = "params"
) -> HoldOut | None:
    """Fits to all sizes below one and predicts it; None where the smaller sizes do not determine the form."""
    below, held = split_at(points.quantity(variable), size, variable)
    fitted, wanted = points.subset(below), points.subset(held)
    if below.sum() < len(find_law(law).fitted):
        return None
    try:
        fit = fit_law(law, fitted, options)
    except InputError:
        return None
    if fit.status is Status.NOT_IDENTIFIABLE:
        return None
    if not np.all(wanted.score):
        return None  # an accuracy of 0 has no relative error
    predicted = fit.predict(wanted.inputs(type(fit.law)))
    largest = int(np.argmax(wanted.score)) if variable == "loss" else most_compute(wanted)
    ends = new_run_at(fit, wanted, largest)
    known = ends.low is not None and ends.high is not None
    return HoldOut(
        law=law,
        variable=variable,
        size=size,
        n_fitted=int(below.sum()),
        observed=float(wanted.score.mean()),
        predicted=float(predicted.mean()),
        relative_error=float(np.mean(np.abs(predicted - wanted.score) / np.abs(wanted.score))),
        low=ends.low,
        high=ends.high,
        inside=bool(ends.low <= wanted.score[largest] <= ends.high) if known else None,
    )


def most_compute(points: Points) -> int:
    """The point of most compute, or of the largest of whatever is known."""
    known = [np.log(values) for name, values in points.quantities.items() if values is not None and name != "loss"]
    return int(np.argmax(np.sum(known, axis=0)))


def new_run_at(fit: Fit, points: Points, place: int) -> Interval:
    """The interval of one new run at one of the points."""
    inputs = {name: values[place : place + 1] for name, values in points.inputs(type(fit.law)).items()}
    return at_one_place(fit.band(inputs, new_run=True))


def hold_out(
    laws: Sequence[str],
    points: Points,
    options: FitOptions,
    *,
    largest_only: bool = False,
    intervals: bool = False,
) -> list[HoldOut]:
    """Predictions of every form in every window (or in the last only), windows in ascending order of size.

    `intervals` gives each prediction the interval of one new run, by as many refits as the options ask for.
    Only windows that all of the forms can predict are kept, so that their errors are comparable.
    """
    plain = options if intervals else replace(options, bootstrap=0)
    windows: list[HoldOut] = []
    variable = held_variable(laws, points)
    sizes = split_sizes(points, variable)
    for size in sizes[-1:] if largest_only else sizes[1:]:
        found = [predict_next(law, points, size, plain_for(law, plain), variable) for law in laws]
        if all(prediction is not None for prediction in found):
            windows += [prediction for prediction in found if prediction is not None]
    return windows


def plain_for(law: str, options: FitOptions) -> FitOptions:
    """The options with only the constants that the law has."""
    given = find_law(law).given()
    return replace(options, constants={name: value for name, value in options.constants.items() if name in given})


def mean_errors(windows: Sequence[HoldOut]) -> dict[str, float]:
    """Mean relative error by form over its windows."""
    laws = dict.fromkeys(window.law for window in windows)
    return {law: float(np.mean([w.relative_error for w in windows if w.law == law])) for law in laws}


RIVALS = ("hoffmann", "gadre", "kaplan")
"""Laws in N and D that are compared on every set of losses."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How well one law does beside the others on the same points."""

    law: str
    parameters: int
    """Fitted ones."""
    aicc: float
    """Akaike's criterion, corrected for few points (Hurvich and Tsai 1989), of least squares; lower is better."""
    held_out: float | None
    """Mean relative error on held-out larger sizes; None where no window could be predicted by all."""
    nested_doubt: float | None
    """For a law that is another with fewer parameters (gadre in hoffmann): p value of the F test that the other's
    further parameters explain nothing; None where the law is nested in none."""


def choose_law(points: Points, options: FitOptions, laws: Sequence[str] = RIVALS) -> list[Choice]:
    """The laws that the points determine, the best by Akaike's criterion first; none where fewer than two are.

    Settings are counted, not runs: seeds of a setting are no further evidence on a law's form.
    """
    plain = replace(options, bootstrap=0, objective=Objective(kind="squares"), constants={})
    fits = {}
    for law in laws:
        try:
            fit = fit_law(law, points, plain)
        except InputError:
            continue
        if fit.status in (Status.CONVERGED, Status.AMBIGUOUS):
            fits[law] = float((fit.residuals**2).sum())
    n = int(find_groups(points).max()) + 1
    if len(fits) < 2 or n - max(len(find_law(law).fitted) for law in fits) < 3 or min(fits.values()) <= 0:
        return []
    errors = mean_errors(hold_out(list(fits), points, options))
    found = []
    for law, squares in fits.items():
        count = len(find_law(law).fitted)
        free = count + 1  # the noise's own size
        penalty = 2 * free + 2 * free * (free + 1) / (n - free - 1)
        nested = None
        if law == "gadre" and "hoffmann" in fits:
            ratio = max(squares - fits["hoffmann"], 0.0) / (fits["hoffmann"] / (n - count - 1))
            nested = float(special.fdtrc(1, n - count - 1, ratio))
        found.append(
            Choice(
                law=law,
                parameters=count,
                aicc=n * float(np.log(squares / len(points))) + penalty,
                held_out=errors.get(law),
                nested_doubt=nested,
            )
        )
    return sorted(found, key=lambda choice: choice.aicc)


def describe_holdout(windows: Sequence[HoldOut], errors: Mapping[str, float]) -> str:
    """A row for each held-out size and law, then the mean error of each law."""
    width = max(len(window.law) for window in windows)
    unit = windows[0].variable
    lines = [
        f"held out: each of the larger {unit} predicted from all below it",
        f"  {unit:>8}  {'law':{width}}  {'points':>6}  {'observed':>9}  {'predicted':>9}  error",
    ]
    lines += [
        f"  {format_count(window.size):>8}  {window.law:{width}}  {window.n_fitted:6}  "
        f"{format_number(window.observed):>9}  {format_number(window.predicted):>9}  {window.relative_error:.2%}"
        for window in windows
    ]
    lines += [f"  {'mean':>8}  {law:{width}}  {'':6}  {'':9}  {'':9}  {error:.2%}" for law, error in errors.items()]
    return "\n".join(lines)


def holdout_to_json(windows: Sequence[HoldOut], errors: Mapping[str, float]) -> dict[str, Any]:
    """Every prediction of a held-out size, and each law's mean relative error."""
    rows = [{name: finite(value) for name, value in asdict(window).items()} for window in windows]
    return {"windows": rows, "mean_errors": {law: finite(error) for law, error in errors.items()}}


def predict_places(fit: AnyFit, places: pl.DataFrame) -> pl.DataFrame:
    """What a fit says at each place, one a row, with intervals at the fit's level; an unknown end is null.

    Columns of `places` are N, D, C (training FLOPs) or L (loss on the task), whichever the law reads. A law of the
    score gives value, low, high, and new_run_low, new_run_high for one new run; a law in N and D whose places have C
    alone, isoflop and envelope give the optimal N and D, with the interval of N. Raises InputError for a place that
    lacks what the law reads.
    """
    if isinstance(fit, IsoFlopFit | EnvelopeFit):
        return predict_frontier(fit, letter(places, "C", "the budget in FLOPs"))
    given: set[str] = {name for name in ("N", "D", "C", "L", "U") if name in places.columns}
    if isinstance(fit, Fit) and isinstance(fit.law, Surface) and given == {"C"}:
        runs = [fit.optimum(float(flops)) for flops in letter(places, "C", "the budget")]
        rows = [
            {"N": run.best.params, "D": run.best.tokens, "N_low": run.params.low, "N_high": run.params.high}
            | {"value": run.best.loss, "low": run.loss.low, "high": run.loss.high}
            | {"new_run_low": run.new_run.low, "new_run_high": run.new_run.high}
            for run in runs
        ]
        return pl.concat(
            [places, pl.DataFrame(rows, schema_overrides=dict.fromkeys(rows[0], pl.Float64))], how="horizontal"
        )
    inputs = place_inputs(fit, places, given)
    found = {"value": fit.predict(inputs)}
    for name, new_run in (("", False), ("new_run_", True)):
        band = fit.band(inputs, new_run=new_run)
        unknown = np.full(places.height, np.nan)
        found |= {
            f"{name}low": unknown if band is None else band[0],
            f"{name}high": unknown if band is None else band[1],
        }
    return places.with_columns(**{name: pl.Series(values, nan_to_null=True) for name, values in found.items()})


def place_inputs(fit: Fit | TwoStepFit, places: pl.DataFrame, given: set[str]) -> dict[str, Floats]:
    """What the law's formula reads at the places."""
    if fit.law.inputs != ("x",):
        if {"C", "N"} <= given and "D" not in given:
            places = places.with_columns(D=pl.col("C") / (FLOPS_PER_PARAMETER_TOKEN * pl.col("N")))
        return {
            name: letter(places, name, f"{fit.law.name} reads {' and '.join(fit.law.inputs)}")
            for name in fit.law.inputs
        }
    assert isinstance(fit, Fit), "a two-step law is in N and D"
    variable = fit.points.variable_of(type(fit.law))
    wanted = {"params": "N", "tokens": "D", "flops": "C", "loss": "L"}[variable]
    return {"x": letter(places, wanted, f"{fit.law.name} was fitted over {variable}")}


def letter(places: pl.DataFrame, name: str, why: str) -> Floats:
    """A column of places, all above 0."""
    if name not in places.columns:
        raise InputError(f"the places to predict have no {name} ({why}); give such as --predict {name}=1e9")
    return as_numbers(name, places[name].cast(pl.Float64, strict=False).to_numpy(), positive=True)


def predict_frontier(fit: IsoFlopFit | EnvelopeFit, flops: Floats) -> pl.DataFrame:
    """The optimal N and D at budgets, with the interval of N."""
    if fit.frontier is None:
        raise InputError(f"there is no frontier to predict by: {fit.reason}")
    unknown = np.full(len(flops), np.nan)
    low, high = fit.band(flops) or (unknown, unknown)
    found = {"C": flops, "N": fit.frontier.params(flops), "D": fit.frontier.tokens(flops), "N_low": low, "N_high": high}
    return pl.DataFrame({name: pl.Series(values, nan_to_null=True) for name, values in found.items()})


def read_place(text: str) -> dict[str, float]:
    """N=7e9,D=4e12 as numbers by letter."""
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(value) for name, value in pairs}
    except ValueError as error:
        raise InputError(f"--predict {text!r} is no place; write such as --predict N=7e9,D=4e12") from error


def frame_of_places(texts: Sequence[str]) -> pl.DataFrame:
    """Places written as N=7e9,D=4e12, a row each; InputError where they do not name the same letters."""
    rows = [read_place(text) for text in texts]
    if any(row.keys() != rows[0].keys() for row in rows):
        raise InputError(f"--predict {texts[0]!r} and others name different letters; give each the same, as N and D")
    return pl.DataFrame(rows)


def describe_places(rows: pl.DataFrame, level: float) -> str:
    """Predictions as a table for people."""
    shown = ("N", "D", "U", "C", "L", "value", "low", "high", "N_low", "N_high", "new_run_low", "new_run_high")
    names = [name for name in shown if name in rows.columns]
    cells = [
        [format_number(row[name]) if row[name] is not None else "unknown" for name in names] for row in rows.to_dicts()
    ]
    widths = [max(len(name), *(len(row[place]) for row in cells)) for place, name in enumerate(names)]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in [names, *cells]]
    return "\n  ".join([f"predicted, with {level:.0%} intervals of the curve and of one new run", *lines])


def describe_conventions(fits: Mapping[str, AnyFit]) -> str:
    """Parameters of fits side by side; a star marks a value outside of the first one's interval."""
    told = {name: convention_values(one) for name, one in fits.items()}
    first, head = next(iter(told.values())), ["", *told]
    lines = []
    for name, (_, own) in first.items():
        row = [name]
        for values in told.values():
            value, ends = values[name]
            beyond = own.known and not own.low <= value <= own.high  # type: ignore[operator]
            row.append(f"{format_number(value)}{'*' if beyond else ''} ({interval_words(ends)})")
        lines.append(row)
    widths = [max(len(row[place]) for row in [head, *lines]) for place in range(len(head))]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *lines]]
    return "\n  ".join(["side by side; * lies outside of the first one's interval", *(row.rstrip() for row in rows)])


def convention_values(fit: AnyFit) -> dict[str, tuple[float, Interval]]:
    """Parameters with intervals; of a law in N and D the exponents of its optimum too."""
    if isinstance(fit, IsoFlopFit | EnvelopeFit):
        return {} if fit.frontier is None else {n: (v, fit.intervals[n]) for n, v in fit.frontier.parameters.items()}
    values = {name: (value, fit.intervals[name]) for name, value in fit.law.parameters.items()}
    if isinstance(fit, Fit) and isinstance(fit.law, Surface):
        values |= {"a": (fit.law.a, fit.interval("a")), "b": (fit.law.b, fit.interval("b"))}
    return values
