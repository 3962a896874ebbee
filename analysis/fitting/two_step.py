"""Loss -> accuracy in two steps (Bhagia et al. 2024): task loss from N and D, then accuracy from task loss.

The first step is Hoffmann's law of the loss on the task, the second a sigmoid from that loss to the accuracy. Both are
refitted on the same draws, so the band of the accuracy carries the doubt of both. `fit_axes` fits a
score, such as one after fine-tuning, along every axis that it may follow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ladder.analysis.fitting.fits import Fit, FitOptions, Optimum, as_fit, find_optimum, fit_law
from ladder.analysis.fitting.formulation import natural_ceiling
from ladder.analysis.fitting.health import (
    Status,
    fit_to_json,
    health_lines,
    misfit_lines,
    parameter_lines,
    status_line,
)
from ladder.analysis.fitting.intervals import (
    Draws,
    Interval,
    draw,
    draw_kind,
    ends,
    expanded_tail,
    spare_residuals,
)
from ladder.analysis.fitting.points import Points, draw_points, find_groups, make_points
from ladder.analysis.fitting.solver import Sample, refit
from ladder.analysis.laws.law import Floats, LogLinear, LossSigmoid, Saturating, format_count
from ladder.analysis.laws.surfaces import Hoffmann
from ladder.models.errors import InputError

Rows = NDArray[np.intp]

ANCHOR_LOSS = 1e-9
"""What stands for a loss of 0, nats: a loss must be above it."""
SECOND_STREAM = 1_000_003
"""Added to the seed for the second step's draws, so that its noise is not the first step's."""
WORST_FIRST = (Status.NOT_IDENTIFIABLE, Status.AT_BOUND, Status.AMBIGUOUS, Status.CONVERGED)


@dataclass(frozen=True, kw_only=True)
class TwoStep:
    """accuracy(N, D) = second(first(N, D)): Bhagia et al. 2024, eq. 1 and 2."""

    name: ClassVar[str] = "two-step"
    equation: ClassVar[str] = f"{Hoffmann.equation}; {LossSigmoid.equation}"
    inputs: ClassVar[tuple[str, ...]] = ("N", "D")
    fitted: ClassVar[tuple[str, ...]] = (*Hoffmann.fitted, *LossSigmoid.fitted)
    first: Hoffmann
    """Task loss from N and D."""
    second: LossSigmoid
    """Accuracy from task loss."""

    @property
    def parameters(self) -> dict[str, float]:
        """The parameters of both steps by name."""
        return self.first.parameters | self.second.parameters

    def loss(self, *, N: ArrayLike, D: ArrayLike) -> Floats:
        """Task loss at N and D, nats."""
        return self.first.score(N=N, D=D)

    def score(self, *, N: ArrayLike, D: ArrayLike) -> Floats:
        """Accuracy at N and D."""
        return self.second.score(x=self.loss(N=N, D=D))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TwoStepFit:
    """A two-step law with all that is known about it."""

    law: TwoStep
    first: Fit
    """Fitted to the last point of every run."""
    second: Fit
    """Fitted to all points."""
    last: Rows
    """[runs] the second step's row of every run's last point."""

    def __repr__(self) -> str:
        return describe_steps(self)

    def to_json(self) -> dict[str, Any]:
        """What `ladder fit --json` writes."""
        return steps_to_json(self)

    @property
    def level(self) -> float:
        """Confidence level of the intervals."""
        return self.first.level

    @property
    def intervals(self) -> dict[str, Interval]:
        """Per parameter of both steps, at `level`."""
        return self.first.intervals | self.second.intervals

    @property
    def status(self) -> Status:
        """The worse of the two."""
        return min(self.first.status, self.second.status, key=WORST_FIRST.index)

    @property
    def reason(self) -> str:
        """Why the status is not `converged`; empty where it is."""
        steps = (("first step", self.first), ("second step", self.second))
        return "; ".join(f"{step}: {fit.reason}" for step, fit in steps if fit.status is self.status and fit.reason)

    def predict(self, inputs: Mapping[str, ArrayLike]) -> Floats:
        """Accuracy at inputs "N" and "D"."""
        return self.law.score(N=inputs["N"], D=inputs["D"])

    def band(self, inputs: Mapping[str, Floats], *, new_run: bool = False) -> tuple[Floats, Floats] | None:
        """Interval of the accuracy at inputs [m], or of one new run's; None where it is unknown.

        A new run adds the noise of both steps, each drawn with its refit.
        """
        first, second = self.first.draws, self.second.draws
        if first is None or second is None or first.noise is None or second.noise is None:
            return None
        columns = [{name: values[:, None] for name, values in draws.values.items()} for draws in (first, second)]
        with np.errstate(over="ignore", invalid="ignore"):
            losses = Hoffmann.formula(inputs, columns[0])  # [R, m]
            if new_run:
                losses = losses * np.exp(first.noise[:, None])
            scores = LossSigmoid.formula({"x": losses}, columns[1]) + (second.noise[:, None] if new_run else 0.0)
        return ends(scores, first.tail)


def fit_two_step(
    N: ArrayLike,
    D: ArrayLike,
    loss: ArrayLike,
    accuracy: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    anchored: bool = True,
    options: FitOptions | None = None,
) -> TwoStepFit:
    """Accuracy from N and D by way of the loss on the task, nats; accuracy in 0 to 1 or 0 to 100.

    `clusters` labels the run of each point. With it the first step reads the last point (the largest D) of each run
    only: an earlier checkpoint is not what a run of so many tokens, its learning rate brought down, would have reached.
    The second step reads all points, and whole runs are drawn again (section 3 of the paper). `anchored` adds the
    paper's point to the second step: a loss of 0 is the task's maximum, 1 or 100 (section 3.2); without it the ceiling
    may lie far below what larger models reach.

    Raises InputError for points no fit can be made of.
    """
    options = options or FitOptions()
    whole = make_points(loss, params=N, tokens=D, clusters=clusters)
    last = last_points(whole)
    points = whole.subset(last)
    scores = score_points(accuracy, loss, whole.clusters, anchored=anchored)
    first = find_optimum(Hoffmann, points, options)
    second_options = replace(options, objective=None, log_residual=None, constants={}, fixed={}, bounds={})
    second = find_optimum(LossSigmoid, scores, second_options)
    draws: tuple[Draws | None, Draws | None] = (None, None)
    if Status.NOT_IDENTIFIABLE not in (first.status, second.status):
        draws = draw_steps((first, second), points, scores, options)
    fits = (
        as_fit(Hoffmann, points, options, first, draws[0]),
        as_fit(LossSigmoid, scores, second_options, second, draws[1]),
    )
    law = TwoStep(first=Hoffmann(**fits[0].law.parameters), second=LossSigmoid(**fits[1].law.parameters))
    return TwoStepFit(law=law, first=fits[0], second=fits[1], last=last)


Found = Fit | TwoStepFit | str
"""A law, or why there is none."""


def fit_axes(
    N: Floats, D: Floats, loss: Floats, score: Floats, *, clusters: ArrayLike, share: bool, options: FitOptions
) -> dict[str, Found]:
    """Laws of a score along every axis but N, by the axis in words, with the reason where there can be none.

    All are [n]; nan stands for what is not known. In data at the size that was trained on most budgets; in the loss of
    pre-training; and in N and D by way of that loss. A `share`, 0 to 1 and better where higher, has the laws that bend
    (saturating, loss-sigmoid, two-step); what may have any sign, as a difference has, is fitted with lines.
    """
    sizes = np.unique(N[np.isfinite(D)])
    budgets = [len(np.unique(D[(size == N) & np.isfinite(D)])) for size in sizes]
    most = sizes[np.flatnonzero(np.array(budgets) == max(budgets))[-1]] if len(sizes) else np.nan
    one, lossy, labels = (most == N) & np.isfinite(D), np.isfinite(loss), np.asarray(clusters)
    both = lossy & np.isfinite(D)
    line = LogLinear.name

    def along(law: str, rows: NDArray[np.bool_], **axis: Floats) -> Fit:
        if not rows.any():
            raise InputError(f"no checkpoint has known {', '.join(axis)}")
        named: dict[str, Any] = {name: values[rows] for name, values in axis.items()}
        straight = replace(options, bootstrap=0, starts=1)
        return fit_law(law, make_points(score[rows], **named), straight if law == line else options)

    made: dict[str, Callable[[], Fit | TwoStepFit]] = {
        f"tokens, at {format_count(most)} parameters": lambda: along(Saturating.name if share else line, one, tokens=D),
        "held-out loss": lambda: along(LossSigmoid.name if share else line, lossy, loss=loss),
    }
    if share:
        made["N and D by way of held-out loss"] = lambda: fit_two_step(
            N[both], D[both], loss[both], score[both], clusters=labels[both], options=options
        )
    found: dict[str, Found] = {}
    for axis, make in made.items():
        try:
            fit = make()
        except InputError as error:
            found[axis] = str(error)
        else:
            found[axis] = fit.reason if fit.status is Status.NOT_IDENTIFIABLE else fit
    return found


def last_points(points: Points) -> Rows:
    """[runs] row of the largest D of each run, in the order of the labels; every row where points have none."""
    if points.clusters is None:
        return np.arange(len(points))
    tokens = points.quantity("tokens")
    order = np.lexsort((tokens, points.clusters))
    return np.asarray(order[np.append(np.diff(points.clusters[order]) != 0, True)], dtype=np.intp)


def score_points(accuracy: ArrayLike, loss: ArrayLike, clusters: Rows | None, *, anchored: bool) -> Points:
    """The second step's points; with the anchor as the last one where a score has a natural maximum."""
    given = make_points(accuracy, loss=loss, clusters=clusters)
    most = natural_ceiling(given.score)
    if not anchored or most not in (1.0, 100.0):
        return given
    assert given.loss is not None, "the loss was given"
    labels = None if given.clusters is None else np.append(given.clusters, given.clusters.max() + 1)
    return make_points(np.append(given.score, most), loss=np.append(given.loss, ANCHOR_LOSS), clusters=labels)


def draw_steps(
    optima: tuple[Optimum, Optimum], points: Points, scores: Points, options: FitOptions
) -> tuple[Draws | None, Draws | None]:
    """Refits of both steps; None where nothing is left to judge the noise by.

    Where runs are many, whole runs are drawn again, the same for both steps. Otherwise the two noises are independent:
    the second step's is what is left of the accuracy at the observed loss. The first step has one point a run, so its
    noise is normal; the second keeps the pattern of each run's checkpoints.
    """
    first, second = optima
    alone = replace(points, clusters=None)
    kind = draw_kind(alone, find_groups(alone), len(first.theta))
    if options.bootstrap == 0 or kind is None:
        return None, None
    if kind == "points":
        return draw_runs((first, second), points, scores, options)
    given = (options.bootstrap, options.level)
    draws = [
        draw(step.form, step.objective, step.theta, own, *given, seed)
        for step, own, seed in ((first, alone, options.seed), (second, scores, options.seed + SECOND_STREAM))
    ]
    return (None, None) if draws[0] is None or draws[1] is None else (draws[0], draws[1])


def draw_runs(
    optima: tuple[Optimum, Optimum], points: Points, scores: Points, options: FitOptions
) -> tuple[Draws, Draws]:
    """Refits of both steps to runs drawn again; the anchor stays in each."""
    generator = np.random.default_rng([options.seed, 1])
    runs = np.arange(len(points))
    weights = draw_points(runs, options.bootstrap, generator, len(Hoffmann.fitted))  # [R, runs]
    own = np.arange(len(scores)) if scores.clusters is None else scores.clusters
    wide = np.hstack([weights, np.ones((options.bootstrap, 1))])[:, np.minimum(own, len(runs))]
    tail = expanded_tail(len(points), 1 if points.clusters is not None else len(Hoffmann.fitted), options.level)
    made = []
    for step, weight in zip(optima, (weights, wide), strict=True):
        targets = np.broadcast_to(step.form.target, weight.shape)
        refits = refit(step.form, step.objective, step.theta, Sample(weights=weight, targets=targets))
        noise = generator.choice(spare_residuals(step.form, step.theta), size=options.bootstrap)
        made.append(
            Draws(
                values=step.form.values(refits), tail=tail, kind="points", pinned=step.form.pinned(refits), noise=noise
            )
        )
    return made[0], made[1]


def describe_steps(fit: TwoStepFit) -> str:
    """Both steps' parameters, the worse status, and the health of either."""
    lines = [f"{fit.law.name}: {fit.law.equation}", ""]
    lines += parameter_lines(fit.law.parameters, fit.intervals, fit.level)
    lines += ["", status_line(fit.status, fit.reason)]
    for name, step in (("first step: task loss", fit.first), ("second step: accuracy", fit.second)):
        lines += ["", name, *misfit_lines(step), *health_lines(step)]
    return "\n".join(lines)


def steps_to_json(fit: TwoStepFit) -> dict[str, Any]:
    """The contract's keys over both steps, and each step whole."""
    first, second = fit_to_json(fit.first), fit_to_json(fit.second)
    kept = ("objective_kind", "objective", "health")
    return {
        "law": fit.law.name,
        "equation": fit.law.equation,
        "points": len(fit.second.points),
        "parameters": first["parameters"] | second["parameters"],
        "intervals": first["intervals"] | second["intervals"],
        "level": fit.level,
        "bootstrap": first["bootstrap"],
        "status": str(fit.status),
        "reason": fit.reason,
        **{name: first[name] for name in kept},
        "steps": [first, second],
    }
