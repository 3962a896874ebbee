"""What a sweep has taken of a cluster, and what it is still going to take.

To come are the training FLOPs that are left, at the GPU-hours (or core-hours) a FLOP that finished runs took: those of
the same size where there are any, otherwise of the nearest size, since small models use a GPU worse. So starting,
scoring and lost work are in it as they were so far. Nothing is said before a run has finished.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

from ladder.platform.runs.status import RunStatus
from ladder.platform.runs.usage import Usage
from ladder.sweeps.trunks import planned_shared_steps
from ladder.sweeps.words import Run

Resource = Literal["gpu_hours", "core_hours"]


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """GPU-hours and core-hours of a sweep."""

    spent: Usage
    """By all attempts so far."""
    gpu_hours_to_come: float | None
    """GPU-hours that the rest will take; None where nothing has finished to tell by."""
    core_hours_to_come: float | None
    """The same in core-hours."""
    flops_to_come: float
    """Training FLOPs that are left."""


def foresee_usage(statuses: Sequence[RunStatus], usages: Mapping[str, Usage]) -> Outlook:
    """The outlook of a sweep by where its runs stand and what they have taken, by the runs' keys."""
    shared = planned_shared_steps([status.run for status in statuses])
    left = {status.run: flops for status in statuses if (flops := _flops_left(status, shared[status.run.key]))}

    def to_come(resource: Resource) -> float | None:
        rates = _rates(statuses, usages, shared, resource)
        if left and not rates:
            return None
        return sum(flops * _rate_of(run, rates) for run, flops in left.items())

    return Outlook(
        spent=sum(usages.values(), Usage()),
        gpu_hours_to_come=to_come("gpu_hours"),
        core_hours_to_come=to_come("core_hours"),
        flops_to_come=sum(left.values()),
    )


def _rates(
    statuses: Sequence[RunStatus], usages: Mapping[str, Usage], shared: Mapping[str, int], resource: Resource
) -> dict[int, float]:
    """Hours a FLOP by number of parameters, of the sizes that have a finished run."""
    hours: dict[int, float] = {}
    flops: dict[int, float] = {}
    for status in statuses:
        usage, params = usages.get(status.run.key), status.run.size.params_total
        if status.status == "finished" and usage is not None and not usage.uncounted:
            hours[params] = hours.get(params, 0.0) + getattr(usage, resource)
            flops[params] = flops.get(params, 0.0) + _own_flops(status.run, shared[status.run.key])
    return {params: hours[params] / flops[params] for params in hours}


def _rate_of(run: Run, rates: Mapping[int, float]) -> float:
    return rates[min(rates, key=lambda params: abs(log(params / run.size.params_total)))]


def _own_flops(run: Run, shared_steps: int) -> float:
    """Training FLOPs of a run without the steps that another one trains for it."""
    return float(run.size.flops_exact(run.recipe.tokens - shared_steps * run.recipe.batch_tokens))


def _flops_left(status: RunStatus, shared_steps: int) -> float:
    """Training FLOPs that are left of a run; none of one that failed, since nobody takes it up again by itself."""
    if status.ended:
        return 0.0
    run = status.run
    done = max(status.tokens, shared_steps * run.recipe.batch_tokens)
    return float(run.size.flops_exact(max(0, run.recipe.tokens - done)))
