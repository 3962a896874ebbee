"""The search for a size's learning rate: which runs it may take, by learning rate, batch and budget.

A trial is a learning rate and a batch of one size. At each rung it is a run of its own, with its own decay, so that the
losses of a rung are of finished runs and compare at equal tokens. Under `wsd` the runs of a trial share their trunk
(see `ladder.sweeps.trunks`), so that all rungs of a trial cost little more than the longest; under `cosine` each is
trained from the beginning, since a cosine that was cut short says little of the whole one (Hoffmann et al. 2022,
section 3.1).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from ladder.models.errors import InputError
from ladder.models.sizes import Size, parse_size
from ladder.sweeps.expand import CorpusFacts, ResolvedPrecision, resolved_recipe, tokens_of
from ladder.sweeps.rules import ceil_to_multiple
from ladder.sweeps.words import Recipe, Run, Sweep

BATCH_FACTORS = (1.0, 0.5, 2.0)
"""Batches that a search over the batch tries, as shares of the recipe's own."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """What is tried for each size, around the recipe's own learning rate and batch."""

    lr_steps: int = 7
    """Learning rates, evenly spaced in their logarithm, the recipe's own in the middle."""
    lr_factor: float = 2.0
    """From one learning rate to the next."""
    batch: bool = False
    """Whether half and twice the recipe's batch are tried too."""
    rungs: int = 3
    """Budgets; 1 trains every trial to the end, as a grid search does."""
    reduction: int = 3
    """From one budget to the next; one in as many trials goes on to it (eta of Li et al. 2020)."""
    tokens: int | None = None
    """The last budget; None: the largest that the sweep has for the size."""

    def __post_init__(self) -> None:
        for name, value, least in (
            ("lr_steps", self.lr_steps, 1),
            ("rungs", self.rungs, 1),
            ("reduction", self.reduction, 2),
        ):
            if value < least:
                raise InputError(f"{name}: got {value}, wanted at least {least}.")
        if not 1 < self.lr_factor < float("inf"):
            raise InputError(f"lr_factor: got {self.lr_factor}, wanted a number above 1, such as 2.")
        if self.tokens is not None and self.tokens <= 0:
            raise InputError(f"tokens: got {self.tokens}, wanted a number above 0.")

    @property
    def offsets(self) -> list[int]:
        """Steps from the recipe's learning rate, the nearest first; of an even number the lower half has one more."""
        lowest = -(self.lr_steps // 2)
        return sorted(range(lowest, lowest + self.lr_steps), key=lambda step: (abs(step), -step))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One learning rate and batch of a size."""

    lr_step: int
    """Steps of the search from the recipe's own learning rate."""
    runs: tuple[Run, ...]
    """Its run at each rung, the shortest first."""

    @property
    def lr_peak(self) -> float:
        """Its learning rate."""
        return self.runs[0].recipe.lr_peak

    @property
    def batch_tokens(self) -> int:
        """Its batch."""
        return self.runs[0].recipe.batch_tokens


@dataclass(frozen=True, kw_only=True)
class SizeSearch:
    """The search of one size."""

    size: Size
    """What is trained."""
    trials: tuple[Trial, ...]
    """In the order in which they are begun: the recipe's own first, then outward."""

    @property
    def edges(self) -> tuple[int, int]:
        """The lowest and the highest `lr_step`."""
        steps = [trial.lr_step for trial in self.trials]
        return min(steps), max(steps)


def plan_search(
    sweep: Sweep, corpus: CorpusFacts, space: SearchSpace, *, precision: ResolvedPrecision
) -> tuple[SizeSearch, ...]:
    """The searches of a sweep's sizes, the largest first, since its runs are the longest.

    Raises InputError where a budget is too small for the batch, so that two rungs are the same run.
    """
    sizes = dict.fromkeys(_parse(sweep, point.size, corpus) for point in sweep.points)
    searches = [_search_size(sweep, size, corpus, space, precision) for size in sizes]
    return tuple(sorted(searches, key=_cost, reverse=True))


def with_batch(recipe: Recipe, batch_tokens: int) -> Recipe:
    """The recipe with another batch; tokens, warm-up and decay are rounded up to its multiples."""
    tokens = ceil_to_multiple(recipe.tokens, batch_tokens)
    decay_tokens = ceil_to_multiple(recipe.decay_tokens, batch_tokens)
    return replace(
        recipe,
        tokens=tokens,
        batch_tokens=batch_tokens,
        decay_tokens=decay_tokens,
        warmup_tokens=min(ceil_to_multiple(recipe.warmup_tokens, batch_tokens), tokens - decay_tokens),
    )


def _search_size(
    sweep: Sweep, size: Size, corpus: CorpusFacts, space: SearchSpace, precision: ResolvedPrecision
) -> SizeSearch:
    points = [point for point in sweep.points if _parse(sweep, point.size, corpus) == size]
    most = space.tokens or max(tokens_of(point, size) for point in points)
    budgets = [max(1, most // space.reduction**rung) for rung in reversed(range(space.rungs))]

    def recipe(tokens: int) -> Recipe:
        return resolved_recipe(sweep, size, tokens, points[0].seed, precision)

    own = recipe(most)
    trials = [
        Trial(
            lr_step=step,
            runs=tuple(
                _run(recipe, budget, own.lr_peak * space.lr_factor**step, batch, size, corpus) for budget in budgets
            ),
        )
        for batch in _batches(own, size, space)
        for step in space.offsets
    ]
    _refuse_equal_runs(sweep, size, trials)
    return SizeSearch(size=size, trials=tuple(trials))


def _run(
    recipe: Callable[[int], Recipe], tokens: int, lr_peak: float, batch_tokens: int, size: Size, corpus: CorpusFacts
) -> Run:
    made = replace(with_batch(recipe(tokens), batch_tokens), lr_peak=lr_peak)
    return Run(size=size, recipe=made, corpus=corpus.name, corpus_fingerprint=corpus.fingerprint)


def _batches(own: Recipe, size: Size, space: SearchSpace) -> list[int]:
    """The batches to try, the recipe's own first: those of whole sequences."""
    wanted = [own.batch_tokens * factor for factor in BATCH_FACTORS] if space.batch else [own.batch_tokens]
    return [int(batch) for batch in wanted if batch >= size.context and batch % size.context == 0]


def _refuse_equal_runs(sweep: Sweep, size: Size, trials: list[Trial]) -> None:
    keys = Counter(run.key for trial in trials for run in trial.runs)
    if max(keys.values()) > 1:
        budgets = ", ".join(f"{run.recipe.tokens:,}" for run in trials[0].runs)
        raise InputError(
            f"sweep {sweep.name}: two rungs of size {size.name} are the same run (budgets of {budgets} tokens in "
            f"batches of {trials[0].batch_tokens:,}). Search with fewer rungs, or with more tokens."
        )


def _parse(sweep: Sweep, name: str, corpus: CorpusFacts) -> Size:
    return parse_size(name, context=sweep.context, vocabulary=corpus.vocabulary)


def _cost(search: SizeSearch) -> int:
    return search.size.flops_exact(search.trials[0].runs[-1].recipe.tokens)
