"""The points a law is fitted to, validated once, and how they belong together: settings, seeds and clusters.

A setting is one N, D and C; runs of one setting differ in the seed alone. A cluster is what a column says is one run,
such as its checkpoints. Both are told apart here and nowhere else. What the seeds of a setting differ by is noise that
no law can explain; what their mean misses the law by, beyond that, is the law's. One seed a setting tells nothing of
the noise: then it is unknown, which is not 0.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ladder.analysis.fitting.solver import MANY_POINTS
from ladder.analysis.laws.law import FLOPS_PER_PARAMETER_TOKEN, Floats, Law, Variable, format_count
from ladder.models.errors import InputError

DISTINCT = 0.01
"""Relative difference below which two sizes (or two token counts) are the same rung: batches round token counts."""
VALUES_OF: dict[Variable, str] = {
    "params": "params", "tokens": "tokens", "flops": "flops", "loss": "losses", "unique": "unique token counts",
}  # fmt: skip
"""Plurals for messages."""
NOISES = ("errors", "weights", "trials")
"""What may be known of each score's noise; at most one of them is given."""
ONE_RATIO = 0.05
"""Relative spread of D / N (or of D around a power of N) below which size and data were not varied apart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """Scores of runs with the quantities that laws are functions of; an absent quantity is None."""

    score: Floats
    """[n] loss in nats per token, or any other score."""
    params: Floats | None = None
    """[n] N, parameters under whichever convention the caller chose."""
    tokens: Floats | None = None
    """[n] D, tokens seen."""
    flops: Floats | None = None
    """[n] C, training FLOPs."""
    loss: Floats | None = None
    """[n] L, for scores that are functions of a loss, nats."""
    unique: Floats | None = None
    """[n] U, unique tokens that D repeats."""
    errors: Floats | None = None
    """[n] standard error of each score, in its unit; None: all are alike in the residual's scale."""
    weights: Floats | None = None
    """[n] weight of each squared residual, where errors are not known."""
    trials: Floats | None = None
    """[n] items that each score, a share of successes, was counted over: the likelihood is then binomial."""
    variable: Variable = "params"
    """Which quantity a law in one variable reads."""
    clusters: NDArray[np.int64] | None = None
    """[n] group of each point; the bootstrap draws whole groups (checkpoints of one run). None: each its own."""
    trunks: NDArray[np.int64] | None = None
    """[n] trunk that each point's run branched off, which gave it a part of its noise. None: each its own."""

    def __len__(self) -> int:
        return len(self.score)

    def quantity(self, variable: Variable) -> Floats:
        """One of N, D, C, L; of N, D and C two give the third by C = 6 N D."""
        given = self.quantities[variable]
        if given is not None:
            return given
        n, d, c = self.params, self.tokens, self.flops
        if variable == "params" and c is not None and d is not None:
            return c / (FLOPS_PER_PARAMETER_TOKEN * d)
        if variable == "tokens" and c is not None and n is not None:
            return c / (FLOPS_PER_PARAMETER_TOKEN * n)
        if variable == "flops" and n is not None and d is not None:
            return FLOPS_PER_PARAMETER_TOKEN * n * d
        raise InputError(f"the law needs {variable} and only {self.given() or 'none of these'} given; add the column")

    @property
    def quantities(self) -> dict[Variable, Floats | None]:
        """N, D, C, L as they were given."""
        given = {"params": self.params, "tokens": self.tokens, "flops": self.flops}
        return given | {"loss": self.loss, "unique": self.unique}  # type: ignore[return-value]

    @property
    def arrays(self) -> dict[str, NDArray[Any] | None]:
        """Every array by the name of its field."""
        return {name: getattr(self, name) for name in ("score", *VALUES_OF, *NOISES, "clusters", "trunks")}

    def given(self) -> str:
        """Names of the quantities that were given."""
        return " and ".join(name for name, value in self.quantities.items() if value is not None)

    def variable_of(self, law: type[Law]) -> Variable:
        """Which quantity is the law's "x"."""
        return law.reads or self.variable

    def inputs(self, law: type[Law]) -> dict[str, Floats]:
        """What the law's formula reads, by its letters."""
        if law.inputs == ("x",):
            return {"x": self.quantity(self.variable_of(law))}
        found = {"N": self.quantity("params"), "D": self.quantity("tokens")}
        return found | ({"U": self.quantity("unique")} if "U" in law.inputs else {})

    def subset(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "Points":
        """Some of the points."""
        kept = {name: None if value is None else value[rows] for name, value in self.arrays.items()}
        return Points(variable=self.variable, **kept)  # type: ignore[arg-type]

    @property
    def order(self) -> NDArray[np.intp]:
        """The rows in an order that does not depend on the one in which they were given."""
        columns = [value for value in self.arrays.values() if value is not None]
        return np.lexsort(columns[::-1])


def make_points(
    score: ArrayLike,
    *,
    params: ArrayLike | None = None,
    tokens: ArrayLike | None = None,
    flops: ArrayLike | None = None,
    loss: ArrayLike | None = None,
    unique: ArrayLike | None = None,
    errors: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    trials: ArrayLike | None = None,
    variable: Variable | None = None,
    clusters: ArrayLike | None = None,
    trunks: ArrayLike | None = None,
) -> Points:
    """Points from anything array-like, checked: one length, finite numbers, positive N, D, C, L, errors and weights.

    `variable` defaults to the first given of params, tokens, flops, loss. Raises InputError for what is not so, and
    where more than one of errors, weights and trials is given.
    """
    scores = as_numbers("score", score)
    columns = {"params": params, "tokens": tokens, "flops": flops, "loss": loss, "unique": unique}
    columns |= {"errors": errors, "weights": weights, "trials": trials}
    given = {name: None if value is None else as_numbers(name, value, positive=True) for name, value in columns.items()}
    if sum(given[name] is not None for name in NOISES) > 1:
        raise InputError(f"only one of {', '.join(NOISES)} says what each score's noise is; give one")
    if trials is not None and ((scores < 0) | (scores > 1)).any():
        raise InputError("a score counted over trials is a share of them, 0 to 1; divide successes by trials")
    for name, value in given.items():
        if value is not None and len(value) != len(scores):
            raise InputError(f"{name} has {len(value)} values and score {len(scores)}; give one of each per point")
    order: tuple[Variable, ...] = ("params", "tokens", "flops", "loss")
    first: Variable = next((name for name in order if given[name] is not None), "params")
    return Points(score=scores, variable=variable or first, clusters=_labels(clusters), trunks=_labels(trunks), **given)


def _labels(names: ArrayLike | None) -> NDArray[np.int64] | None:
    """Names as numbers from 0."""
    return None if names is None else np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)


def as_numbers(name: str, values: ArrayLike, *, positive: bool = False) -> Floats:
    """A float64 vector, or an InputError that names the first bad row (counted from 1)."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} holds something that is not a number ({error}); give numbers only") from error
    if array.ndim != 1 or len(array) == 0:
        raise InputError(f"{name} has shape {array.shape}; give a list of at least one number")
    bad = ~np.isfinite(array)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{name} is {array[row]} in row {row + 1}; every value must be finite: drop or mend that row")
    bad = array <= 0
    if positive and bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{name} is {array[row]:g} in row {row + 1}; it must be above 0: drop or mend that row")
    return array


def count_distinct(values: Floats, tolerance: float = DISTINCT) -> int:
    """How many levels the values have; what lies within a tolerance (a rounding of the batch) of a level's least is of
    it. Chained to their neighbours, thousands of values would be one level."""
    logs, count, place = np.sort(np.log(values)), 0, 0
    while place < len(logs):
        place, count = int(np.searchsorted(logs, logs[place] + tolerance, side="right")), count + 1
    return count


def find_groups(points: Points) -> NDArray[np.int64]:
    """[n] label, from 0, of what deviates together and so is drawn as one: the setting, or the given cluster.

    Clusters that stand at one setting, or that go through the same settings of N and D, are seeds of it and one group.
    """
    given = np.stack([np.log(values) for values in points.quantities.values() if values is not None])
    settings = np.unique(np.round(given, 9), axis=1, return_inverse=True)[1].reshape(-1)
    if points.clusters is None:
        return np.asarray(settings, dtype=np.int64)
    labels = np.unique(points.clusters, return_inverse=True)[1]  # a subset of points may lack some
    order = np.argsort(labels, kind="stable")
    parts = np.split(settings[order], np.flatnonzero(np.diff(labels[order])) + 1)
    places = [frozenset(part.tolist()) for part in parts]
    merge = [len(given) > 1 or len(place) == 1 for place in places]
    names = [place if same else label for label, (place, same) in enumerate(zip(places, merge, strict=True))]
    number = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return np.asarray([number[names[label]] for label in labels], dtype=np.int64)


def find_trunks(points: Points, settings: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """[n] labels, from 0, of groups that share noise: settings of one trunk, and trunks that repeat one setting (its
    seeds). None where every group is one setting, and where clusters say what belongs together."""
    if points.trunks is None or points.clusters is not None:
        return None
    n_settings = int(settings.max()) + 1
    n_nodes = n_settings + int(points.trunks.max()) + 1
    links = coo_array((np.ones(len(settings)), (settings, n_settings + points.trunks)), shape=(n_nodes, n_nodes))
    _, parts = connected_components(links, directed=False)
    together = np.unique(parts[settings], return_inverse=True)[1]
    return None if together.max() + 1 == n_settings else np.asarray(together, dtype=np.int64)


def is_one_ratio(points: Points) -> bool:
    """True where every point has one and the same number of tokens per parameter."""
    ratio = np.log(points.quantity("tokens") / points.quantity("params"))
    return bool(np.ptp(ratio) < ONE_RATIO)


def design_problem(law: type[Law], points: Points, fixed: Collection[str] = ()) -> str | None:
    """Why no data at these N and D could determine the law, with the runs to add; None where it could.

    A law with E, alpha and beta needs three levels of N to bend a curve in N, three of D likewise, and D that is not
    itself a power of N. Where parameters of a law in N and D are fixed, the gradients of the others decide
    (`health.status_of`).
    """
    if law.inputs == ("x",):
        variable, needed = points.variable_of(law), len(law.fitted) - len(fixed)
        # A loss is measured, not chosen: the smallest difference is one.
        n_levels = count_distinct(points.quantity(variable), 0.0 if variable == "loss" else DISTINCT)
        if n_levels >= needed:
            return None
        return (
            f"{n_levels} distinct {VALUES_OF[variable]} cannot determine the {needed} parameters of {law.name}; "
            f"add runs until there are {needed}"
        )
    if fixed:
        return None
    if "U" in law.inputs and not (points.quantity("tokens") > points.quantity("unique") * (1 + ONE_RATIO)).any():
        return "no run repeats its data, so nothing says what repeated tokens are worth; add runs of several epochs"
    # Settings count once, however many seeds they have: `ladder plan` and a fit must say the same.
    settings = np.unique(np.round(np.log([points.quantity("params"), points.quantity("tokens")]), 9), axis=1)
    params, tokens = np.exp(settings)
    needed = 3 if "E" in law.fitted and law.name != "gadre" else 2
    sizes, budgets = count_distinct(params), count_distinct(tokens)
    along = np.log(tokens) - np.log(tokens).mean()
    across = np.log(params) - np.log(params).mean()
    exponent = float(along @ across / (across @ across)) if sizes > 1 else 0.0
    curve = bool(np.max(np.abs(along - exponent * across)) < ONE_RATIO)
    if sizes > 1 and budgets > 1 and curve:
        return one_curve_reason(points, exponent)
    if sizes < needed:
        return f"{sizes} distinct sizes; {law.name} needs {needed}: add runs at {needed - sizes} more sizes"
    if budgets < needed:
        return (
            f"{budgets} distinct token counts; {law.name} needs {needed}: "
            f"add runs at {needed - budgets} more token counts"
        )
    return None


def one_curve_reason(points: Points, exponent: float) -> str:
    """Says that D follows N, and names runs that would part them."""
    params, tokens = points.quantity("params"), points.quantity("tokens")
    ratio = float(np.median(tokens / params))
    what = (
        f"every run has the same {ratio:.3g} tokens per parameter"
        if is_one_ratio(points)
        else f"the tokens of every run follow its size as N^{exponent:.2f}"
    )
    small = np.sort(params)[: max(2, len(params) // 4)]
    runs = ", ".join(
        f"N {format_count(n)} with D {format_count(d)}"
        for n in np.unique(small)
        for d in (n * ratio * 4, n * ratio * 16)
    )
    return (
        f"{what}, so that the terms in N and in D cannot be told apart (exchanging them fits as well); "
        f"add runs at other ratios, the cheapest being {runs}"
    )


@dataclass(frozen=True, kw_only=True)
class PureError:
    """A least-squares fit's residuals split by settings that were run more than once.

    The classical test of lack of fit: what repeated runs differ by among themselves is noise; what their mean misses
    the law by, beyond that, is the law's.
    """

    within: float
    """Sum of squared deviations of runs from their setting's mean."""
    within_freedom: int
    """Runs less settings."""
    between: float
    """Sum of squares that is left."""
    between_freedom: int
    """Settings less parameters; 0 or less where the settings do not outnumber them."""
    repeats: float
    """Runs a setting, as they count for the variance of its mean."""

    @property
    def doubt(self) -> float:
        """Probability of so large a ratio of mean squares if the law held: small where it misses its settings."""
        if self.between_freedom < 1 or self.within <= 0:
            return 1.0
        ratio = self.between / self.between_freedom / (self.within / self.within_freedom)
        return float(special.fdtrc(self.between_freedom, self.within_freedom, ratio))


def split_residuals(residuals: Floats, settings: NDArray[np.int64], n_parameters: int) -> PureError | None:
    """The split of residuals [n] by setting labels [n], 0 to k - 1; None where no setting repeats."""
    counts = np.bincount(settings).astype(np.float64)  # [k]
    n, k = len(residuals), len(counts)
    if k == n:
        return None
    means = np.bincount(settings, weights=residuals) / counts
    within = float(((residuals - means[settings]) ** 2).sum())
    return PureError(
        within=within,
        within_freedom=n - k,
        between=max(0.0, float((residuals**2).sum()) - within),
        between_freedom=k - n_parameters,
        repeats=float((n - (counts**2).sum() / n) / (k - 1)) if k > 1 else float(n),
    )


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level of shared noise: what groups with a label each differ by beyond the level above."""

    labels: NDArray[np.int64]
    """Of trunks, of settings or of runs, each within the one before."""
    above: NDArray[np.int64] | None
    """Of the level above."""
    square: float
    """Sum of squares of the residuals at this level."""
    freedom: float
    """Degrees of freedom that the fit leaves of it: trace of its projection times that onto the residuals' space."""


def find_levels(
    jacobian: Floats, residuals: Floats, trunks: NDArray[np.int64] | None, settings: NDArray[np.int64]
) -> list[Level]:
    """Trunks, settings and runs with what the residuals [n] of least squares have at each; a level that is the one
    above is left out, and without trunks there are runs alone. `jacobian` [P, n] holds the law's gradients."""
    fitted = np.linalg.qr((jacobian / np.maximum(np.linalg.norm(jacobian, axis=1, keepdims=True), 1e-300)).T)[0].T
    levels: list[Level] = []
    above, n_above = None, 0
    runs = np.arange(len(residuals))
    for labels in (runs,) if trunks is None else (trunks, settings, runs):
        n_labels = int(labels.max()) + 1
        if n_labels > n_above:
            square = float((part_of(residuals[None], labels, above) ** 2).sum())
            taken = float((part_of(fitted, labels, above) ** 2).sum())
            levels.append(Level(labels=labels, above=above, square=square, freedom=n_labels - n_above - taken))
            above, n_above = labels, n_labels
    return levels


def part_of(values: Floats, labels: NDArray[np.int64], above: NDArray[np.int64] | None) -> Floats:
    """What values [R, n] differ by between labels beyond what those above differ by: means less means of means."""

    def means(which: NDArray[np.int64]) -> Floats:
        member = (which[:, None] == np.arange(int(which.max()) + 1)).astype(np.float64)
        return np.asarray((values @ member / member.sum(0))[:, which])

    return means(labels) if above is None else means(labels) - means(above)


def draw_points(groups: NDArray[np.int64], count: int, generator: np.random.Generator, n_needed: int) -> Floats:
    """Point weights [count, n]: how often each point was drawn, whole groups at a time.

    Draws with fewer than `n_needed` distinct points, which would determine nothing, are drawn again.
    """
    n_groups = int(groups.max()) + 1
    if n_groups > MANY_POINTS:  # counting what was drawn is many times faster than a multinomial of as many parts
        drawn = (generator.integers(n_groups, size=n_groups, dtype=np.int32) for _ in range(count))
        return np.stack([np.bincount(places, minlength=n_groups)[groups] for places in drawn]).astype(np.float64)
    even = np.full(n_groups, 1 / n_groups)
    weights = generator.multinomial(n_groups, even, size=count).astype(np.float64)[:, groups]
    while len(poor := np.flatnonzero((weights > 0).sum(axis=1) < n_needed)):
        weights[poor] = generator.multinomial(n_groups, even, size=len(poor))[:, groups]
    return weights
