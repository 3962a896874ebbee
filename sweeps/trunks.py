"""Runs that share the beginning of their training, so that several budgets cost little more than the largest.

Under the schedule `wsd` the learning rate before the decay does not depend on the horizon. Runs that differ only in
what acts in the decay therefore pass through the same states, bit for bit, until the first decays: the one with the
longest way to its decay is the trunk, and each other run branches off where its own decay begins (Hu et al. 2024,
section 4; Haegele et al. 2024). A run is what it is whether its beginning was shared or not, so its key says nothing of
it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ladder.sweeps.words import Recipe, Run


@dataclass(frozen=True, kw_only=True)
class Relative:
    """Another run of the sweep, as one run sees it that begins alike."""

    run: str
    """Its key."""
    shared_steps: int
    """Steps that both begin with."""
    ahead: bool
    """Whether it comes first: the longer way to the decay, then the larger key."""


def stable_steps(recipe: Recipe) -> int:
    """Steps before the learning rate first depends on the horizon; 0 for `cosine`, whose whole curve does."""
    return (recipe.tokens - recipe.decay_tokens) // recipe.batch_tokens if recipe.schedule == "wsd" else 0


def find_relatives(runs: Sequence[Run]) -> dict[str, tuple[Relative, ...]]:
    """For each run that shares its beginning with others of `runs`, those others; runs that share nothing are left out.

    The order among them is total, so of any group exactly one run has nobody ahead of it.
    """
    families: dict[str, list[Run]] = {}
    for run in runs:
        if stable_steps(run.recipe):
            families.setdefault(_beginning(run), []).append(run)
    return {
        run.key: tuple(_relative(run, other) for other in family if other is not run)
        for family in families.values()
        if len(family) > 1
        for run in family
    }


def waits(relatives: Sequence[Relative], standing: Callable[[str], tuple[int, bool]]) -> bool:
    """Whether a run is better begun later, from where a relative ahead of it will be.

    `standing` gives, by a run's key, the step of its newest checkpoint and whether it trains no more.
    """
    goal = max((relative.shared_steps for relative in relatives if relative.ahead), default=0)
    stands = {relative: standing(relative.run) for relative in relatives}
    if any(min(step, relative.shared_steps) >= goal for relative, (step, _) in stands.items()):
        return False
    return any(relative.ahead and not ended for relative, (_, ended) in stands.items())


def planned_shared_steps(runs: Sequence[Run]) -> dict[str, int]:
    """Steps of each run that another one trains, when all of `runs` are trained from nothing."""
    relatives = find_relatives(runs)
    return {
        run.key: max((other.shared_steps for other in relatives.get(run.key, ()) if other.ahead), default=0)
        for run in runs
    }


def _beginning(run: Run) -> str:
    """All of a run's identity but what acts in its decay."""
    identity = run.identity
    shared = {k: v for k, v in identity["recipe"].items() if k not in ("tokens", "decay_tokens", "lr_final_fraction")}
    return json.dumps(identity | {"recipe": shared}, sort_keys=True)


def _relative(run: Run, other: Run) -> Relative:
    mine, its = ((stable_steps(r.recipe), r.key) for r in (run, other))
    return Relative(run=other.key, shared_steps=min(mine[0], its[0]), ahead=its > mine)
