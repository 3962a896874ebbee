"""Refits that show how far the parameters could have come out otherwise, and intervals read from them.

Two ways, chosen by how much data there is:

- `points`, with twenty points or more per parameter: points (or whole clusters) are drawn again with replacement.
  Intervals are expanded percentiles (Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3.3):
  plain percentiles are too narrow by sqrt((n - p) / n) and by the difference of t and normal quantiles, so they are
  taken further out by just that.
- `noise`, with fewer: the design is kept as it is, and every refit gets the fitted law plus new normal noise whose
  standard deviation is itself drawn from what the residuals allow (sigma^2 dof / chi^2). For a straight line this is
  the exact t interval; drawing 12 points with replacement instead often leaves no design that determines 5 parameters.

Runs that repeat a setting (one N, D and C) with other seeds tell the noise of seeds, not how far the law itself misses
that setting: three seeds of 12 settings are 36 runs and 12 chances for the law to be wrong. So settings, not runs, are
what is counted and drawn in `points`; and in `noise`, where the runs of a setting miss the law together by more than
their seeds explain, the refits get a deviation of the setting and one of the run, each drawn as above.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ladder.analysis.fitting.forms import Form
from ladder.analysis.fitting.points import Points, split_residuals
from ladder.analysis.fitting.solver import Objective, Sample, refit
from ladder.analysis.laws.law import Floats


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
"""From this many settings per parameter on, points are drawn again; below, noise."""
POOLING_DOUBT = 0.25
"""Least probability of the settings' misses, were they noise of seeds, at which they count as that: tests that come
before pooling are best lenient, since pooling wrongly narrows the interval and not pooling merely widens it."""


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
        """The percentile interval of one parameter; an end among draws that overflowed is unknown.

        The k-th of R draws is their k / (R + 1) quantile: with k / R intervals of 400 draws hold .5 % too little.
        """
        with np.errstate(invalid="ignore"):
            low, high = np.quantile(self.values[name], [self.tail, 1 - self.tail], method="weibull")
        return Interval(low=known(low), high=known(high))


def draw(
    form: Form, objective: Objective, theta: Floats, points: Points, count: int, level: float, seed: int
) -> Draws | None:
    """`count` refits around the optimum theta [P]; None where no residual degree of freedom is left."""
    n_groups = int(find_groups(points).max()) + 1
    if count == 0 or len(points) <= len(theta) or n_groups < 2:
        return None
    generator = np.random.default_rng([seed, 1])  # stream 0 draws the starts
    by_points = resamples(points, len(theta))
    if by_points:
        weights = draw_points(points, count, generator, len(theta))
        sample = Sample(weights=weights, targets=np.broadcast_to(form.target, weights.shape))
        # The inner variation of clusters determines parameters too: only their mean takes a degree of freedom.
        taken = len(theta) if points.clusters is None else 1
        tail = expanded_tail(n_groups, taken, level)
    else:
        sample = draw_noise(form, theta, least_squares(form, theta), count, generator, settings=find_groups(points))
        tail = (1 - level) / 2
    refits = refit(form, objective, theta, sample)
    return Draws(values=form.values(refits), tail=tail, kind="points" if by_points else "noise")


def find_groups(points: Points) -> NDArray[np.int64]:
    """[n] label, from 0, of what is drawn as one: the given cluster, else the setting (runs at equal quantities)."""
    if points.clusters is not None:
        labels = np.unique(points.clusters, return_inverse=True)[1]  # a subset of points may lack some
        return np.asarray(labels, dtype=np.int64)
    given = np.stack([np.log(values) for values in points.quantities.values() if values is not None])
    labels = np.unique(np.round(given, 9), axis=1, return_inverse=True)[1]
    return np.asarray(labels.reshape(-1), dtype=np.int64)


def resamples(points: Points, n_parameters: int) -> bool:
    """True where points are drawn again, False where noise is."""
    return points.clusters is not None or int(find_groups(points).max()) + 1 >= POINTS_PER_PARAMETER * n_parameters


def expanded_tail(n_groups: int, n_parameters: int, level: float) -> float:
    """Probability on each side that percentiles leave out, expanded for a sample of finite size."""
    freedom = n_groups - n_parameters
    return float(special.ndtr(-np.sqrt(n_groups / freedom) * t_quantile(0.5 + level / 2, freedom)))


def draw_points(points: Points, count: int, generator: np.random.Generator, n_needed: int) -> Floats:
    """Point weights [count, n]: how often each point was drawn, whole groups at a time.

    Draws with fewer than `n_needed` distinct points are drawn again: they would determine nothing.
    """
    groups = find_groups(points)
    n_groups = int(groups.max()) + 1
    even = np.full(n_groups, 1 / n_groups)
    weights = generator.multinomial(n_groups, even, size=count).astype(np.float64)[:, groups]
    for _ in range(100):
        poor = np.flatnonzero((weights > 0).sum(axis=1) < n_needed)
        if len(poor) == 0:
            break
        weights[poor] = generator.multinomial(n_groups, even, size=len(poor))[:, groups]
    return weights


def least_squares(form: Form, theta: Floats) -> Floats:
    """Residuals [n] of least squares: their sum of squares over sigma^2 is chi^2, which that of a robust fit is not."""
    best = refit(form, Objective(kind="squares"), theta, Sample.whole(form, 1))
    return np.asarray((form.target - form.evaluate(best).prediction)[0])


def draw_noise(
    form: Form,
    theta: Floats,
    residuals: Floats,
    count: int,
    generator: np.random.Generator,
    *,
    settings: NDArray[np.int64] | None = None,
) -> Sample:
    """The fitted values plus normal noise of a standard deviation that is itself uncertain, `count` times.

    `residuals` [n] are those of least squares. Where `settings` (labels [n]) repeat and their runs miss the law
    together, the noise has a part for the setting: the mean square between settings is that of the seeds plus
    `repeats` times its own.
    """
    fitted = form.evaluate(theta[None]).prediction[0]
    shape = (count, len(fitted))
    split = None if settings is None else split_residuals(residuals, settings, len(theta))
    if split is None or split.doubt > POOLING_DOUBT:
        freedom = len(fitted) - len(theta)
        sigma = np.sqrt((residuals**2).sum() / generator.chisquare(freedom, size=(count, 1)))
        targets = fitted + sigma * generator.standard_normal(shape)
        return Sample(weights=np.ones_like(targets), targets=targets)
    assert settings is not None
    run_square = split.within / generator.chisquare(split.within_freedom, size=(count, 1))
    setting_square = split.between / generator.chisquare(split.between_freedom, size=(count, 1))
    own = np.sqrt(np.maximum(0.0, setting_square - run_square) / split.repeats)
    shared = generator.standard_normal((count, int(settings.max()) + 1))[:, settings]
    targets = fitted + own * shared + np.sqrt(run_square) * generator.standard_normal(shape)
    return Sample(weights=np.ones_like(targets), targets=targets)


@dataclass(frozen=True, kw_only=True)
class Line:
    """y = a + b x with its covariance."""

    a: float
    """Intercept at x = 0."""
    b: float
    """Slope."""
    centre: float
    """Mean of x."""
    squares: float
    """Sum of squared deviations of x from its mean."""
    n_points: int
    """Points fitted."""
    sigma: float | None
    """Residual standard deviation on n - 2 degrees of freedom, or the points' own standard error where that is more;
    None with two points."""

    @property
    def degrees_of_freedom(self) -> int:
        """Points less the two parameters."""
        return self.n_points - 2

    def half_width(self, x: Floats, level: float, *, new_run: bool = False) -> Floats | None:
        """Half the t interval of the line at x, or of one new observation there; None where it is unknown."""
        if self.sigma is None:
            return None
        variance = 1 / self.n_points + (x - self.centre) ** 2 / self.squares + (1.0 if new_run else 0.0)
        return np.asarray(t_quantile(0.5 + level / 2, self.degrees_of_freedom) * self.sigma * np.sqrt(variance))

    def intervals(self, level: float) -> dict[str, Interval]:
        """t intervals of a and b."""
        half = self.half_width(np.zeros(1), level)
        if half is None or self.sigma is None:
            return {"a": UNKNOWN, "b": UNKNOWN}
        reach = float(t_quantile(0.5 + level / 2, self.degrees_of_freedom) * self.sigma / np.sqrt(self.squares))
        return {
            "a": Interval(low=self.a - float(half[0]), high=self.a + float(half[0])),
            "b": Interval(low=self.b - reach, high=self.b + reach),
        }


def fit_line(x: Floats, y: Floats, *, point_error: float | None = None) -> Line:
    """Ordinary least squares of y [n] on x [n], which must hold two different values.

    `point_error` is the standard error of a y, None where it is unknown: points that lie on a line closer than that lie
    there by chance, and the intervals are not to be narrower for it.
    """
    centre = float(x.mean())
    squares = float(((x - centre) ** 2).sum())
    assert squares > 0, "the design check refuses a single x"
    b = float((x - centre) @ y) / squares
    a = float(y.mean()) - b * centre
    freedom = len(x) - 2
    sigma = float(np.sqrt(((y - a - b * x) ** 2).sum() / freedom)) if freedom > 0 else None
    if sigma is not None and point_error is not None:
        sigma = max(sigma, point_error)
    return Line(a=a, b=b, centre=centre, squares=squares, n_points=len(x), sigma=sigma)
