"""Asynchronous successive halving of the trials of one size (Li et al. 2020, algorithm 2): the better third goes on.

All trials are run at the smallest budget first, as their number is known; then whoever is free takes the best trial
that is among the first 1/eta of its rung so far and not yet run at the next one, the highest rung first. Once a rung
gets no more results, 1/eta of them rounded up go on, so that the last rung always has one. Ray Tune's own
`ASHAScheduler` stops the trials that fall behind instead: one that comes first, with nobody to be compared with, runs
to the end, which with seven trials in an unlucky order is most of a grid's cost.
"""

import math
from collections.abc import Sequence


class Halving:
    """Which trial is to be run at which rung next, given the losses so far."""

    def __init__(self, *, trials: int, rungs: int, reduction: int) -> None:
        self.reduction = reduction
        self.losses: list[dict[int, float]] = [{} for _ in range(rungs)]
        """At each rung, the loss of each trial that was run; infinite where it failed."""
        self._trials = trials
        self._begun: list[set[int]] = [set() for _ in range(rungs)]

    def next(self) -> tuple[int, int] | None:
        """A trial and a rung to run it at, counted as begun from now on; None where nothing is to be begun now."""
        bottom = len(self._begun[0])
        found = (bottom, 0) if bottom < self._trials else self._promotion()
        if found is not None:
            self._begun[found[1]].add(found[0])
        return found

    def record(self, trial: int, rung: int, loss: float) -> None:
        """Note the loss of a trial at a rung; NaN is as bad as infinity."""
        self.losses[rung][trial] = math.inf if math.isnan(loss) else loss

    @property
    def running(self) -> bool:
        """Whether a trial is begun whose loss is not recorded."""
        return any(begun - losses.keys() for begun, losses in zip(self._begun, self.losses, strict=True))

    @property
    def best(self) -> tuple[int, int] | None:
        """The trial of the lowest loss at the highest rung where one did not fail, and that rung; None if all did."""
        for rung in reversed(range(len(self.losses))):
            ranked = rank(self.losses[rung])
            if ranked:
                return ranked[0], rung
        return None

    def _promotion(self) -> tuple[int, int] | None:
        for rung in reversed(range(len(self.losses) - 1)):
            waiting = self._promotable(rung)
            if waiting:
                return waiting[0], rung + 1
        return None

    def _promotable(self, rung: int) -> list[int]:
        """Trials of a rung that may go on and have not, the best first."""
        share = len(self.losses[rung]) / self.reduction
        count = math.ceil(share) if self._is_complete(rung) else math.floor(share)
        return [trial for trial in rank(self.losses[rung])[:count] if trial not in self._begun[rung + 1]]

    def _is_complete(self, rung: int) -> bool:
        """Whether a rung gets no more results."""
        if self._begun[rung] - self.losses[rung].keys():
            return False
        if rung == 0:
            return len(self.losses[0]) == self._trials
        return self._is_complete(rung - 1) and not self._promotable(rung - 1)


def rank(losses: dict[int, float]) -> Sequence[int]:
    """The trials that did not fail, the lowest loss first, of equal ones the first."""
    return sorted((trial for trial, loss in losses.items() if math.isfinite(loss)), key=lambda t: (losses[t], t))
