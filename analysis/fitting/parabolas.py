"""The parabola of one budget, and what became of it.

The pieces of `isoflop`: which runs are of one budget, the parabola in ln N through their losses, its lowest point with
its interval, and whether a cubic says otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ladder.analysis.fitting.intervals import UNKNOWN, Interval, interval_of, t_scale
from ladder.analysis.fitting.points import DISTINCT, Points, count_distinct
from ladder.analysis.laws.law import Floats, format_count
from ladder.models.errors import InputError

Rows = NDArray[np.intp]


SIZES_OF_PARABOLA = 3
"""Sizes that determine a parabola; one more is needed to judge it."""


RUNS_OF_OWN_NOISE = 10
"""Runs at every budget from which on each run's noise is judged by its own residual in the interval of a vertex."""


BESIDE = 1.5
"""Factor in N around the best run within which a vertex lies beside it, however close other sizes are."""


CHANCE = 2.0
"""Standard deviations of the runs about their parabola by which another run is the lowest by chance."""
CUBIC_MOVE, CUBIC_DOUBT = 0.02, 0.05
"""Change of the exponent by cubics that is worth a word, and the p value up to which cubics fit better."""


OWN_FREEDOM = 3
"""Runs beyond a parabola's three from which on a budget's noise is its own."""
LEAST_FREEDOM = 1e-3
"""Least share of a residual that a run of high leverage keeps."""


SEARCH_WINDOW = 4.0
"""Factor around the best trial of a search within which a parabola in the setting's logarithm is fitted: over more, the
loss rises faster to one side than to the other."""


class BudgetStatus(StrEnum):
    """What became of one budget's parabola."""

    USED = "used"
    TOO_FEW = "too few sizes"
    DOWNWARD = "opens downward"
    OUTSIDE = "vertex outside the sizes"
    FLAT = "vertex not determined"


@dataclass(frozen=True, kw_only=True)
class IsoFlopOptions:
    """How the budgets are told apart and how the intervals are made."""

    tolerance: float = 0.1
    """Width in ln C of what counts as one budget: runs stop at whole batches, and points read off a figure scatter."""
    flops: tuple[float, ...] | None = None
    """The budgets themselves, training FLOPs, each taking the runs within tolerance / 2 in ln C; None: found."""
    window: float | None = None
    """Factor in N around each budget's best run beyond which runs are left out of its parabola; None: all are in."""
    bootstrap: int = 1000
    """Redrawn sets of losses for the intervals; 0 leaves them unknown."""
    seed: int = 0
    """Seeds the redrawing."""
    level: float = 0.95
    """Confidence level."""

    def __post_init__(self) -> None:
        if not (self.tolerance > 0 and 0 < self.level < 1 and self.bootstrap >= 0):
            raise InputError(
                f"tolerance is {self.tolerance}, level {self.level}, bootstrap {self.bootstrap}; the tolerance must be "
                "above 0, the level between 0 and 1, bootstrap 0 or more"
            )
        if self.window is not None and not self.window > 1:
            raise InputError(f"the window is {self.window}; give a factor in N above 1, such as 4")
        if self.flops is not None and not all(flops > 0 for flops in self.flops):
            raise InputError(f"the budgets are {self.flops}; each must be training FLOPs above 0")


@dataclass(frozen=True, kw_only=True, eq=False)
class Budget:
    """One budget's runs and the parabola through them."""

    flops: float
    """Geometric mean of the runs' training FLOPs."""
    rows: Rows
    """Which of the points."""
    n_sizes: int
    """Distinct sizes among them."""
    status: BudgetStatus
    reason: str
    """Why it is not used; empty where it is."""
    centre: float
    """Mean ln N of the runs."""
    coefficients: Floats | None
    """[3] loss = c0 + c1 x + c2 x^2, x = ln N - centre, nats; None where there are too few sizes."""
    tokens_line: tuple[float, float]
    """ln D = intercept + slope x of the runs: slope -1 where C is 6 N D."""
    interval: Interval = UNKNOWN
    """Of N at the vertex."""

    @property
    def vertex(self) -> float | None:
        """ln N - centre of the lowest loss; None where the parabola has no lowest point."""
        if self.coefficients is None or not self.coefficients[2] > 0:
            return None
        return float(lowest(self.coefficients[None])[0])

    @property
    def params(self) -> float | None:
        """N at the vertex, parameters."""
        return None if self.vertex is None else float(np.exp(self.centre + self.vertex))

    @property
    def tokens(self) -> float | None:
        """D at the vertex."""
        return None if self.vertex is None else float(np.exp(self.tokens_at(np.array(self.vertex))))

    @property
    def loss(self) -> float | None:
        """Loss at the vertex, nats per token."""
        found = None if self.params is None else self.parabola(np.array([self.params]))
        return None if found is None else float(found[0])

    @property
    def curvature(self) -> float | None:
        """2 c2, nats per (ln N)^2; None where there are too few sizes."""
        return None if self.coefficients is None else 2 * float(self.coefficients[2])

    def parabola(self, params: ArrayLike) -> Floats | None:
        """The parabola's loss at sizes; None where there is none."""
        x = np.log(np.asarray(params, dtype=np.float64)) - self.centre
        return None if self.coefficients is None else powers(x) @ self.coefficients

    def tokens_at(self, x: Floats) -> Floats:
        """ln D at ln N - centre."""
        return np.asarray(self.tokens_line[0] + self.tokens_line[1] * x)


def choose_rows(points: Points, rows: Rows, options: IsoFlopOptions) -> Rows:
    """Of a budget's rows the last of each run, and of these the ones within the window around the best."""
    if points.clusters is not None:
        tokens, runs = points.quantity("tokens")[rows], points.clusters[rows]
        order = np.lexsort((tokens, runs))
        rows = np.sort(rows[order[np.append(np.diff(runs[order]) != 0, True)]])
    if options.window is None:
        return rows
    sizes = points.quantity("params")[rows]
    away = np.abs(np.log(sizes / sizes[np.argmin(points.score[rows])]))
    return np.asarray(rows[away <= np.log(options.window) * (1 + 1e-9)], dtype=np.intp)


def used_of(budgets: tuple[Budget, ...]) -> tuple[Budget, ...]:
    """Those with a vertex inside of their sizes."""
    return tuple(budget for budget in budgets if budget.status is BudgetStatus.USED)


def coefficients_of(budget: Budget) -> Floats:
    """The parabola [3] of a budget that has one."""
    assert budget.coefficients is not None, "a used budget has a parabola"
    return budget.coefficients


def group_budgets(flops: Floats, options: IsoFlopOptions) -> list[Rows]:
    """Rows of each budget, in ascending order of compute.

    Budgets that are not given are found as the window of `tolerance` in ln C that holds most runs, then the one that
    holds most of the rest, and so on.
    """
    logs = np.log(flops)
    if options.flops is not None:
        wanted = np.log(np.unique(options.flops))
        away = np.abs(logs[:, None] - wanted)
        nearest = np.where(away.min(axis=1) <= options.tolerance / 2, away.argmin(axis=1), -1)
        return [rows for rows in (np.flatnonzero(nearest == index) for index in range(len(wanted))) if len(rows)]
    left = np.argsort(logs, kind="stable")
    groups: list[Rows] = []
    while len(left):
        sorted_logs = logs[left]
        ends = np.searchsorted(sorted_logs, sorted_logs + options.tolerance, side="right")
        begin = int(np.argmax(ends - np.arange(len(left))))
        groups.append(left[begin : ends[begin]])
        left = np.delete(left, slice(begin, ends[begin]))
    return sorted(groups, key=lambda rows: float(logs[rows].mean()))


def powers(x: Floats) -> Floats:
    """1, x, x^2 along a new last axis."""
    return np.stack([np.ones_like(x), x, x * x], axis=-1)


def lowest(coefficients: Floats) -> Floats:
    """x of the lowest point of parabolas [R, 3]; NaN where one opens downward."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(coefficients[:, 2] > 0, -coefficients[:, 1] / (2 * coefficients[:, 2]), np.nan)


def fit_budget(points: Points, rows: Rows) -> Budget:
    """The parabola of one budget and what became of it."""
    logs = np.log(points.quantity("params")[rows])
    log_tokens = np.log(points.quantity("tokens")[rows])
    centre = float(logs.mean())
    x, n_sizes = logs - centre, count_distinct(np.exp(logs))
    slope = float(x @ log_tokens / (x @ x)) if n_sizes > 1 else -1.0
    coefficients: Floats | None = None
    if n_sizes >= SIZES_OF_PARABOLA:
        coefficients = np.asarray(np.linalg.lstsq(powers(x), points.score[rows], rcond=None)[0], dtype=np.float64)
    status, reason = judge_parabola(x, centre, n_sizes, coefficients)
    return Budget(
        flops=float(np.exp(np.log(points.quantity("flops")[rows]).mean())),
        rows=rows,
        n_sizes=n_sizes,
        status=status,
        reason=reason,
        centre=centre,
        coefficients=coefficients,
        tokens_line=(float(log_tokens.mean()), slope),
    )


def judge_parabola(x: Floats, centre: float, n_sizes: int, coefficients: Floats | None) -> tuple[BudgetStatus, str]:
    """Whether a budget's vertex can be used, and if not why and what to run."""
    if coefficients is None:
        missing = SIZES_OF_PARABOLA - n_sizes
        return BudgetStatus.TOO_FEW, f"a parabola needs {SIZES_OF_PARABOLA} sizes: add {missing}"
    if not coefficients[2] > 0:
        return BudgetStatus.DOWNWARD, "the loss bends downward over ln N: there is no lowest point; add sizes or seeds"
    vertex = float(lowest(coefficients[None])[0])
    if not x.min() <= vertex <= x.max():
        least, largest = (format_count(float(np.exp(centre + end))) for end in (x.min(), x.max()))
        side = "smaller" if vertex < x.min() else "larger"
        return (
            BudgetStatus.OUTSIDE,
            f"the lowest point, N {format_count(float(np.exp(min(centre + vertex, 700))))}, lies outside of the sizes "
            f"{least} to {largest}; add {side} sizes",
        )
    return BudgetStatus.USED, ""


def draw_coefficients(points: Points, used: tuple[Budget, ...], options: IsoFlopOptions) -> list[Floats] | None:
    """[R, 3] of every used budget: its parabola refitted to itself plus new noise; None where none can be judged.

    A budget with OWN_FREEDOM runs to spare is judged by its own residuals, since outliers and budgets differ: from
    RUNS_OF_OWN_NOISE on each run keeps the size of its own (a wild bootstrap with Davidson and MacKinnon's HC3
    residuals). One with fewer takes the noise pooled over budgets. Its size is drawn from what so many residuals allow.
    """
    designs = [powers(np.log(points.quantity("params")[budget.rows]) - budget.centre) for budget in used]  # [n, 3]
    freedom = sum(len(design) - SIZES_OF_PARABOLA for design in designs)
    if not used or freedom < 1 or options.bootstrap == 0:
        return None
    generator = np.random.default_rng([options.seed, 1])
    residuals = [points.score[b.rows] - x @ coefficients_of(b) for b, x in zip(used, designs, strict=True)]
    pooled = np.sqrt(sum(float(left @ left) for left in residuals) / freedom)
    drawn = []
    for budget, design, left in zip(used, designs, residuals, strict=True):
        spare = len(left) - SIZES_OF_PARABOLA
        inverse = np.linalg.pinv(design)  # [3, n]
        size: Floats | float = pooled
        if len(left) >= RUNS_OF_OWN_NOISE:
            leverage = np.einsum("ni,in->n", design, inverse)
            size = left / np.maximum(1 - leverage, LEAST_FREEDOM)
        elif spare >= OWN_FREEDOM:
            size = float(np.sqrt(left @ left / spare))
        scale = t_scale(generator, spare if spare >= OWN_FREEDOM else freedom, options.bootstrap)
        noise = scale * size * generator.standard_normal((options.bootstrap, len(left)))
        drawn.append(coefficients_of(budget) + noise @ inverse.T)
    return drawn


def with_intervals(budgets: tuple[Budget, ...], drawn: list[Floats], level: float) -> tuple[Budget, ...]:
    """The budgets, those in use with the interval of their N_opt; one that is unknown is no longer in use."""
    rest = iter(drawn)
    told = []
    for budget in budgets:
        if budget.status is BudgetStatus.USED:
            ends = interval_of(lowest(next(rest)) + budget.centre, (1 - level) / 2)
            budget = replace(budget, interval=Interval(low=exponential(ends.low), high=exponential(ends.high)))
            if not ends.known:
                why = "the noise of its runs leaves no lowest point known; add seeds, or sizes further out"
                budget = replace(budget, status=BudgetStatus.FLAT, reason=why)
        told.append(budget)
    return tuple(told)


def exponential(end: float | None) -> float | None:
    """exp of an interval's end."""
    return None if end is None else float(np.exp(min(end, 700.0)))


def beside_best(points: Points, budget: Budget) -> bool:
    """True where the vertex lies between the neighbours of the size of lowest loss, or within BESIDE of it, or where
    that run is the lowest by chance: its size costs no more than CHANCE times the runs' scatter."""
    sizes, losses = points.quantity("params")[budget.rows], points.score[budget.rows]
    best = float(sizes[np.argmin(losses)])
    params = budget.params
    assert params is not None, "a used budget has a vertex"
    below, above = sizes[sizes < best * (1 - DISTINCT)], sizes[sizes > best * (1 + DISTINCT)]
    low, high = below.max(initial=best / BESIDE), above.min(initial=best * BESIDE)
    if min(low, best / BESIDE) <= params <= max(high, best * BESIDE):
        return True
    curve = budget.parabola(sizes)
    assert curve is not None and budget.loss is not None, "a used budget has a parabola"
    scatter = float(np.sqrt(np.mean((losses - curve) ** 2)))
    return bool(curve[np.argmin(losses)] - budget.loss <= CHANCE * scatter)


def cubic_exponent(points: Points, used: tuple[Budget, ...]) -> float | None:
    """The exponent of the size by cubics in place of parabolas; None where they fit no better than noise would.

    An F test over all budgets with two sizes to spare, at CUBIC_DOUBT.
    """
    less, more, spare, sizes, flops = 0.0, 0.0, 0, [], []
    for budget in used:
        x = np.log(points.quantity("params")[budget.rows]) - budget.centre
        if budget.n_sizes < SIZES_OF_PARABOLA + 2:
            continue
        loss = points.score[budget.rows]
        cubic = np.polyfit(x, loss, 3)
        roots = np.roots(np.polyder(cubic))
        real = roots[np.isreal(roots)].real
        bends = real[np.polyval(np.polyder(cubic, 2), real) > 0]
        if not len(bends):
            return None
        less += float(((loss - powers(x) @ coefficients_of(budget)) ** 2).sum())
        more += float(((loss - np.polyval(cubic, x)) ** 2).sum())
        spare += len(loss) - 4
        sizes.append(budget.centre + float(bends[0]))
        flops.append(np.log(budget.flops))
    if len(sizes) < 3 or spare < 1:
        return None
    ratio = max(less - more, 0.0) / len(sizes) / max(more / spare, 1e-300)
    if special.fdtrc(len(sizes), spare, ratio) > CUBIC_DOUBT:
        return None
    return float(np.polyfit(flops, sizes, 1)[0])


def find_winners(trials: pl.DataFrame, by: Sequence[str], setting: str, score: str) -> tuple[pl.DataFrame, list[str]]:
    """The best value of a setting in each group of a search's trials, and why some groups have none.

    `trials` has a trial a row, `by` names the columns that tell groups apart (N, D), a lower `score` is better. The
    best value is the lowest point of a parabola in ln setting through the trials within SEARCH_WINDOW of the best one,
    so that it does not stick to the values that were tried. A group whose best trial is the least or greatest of its
    values has none: the search must go on to that side. Returns columns `by`, `setting`, `score` there and `trials`.
    """
    made, left = [], []
    for key, rows in trials.group_by(by, maintain_order=True):
        named = ", ".join(f"{column} {format_count(float(value))}" for column, value in zip(by, key, strict=True))
        x, y = np.log(rows[setting].to_numpy()), rows[score].to_numpy().astype(np.float64)
        best, values = float(x[np.argmin(y)]), np.unique(x)
        if len(values) < 3:
            left.append(f"{named}: {len(values)} values of {setting}; a lowest point needs 3")
            continue
        if best in (values[0], values[-1]):
            side = "lower" if best == values[0] else "higher"
            left.append(
                f"{named}: the best {setting}, {np.exp(best):.3g}, is at the edge of the search; try {side} ones"
            )
            continue
        place = int(np.searchsorted(values, best))
        reach = max(np.log(SEARCH_WINDOW), best - values[place - 1], values[place + 1] - best) * (1 + 1e-9)
        near = np.abs(x - best) <= reach
        bend, slope, level = np.polyfit(x[near] - best, y[near], 2)
        lowest = -slope / (2 * bend) if bend > 0 else np.inf
        if not values[place - 1] <= best + lowest <= values[place + 1]:
            left.append(f"{named}: its losses over {setting} have no lowest point beside the best trial; add seeds")
            continue
        found = {setting: float(np.exp(best + lowest)), score: float(level - slope**2 / (4 * bend)), "trials": len(x)}
        made.append(dict(zip(by, key, strict=True)) | found)
    return pl.DataFrame(made, schema_overrides={setting: pl.Float64}), left
