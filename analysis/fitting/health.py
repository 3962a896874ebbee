"""How sound a fit is: measured numbers, the status they amount to, and a fit told with them in words and as JSON."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ladder.analysis.fitting.forms import Form
from ladder.analysis.fitting.intervals import Interval, least_squares
from ladder.analysis.fitting.points import NOISES, Points, design_problem, find_groups, is_one_ratio, split_residuals
from ladder.analysis.fitting.solver import Objective, Sample, Solutions, derivatives
from ladder.analysis.laws.law import Floats, Law, Power, format_number
from ladder.models.errors import InputError

if TYPE_CHECKING:  # a fit is told with its health, so its module imports this one
    from ladder.analysis.fitting.fits import Fit

SAME_OBJECTIVE = 1e-6
"""Starts within this relative distance of the least objective have reached it."""
RIVAL_CHI_SQUARE = 3.84
"""Twice the log likelihood by which another end point may be worse and still be a rival: the 95 % quantile of chi^2
with one degree of freedom. So 240 points tell apart what 12 do not."""
RIVAL_DISTANCE = 0.05
"""... if it differs from the best by more than this in a solver coordinate (a logarithm or an exponent)."""
MISFIT_DOUBT = 0.01
"""Probability of what the points miss the law by, were it noise, below which the law is called wrong for them."""
LEAST_SHARE = 0.02
"""Share of the starts that must end at the best objective; with fewer a better one may not have been found."""
SINGULAR = 1e6
"""Condition number beyond which some direction of parameters does not show in the residuals; 240 points of
Hoffmann et al. have 58."""
LOOSE_GRADIENT = 1e-3
"""Scaled gradient beyond which the solver has not arrived."""
EXACT_RESIDUAL = 1e-9
"""Root mean square residual below which the data is the law itself, and rounding is all that is left to compare."""


FLAT = 1e-12
"""Relative difference of scores below which they are one and the same number."""


MIN_RAY_POINTS = 4
"""Runs along one ratio from which a curve, though not the law, can be judged: its three parameters and one to spare."""


class Status(StrEnum):
    """How far a fit may be trusted."""

    CONVERGED = "converged"
    AMBIGUOUS = "ambiguous"
    AT_BOUND = "at a bound"
    NOT_IDENTIFIABLE = "not identifiable"


@dataclass(frozen=True, kw_only=True)
class Health:
    """What tells a sound fit from a lucky one."""

    starts: int
    """Starting points tried."""
    best_share: float
    """Share of the starts that ended at the best objective."""
    gradient_norm: float
    """Largest derivative of the objective along one coordinate, over the coordinate's and the objective's scale."""
    bounds_hit: tuple[str, ...]
    """Parameters that pressed against a bound."""
    condition_number: float
    """Of the Jacobian with unit columns in the solver's coordinates: 1 is orthogonal."""
    residual_rms: float
    """Root mean square residual, in the residual's scale."""
    residual_max: float
    """Largest absolute residual."""
    r_squared: float | None
    """1 - squared residuals / squared deviations from the mean, in the residual's scale; None where nothing varies."""
    degrees_of_freedom: int
    """Points less parameters."""


def measure_health(form: Form, names: tuple[str, ...], objective: Objective, solutions: Solutions, best: int) -> Health:
    """The health of solution `best` among all that were found; `names` are the form's coordinates by parameter."""
    theta = solutions.theta[best : best + 1]
    state = form.evaluate(theta)
    residuals = (form.target - state.prediction)[0]
    jacobian = form.jacobian(theta, state)[0]  # [P, n]
    at_lower, at_upper = theta[0] <= form.lower, theta[0] >= form.upper
    least = solutions.objective[best]
    variation = float(((form.target - form.target.mean()) ** 2).sum())
    rms = float(np.sqrt(np.mean(residuals**2)))
    reached = solutions.objective <= least * (1 + SAME_OBJECTIVE)
    if rms < EXACT_RESIDUAL:
        reached = solutions.objective <= objective.total(np.full(len(residuals), EXACT_RESIDUAL))
    return Health(
        starts=len(solutions.objective),
        best_share=float(np.mean(reached)),
        gradient_norm=0.0 if rms < EXACT_RESIDUAL else scaled_gradient(form, objective, theta, at_lower | at_upper),
        bounds_hit=tuple(name for name, hit in zip(names, at_lower | at_upper, strict=True) if hit),
        condition_number=condition_number(jacobian[~(at_lower | at_upper)]),
        residual_rms=rms,
        residual_max=float(np.abs(residuals).max()),
        r_squared=1 - float((residuals**2).sum()) / variation if variation > 0 else None,
        degrees_of_freedom=len(residuals) - len(names),
    )


def scaled_gradient(form: Form, objective: Objective, theta: Floats, fixed: NDArray[np.bool_]) -> float:
    """max |g_j| / sqrt(scale_j * objective) over coordinates that are free; 0 at an optimum."""
    state = form.evaluate(theta)
    gradient, _, scale = derivatives(form, objective.stages()[-1], Sample.whole(form, 1), theta, state)
    value = float(objective.total(form.target - state.prediction)[0])
    relative = np.abs(gradient[0]) / np.sqrt(np.maximum(scale[0] * value, 1e-300))
    return float(relative[~fixed].max(initial=0.0))


def find_misfit(form: Form, theta: Floats, points: Points, logs: Mapping[str, Floats]) -> str:
    """What says that the law misses these points by more than noise, in words; empty where nothing does.

    Where the points' errors are known, chi^2 of the residuals in their units. Where seeds repeat, the classical test of
    lack of fit. Where they do not, an F test of whether squares and products of the centred ln N and ln D (or ln x)
    explain the residuals of least squares, the points taken as equally noisy.
    """
    left = least_squares(form, theta)
    if form.known_noise > 0:
        freedom = len(left) - len(theta)
        doubt = float(special.chdtrc(freedom, (left**2).sum() / form.known_noise**2)) if freedom > 0 else 1.0
        told = f"the points miss the law by more than their own standard errors (probability {doubt:.1g} if it held)"
        return told if doubt < MISFIT_DOUBT else ""
    groups = find_groups(points)
    split = split_residuals(left, groups, len(theta))
    if points.clusters is None and split is not None and split.doubt < MISFIT_DOUBT:
        return (
            "runs that differ in the seed alone agree better with each other than with the law (probability "
            f"{split.doubt:.1g} if it held), so it misses these runs by more than noise"
        )
    if split is not None or points.clusters is not None:
        return ""
    doubt = pattern_doubt(form, theta, left, logs)
    if doubt >= MISFIT_DOUBT:
        return ""
    return f"the residuals follow a pattern in {' and '.join(logs)} (probability {doubt:.1g} if the law held)"


def pattern_doubt(form: Form, theta: Floats, left: Floats, logs: Mapping[str, Floats]) -> float:
    """p value of the F test that second-order terms of the centred logarithms explain nothing of the residuals [n]."""
    centred = [x - x.mean() for x in logs.values()]
    terms = [a * b for place, a in enumerate(centred) for b in centred[place:]]
    terms += [centred[0] ** 3] if len(centred) == 1 else []
    jacobian = form.jacobian(theta[None], form.evaluate(theta[None]))[0]
    design = np.vstack([jacobian, terms])
    design = design / np.maximum(np.linalg.norm(design, axis=1, keepdims=True), 1e-300)
    rank, base = (int(np.linalg.matrix_rank(part, tol=1e-6)) for part in (design, design[: len(jacobian)]))
    more, spare = rank - base, len(left) - rank
    if more < 1 or spare < 2:
        return 1.0
    beta = np.linalg.lstsq(design.T, left, rcond=1e-7)[0]
    after, before = float(((left - design.T @ beta) ** 2).sum()), float((left**2).sum())
    if np.sqrt(before / len(left)) < EXACT_RESIDUAL:
        return 1.0
    return float(special.fdtrc(more, spare, max(before - after, 0.0) / more / max(after / spare, 1e-300)))


def condition_number(jacobian: Floats) -> float:
    """Largest over least singular value of the rows [P, n] of a Jacobian, each scaled to unit length."""
    lengths = np.linalg.norm(jacobian, axis=1, keepdims=True)
    if len(jacobian) == 0 or (lengths == 0).any():
        return float("inf")
    singular = np.linalg.svd(jacobian / lengths, compute_uv=False)
    if len(singular) < len(jacobian) or singular[-1] == 0:
        return float("inf")
    return float(singular[0] / singular[-1])


def find_rival(solutions: Solutions, best: int, objective: Objective, freedom: int) -> float | None:
    """Relative excess objective of the best end point that is elsewhere and fits as well; None without one.

    Noise of unknown scale: twice the log likelihood falls by freedom * ln(ratio) for squares (normal residuals) and by
    2 freedom * ln(ratio) for absolute values, which a narrow Huber function is.
    """
    least = solutions.objective[best]
    power = 1.0 if objective.kind == "squares" else 2.0
    allowed = np.expm1(RIVAL_CHI_SQUARE / (power * max(freedom, 1)))
    away = np.abs(solutions.theta - solutions.theta[best]).max(axis=1) > RIVAL_DISTANCE
    rivals = solutions.objective[away & (solutions.objective <= least * (1 + allowed))]
    return float(rivals.min() / least - 1) if len(rivals) and least > 0 else None


def status_of(health: Health, problem: str | None, rival: float | None, *, smooth: bool) -> tuple[Status, str]:
    """The status of a fit and why, the worst finding first; `problem` is the design's.

    The gradient judges smooth objectives only: least absolute deviation ends in a corner, where none vanishes.
    """
    if problem:
        return Status.NOT_IDENTIFIABLE, problem
    if health.bounds_hit:
        return (
            Status.AT_BOUND,
            f"{', '.join(health.bounds_hit)} pressed against a bound: the data does not determine that term",
        )
    if health.condition_number > SINGULAR:
        return (
            Status.NOT_IDENTIFIABLE,
            "some combination of parameters does not show in the data "
            f"(condition number {health.condition_number:.2g}); widen the range of sizes and token counts",
        )
    if rival is not None:
        return (
            Status.AMBIGUOUS,
            f"other parameters fit as well (objective higher by {rival:.2%}); more points are needed",
        )
    if health.best_share < LEAST_SHARE:
        return (
            Status.AMBIGUOUS,
            f"{health.best_share:.1%} of {health.starts} starts reached the best objective, so there may be a better "
            "one; give more --starts",
        )
    if smooth and health.gradient_norm > LOOSE_GRADIENT:
        return Status.AMBIGUOUS, f"the solver did not arrive (scaled gradient {health.gradient_norm:.2g})"
    return Status.CONVERGED, ""


def flat_problem(law: type[Law], points: Points) -> str | None:
    """Why scores that do not move, or move the wrong way, determine no law; None where they do."""
    least, most = float(points.score.min()), float(points.score.max())
    if most - least <= FLAT * max(abs(most), abs(least)):
        return f"every score is {least:.4g}; give scores that differ"
    if law is Power:
        x = np.log(points.inputs(law)["x"])
        if float((x - x.mean()) @ np.log(points.score)) > 0:
            return "the score rises with x, and a power law only falls; name a loss, or a law of scores that rise"
    return None


def check_points(
    law: type[Law], points: Points, constants: Mapping[str, float], fixed: Collection[str] = ()
) -> str | None:
    """Raises InputError for points no fit can be made of; returns why the design cannot determine the law, or None."""
    strange = constants.keys() - set(law.given())
    if strange:
        raise InputError(
            f"{law.name} has no constant {', '.join(sorted(strange))}; it has {', '.join(law.given()) or 'none'}"
        )
    logarithmic = law.log_residual or constants.get("log_score", 0.0) > 0
    if logarithmic and (points.score <= 0).any():
        row = int(np.argmax(points.score <= 0))
        raise InputError(
            f"the score is {points.score[row]:g} in row {row + 1}; {law.name} takes its log: drop or mend that row"
        )
    strange = set(fixed) - set(law.fitted)
    if strange:
        raise InputError(f"{law.name} has no parameter {', '.join(sorted(strange))}; it has {', '.join(law.fitted)}")
    if len(fixed) == len(law.fitted):
        raise InputError(f"every parameter of {law.name} is fixed, so that nothing is fitted; leave one free")
    problem = design_problem(law, points, fixed)
    ray = law.inputs == ("N", "D") and is_one_ratio(points) and len(points) >= MIN_RAY_POINTS
    free = [name for name in law.fitted if name not in fixed]
    if len(points) < len(free) and not (problem and ray):
        raise InputError(
            f"{len(points)} points are fewer than the {len(free)} parameters of {law.name} "
            f"({', '.join(free)}); add runs or choose a law with fewer parameters"
        )
    return problem


def finite(value: Any) -> Any:
    """The value, or None where JSON has no word for it."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def interval_words(interval: Interval, words: Callable[[float], str] = format_number) -> str:
    """low to high, or unknown; where one end is known it is told."""
    if interval.low is None and interval.high is None:
        return "unknown"
    low, high = ("unknown" if end is None else words(end) for end in (interval.low, interval.high))
    return f"{low} to {high}"


def parameter_lines(
    parameters: Mapping[str, float], intervals: Mapping[str, Interval], level: float, fixed: Collection[str] = ()
) -> list[str]:
    """A row for each parameter: value and interval."""
    width = max(len(name) for name in parameters)
    head = f"  {'':{width}}  {'value':>12}  {level:.0%} interval"
    rows = [
        f"  {name:{width}}  {format_number(value):>12}  {'fixed' if name in fixed else interval_words(intervals[name])}"
        for name, value in parameters.items()
    ]
    return [head, *rows]


def objective_words(fit: "Fit") -> str:
    """What was minimised."""
    return objective_kind(fit) + (f" (delta {fit.objective.delta:g})" if fit.objective.kind == "huber" else "")


def objective_kind(fit: "Fit") -> str:
    """huber, lad, squares, or binomial: squares in units of the binomial deviation at the fit."""
    return fit.objective.kind if fit.points.trials is None else "binomial"


def health_lines(fit: "Fit") -> list[str]:
    """Objective, residuals and health of one fit."""
    health = fit.health
    return [
        f"objective   {fit.value:.7e}, {objective_words(fit)}, summed over {len(fit.points)} points",
        f"residuals   root mean square {health.residual_rms:.3g}, largest {health.residual_max:.3g}"
        + (f", R2 {health.r_squared:.4f}" if health.r_squared is not None else ""),
        f"health      {health.best_share:.0%} of {health.starts} starts reached the best objective, condition number "
        f"{health.condition_number:.3g}, scaled gradient {health.gradient_norm:.1e}",
    ]


def status_line(status: str, reason: str) -> str:
    """The status and why."""
    return f"status      {status}" + (f": {reason}" if reason else "")


def misfit_lines(fit: "Fit") -> list[str]:
    """That the law misses the points by more than noise, where something says so."""
    return [f"misfit      {fit.misfit}"] if fit.misfit else []


def describe_fit(fit: "Fit") -> str:
    """A readable summary: law, parameters with intervals, status, health."""
    lines = [f"{fit.law.name}: {fit.law.equation}", ""]
    lines += parameter_lines(fit.law.parameters, fit.intervals, fit.level, fit.fixed)
    return "\n".join([*lines, "", status_line(fit.status, fit.reason), *misfit_lines(fit), *health_lines(fit)])


def fit_to_json(fit: "Fit") -> dict[str, Any]:
    """The contract of `ladder fit --json`; what is unknown is null, never 0 and never NaN."""
    return {
        "law": fit.law.name,
        "equation": fit.law.equation,
        "objective_kind": objective_kind(fit),
        "delta": fit.objective.delta if fit.objective.kind == "huber" else None,
        "points": len(fit.points),
        "parameters": {name: finite(value) for name, value in fit.law.parameters.items()},
        "fixed": list(fit.fixed),
        "known_noise": next((name for name in NOISES if getattr(fit.points, name) is not None), None),
        "constants": {name: float(value[0]) for name, value in fit.law.constants.items()},
        "intervals": {name: interval.as_list() for name, interval in fit.intervals.items()},
        "level": fit.level,
        "bootstrap": None if fit.draws is None else fit.draws.kind,
        "objective": finite(fit.value),
        "status": str(fit.status),
        "reason": fit.reason,
        "misfit": fit.misfit,
        "health": {name: finite(value) for name, value in asdict(fit.health).items()},
    }
