"""IsoFLOP parabolas: Hoffmann et al. 2022, approach 2.

At one budget the final loss over ln N has a minimum; a parabola through the runs of the budget finds it, and a power
law through the minima of several budgets says how the best size grows. What makes it go wrong in silence is said here
budget by budget: too few sizes, a parabola that opens downward, a vertex outside of the sizes that were tried.

The loss is not a parabola in ln N, so that the vertex lies a percent off the optimum when the sizes lie evenly around
it and several percent when they do not. Under a law of Hoffmann's form the shift is the same factor at every budget as
long as the sizes lie alike around the optimum, and then the exponent is right; where the sizes are the same at every
budget it is not. The intervals know nothing of that.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ladder.analysis.fitting.frontiers import Frontier, FrontierDraws, fit_frontiers, frontier_intervals, make_frontier
from ladder.analysis.fitting.health import Status
from ladder.analysis.fitting.intervals import UNKNOWN, Interval, interval_of
from ladder.analysis.fitting.points import Points, count_distinct
from ladder.analysis.fitting.summaries import describe_isoflop, isoflop_to_json
from ladder.analysis.laws.law import Floats, format_count
from ladder.models.errors import InputError

Rows = NDArray[np.intp]

SIZES_OF_PARABOLA = 3
"""Sizes that determine a parabola; one more is needed to judge it."""

RUNS_OF_OWN_NOISE = 10
"""Runs at every budget from which on residuals speak for themselves. Intervals of a hold that of exact parabolas with
equal noise in 93 to 95 % of 1,000 simulations when the noise is pooled (4 to 7 runs) and in 97 to 98 % when it is not
(9 or 12 runs). With one of five budgets four times as noisy it is 98 to 100 % pooled and 96 to 97 % not."""
LEAST_FREEDOM = 1e-3
"""Least share of a residual that a run of high leverage keeps."""


class BudgetStatus(StrEnum):
    """What became of one budget's parabola."""

    USED = "used"
    TOO_FEW = "too few sizes"
    DOWNWARD = "opens downward"
    OUTSIDE = "vertex outside the sizes"


@dataclass(frozen=True, kw_only=True)
class IsoFlopOptions:
    """How the budgets are told apart and how the intervals are made."""

    tolerance: float = 0.1
    """Width in ln C of what counts as one budget: runs stop at whole batches, and points read off a figure scatter."""
    flops: tuple[float, ...] | None = None
    """The budgets themselves, training FLOPs, each taking the runs within tolerance / 2 in ln C; None: found."""
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


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class IsoFlopFit:
    """Approach 2 on a table of runs."""

    budgets: tuple[Budget, ...]
    """In ascending order of compute, the refused ones among them."""
    frontier: Frontier | None
    """None where fewer than two budgets are usable."""
    intervals: dict[str, Interval]
    """Of the frontier's parameters, at `level`."""
    level: float
    """Confidence level."""
    status: Status
    reason: str
    """Why the status is not `converged`."""
    points: Points
    draws: FrontierDraws | None
    """Redrawn frontiers; None where there are none."""

    def __repr__(self) -> str:
        return describe_isoflop(self)

    def to_json(self) -> dict[str, Any]:
        """What `ladder fit --json` writes."""
        return isoflop_to_json(self)

    @property
    def used(self) -> tuple[Budget, ...]:
        """The budgets that the frontier goes through."""
        return used_of(self.budgets)

    def band(self, flops: Floats) -> tuple[Floats, Floats] | None:
        """Interval of N_opt at budgets [m]; None where it is unknown."""
        return None if self.draws is None else self.draws.band(flops)


def fit_isoflop(points: Points, options: IsoFlopOptions | None = None) -> IsoFlopFit:
    """Parabolas in ln N of the loss at each budget, and power laws through their vertices.

    Points are final losses of runs with two of params, tokens and flops.
    """
    options = options or IsoFlopOptions()
    groups = group_budgets(points.quantity("flops"), options)
    budgets = tuple(fit_budget(points, rows) for rows in groups)
    used = used_of(budgets)
    frontier, draws = None, None
    if used:
        drawn = draw_coefficients(points, used, options)
        if drawn is not None:
            budgets = with_intervals(budgets, drawn, options.level)
        if len(used) > 1:
            frontier = make_frontier(through_vertices(used, [coefficients_of(budget)[None] for budget in used]))
            if drawn is not None:
                draws = FrontierDraws(values=through_vertices(used, drawn), tail=(1 - options.level) / 2)
    status, reason = status_of_budgets(budgets)
    return IsoFlopFit(
        budgets=budgets,
        frontier=frontier,
        intervals=frontier_intervals(draws),
        level=options.level,
        status=status,
        reason=reason,
        points=points,
        draws=draws,
    )


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
        return BudgetStatus.TOO_FEW, f"{n_sizes} sizes; a parabola needs {SIZES_OF_PARABOLA}: add {missing} more"
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

    With RUNS_OF_OWN_NOISE or more at every budget each run keeps the size of its own residual (a wild bootstrap with
    Davidson and MacKinnon's HC3 residuals), since outliers and budgets differ. With fewer the noise is normal and
    pooled over budgets. Its size is in both drawn from what so many residuals allow, as in `bootstrap`; lack of fit is
    part of the residuals, so it widens the intervals.
    """
    designs = [powers(np.log(points.quantity("params")[budget.rows]) - budget.centre) for budget in used]  # [n, 3]
    freedom = sum(len(design) - SIZES_OF_PARABOLA for design in designs)
    if freedom < 1 or options.bootstrap == 0:
        return None
    generator = np.random.default_rng([options.seed, 1])
    own = min(len(design) for design in designs) >= RUNS_OF_OWN_NOISE
    residuals = [points.score[b.rows] - x @ coefficients_of(b) for b, x in zip(used, designs, strict=True)]
    pooled = np.sqrt(sum(float(left @ left) for left in residuals) / freedom)
    scale = np.sqrt(freedom / generator.chisquare(freedom, size=(options.bootstrap, 1)))
    drawn = []
    for budget, design, left in zip(used, designs, residuals, strict=True):
        inverse = np.linalg.pinv(design)  # [3, n]
        leverage = np.einsum("ni,in->n", design, inverse)
        size = left / np.maximum(1 - leverage, LEAST_FREEDOM) if own else pooled
        noise = scale * size * generator.standard_normal((options.bootstrap, len(left)))
        drawn.append(coefficients_of(budget) + noise @ inverse.T)
    return drawn


def through_vertices(used: tuple[Budget, ...], coefficients: list[Floats]) -> dict[str, Floats]:
    """Frontiers [R] through the vertices of parabolas, per budget [R, 3]; NaN in a draw where one has no vertex."""
    vertices = np.stack([lowest(rows) for rows in coefficients], axis=1)  # [R, budgets]
    vertices = np.where(np.isnan(vertices).any(axis=1, keepdims=True), np.nan, vertices)
    sizes = vertices + np.array([budget.centre for budget in used])
    tokens = np.stack([budget.tokens_at(column) for budget, column in zip(used, vertices.T, strict=True)], axis=1)
    return fit_frontiers(np.log([[budget.flops for budget in used]]), sizes, tokens)


def with_intervals(budgets: tuple[Budget, ...], drawn: list[Floats], level: float) -> tuple[Budget, ...]:
    """The budgets, those in use with the interval of their N_opt."""
    rest = iter(drawn)
    told = []
    for budget in budgets:
        if budget.status is BudgetStatus.USED:
            ends = interval_of(lowest(next(rest)) + budget.centre, (1 - level) / 2)
            budget = replace(budget, interval=Interval(low=exponential(ends.low), high=exponential(ends.high)))
        told.append(budget)
    return tuple(told)


def exponential(end: float | None) -> float | None:
    """exp of an interval's end."""
    return None if end is None else float(np.exp(min(end, 700.0)))


def status_of_budgets(budgets: tuple[Budget, ...]) -> tuple[Status, str]:
    """What the usable budgets amount to."""
    used = used_of(budgets)
    refused = [budget for budget in budgets if budget.status is not BudgetStatus.USED]
    if len(used) < 2:
        why = "; ".join(f"{budget.flops:.2g} FLOPs: {budget.reason}" for budget in refused[:3])
        return (
            Status.NOT_IDENTIFIABLE,
            f"{len(used)} of {len(budgets)} budgets has a lowest point inside of its sizes, and an exponent needs two"
            + (f" ({why}{'; ...' if len(refused) > 3 else ''})" if why else "; add a budget"),
        )
    if len(used) == 2:
        return Status.AMBIGUOUS, "two budgets: any line goes through them, so that nothing checks it; add a third"
    return Status.CONVERGED, ""
