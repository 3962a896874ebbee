"""What a fit minimises: the sum over points of a function of the residual.

All three objectives are one function, `weight * huber_delta(r)`, seen at different deltas: squares is the limit of a
large delta, least absolute deviation that of a small one. A solver that handles one therefore handles all three, and
can walk from the easy problem (squares) to the hard one (a delta far below the noise) in stages.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ladder.models.errors import InputError

Floats = NDArray[np.float64]
Kind = Literal["huber", "lad", "squares"]
KINDS: tuple[Kind, ...] = ("huber", "lad", "squares")

LAD_DELTA = 1e-7
"""Width of the rounded tip that stands for |r| while solving; the end value is the exact sum of |r|."""


@dataclass(frozen=True, kw_only=True)
class Rho:
    """scale * huber_delta(r): quadratic within delta, linear beyond, elementwise."""

    delta: float
    """Residual at which the quadratic turns linear, in the residual's unit."""
    scale: float
    """Factor on the Huber function, so that squares and absolute values come out with their usual size."""

    def value(self, residuals: Floats) -> Floats:
        """scale * (r^2 / 2 within delta, delta (|r| - delta / 2) beyond)."""
        size = np.abs(residuals)
        inner = np.minimum(size, self.delta)
        return np.asarray(self.scale * inner * (size - 0.5 * inner), dtype=np.float64)

    def slope(self, residuals: Floats) -> Floats:
        """First derivative by r."""
        return np.asarray(self.scale * np.clip(residuals, -self.delta, self.delta), dtype=np.float64)

    def bend(self, residuals: Floats) -> Floats:
        """Second derivative by r: the scale within delta, zero beyond."""
        return np.asarray(self.scale * (np.abs(residuals) <= self.delta), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The function of the residuals whose SUM over points is minimised (a mean would rescale delta's meaning)."""

    kind: Kind = "huber"
    """huber: Hoffmann et al. 2022, section 3.3; lad: sum of |r|; squares: sum of r^2."""
    delta: float = 1e-3
    """Huber's delta on the residual (of log loss for the loss laws); ignored by the other two."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"objective {self.kind!r} is unknown; choose one of {', '.join(KINDS)}")
        if not (np.isfinite(self.delta) and self.delta > 0):
            raise InputError(f"delta is {self.delta}; it must be a positive number such as 1e-3")

    def stages(self) -> tuple[Rho, ...]:
        """Objectives from easy to the wanted one; every stage starts where the one before ended."""
        squares = Rho(delta=np.inf, scale=2.0)
        if self.kind == "squares":
            return (squares,)
        last = self.delta if self.kind == "huber" else LAD_DELTA
        widths = [width for width in (3e-2, 1e-2, 3e-3, 1e-3, 1e-4, 1e-5, 1e-6) if width > last * 1.5]
        scale = 1.0 if self.kind == "huber" else 0.0
        return (squares, *(Rho(delta=d, scale=scale or 1.0 / d) for d in (*widths, last)))

    def total(self, residuals: Floats) -> Floats:
        """The objective itself, summed over the last axis: what is reported and compared."""
        if self.kind == "lad":
            return np.asarray(np.abs(residuals).sum(axis=-1))
        return np.asarray(self.stages()[-1].value(residuals).sum(axis=-1))
