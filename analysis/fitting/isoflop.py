"""IsoFLOP parabolas: Hoffmann et al. 2022, approach 2.

At one budget the final loss over ln N has a minimum; a parabola through the runs of the budget finds it, and a power
law through the minima of several budgets says how the best size grows. Each budget that cannot be used says why: too
few sizes, a parabola that opens downward, a vertex outside of the sizes that were tried or that its runs do not
determine.

The loss is not a parabola in ln N, so that the vertex lies a percent off the optimum when the sizes lie evenly around
it and several percent when they do not. Under a law of Hoffmann's form the shift is the same factor at every budget as
long as the sizes lie alike around the optimum, and then the exponent is right; where the sizes are the same at every
budget it is not. A cubic tells: where it moves the exponent the status says so, and a `window` around each budget's
best run is the remedy.

Intervals of the exponents come from the scatter of the vertices about their line, on two degrees of freedom less than
there are budgets, whatever makes them scatter.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ladder.analysis.fitting.frontiers import (
    Frontier,
    FrontierDraws,
    fit_frontiers,
    frontier_intervals,
    frontier_json,
    frontier_lines,
    make_frontier,
)
from ladder.analysis.fitting.health import Status, status_line
from ladder.analysis.fitting.intervals import Interval, t_scale
from ladder.analysis.fitting.parabolas import (
    CUBIC_MOVE,
    Budget,
    BudgetStatus,
    IsoFlopOptions,
    beside_best,
    choose_rows,
    coefficients_of,
    cubic_exponent,
    draw_coefficients,
    fit_budget,
    group_budgets,
    lowest,
    used_of,
    with_intervals,
)
from ladder.analysis.fitting.points import Points
from ladder.analysis.laws.law import Floats, format_count, format_number, format_power

SHOWN_REFUSALS = 6
"""Refused budgets that a table for people lists."""
EXACT_SCATTER = 1e-9
"""Scatter of the vertices, in ln N, below which they are the line itself and say nothing of noise."""


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

    Points are final losses of runs with two of params, tokens and flops. Where they have clusters, the last point of
    each run at a budget is its loss there. Raises InputError for points without them.
    """
    options = options or IsoFlopOptions()
    points = points.subset(points.order)
    groups = [choose_rows(points, rows, options) for rows in group_budgets(points.quantity("flops"), options)]
    budgets = tuple(fit_budget(points, rows) for rows in groups)
    drawn = draw_coefficients(points, used_of(budgets), options)
    if drawn is not None:
        budgets = with_intervals(budgets, drawn, options.level)
    used = used_of(budgets)
    frontier, draws = None, None
    if len(used) > 1:
        vertices = [coefficients_of(budget)[None] for budget in used]
        frontier = make_frontier(through_vertices(used, vertices))
        if frontier is not None and not shared_runs(points, used):
            draws = draw_vertices(used, frontier, options)
    status, reason = status_of_budgets(points, budgets, frontier)
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


def shared_runs(points: Points, used: tuple[Budget, ...]) -> bool:
    """True where a run has points at several budgets, so that their vertices share its noise."""
    if points.clusters is None:
        return False
    found = [set(points.clusters[budget.rows].tolist()) for budget in used]
    return sum(len(runs) for runs in found) > len(set().union(*found))


def through_vertices(used: tuple[Budget, ...], coefficients: list[Floats]) -> dict[str, Floats]:
    """Frontiers [R] through the vertices of parabolas, per budget [R, 3]; NaN in a draw where one has no vertex."""
    vertices = np.stack([lowest(rows) for rows in coefficients], axis=1)  # [R, budgets]
    vertices = np.where(np.isnan(vertices).any(axis=1, keepdims=True), np.nan, vertices)
    sizes = vertices + np.array([budget.centre for budget in used])
    tokens = np.stack([budget.tokens_at(column) for budget, column in zip(used, vertices.T, strict=True)], axis=1)
    return fit_frontiers(np.log([[budget.flops for budget in used]]), sizes, tokens)


def draw_vertices(used: tuple[Budget, ...], frontier: Frontier, options: IsoFlopOptions) -> FrontierDraws | None:
    """Frontiers through vertices that scatter about the line as these do; None where no scatter is left to judge by.

    Student's t: the scatter's own size is drawn from what budgets - 2 degrees of freedom allow. It holds the noise of
    the parabolas as well as what makes budgets differ.
    """
    freedom = len(used) - 2
    flops = np.array([budget.flops for budget in used])
    sizes = np.array([budget.centre + float(lowest(coefficients_of(budget)[None])[0]) for budget in used])
    line = np.log(frontier.params(flops))
    spread = float(np.sqrt(((sizes - line) ** 2).sum() / max(freedom, 1)))
    if freedom < 1 or options.bootstrap == 0 or spread < EXACT_SCATTER:
        return None
    generator = np.random.default_rng([options.seed, 2])
    noise = generator.standard_normal((options.bootstrap, len(used)))
    drawn = line + spread * t_scale(generator, freedom, options.bootstrap) * noise
    moved = drawn - np.array([budget.centre for budget in used])
    tokens = np.stack([budget.tokens_at(column) for budget, column in zip(used, moved.T, strict=True)], axis=1)
    return FrontierDraws(values=fit_frontiers(np.log(flops)[None], drawn, tokens), tail=(1 - options.level) / 2)


def status_of_budgets(points: Points, budgets: tuple[Budget, ...], frontier: Frontier | None) -> tuple[Status, str]:
    """What the usable budgets amount to, the worst finding first."""
    used = used_of(budgets)
    refused = [budget for budget in budgets if budget.status is not BudgetStatus.USED]
    if len(used) < 2 or frontier is None:
        why = "; ".join(f"{format_power(budget.flops, 2)} FLOPs: {budget.reason}" for budget in refused[:3])
        return (
            Status.NOT_IDENTIFIABLE,
            "an exponent needs two budgets whose lowest point lies inside of their sizes, and "
            f"{len(used)} of {len(budgets)} has one"
            + (f" ({why}{'; ...' if len(refused) > 3 else ''})" if why else "; add a budget"),
        )
    if len(used) == 2:
        return Status.AMBIGUOUS, "two budgets: any line goes through them, so that nothing checks it; add a third"
    if shared_runs(points, used):
        return (
            Status.AMBIGUOUS,
            "runs have points at several budgets, whose lowest points share their noise: intervals are unknown",
        )
    far = [budget for budget in used if not beside_best(points, budget)]
    if far:
        told = ", ".join(format_power(budget.flops, 2) for budget in far[:3])
        return (
            Status.AMBIGUOUS,
            f"at {told} FLOPs the lowest point does not lie beside the best run: the loss is no parabola over such a "
            "range of sizes; narrow it with --within-factor 4",
        )
    moved = cubic_exponent(points, used)
    if moved is not None and abs(moved - frontier.a) > CUBIC_MOVE:
        return (
            Status.AMBIGUOUS,
            f"the loss is no parabola over these sizes: a cubic gives an exponent of {moved:.3g} in place of "
            f"{frontier.a:.3g}; narrow the sizes around each best run with --within-factor 4",
        )
    return Status.CONVERGED, ""


def describe_isoflop(fit: IsoFlopFit) -> str:
    """The frontier, then every budget's lowest point or why it has none."""
    lines = ["isoflop: a parabola in ln N of the loss at each budget (Hoffmann et al. 2022, approach 2)", ""]
    lines += [*frontier_lines(fit.frontier, fit.intervals, fit.level), "", status_line(fit.status, fit.reason), ""]
    lines.append(f"  {'FLOPs':>9}  {'runs':>4}  {'best N':>8}  {fit.level:.0%} interval    {'best D':>8}  {'loss':>6}")
    for budget in fit.used:
        assert budget.params is not None and budget.tokens is not None, "a used budget has a vertex"
        low, high = budget.interval.low, budget.interval.high
        ends = f"{format_count(low)} to {format_count(high)}" if low is not None and high is not None else "unknown"
        lines.append(
            f"  {budget.flops:9.2e}  {len(budget.rows):4}  {format_count(budget.params):>8}  {ends:15}  "
            f"{format_count(budget.tokens):>8}  {format_number(budget.loss):>6}"
        )
    refused = [budget for budget in fit.budgets if budget.reason]
    lines += [f"  {budget.flops:9.2e}  {len(budget.rows):4}  {budget.reason}" for budget in refused[:SHOWN_REFUSALS]]
    if len(refused) > SHOWN_REFUSALS:
        lines.append(f"  and {len(refused) - SHOWN_REFUSALS} more budgets that are not used")
    return "\n".join(lines)


def isoflop_to_json(fit: IsoFlopFit) -> dict[str, Any]:
    """The contract's keys, and every budget."""
    return {
        "law": "isoflop",
        "equation": "N_opt = params_at_one C^a, D_opt = tokens_at_one C^b",
        "objective_kind": "squares",
        "points": len(fit.points),
        **frontier_json(fit.frontier, fit.intervals),
        "level": fit.level,
        "status": str(fit.status),
        "reason": fit.reason,
        "budgets": [
            {
                "flops": budget.flops,
                "runs": len(budget.rows),
                "sizes": budget.n_sizes,
                "status": str(budget.status),
                "reason": budget.reason,
                "params": budget.params,
                "params_interval": budget.interval.as_list(),
                "tokens": budget.tokens,
                "loss": budget.loss,
                "curvature": budget.curvature,
            }
            for budget in fit.budgets
        ],
    }
