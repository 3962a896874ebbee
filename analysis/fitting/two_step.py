"""Loss -> accuracy in two steps (Bhagia et al. 2024): task loss from N and D, then accuracy from task loss.

The first step is Hoffmann's law of the loss on the task, the second a sigmoid from that loss to the accuracy. Both are
refitted on the same draws, so that what is unknown about either shows in the band of the accuracy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ladder.analysis.fitting.fits import Fit, FitOptions, Optimum, find_optimum, tell
from ladder.analysis.fitting.health import Status
from ladder.analysis.fitting.intervals import (
    Draws,
    Interval,
    draw_noise,
    draw_points,
    expanded_tail,
    least_squares,
    resamples,
)
from ladder.analysis.fitting.points import Points, make_points
from ladder.analysis.fitting.solver import Sample, refit
from ladder.analysis.fitting.summaries import describe_steps, steps_to_json
from ladder.analysis.laws.law import Floats, LossSigmoid
from ladder.analysis.laws.surfaces import Hoffmann

Rows = NDArray[np.intp]

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

        A new run adds to either step the residual of one and the same run, scaled up for the fitted parameters.
        """
        first, second = self.first.draws, self.second.draws
        freedoms = [fit.health.degrees_of_freedom for fit in (self.first, self.second)]
        if first is None or second is None or min(freedoms) < 1:
            return None
        columns = [{name: values[:, None] for name, values in draws.values.items()} for draws in (first, second)]
        with np.errstate(over="ignore", invalid="ignore"):
            losses = Hoffmann.formula(inputs, columns[0])  # [R, m]
            noise: Floats | float = 0.0
            if new_run:
                run = np.random.default_rng(0).integers(len(self.last), size=losses.shape)
                of_loss, of_score = self.first.residuals, self.second.residuals[self.last]
                losses = losses * np.exp((of_loss * np.sqrt(len(of_loss) / freedoms[0]))[run])
                noise = (of_score * np.sqrt(len(self.second.residuals) / freedoms[1]))[run]
            scores = LossSigmoid.formula({"x": losses}, columns[1]) + noise
            low, high = np.quantile(scores, [first.tail, 1 - first.tail], axis=0)
        return low, high


def fit_two_step(
    N: ArrayLike,
    D: ArrayLike,
    loss: ArrayLike,
    accuracy: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    options: FitOptions | None = None,
) -> TwoStepFit:
    """Accuracy from N and D by way of the loss on the task, nats; accuracy in 0 to 1 or 0 to 100.

    `clusters` labels the run of each point. With it the first step reads the last point (the largest D) of each run
    only: an earlier checkpoint is not what a run of so many tokens, its learning rate brought down, would have reached.
    The second step reads all points, and the bootstrap draws whole runs (section 3 of the paper).
    """
    options = options or FitOptions()
    whole = make_points(loss, params=N, tokens=D, clusters=clusters)
    last = last_points(whole)
    points = whole.subset(last)
    scores = make_points(accuracy, loss=loss, clusters=clusters)
    first = find_optimum(Hoffmann, points, options)
    second_options = replace(options, objective=None, log_residual=None, constants={})
    second = find_optimum(LossSigmoid, scores, second_options)
    draws: tuple[Draws | None, Draws | None] = (None, None)
    if Status.NOT_IDENTIFIABLE not in (first.status, second.status):
        draws = draw_steps((first, second), points, scores, options)
    fits = (
        tell(Hoffmann, points, options, first, draws[0]),
        tell(LossSigmoid, scores, second_options, second, draws[1]),
    )
    law = TwoStep(first=Hoffmann(**fits[0].law.parameters), second=LossSigmoid(**fits[1].law.parameters))
    return TwoStepFit(law=law, first=fits[0], second=fits[1], last=last)


def last_points(points: Points) -> Rows:
    """[runs] row of the largest D of each run, in the order of the labels; every row where points have none."""
    if points.clusters is None:
        return np.arange(len(points))
    tokens = points.quantity("tokens")
    order = np.lexsort((tokens, points.clusters))
    return np.asarray(order[np.append(np.diff(points.clusters[order]) != 0, True)], dtype=np.intp)


def draw_steps(
    optima: tuple[Optimum, Optimum], points: Points, scores: Points, options: FitOptions
) -> tuple[Draws | None, Draws | None]:
    """Refits of both steps on the same draws; None where nothing is left to judge the noise by.

    Whole runs are drawn where there are many or where a run has several points; otherwise new noise is drawn around
    both steps. The two noises are independent: the second step's is what is left of the accuracy at the observed loss.
    """
    if options.bootstrap == 0 or min(optimum.health.degrees_of_freedom for optimum in optima) < 1:
        return None, None
    generator = np.random.default_rng([options.seed, 1])
    by_points = resamples(points, len(Hoffmann.fitted))
    if by_points:
        weights = draw_points(points, options.bootstrap, generator, len(Hoffmann.fitted))  # [R, runs]
        run = np.arange(len(scores)) if scores.clusters is None else scores.clusters
        samples = [
            Sample(weights=w, targets=np.broadcast_to(optimum.form.target, w.shape))
            for w, optimum in zip((weights, weights[:, run]), optima, strict=True)
        ]
    else:
        samples = [
            draw_noise(o.form, o.theta, least_squares(o.form, o.theta), options.bootstrap, generator) for o in optima
        ]
    # Runs drawn again are other designs too, which with 16 of them widens the bands as much as the parameters would:
    # taking off one degree of freedom holds the truth in 96 to 97 % of simulations, taking off five in 99 %.
    taken = len(Hoffmann.fitted) if points.clusters is None else 1
    tail = expanded_tail(len(points), taken, options.level) if by_points else (1 - options.level) / 2
    first, second = (
        Draws(
            values=optimum.form.values(refit(optimum.form, optimum.objective, optimum.theta, sample)),
            tail=tail,
            kind="points" if by_points else "noise",
        )
        for optimum, sample in zip(optima, samples, strict=True)
    )
    return first, second
