"""The straight line by ordinary least squares, where intervals are exact and need no bootstrap.

With the four sizes of the GPT-2 paper two degrees of freedom are left, and Student's t multiplies the standard error by
4.3: the interval is wide, and that is the finding.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ladder.analysis.fitting.intervals import UNKNOWN, Interval, t_quantile

Floats = NDArray[np.float64]


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
