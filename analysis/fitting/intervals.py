"""Refits that show how far the parameters could have come out otherwise, and every interval that is read from them.

What is drawn again are groups (`points.find_groups`): settings, or clusters where a column says what is one run. Three
ways, chosen by how many groups there are for each parameter:

- `points`, with twenty groups or more: groups are drawn again with replacement. Intervals are expanded percentiles
  (Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3.3): plain percentiles are too narrow by
  sqrt((n - p) / n) and by the difference of t and normal quantiles, so they are taken further out by just that.
- `noise`, with fewer settings: the design is kept as it is, and every refit gets the fitted law plus new normal noise
  whose standard deviation is itself drawn from what the residuals allow (sigma^2 dof / chi^2). For a straight line this
  is the exact t interval. Where the seeds of a setting miss the law together by more than their own noise explains, the
  refits get a deviation of the setting and one of the run, each drawn as above. Runs that branched off one trunk share
  a part of their noise: the refits get a part of trunks, one of settings and one of runs, each of a size that is drawn
  from what the residuals allow at that level.
- `clusters`, with fewer clusters of several points: the residuals of a cluster keep their shape and get one random
  factor, drawn from Student's t with one degree of freedom less than there are clusters (a wild cluster bootstrap). The
  residuals are those of the law fitted without the cluster (the jackknife's, CR3 of Bell and McCaffrey 2002), since a
  cluster's own residuals are too small by what it pulled the fit.

Groups must outnumber the parameters by enough, or else the interval is unknown. One quantile rule serves all: `ends`. A
draw without a value counts as beyond both ends, a draw that pressed a coordinate against a bound as beyond the end on
that side, and an end further out than the draws reach is unknown.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ladder.analysis.fitting.forms import Form, jackknife_residuals, jacobian_at
from ladder.analysis.fitting.points import (
    Level,
    Points,
    draw_points,
    find_groups,
    find_levels,
    find_trunks,
    part_of,
    split_residuals,
)
from ladder.analysis.fitting.solver import Objective, Sample, refit
from ladder.analysis.laws.law import Floats

Labels = NDArray[np.int64]
Progress = Callable[[int, int], None]
"""Told how many refits of how many are done."""
POINTS_PER_PARAMETER = 20
"""From this many groups per parameter on, groups are drawn again; below, noise."""
POOLING_DOUBT = 0.25
"""Least probability of the settings' misses, were they noise of seeds, at which they count as that: tests that come
before pooling are best lenient, since pooling wrongly narrows the interval and not pooling merely widens it."""
SPARE_SETTINGS = {2: 1, 3: 1}
"""Settings more than parameters from which on noise can be judged: 2 unless it is here. Six runs for Hoffmann's five
held E in 71 to 89 % of simulations where it was known at all."""
CLUSTERS_PER_PARAMETER = 2
"""Clusters for each parameter from which on intervals hold the truth as often as they say: a power law's from 4 on in
93 to 98 % of simulations; with 3 they do in 98.6 %, and with 6 or 8 for Hoffmann's five they always do."""
LEAST_FREEDOM = 0.9
"""Degrees of freedom that a level of shared noise must have left, or else the interval is unknown."""
BLOCK_VALUES = 10_000_000
"""Values [draws, n] that are held at once, so that many refits of a large table fit in memory."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A two-sided interval in the quantity's unit; a None end is unknown."""

    low: float | None
    high: float | None

    def as_list(self) -> list[float | None]:
        """[low, high]."""
        return [self.low, self.high]

    @property
    def known(self) -> bool:
        """True where both ends are."""
        return self.low is not None and self.high is not None


UNKNOWN = Interval(low=None, high=None)


def t_quantile(probability: float, degrees_of_freedom: float) -> float:
    """Quantile of Student's t."""
    return float(special.stdtrit(degrees_of_freedom, probability))


def ends(values: Floats, tail: float) -> tuple[Floats, Floats]:
    """Quantiles `tail` and 1 - tail of draws [R, ...] along their first axis; not finite where an end is unknown.

    The k-th of R draws is their k / (R + 1) quantile: with k / R intervals of 400 draws hold .5 % too little. A draw of
    nan says that anything is possible, so it counts beyond both ends. A quantile beyond the k = 1 or k = R is unknown.
    """
    count = len(values)
    if tail * (count + 1) < 1:
        unknown = np.full(values.shape[1:], np.nan)
        return unknown, unknown
    missing = np.isnan(values)
    with np.errstate(invalid="ignore"):
        low = np.quantile(np.where(missing, -np.inf, values), tail, axis=0, method="weibull")
        high = np.quantile(np.where(missing, np.inf, values), 1 - tail, axis=0, method="weibull")
    return np.where(np.isfinite(low), low, np.nan), np.where(np.isfinite(high), high, np.nan)


def interval_of(values: Floats, tail: float) -> Interval:
    """The interval of one quantity's draws [R]; an end that is not finite is unknown."""
    low, high = ends(values, tail)
    return Interval(low=known(float(low)), high=known(float(high)))


def known(end: float) -> float | None:
    """An end as a float; None for one that is not finite."""
    return float(end) if np.isfinite(end) else None


def t_scale(generator: np.random.Generator, freedom: float, count: int) -> Floats:
    """[count, 1] factors that turn normal draws into Student's t: what so many degrees of freedom allow of a scale."""
    return np.asarray(np.sqrt(freedom / generator.chisquare(freedom, size=(count, 1))))


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Bootstrap draws with what is needed to read intervals from them."""

    values: dict[str, Floats]
    """[R] per fitted parameter, as the refits came out."""
    tail: float
    """Probability to leave out on each side."""
    kind: str
    """points, noise or clusters."""
    pinned: dict[str, Floats] = field(default_factory=dict)
    """[R] per parameter that any refit pressed against a bound: the value, or what stands for it (-inf, inf, nan)."""
    noise: Floats | None = None
    """[R] what each draw adds for one new run, in the residual's scale; None where a run's noise is unknown."""

    def interval(self, name: str) -> Interval:
        """The interval of one parameter; an end among draws that overflowed or pressed against a bound is unknown."""
        return interval_of(self.pinned.get(name, self.values[name]), self.tail)


def draw(
    form: Form, objective: Objective, theta: Floats, points: Points, count: int, level: float, seed: int,
    progress: Progress | None = None,
) -> Draws | None:  # fmt: skip
    """`count` refits around the optimum theta [P]; None where the groups cannot say how uncertain it is."""
    groups = find_groups(points)
    trunks = find_trunks(points, groups)
    kind = draw_kind(points, groups, len(theta), trunks) if count else None
    if kind is None:
        return None
    if kind == "points" and trunks is not None:
        groups = trunks
    generator = np.random.default_rng([seed, 1])  # stream 0 draws the starts
    n_groups, taken = int(groups.max()) + 1, len(theta) if points.clusters is None else 1
    own = least_squares(form, theta)
    left = jackknife_residuals(form, theta, own, groups) if kind == "clusters" else own
    if left is None:
        return None
    noises: list[Floats] = []
    levels = (
        find_levels(jacobian_at(form, theta), own, trunks, groups) if kind == "noise" and trunks is not None else None
    )
    if levels is not None and min(level.freedom for level in levels) < LEAST_FREEDOM:
        return None  # the parameters take all that trunks differ by

    def sample(size: int) -> Sample:
        if kind == "points":
            weights = draw_points(groups, size, generator, len(theta))
            noises.append(generator.choice(spare_residuals(form, theta), size=size))
            return Sample(weights=weights, targets=np.broadcast_to(form.target, weights.shape))
        if levels is not None:
            made, noise = draw_levels(form, theta, levels, size, generator)
        else:
            draw = draw_clusters if kind == "clusters" else draw_noise
            made, noise = draw(form, theta, np.asarray(left), groups, size, generator)
        noises.append(noise)
        return made

    refits = refit_in_blocks(form, objective, theta, sample, count, progress)
    # The inner variation of clusters determines parameters too: only their mean takes a degree of freedom.
    tail = expanded_tail(n_groups, taken, level) if kind == "points" else (1 - level) / 2
    return Draws(
        values=form.values(refits), tail=tail, kind=kind, pinned=form.pinned(refits), noise=np.concatenate(noises)
    )


def draw_kind(points: Points, groups: Labels, n_parameters: int, trunks: Labels | None = None) -> str | None:
    """points, noise or clusters; None where groups are too few to judge the parameters by."""
    n_groups = int(groups.max()) + 1
    n_drawn = n_groups if trunks is None else int(trunks.max()) + 1
    if n_drawn >= POINTS_PER_PARAMETER * n_parameters:
        return "points"
    if points.clusters is not None:
        return "clusters" if n_groups >= CLUSTERS_PER_PARAMETER * n_parameters else None
    return "noise" if n_groups >= n_parameters + SPARE_SETTINGS.get(n_parameters, 2) else None


def refit_in_blocks(
    form: Form, objective: Objective, theta: Floats, sample: Callable[[int], Sample], count: int,
    progress: Progress | None = None,
) -> Floats:  # fmt: skip
    """[count, P] refits from theta to samples that are drawn a block at a time."""
    n = len(form.target)
    block, refits = max(1, BLOCK_VALUES // n), []
    for begin in range(0, count, block):
        refits.append(refit(form, objective, theta, sample(min(block, count - begin))))
        if progress is not None:
            progress(min(begin + block, count), count)
    return np.concatenate(refits)


def expanded_tail(n_groups: int, n_parameters: int, level: float) -> float:
    """Probability on each side that percentiles leave out, expanded for a sample of finite size."""
    freedom = n_groups - n_parameters
    return float(special.ndtr(-np.sqrt(n_groups / freedom) * t_quantile(0.5 + level / 2, freedom)))


def least_squares(form: Form, theta: Floats) -> Floats:
    """Residuals [n] of least squares: their sum of squares over sigma^2 is chi^2, which that of a robust fit is not."""
    best = refit(form, Objective(kind="squares"), theta, Sample.whole(form, 1))
    return np.asarray((form.target - form.evaluate(best).prediction)[0])


def spare_residuals(form: Form, theta: Floats) -> Floats:
    """The fit's residuals [n], scaled up for the fitted parameters: what a new run may deviate by."""
    left = form.target - form.evaluate(theta[None]).prediction[0]
    return np.asarray(left * np.sqrt(len(left) / max(len(left) - len(theta), 1)))


def draw_noise(
    form: Form, theta: Floats, residuals: Floats, settings: Labels, count: int, generator: np.random.Generator
) -> tuple[Sample, Floats]:
    """The fitted values plus normal noise of a standard deviation that is itself uncertain, and a new run's noise.

    `residuals` [n] are those of least squares. Where settings (labels [n]) repeat and their runs miss the law together,
    the noise has a part for the setting: the mean square between settings is that of the seeds plus `repeats` times its
    own.
    """
    fitted = form.evaluate(theta[None]).prediction[0]
    split = split_residuals(residuals, settings, len(theta))
    if split is None or split.doubt > POOLING_DOUBT:
        freedom = len(fitted) - len(theta)
        squares = float((residuals**2).sum())
        total = np.sqrt(squares / generator.chisquare(freedom, size=(count, 1)))
        if form.known_noise and special.chdtrc(freedom, squares / form.known_noise**2) > POOLING_DOUBT:
            total = np.full((count, 1), form.known_noise)  # they scatter by no more than is known
        targets = fitted + total * generator.standard_normal((count, len(fitted)))
    else:
        run_square = split.within / generator.chisquare(split.within_freedom, size=(count, 1))
        setting_square = split.between / generator.chisquare(split.between_freedom, size=(count, 1))
        own = np.sqrt(np.maximum(0.0, setting_square - run_square) / split.repeats)
        shared = generator.standard_normal((count, int(settings.max()) + 1))[:, settings]
        targets = fitted + own * shared + np.sqrt(run_square) * generator.standard_normal((count, len(fitted)))
        total = np.sqrt(own**2 + run_square)
    return Sample(weights=np.ones_like(targets), targets=targets), (total * generator.standard_normal((count, 1)))[:, 0]


def draw_levels(
    form: Form, theta: Floats, levels: list[Level], count: int, generator: np.random.Generator
) -> tuple[Sample, Floats]:
    """The fitted values plus normal noise of each level, of a standard deviation that is drawn from what its residuals
    allow, and a new run's noise."""
    fitted = form.evaluate(theta[None]).prediction[0]
    normal = generator.standard_normal((count, len(fitted)))
    squares = [level.square / generator.chisquare(level.freedom, size=(count, 1)) for level in levels]
    targets = fitted + sum(
        np.sqrt(square) * part_of(normal, level.labels, level.above)
        for square, level in zip(squares, levels, strict=True)
    )
    run = squares[-1]
    for level, square, inner in zip(levels, squares, squares[1:], strict=False):
        run = run + np.maximum(0.0, square - inner) * (int(level.labels.max()) + 1) / len(fitted)
    noise = np.sqrt(run) * generator.standard_normal((count, 1))
    return Sample(weights=np.ones_like(targets), targets=targets), noise[:, 0]


def draw_clusters(
    form: Form, theta: Floats, residuals: Floats, groups: Labels, count: int, generator: np.random.Generator
) -> tuple[Sample, Floats]:
    """The fitted values plus each cluster's residuals [n] times a factor of its own, and a new run's noise."""
    n_groups = int(groups.max()) + 1
    factors = t_scale(generator, n_groups - 1, count) * generator.standard_normal((count, n_groups))
    fitted = form.evaluate(theta[None]).prediction[0]
    targets = fitted + factors[:, groups] * residuals
    spread = float(np.sqrt(np.mean(residuals**2)))
    noise = spread * t_scale(generator, n_groups - 1, count) * generator.standard_normal((count, 1))
    return Sample(weights=np.ones_like(targets), targets=targets), noise[:, 0]


@dataclass(frozen=True, kw_only=True)
class Line:
    """y = a + b x with its covariance; with t quantiles its intervals are exact and need no bootstrap."""

    a: float
    """Intercept at x = 0."""
    b: float
    """Slope."""
    centre: float
    """Mean of x."""
    covariance: tuple[float, float, float] | None
    """Variances of the line at the centre and of the slope, and their covariance; None where they are unknown."""
    sigma: float | None
    """Standard deviation of one new run about the line; None where it is unknown."""
    degrees_of_freedom: int
    """Groups less the two parameters (less one where clusters extend along the line)."""

    def half_width(self, x: Floats, level: float, *, new_run: bool = False) -> Floats | None:
        """Half the t interval of the line at x, or of one new observation there; None where it is unknown."""
        if self.covariance is None or self.sigma is None:
            return None
        middle, slope, both = self.covariance
        away = x - self.centre
        variance = middle + away**2 * slope + 2 * away * both + (self.sigma**2 if new_run else 0.0)
        return np.asarray(t_quantile(0.5 + level / 2, self.degrees_of_freedom) * np.sqrt(variance))

    def intervals(self, level: float) -> dict[str, Interval]:
        """t intervals of a and b."""
        half = self.half_width(np.zeros(1), level)
        if half is None or self.slope_error is None:
            return {"a": UNKNOWN, "b": UNKNOWN}
        reach = t_quantile(0.5 + level / 2, self.degrees_of_freedom) * self.slope_error
        return {
            "a": Interval(low=self.a - float(half[0]), high=self.a + float(half[0])),
            "b": Interval(low=self.b - reach, high=self.b + reach),
        }

    @property
    def slope_error(self) -> float | None:
        """Standard error of the slope, if known."""
        return None if self.covariance is None else float(np.sqrt(self.covariance[1]))

    def doubt(self, *, rising: bool) -> float:
        """One-sided p value of the slope: how often a flat line would come out as steep; 1 where nothing is known."""
        if not self.slope_error:
            return 1.0
        steep = (self.b if rising else -self.b) / self.slope_error
        return float(special.stdtr(self.degrees_of_freedom, -steep))


def fit_line(x: Floats, y: Floats, *, groups: Labels | None = None, point_error: float | None = None) -> Line:
    """Ordinary least squares of y [n] on x [n], which must hold two different values.

    `groups` [n] are what deviates together (None: each point alone). Where each lies at one x, the scatter of their
    means about the line is what is judged by, on groups - 2 degrees of freedom, whatever the points of a group agree
    by: exact where groups are of one size. `point_error` is the standard error of a y, None where it is unknown: points
    that lie on a line closer than that lie there by chance, and the intervals are not to be narrower for it.
    """
    groups = np.arange(len(x)) if groups is None else groups
    counts = np.bincount(groups)
    centre, squares = float(x.mean()), float(((x - x.mean()) ** 2).sum())
    assert squares > 0, "the design check refuses a single x"
    b = float((x - centre) @ y) / squares
    a = float(y.mean()) - b * centre
    residuals = y - a - b * x
    means = np.bincount(groups, weights=x) / counts
    if np.max(np.abs(x - means[groups])) > 1e-6 * np.sqrt(squares):
        return extended_line(x, residuals, groups, {"a": a, "b": b, "centre": centre})
    freedom = len(counts) - 2
    if freedom < 1:
        return Line(a=a, b=b, centre=centre, covariance=None, sigma=None, degrees_of_freedom=max(freedom, 0))
    missed = np.bincount(groups, weights=residuals) / counts
    between = float((counts * missed**2).sum()) / freedom
    if point_error is not None:
        between = max(between, point_error**2)
    repeats = len(x) / len(counts)
    spare = len(x) - len(counts)
    within = float(((residuals - missed[groups]) ** 2).sum()) / spare if spare else between
    sigma = float(np.sqrt(max(0.0, between - within) / repeats + within))
    return Line(
        a=a, b=b, centre=centre, covariance=(between / len(x), between / squares, 0.0), sigma=sigma,
        degrees_of_freedom=freedom,
    )  # fmt: skip


def extended_line(x: Floats, residuals: Floats, groups: Labels, found: dict[str, float]) -> Line:
    """The line with the covariance that clusters along it leave (CR3), on clusters - 1 degrees of freedom."""
    n_groups = int(groups.max()) + 1
    design = np.stack([np.ones_like(x), x - found["centre"]])  # [2, n]
    information = design @ design.T
    if n_groups < 2 * CLUSTERS_PER_PARAMETER:
        return Line(**found, covariance=None, sigma=None, degrees_of_freedom=0)
    moved, adjusted = np.empty((n_groups, 2)), np.empty_like(residuals)
    for group in range(n_groups):
        rows = groups == group
        own = design[:, rows]
        left = information - own @ own.T
        if np.linalg.cond(left) > 1e12:
            return Line(**found, covariance=None, sigma=None, degrees_of_freedom=0)
        adjusted[rows] = residuals[rows] + own.T @ np.linalg.solve(left, own @ residuals[rows])
        moved[group] = np.linalg.solve(information, own @ adjusted[rows])
    covariance = moved.T @ moved
    return Line(
        **found,
        covariance=(float(covariance[0, 0]), float(covariance[1, 1]), float(covariance[0, 1])),
        sigma=float(np.sqrt(np.mean(adjusted**2))),
        degrees_of_freedom=n_groups - 1,
    )
