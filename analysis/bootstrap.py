"""Refits that show how far the parameters could have come out otherwise, and intervals read from them.

Two ways, chosen by how much data there is:

- `points`, with twenty points or more per parameter: points (or whole clusters) are drawn again with replacement.
  Intervals are expanded percentiles (Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3.3):
  plain percentiles are too narrow by sqrt((n - p) / n) and by the difference of t and normal quantiles, so they are
  taken further out by just that.
- `noise`, with fewer: the design is kept as it is, and every refit gets the fitted law plus new normal noise whose
  standard deviation is itself drawn from what the residuals allow (sigma^2 dof / chi^2). For a straight line this is
  the exact t interval; drawing 12 points with replacement instead often leaves no design that determines 5 parameters.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ladder.analysis.forms import Form
from ladder.analysis.objectives import Objective
from ladder.analysis.points import Points
from ladder.analysis.solver import Sample, refit

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A two-sided interval; a None end is unknown."""

    low: float | None
    """Lower end, in the parameter's unit."""
    high: float | None
    """Upper end, in the parameter's unit."""

    def as_list(self) -> list[float | None]:
        """[low, high]."""
        return [self.low, self.high]


UNKNOWN = Interval(low=None, high=None)


def t_quantile(probability: float, degrees_of_freedom: float) -> float:
    """Quantile of Student's t."""
    return float(special.stdtrit(degrees_of_freedom, probability))


POINTS_PER_PARAMETER = 20
"""From this many points per parameter on, points are drawn again; below, noise."""


def known(end: float) -> float | None:
    """The end of an interval as a float; None for one that is not finite."""
    return float(end) if np.isfinite(end) else None


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Bootstrap draws with what is needed to read intervals from them."""

    values: dict[str, Floats]
    """[R] per fitted parameter."""
    tail: float
    """Probability to leave out on each side."""
    kind: str
    """points or noise."""

    def interval(self, name: str) -> Interval:
        """The percentile interval of one parameter; an end among draws that overflowed is unknown."""
        with np.errstate(invalid="ignore"):
            low, high = np.quantile(self.values[name], [self.tail, 1 - self.tail])
        return Interval(low=known(low), high=known(high))


def draw(
    form: Form, objective: Objective, theta: Floats, points: Points, count: int, level: float, seed: int
) -> Draws | None:
    """`count` refits around the optimum theta [P]; None where no residual degree of freedom is left."""
    n_points, n_parameters = len(points), len(theta)
    freedom = n_points - n_parameters
    if count == 0 or freedom < 1:
        return None
    generator = np.random.default_rng([seed, 1])  # stream 0 draws the starts
    by_points = points.clusters is not None or n_points >= POINTS_PER_PARAMETER * n_parameters
    if by_points:
        weights = draw_points(points, count, generator, n_parameters)
        sample = Sample(weights=weights, targets=np.broadcast_to(form.target, weights.shape))
        reach = np.sqrt(n_points / freedom) * t_quantile(0.5 + level / 2, freedom)
        tail = float(special.ndtr(-reach))
    else:
        sample = draw_noise(form, theta, least_squares(form, theta), count, generator)
        tail = (1 - level) / 2
    refits = refit(form, objective, theta, sample)
    return Draws(values=form.values(refits), tail=tail, kind="points" if by_points else "noise")


def draw_points(points: Points, count: int, generator: np.random.Generator, n_needed: int) -> Floats:
    """Point weights [count, n]: how often each point was drawn, whole clusters at a time.

    Draws with fewer than `n_needed` distinct points are drawn again: they would determine nothing.
    """
    labels = np.arange(len(points)) if points.clusters is None else points.clusters
    n_groups = int(labels.max()) + 1
    even = np.full(n_groups, 1 / n_groups)
    weights = generator.multinomial(n_groups, even, size=count).astype(np.float64)[:, labels]
    for _ in range(100):
        poor = np.flatnonzero((weights > 0).sum(axis=1) < n_needed)
        if len(poor) == 0:
            break
        weights[poor] = generator.multinomial(n_groups, even, size=len(poor))[:, labels]
    return weights


def least_squares(form: Form, theta: Floats) -> float:
    """The least sum of squared residuals: divided by sigma^2 it is chi^2, which that of a robust fit is not."""
    best = refit(form, Objective(kind="squares"), theta, Sample.whole(form, 1))
    return float(((form.target - form.evaluate(best).prediction) ** 2).sum())


def draw_noise(form: Form, theta: Floats, squares: float, count: int, generator: np.random.Generator) -> Sample:
    """The fitted values plus normal noise of a standard deviation that is itself uncertain, `count` times."""
    fitted = form.evaluate(theta[None]).prediction[0]
    freedom = len(fitted) - len(theta)
    sigma = np.sqrt(squares / generator.chisquare(freedom, size=(count, 1)))
    targets = fitted + sigma * generator.standard_normal((count, len(fitted)))
    return Sample(weights=np.ones_like(targets), targets=targets)
