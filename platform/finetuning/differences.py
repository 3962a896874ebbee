"""How sure a mean over seeds is, and a difference of two such means: over seeds and over items, apart and together.

Seeds (head, order of the examples, dropout) and scored items are two samples. The standard error over seeds says what
other seeds would give on these items, that over items what other items would give these seeds; their squares add up
for what both would. A difference is taken seed by seed and item by item, so that what two networks share drops out.
What a seed and an item do together is in both errors, so the interval of both is a little too wide, never too narrow.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from ladder.platform.evaluation.estimates import Estimate, estimate_mean
from ladder.platform.finetuning.metrics import jackknife_error

Numbers = npt.NDArray[np.float64]

LEVEL = 0.95
"""Of all intervals."""


@dataclass(frozen=True, kw_only=True)
class SeedScores:
    """One metric over the same items by seed."""

    values: Mapping[int, float]
    """The metric by seed."""
    without: Mapping[int, Numbers | None]
    """[n] the metric without each item, by seed; None where the metric has no such thing."""

    def less(self, other: "SeedScores") -> "SeedScores | None":
        """The differences over the seeds that both have; None where they share none."""
        shared = sorted(self.values.keys() & other.values.keys())
        if not shared:
            return None
        return SeedScores(
            values={seed: self.values[seed] - other.values[seed] for seed in shared},
            without={seed: _less(self.without[seed], other.without[seed]) for seed in shared},
        )

    def mean(self) -> "Uncertain":
        """The mean over the seeds with its errors."""
        seeds = estimate_mean(list(self.values.values()))
        known = [one for one in self.without.values() if one is not None]
        if len(known) < len(self.values):
            return _uncertain(seeds, len(self.values), None, 0.0, 0)
        without = np.stack(known)  # [seeds, items]
        average = without.mean(0)  # what an item does to all seeds adds up
        shared = _shared_square(without - average)
        return _uncertain(seeds, len(self.values), jackknife_error(average), shared, without.shape[1])


@dataclass(frozen=True, kw_only=True)
class Uncertain:
    """A mean over seeds, or a difference of two."""

    value: float
    """The mean."""
    error_seeds: float | None
    """Standard error over seeds; None of one seed."""
    error_items: float | None
    """Standard error over items, for these seeds; None where the metric has none."""
    low: float | None
    """Lower end of the interval for other seeds and other items; None of one seed."""
    high: float | None
    """Upper end."""


def repeated(value: float, without: Numbers | None, seeds: Mapping[int, float]) -> SeedScores:
    """A predictor that no seed changes, beside one that has these seeds."""
    return SeedScores(values=dict.fromkeys(seeds, value), without=dict.fromkeys(seeds, without))


def _less(ours: Numbers | None, theirs: Numbers | None) -> Numbers | None:
    return None if ours is None or theirs is None else ours - theirs


def _shared_square(deviations: Numbers) -> float:
    """What a seed and an item do together, as a squared error of the mean over k seeds of n items; of one seed 0.

    `deviations` [k, n] are the metric without each item, by seed less the mean over seeds: a seed's own effect is in
    all of its items, and (n - 1) times the rest is what an item adds beyond that.
    """
    k, n = deviations.shape
    if k == 1:
        return 0.0
    together = (n - 1) * (deviations - deviations.mean(1, keepdims=True))
    return float(np.square(together).sum() / ((k - 1) * (n - 1)) / (k * n))


def _uncertain(seeds: Estimate, n_seeds: int, items: float | None, shared: float, n_items: int) -> Uncertain:
    """The mean with both errors and the interval, by Student's t with Satterthwaite's degrees of freedom (1946)."""
    low = high = None
    if seeds.standard_error is not None:
        squares = [(seeds.standard_error**2, n_seeds - 1)]
        squares += [] if items is None else [(items**2, n_items - 1)]
        whole = sum(square for square, _ in squares)
        freedom = whole**2 / sum(square**2 / degrees for square, degrees in squares) if whole else 1.0
        total = max(whole - shared, max(square for square, _ in squares))
        half = float(special.stdtrit(freedom, 0.5 + LEVEL / 2)) * total**0.5
        low, high = seeds.value - half, seeds.value + half
    return Uncertain(value=seeds.value, error_seeds=seeds.standard_error, error_items=items, low=low, high=high)
