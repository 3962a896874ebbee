"""How the best size and the best number of tokens grow with compute: two power laws, found without a law of the loss.

Approaches 1 and 2 of Hoffmann et al. 2022 (`fit_envelope` here, `isoflop`) each give optima at some budgets; straight
lines through ln N_opt and ln D_opt over ln C are a `Frontier`.

Approach 1 is the minimum over training curves: at every budget on a fine grid the run with the lowest loss so far names
the best size. The curves are taken as given: losses should be smoothed or held-out, and each run's learning rate should
have come down by the end of what is used of it, or else the earlier points are worse than a run of that length would
be. A minimum at the smallest or the largest of the sizes that were there is not one, and is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ladder.analysis.fitting.health import Status, finite, parameter_lines, status_line
from ladder.analysis.fitting.intervals import UNKNOWN, Interval, ends, interval_of
from ladder.analysis.fitting.points import DISTINCT, Points
from ladder.analysis.laws.law import Floats
from ladder.models.errors import InputError

NAMES = ("a", "b", "params_at_one", "tokens_at_one")
"""The frontier's parameters."""


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """N_opt = params_at_one C^a and D_opt = tokens_at_one C^b (Hoffmann et al. 2022, section 3)."""

    equation: ClassVar[str] = "N_opt = params_at_one C^a, D_opt = tokens_at_one C^b"
    a: float
    """Exponent of the size."""
    b: float
    """Exponent of the tokens."""
    params_at_one: float
    """N_opt at C = 1, parameters: where the line meets it, far outside of any run."""
    tokens_at_one: float
    """D_opt at C = 1, tokens."""

    @property
    def parameters(self) -> dict[str, float]:
        """Every parameter by name."""
        return {name: getattr(self, name) for name in NAMES}

    def params(self, flops: ArrayLike) -> Floats:
        """Best size at budgets, parameters."""
        return np.asarray(self.params_at_one * np.asarray(flops, dtype=np.float64) ** self.a)

    def tokens(self, flops: ArrayLike) -> Floats:
        """Best number of tokens at budgets."""
        return np.asarray(self.tokens_at_one * np.asarray(flops, dtype=np.float64) ** self.b)


@dataclass(frozen=True, kw_only=True, eq=False)
class FrontierDraws:
    """Redrawn frontiers; NaN where a draw left no frontier."""

    values: dict[str, Floats]
    """[R] of each of NAMES."""
    tail: float
    """Probability to leave out on each side."""

    def interval(self, name: str) -> Interval:
        """The percentile interval of one parameter."""
        return interval_of(self.values[name], self.tail)

    def band(self, flops: Floats) -> tuple[Floats, Floats]:
        """Interval of N_opt at budgets [m]; NaN where it is unknown."""
        with np.errstate(divide="ignore", invalid="ignore"):  # an amplitude may be too small for a number
            sizes = np.log(self.values["params_at_one"])[:, None] + self.values["a"][:, None] * np.log(flops)  # [R, m]
        low, high = ends(sizes, self.tail)
        return np.exp(low), np.exp(high)


def fit_frontiers(log_flops: Floats, log_params: Floats, log_tokens: Floats) -> dict[str, Floats]:
    """Least squares through optima [R, k] at budgets [R, k], each of NAMES [R]; an optimum that is NaN is left out.

    NaN where fewer than two different budgets have an optimum.
    """
    there = np.isfinite(log_params) & np.isfinite(log_tokens)
    count = there.sum(axis=1)
    shape = log_params.shape
    x = np.where(there, np.broadcast_to(log_flops, shape), 0.0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        centre = (x.sum(axis=1) / count)[:, None]
        away = np.where(there, x - centre, 0.0)
        squares = (away**2).sum(axis=1)
        squares = np.where(squares > 1e-12 * np.maximum(centre[:, 0] ** 2, 1), squares, np.nan)
        found: dict[str, Floats] = {}
        for exponent, amplitude, y in (("a", "params_at_one", log_params), ("b", "tokens_at_one", log_tokens)):
            values = np.where(there, y, 0.0)
            slope = (away * values).sum(axis=1) / squares
            found[exponent] = slope
            found[amplitude] = np.exp(values.sum(axis=1) / count - slope * centre[:, 0])
    return {name: found[name] for name in NAMES}


def make_frontier(values: dict[str, Floats]) -> Frontier | None:
    """The frontier of the first row of what `fit_frontiers` found; None where there is none."""
    first = {name: float(value[0]) for name, value in values.items()}
    return Frontier(**first) if all(np.isfinite(value) for value in first.values()) else None


def frontier_intervals(draws: FrontierDraws | None) -> dict[str, Interval]:
    """Intervals of each of NAMES; unknown without draws."""
    return {name: UNKNOWN if draws is None else draws.interval(name) for name in NAMES}


def frontier_json(frontier: Frontier | None, intervals: Mapping[str, Interval]) -> dict[str, Any]:
    """Parameters and intervals of a frontier; null where there is none."""
    values = dict.fromkeys(intervals) if frontier is None else frontier.parameters
    return {
        "parameters": {name: finite(value) for name, value in values.items()},
        "intervals": {name: interval.as_list() for name, interval in intervals.items()},
    }


def frontier_lines(frontier: Frontier | None, intervals: Mapping[str, Interval], level: float) -> list[str]:
    """Equation and parameters of a frontier, or that there is none."""
    if frontier is None:
        return ["no exponent"]
    return [frontier.equation, "", *parameter_lines(frontier.parameters, intervals, level)]


CHUNK = 100
"""Draws at a time: [CHUNK, runs, bins] losses are held at once."""


@dataclass(frozen=True, kw_only=True)
class EnvelopeOptions:
    """How fine the grid is and how the intervals are made."""

    bins: int = 200
    """Budgets on a logarithmic grid over the compute of all curves."""
    bootstrap: int = 1000
    """Times that the runs are drawn again; 0 leaves the intervals unknown."""
    seed: int = 0
    """Seeds the drawing."""
    level: float = 0.95
    """Confidence level."""

    def __post_init__(self) -> None:
        if self.bins < 2 or self.bootstrap < 0 or not 0 < self.level < 1:
            raise InputError(
                f"bins is {self.bins}, bootstrap {self.bootstrap}, level {self.level}; bins must be 2 or more, "
                "bootstrap 0 or more, the level between 0 and 1"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Minima:
    """The run of lowest loss at each budget of the grid; arrays of one length."""

    flops: Floats
    """Budget, training FLOPs."""
    params: Floats
    """Size of the best run there."""
    tokens: Floats
    """What it had seen."""
    loss: Floats
    """Its loss, nats per token."""
    run: NDArray[np.intp]
    """Its label among the points' clusters."""
    kept: NDArray[np.bool_]
    """True where smaller and larger sizes were there and worse."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class EnvelopeFit:
    """Approach 1 on training curves."""

    minima: Minima
    frontier: Frontier | None
    """None where fewer than two sizes win anywhere."""
    intervals: dict[str, Interval]
    """Of the frontier's parameters, at `level`: how it moves when runs are drawn again."""
    level: float
    """Confidence level."""
    status: Status
    reason: str
    """Why the status is not `converged`."""
    n_runs: int
    """Curves."""
    draws: FrontierDraws | None
    """Redrawn frontiers; None where there are none."""

    def __repr__(self) -> str:
        return describe_envelope(self)

    def to_json(self) -> dict[str, Any]:
        """What `ladder fit --json` writes."""
        return envelope_to_json(self)

    def band(self, flops: Floats) -> tuple[Floats, Floats] | None:
        """Interval of N_opt at budgets [m]; None where it is unknown."""
        return None if self.draws is None else self.draws.band(flops)


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Training curves on a common grid of budgets."""

    log_flops: Floats
    """[bins]"""
    log_params: Floats
    """[runs]"""
    log_loss: Floats
    """[runs, bins], infinite where the run has not begun or has ended."""
    log_tokens: Floats
    """[runs, bins]"""


def fit_envelope(points: Points, options: EnvelopeOptions | None = None) -> EnvelopeFit:
    """Power laws through the minimum over training curves.

    Each point is one of a curve: its loss, two of params, tokens and flops, and its run as the cluster.
    """
    options = options or EnvelopeOptions()
    curves = make_curves(points, options.bins)
    runs = np.ones((1, len(curves.log_params)), dtype=bool)
    best, kept = find_minima(curves, runs)
    minima = Minima(
        flops=np.exp(curves.log_flops),
        params=np.exp(curves.log_params[best[0]]),
        tokens=np.exp(curves.log_tokens[best[0], np.arange(options.bins)]),
        loss=np.exp(curves.log_loss[best[0], np.arange(options.bins)]),
        run=best[0],
        kept=kept[0],
    )
    status, reason = status_of_minima(minima)
    frontier, draws = None, None
    if status is not Status.NOT_IDENTIFIABLE:
        frontier = make_frontier(through_minima(curves, best, kept))
        draws = draw_runs(curves, options)
    return EnvelopeFit(
        minima=minima,
        frontier=frontier,
        intervals=frontier_intervals(draws),
        level=options.level,
        status=status,
        reason=reason,
        n_runs=len(curves.log_params),
        draws=draws,
    )


def make_curves(points: Points, bins: int) -> Curves:
    """The points of each run joined by straight lines in ln loss and ln tokens over ln C."""
    if points.clusters is None:
        raise InputError(
            "the minimum over curves needs to know which points are of one run; name the column of the run"
        )
    if np.bincount(points.clusters).max() < 2:
        raise InputError("no run has more than one point, so there are no curves; for final losses choose isoflop")
    if not (points.score > 0).all():
        raise InputError("a loss is not above 0, and the curves are joined in its log; drop or mend that row")
    flops, params, tokens = (np.log(points.quantity(name)) for name in ("flops", "params", "tokens"))
    grid = np.linspace(flops.min(), flops.max(), bins)
    n_runs = int(points.clusters.max()) + 1
    log_loss, log_tokens, log_params = np.empty((n_runs, bins)), np.empty((n_runs, bins)), np.empty(n_runs)
    for run in range(n_runs):
        rows = np.flatnonzero(points.clusters == run)
        rows = rows[np.argsort(flops[rows], kind="stable")]
        if np.ptp(params[rows]) > DISTINCT:
            raise InputError(f"run {run + 1} of the column of runs has more than one size; a curve is of one model")
        log_params[run] = params[rows[0]]
        log_loss[run] = np.interp(grid, flops[rows], np.log(points.score[rows]), left=np.inf, right=np.inf)
        log_tokens[run] = np.interp(grid, flops[rows], tokens[rows])
    return Curves(log_flops=grid, log_params=log_params, log_loss=log_loss, log_tokens=log_tokens)


def find_minima(curves: Curves, runs: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Best run [R, bins] among those drawn [R, runs], and whether both smaller and larger ones were there [R, bins]."""
    losses = np.where(runs[:, :, None], curves.log_loss, np.inf)  # [R, runs, bins]
    best = losses.argmin(axis=1)
    there = np.isfinite(losses)
    sizes = curves.log_params[:, None]
    least = np.where(there, sizes, np.inf).min(axis=1)
    largest = np.where(there, sizes, -np.inf).max(axis=1)
    won = curves.log_params[best]
    return best, (won > least + DISTINCT) & (won < largest - DISTINCT)


def through_minima(curves: Curves, best: NDArray[np.intp], kept: NDArray[np.bool_]) -> dict[str, Floats]:
    """Frontiers [R] through the minima that are kept [R, bins]; NaN where fewer than two sizes win."""
    sizes = np.where(kept, curves.log_params[best], np.nan)
    tokens = np.where(kept, curves.log_tokens[best, np.arange(best.shape[1])], np.nan)
    widest = np.where(kept, sizes, -np.inf).max(axis=1) - np.where(kept, sizes, np.inf).min(axis=1)
    sizes = np.where((widest > DISTINCT)[:, None], sizes, np.nan)
    return fit_frontiers(curves.log_flops[None], sizes, tokens)


def draw_runs(curves: Curves, options: EnvelopeOptions) -> FrontierDraws | None:
    """Frontiers of runs drawn again with replacement; a run drawn twice counts once, since a minimum has no weights."""
    if options.bootstrap == 0:
        return None
    n_runs = len(curves.log_params)
    drawn = np.random.default_rng([options.seed, 1]).multinomial(n_runs, [1 / n_runs] * n_runs, size=options.bootstrap)
    found = [
        through_minima(curves, *find_minima(curves, drawn[begin : begin + CHUNK] > 0))
        for begin in range(0, options.bootstrap, CHUNK)
    ]
    values = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    return FrontierDraws(values=values, tail=(1 - options.level) / 2)


def status_of_minima(minima: Minima) -> tuple[Status, str]:
    """What the minima amount to."""
    winners = np.unique(np.round(np.log(minima.params[minima.kept]) / DISTINCT))
    if len(winners) < 2:
        return (
            Status.NOT_IDENTIFIABLE,
            f"{len(winners)} sizes are the best of smaller and larger ones at some budget, and an exponent needs two; "
            "add sizes, or longer curves of the small ones",
        )
    if len(winners) == 2:
        return Status.AMBIGUOUS, "two sizes win: any line goes through them, so that nothing checks it; add sizes"
    return Status.CONVERGED, ""


def describe_envelope(fit: EnvelopeFit) -> str:
    """The frontier and what it goes through."""
    kept = int(fit.minima.kept.sum())
    lines = ["envelope: the lowest of all training curves at each budget (Hoffmann et al. 2022, approach 1)", ""]
    lines += [*frontier_lines(fit.frontier, fit.intervals, fit.level), "", status_line(fit.status, fit.reason)]
    lines.append(
        f"minima      {kept} of {len(fit.minima.kept)} budgets have a best size between smaller and larger ones, of "
        f"{fit.n_runs} runs; intervals are of runs drawn again"
    )
    return "\n".join(lines)


def envelope_to_json(fit: EnvelopeFit) -> dict[str, Any]:
    """The contract's keys, and the minima that are kept."""
    minima = fit.minima
    columns = {"flops": minima.flops, "params": minima.params, "tokens": minima.tokens, "loss": minima.loss}
    return {
        "law": "envelope",
        "equation": "N_opt = params_at_one C^a, D_opt = tokens_at_one C^b",
        "objective_kind": "squares",
        "points": int(minima.kept.sum()),
        "runs": fit.n_runs,
        **frontier_json(fit.frontier, fit.intervals),
        "level": fit.level,
        "status": str(fit.status),
        "reason": fit.reason,
        "minima": {name: values[minima.kept].tolist() for name, values in columns.items()},
    }
