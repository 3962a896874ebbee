"""How the best size and the best number of tokens grow with compute: two power laws, found without a law of the loss.

Approaches 1 and 2 of Hoffmann et al. 2022 (`envelope`, `isoflop`) each give optima at some budgets; straight lines
through ln N_opt and ln D_opt over ln C are this object. Intervals come from redrawn optima.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ladder.analysis.fitting.intervals import UNKNOWN, Interval, known
from ladder.analysis.laws.law import Floats

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
        return percentiles(self.values[name], self.tail)

    def band(self, flops: Floats) -> tuple[Floats, Floats]:
        """Interval of N_opt at budgets [m]; NaN where it is unknown."""
        sizes = np.log(self.values["params_at_one"])[:, None] + self.values["a"][:, None] * np.log(flops)  # [R, m]
        ends = [percentiles(column, self.tail).as_list() for column in sizes.T]
        low, high = np.exp(np.array(ends, dtype=np.float64)).T
        return low, high


def percentiles(values: Floats, tail: float) -> Interval:
    """The interval that leaves `tail` of the draws out on each side.

    A draw without a value says that anything is possible, so it counts as beyond both ends: where more than `tail` of
    the draws have none, the interval is unknown.
    """
    low = np.quantile(np.where(np.isnan(values), -np.inf, values), tail, method="lower")
    high = np.quantile(np.where(np.isnan(values), np.inf, values), 1 - tail, method="higher")
    return Interval(low=known(low), high=known(high))


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
