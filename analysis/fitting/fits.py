"""Fits as pure functions: points in; law, intervals, health and status out.

`fit_law` is the one way in; `fit_hoffmann` and its siblings are the same with arrays for arguments, for notebooks. What
a fit cannot know it says: a status other than `converged` comes with a reason, and an interval that the data does not
determine is unknown instead of narrow.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ladder.analysis.fitting.forms import Form, PlaneForm
from ladder.analysis.fitting.formulation import Scaled, default_objective, logs_of, make_form
from ladder.analysis.fitting.health import (
    Health,
    Status,
    check_points,
    describe_fit,
    find_misfit,
    find_rival,
    fit_to_json,
    flat_problem,
    measure_health,
    status_of,
)
from ladder.analysis.fitting.intervals import (
    UNKNOWN,
    Draws,
    Interval,
    Line,
    Progress,
    draw,
    ends,
    fit_line,
    interval_of,
    known,
)
from ladder.analysis.fitting.points import Points, find_groups, make_points
from ladder.analysis.fitting.solver import Objective, solve
from ladder.analysis.laws.law import Floats, Law, LogLinear, Power, PowerOffset
from ladder.analysis.laws.surfaces import Allocation, Gadre, Hoffmann, Kaplan, Surface, find_law
from ladder.models.errors import InputError

MOST_REFITS = 1_000_000
"""Refits, or starts, of one fit: more fill the memory and tell nothing more."""


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How a fit is made; None takes the law's own default."""

    objective: Objective | None = None
    """What is minimised; by default Huber 1e-3 for losses, squares for scores."""
    bootstrap: int = 1000
    """Refits of resampled points for the intervals; 0 leaves the intervals unknown."""
    seed: int = 0
    """Seeds the starts and the resampling."""
    starts: int = 200
    """Starting points."""
    level: float = 0.95
    """Confidence level of the intervals."""
    log_residual: bool | None = None
    """True: residuals of log loss, False: of the loss itself; None: as the law has it."""
    constants: Mapping[str, float] = field(default_factory=dict)
    """The law's given fields: `chance` of sigmoid, `log_score` of log-linear."""
    point_error: float | None = None
    """Standard error of a score in the unit of the residual: a line's scatter is not taken as less. None: unknown."""
    ceiling: float | None = None
    """Most that a fitted ceiling can be; None: 1 for scores up to 1, 100 for scores up to 100, otherwise no limit."""
    progress: Progress | None = None
    """Told how many refits are done."""
    fixed: Mapping[str, float] = field(default_factory=dict)
    """Parameters that are not fitted, by name."""
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Least and greatest value of fitted parameters, by name."""

    def __post_init__(self) -> None:
        for name, value, least in (("bootstrap", self.bootstrap, 0), ("starts", self.starts, 1)):
            if not least <= value <= MOST_REFITS:
                raise InputError(f"{name} is {value:,}; give {least} to {MOST_REFITS:,}")
        if not 0 < self.level < 1:
            raise InputError(f"level is {self.level:g}; it must be between 0 and 1, such as 0.95")
        if not all(np.isfinite(value) for value in self.fixed.values()):
            raise InputError(f"a fixed parameter is not a finite number: {dict(self.fixed)}; give a number")
        if any(np.isnan(end) for ends in self.bounds.values() for end in ends):
            raise InputError(f"a bound is not a number: {dict(self.bounds)}; give the least and the greatest value")


@dataclass(frozen=True, kw_only=True, eq=False)
class Optimum:
    """Where the solver ended, before it becomes a `Fit`."""

    form: Form
    """The law over the points."""
    objective: Objective
    """What was minimised."""
    theta: Floats
    """[P] the best solver coordinates."""
    value: float
    """The objective there."""
    health: Health
    status: Status
    reason: str
    """Why the status is not `converged`."""
    misfit: str = ""
    """What says that the law misses the points by more than noise; empty where nothing does."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OptimalRun:
    """The compute-optimal run at a budget with its intervals, every one unknown where the fit has no refits."""

    best: Allocation
    params: Interval
    """Optimal N, parameters."""
    tokens: Interval
    """Optimal D, tokens."""
    ratio: Interval
    """Optimal tokens per parameter."""
    least_loss: Interval
    """The least loss that the budget buys, each refit at its own optimum, nats per token."""
    loss: Interval
    """The curve at `best`, nats per token."""
    new_run: Interval
    """The loss of one run at `best`, its own noise included."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Fit:
    """A law with all that is known about it."""

    law: Law
    objective: Objective
    """What was minimised."""
    value: float
    """The objective at the solution, summed over points."""
    points: Points
    intervals: dict[str, Interval]
    """Per parameter, at `level`."""
    level: float
    status: Status
    reason: str
    """Why the status is not `converged`; empty where it is."""
    health: Health
    residuals: Floats
    """[n] observed less fitted, in log score where `log_residual` or the law's `log_score` say so."""
    log_residual: bool
    """True where residuals are of log loss; a line says by its own `log_score` whether they are of ln score."""
    draws: Draws | None
    """Bootstrap refits; None without them."""
    line: Line | None
    """The straight line with its exact intervals, for log-linear by squares; None otherwise."""
    misfit: str = ""
    """What says that the law misses the points by more than noise (`health.find_misfit`); empty where nothing does."""
    fixed: tuple[str, ...] = ()
    """Parameters that were given and not fitted."""

    def __repr__(self) -> str:
        return describe_fit(self)

    def to_json(self) -> dict[str, Any]:
        """What `ladder fit --json` writes."""
        return fit_to_json(self)

    def predict(self, inputs: Mapping[str, ArrayLike]) -> Floats:
        """The law's score at inputs "N", "D" or "x"."""
        return self.law.score(**inputs)

    def band(self, inputs: Mapping[str, Floats], *, new_run: bool = False) -> tuple[Floats, Floats] | None:
        """Interval of the curve at inputs [m], or of one new run's score; None where it is unknown.

        A new run adds the noise that the residuals allow, drawn with each refit.
        """
        self.law.require(inputs)
        if self.line is not None:
            return self.line_band(self.line, inputs["x"], new_run)
        if self.draws is None:
            return None
        columns = {name: values[:, None] for name, values in (self.law.constants | self.draws.values).items()}
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            curves = type(self.law).formula(inputs, columns)  # [R, m]
            low, high = ends(curves, self.draws.tail)
            if not new_run:
                return low, high
            if self.draws.noise is None:
                return None
            runs = ends(self.add_noise(curves, self.draws.noise[:, None]), self.draws.tail)
        return np.minimum(runs[0], low), np.maximum(runs[1], high)  # with few draws noise may seem to narrow the ends

    def add_noise(self, curves: Floats, noise: Floats) -> Floats:
        """Scores of runs whose curve is `curves` and whose noise, in the residual's scale, is `noise`, [R, m]."""
        if self.points.trials is not None:
            share = np.clip(curves, 0, 1)
            return np.clip(curves + noise * np.sqrt(share * (1 - share) / np.median(self.points.trials)), 0, 1)
        logarithmic = self.log_residual or self.law.values.get("log_score", 0.0) > 0
        return curves * np.exp(noise) if logarithmic else curves + noise

    def optima(self, flops: float) -> dict[str, Floats] | None:
        """`Surface.optima` of every refit at a budget in training FLOPs; None without refits or without an optimum."""
        law = type(self.law)
        if self.draws is None or not issubclass(law, Surface):
            return None
        return law.optima(self.law.constants | self.draws.values, flops)

    def interval(self, name: str) -> Interval:
        """The interval of a parameter, or of the exponents a and b of the optimal N and D in C.

        Raises InputError for a name that the law does not have.
        """
        if name in self.intervals:
            return self.intervals[name]
        if name not in ("a", "b") or not isinstance(self.law, Surface):
            known = [*self.intervals, *(("a", "b") if isinstance(self.law, Surface) else ())]
            raise InputError(f"{self.law.name} has no {name!r}; ask for one of {', '.join(known)}")
        drawn = self.optima(1.0)
        return UNKNOWN if drawn is None or self.draws is None else interval_of(drawn[name], self.draws.tail)

    def optimum(self, flops: float) -> OptimalRun:
        """The compute-optimal run at a budget in training FLOPs, with intervals.

        Raises InputError for a law without an optimum and for a budget that is not above 0.
        """
        if not isinstance(self.law, Surface):
            raise InputError(
                f"{self.law.name} is no law in N and D, so it has no optimum; use hoffmann, gadre or kaplan"
            )
        best, drawn = self.law.optimum(flops), self.optima(flops)
        place = {"N": np.array([best.params]), "D": np.array([best.tokens])}
        names = ("params", "tokens", "tokens_per_parameter", "loss")
        found = dict.fromkeys(names, UNKNOWN)
        if drawn is not None and self.draws is not None:
            found = {name: interval_of(drawn[name], self.draws.tail) for name in names}
        return OptimalRun(
            best=best,
            params=found["params"],
            tokens=found["tokens"],
            ratio=found["tokens_per_parameter"],
            least_loss=found["loss"],
            loss=at_one_place(self.band(place)),
            new_run=at_one_place(self.band(place, new_run=True)),
        )

    def line_band(self, line: Line, x: Floats, new_run: bool) -> tuple[Floats, Floats] | None:
        """The exact t band of a straight line, taken back from the logarithm where the line is in ln score."""
        half = line.half_width(np.log(x), self.level, new_run=new_run)
        if half is None:
            return None
        middle = line.a + line.b * np.log(x)
        low, high = middle - half, middle + half
        return (np.exp(low), np.exp(high)) if self.law.values["log_score"] > 0 else (low, high)


def find_optimum(law: type[Law], points: Points, options: FitOptions) -> Optimum:
    """The best parameters from many starts, and how far they may be trusted."""
    problem = check_points(law, points, options.constants, options.fixed)
    objective = options.objective or default_objective(law)
    form = make_form(law, points, options)
    starts = form.starts(np.random.default_rng([options.seed, 0]), options.starts)
    if points.trials is not None:
        form, starts = weigh_by_counts(law, points, objective, form, starts)
    solutions = solve(form, objective, starts)
    best = int(np.argmin(solutions.objective))
    health = measure_health(form, form.names, objective, solutions, best)
    rival = find_rival(solutions, best, objective, health.degrees_of_freedom)
    status, reason = status_of(health, problem or flat_problem(law, points), rival, smooth=objective.kind != "lad")
    theta, whole = solutions.theta[best], status not in (Status.NOT_IDENTIFIABLE, Status.AT_BOUND)
    return Optimum(
        form=form,
        objective=objective,
        misfit=find_misfit(form, theta, points, logs_of(law, points)) if whole else "",
        theta=theta,
        value=float(solutions.objective[best]),
        health=health,
        status=status,
        reason=reason,
    )


REWEIGHINGS = 50
"""Most rounds of reweighting; 5 to 10 are typical."""
SETTLED = 1e-9
"""Change of every coordinate by which reweighting has settled."""
LEAST_COUNT = 1e-3
"""Expected successes, and failures, below which a score's binomial deviation is not taken to fall any more."""


def weigh_by_counts(
    law: type[Law], points: Points, objective: Objective, form: Form, starts: Floats
) -> tuple[Form, Floats]:
    """The form with residuals in units of the binomial deviation at the fit, and starts of which one is that fit.

    Least squares with weights n / (p (1 - p)) taken at their own solution p solve the likelihood's equations, so that
    reweighting until nothing moves gives the maximum of the binomial likelihood (McCullagh and Nelder 1989, section
    2.5). Raises InputError for a law or an objective that is not of shares.
    """
    if law.log_residual or objective.kind != "squares" or law is LogLinear:
        raise InputError(f"counts need a law of accuracies by squares, and got {law.name} by {objective.kind}")
    trials, smallest = np.asarray(points.trials), LEAST_COUNT / np.asarray(points.trials)
    share = (points.score * trials + 0.5) / (trials + 1)
    theta = None
    for _ in range(REWEIGHINGS):
        scaled = Scaled(form, np.sqrt(trials / (share * (1 - share))), 1.0)
        found = solve(scaled, objective, starts if theta is None else theta[None])
        new = found.theta[np.argmin(found.objective)]
        share = np.clip(form.evaluate(new[None]).prediction[0], smallest, 1 - smallest)
        if theta is not None and np.abs(new - theta).max() < SETTLED:
            break
        theta = new
    return Scaled(form, np.sqrt(trials / (share * (1 - share))), 1.0), np.vstack([new, starts])


def as_fit(law: type[Law], points: Points, options: FitOptions, optimum: Optimum, draws: Draws | None) -> Fit:
    """An optimum as a fit, with the intervals that the draws give it."""
    form, theta = optimum.form, optimum.theta
    line = None
    if law is LogLinear and isinstance(form, PlaneForm) and not options.bounds and optimum.objective.kind == "squares":
        if optimum.status is not Status.NOT_IDENTIFIABLE:
            x, groups = np.log(points.inputs(law)["x"]), find_groups(points)
            line = fit_line(x, form.target, groups=groups, point_error=options.point_error)
    fitted = {key: float(value[0]) for key, value in form.values(theta[None]).items()}
    return Fit(
        law=law(**fitted, **options.constants),
        objective=optimum.objective,
        value=optimum.value,
        points=points,
        intervals=find_intervals(law, options, draws, line),
        level=options.level,
        status=optimum.status,
        reason=optimum.reason,
        health=optimum.health,
        residuals=((form.target - form.evaluate(theta[None]).prediction) / form.factor)[0],
        log_residual=law.log_residual and options.log_residual is not False,
        draws=draws,
        line=line,
        misfit=optimum.misfit,
        fixed=tuple(options.fixed),
    )


def fit_law(name: str, points: Points, options: FitOptions | None = None) -> Fit:
    """The best law of a form for some points, with intervals, health and status.

    The rows' order does not matter: refits are drawn for the points in an order of their own.
    """
    options = options or FitOptions()
    law, order = find_law(name), points.order
    check_points(law, points, options.constants, options.fixed)  # a refusal names the row as it was given
    own = points.subset(order)
    found = find_optimum(law, own, options)
    draws = None
    if found.status is not Status.NOT_IDENTIFIABLE:
        settings = (options.bootstrap, options.level, options.seed)
        draws = draw(found.form, found.objective, found.theta, own, *settings, progress=options.progress)
    fit = as_fit(law, own, options, found, draws)
    return replace(fit, points=points, residuals=fit.residuals[np.argsort(order)])


def find_intervals(law: type[Law], options: FitOptions, draws: Draws | None, line: Line | None) -> dict[str, Interval]:
    """Exact t intervals of a line, percentiles of draws, or unknown ones."""
    if line is not None:
        return line.intervals(options.level)
    found = {name: UNKNOWN if draws is None else draws.interval(name) for name in law.fitted}
    return found | {name: Interval(low=value, high=value) for name, value in options.fixed.items()}


def fit_hoffmann(N: ArrayLike, D: ArrayLike, L: ArrayLike, *, options: FitOptions | None = None) -> Fit:
    """L = E + A / N^alpha + B / D^beta for sizes, tokens and losses in nats per token."""
    return fit_law(Hoffmann.name, make_points(L, params=N, tokens=D), options)


def fit_gadre(N: ArrayLike, D: ArrayLike, L: ArrayLike, *, options: FitOptions | None = None) -> Fit:
    """L = E + A / N^alpha + B / D^alpha for sizes, tokens and losses in nats per token."""
    return fit_law(Gadre.name, make_points(L, params=N, tokens=D), options)


def fit_kaplan(N: ArrayLike, D: ArrayLike, L: ArrayLike, *, options: FitOptions | None = None) -> Fit:
    """Kaplan et al.'s L(N, D) for sizes, tokens and losses in nats per token."""
    return fit_law(Kaplan.name, make_points(L, params=N, tokens=D), options)


def fit_power(N: ArrayLike, L: ArrayLike, *, offset: bool = False, options: FitOptions | None = None) -> Fit:
    """L = A / N^alpha, or E + A / N^alpha with `offset`; N may as well be tokens or FLOPs."""
    law = PowerOffset if offset else Power
    return fit_law(law.name, make_points(L, params=N), options)


def fit_log_linear(N: ArrayLike, score: ArrayLike, *, log_score: bool = False, level: float = 0.95) -> Fit:
    """score = a + b ln N by least squares with t intervals; `log_score` puts the line in ln score (perplexities)."""
    options = FitOptions(constants={"log_score": float(log_score)}, level=level, starts=1, bootstrap=0)
    return fit_law(LogLinear.name, make_points(score, params=N), options)


def at_one_place(band: tuple[Floats, Floats] | None) -> Interval:
    """A band at its first place as an interval."""
    return UNKNOWN if band is None else Interval(low=known(float(band[0][0])), high=known(float(band[1][0])))
