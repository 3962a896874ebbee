"""Forms compared by what counts: the error on sizes they were not fitted to.

Expanding window: every form is fitted to the k smallest sizes and predicts the next one, for every k that determines
it. The last window, which predicts the largest size, is the one that an extrapolation resembles most. Where points
have no sizes, whatever the law reads takes their place: tokens, compute, or (from the largest down) a loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ladder.analysis.fitting.fits import Fit, FitOptions, fit_law
from ladder.analysis.fitting.health import Status
from ladder.analysis.fitting.intervals import Interval, at_one_place
from ladder.analysis.fitting.points import DISTINCT, Points, find_groups
from ladder.analysis.fitting.solver import Objective
from ladder.analysis.laws.law import Floats, Variable
from ladder.analysis.laws.surfaces import find_law
from ladder.models.errors import InputError


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
