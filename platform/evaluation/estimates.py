"""Means, ratios and perplexities with their standard errors.

Everything reported is a ratio of sums, r = sum x / sum y over n independent items (documents, passages): nats over
words, hits over items. Its standard error is that of a ratio estimator, which is the delta method applied to the
two sums (Cochran 1977, Sampling Techniques, eq. 2.41):

    se(r) = sqrt( n / (n - 1) * sum (x_i - r y_i)^2 ) / sum y

With every y_i = 1 this is the ordinary standard error of a mean. A perplexity is exp(r), as is its derivative, so the
delta method gives se(exp r) = exp(r) se(r).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value and its standard error."""

    value: float
    """The estimate."""
    standard_error: float | None
    """Standard error of the value; None where fewer than two items were seen."""

    def scaled(self, factor: float) -> "Estimate":
        """The estimate in another unit: both numbers times `factor`."""
        error = None if self.standard_error is None else self.standard_error * abs(factor)
        return Estimate(value=self.value * factor, standard_error=error)

    def exponential(self) -> "Estimate":
        """exp of the estimate, standard error by the delta method: a perplexity from nats per unit."""
        value = float(np.exp(self.value))
        error = None if self.standard_error is None else value * self.standard_error
        return Estimate(value=value, standard_error=error)


def estimate_ratio(numerators: Sequence[float] | np.ndarray, denominators: Sequence[float] | np.ndarray) -> Estimate:
    """sum(numerators) / sum(denominators) over independent items [n] each; the denominators' sum is positive."""
    x, y = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    assert x.shape == y.shape and x.ndim == 1 and y.sum() > 0, (x.shape, y.shape)
    ratio = float(x.sum() / y.sum())
    if len(x) < 2:
        return Estimate(value=ratio, standard_error=None)
    residual = float(np.square(x - ratio * y).sum())
    return Estimate(value=ratio, standard_error=float(np.sqrt(len(x) / (len(x) - 1) * residual) / y.sum()))


def estimate_mean(values: Sequence[float] | np.ndarray) -> Estimate:
    """Mean of independent values [n] with its standard error; a share where the values are 0 and 1."""
    return estimate_ratio(values, np.ones(len(values)))
