"""A search on its way: what each size's halving asks for next, answered from the runs' folders where they have it.

It knows nothing of Ray. A search that was interrupted is one whose folders answer the first questions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ladder.platform.tuning.halving import Halving
from ladder.platform.tuning.results import RunResult
from ladder.sweeps.search import SearchSpace, SizeSearch, Trial
from ladder.sweeps.words import Run


@dataclass(frozen=True, kw_only=True)
class Place:
    """One run of a search: which size, trial and rung."""

    search: int
    trial: int
    rung: int


class Progress:
    """The searches of a sweep's sizes and the results so far."""

    def __init__(
        self, searches: Sequence[SizeSearch], space: SearchSpace, look_up: Callable[[Run], RunResult | None]
    ) -> None:
        self.searches = searches
        self.results: dict[Place, RunResult] = {}
        self._look_up = look_up
        self._halvings = [
            Halving(trials=len(search.trials), rungs=space.rungs, reduction=space.reduction) for search in searches
        ]

    def next(self) -> Place | None:
        """A run to do now that has no result yet; None where there is none until another ends."""
        for search, halving in enumerate(self._halvings):
            while (found := halving.next()) is not None:
                place = Place(search=search, trial=found[0], rung=found[1])
                result = self._look_up(self.run_at(place))
                if result is None:
                    return place
                self.record(place, result)
        return None

    def record(self, place: Place, result: RunResult) -> None:
        """Note how a run ended."""
        self.results[place] = result
        self._halvings[place.search].record(place.trial, place.rung, result.loss)

    def trial_at(self, place: Place) -> Trial:
        """The trial of a run."""
        return self.searches[place.search].trials[place.trial]

    def run_at(self, place: Place) -> Run:
        """The run itself."""
        return self.trial_at(place).runs[place.rung]

    def best(self, search: int) -> Place | None:
        """The best run of a size; None where all its runs failed."""
        found = self._halvings[search].best
        return None if found is None else Place(search=search, trial=found[0], rung=found[1])
