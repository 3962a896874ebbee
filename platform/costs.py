"""What a run will take: time from FLOPs, money from time."""

from dataclasses import dataclass

from ladder.sweeps.words import Execution, Run

ASSUMED_UTILISATION = 0.35
"""Share of the peak rate that training reaches, until runs of the sweep have been measured."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast one worker trains."""

    flops_per_second: float
    """Peak rate of matrix products of one worker, FLOP/s."""
    utilisation: float
    """Share of it that training reaches."""
    provenance: str
    """Where the two numbers are from."""


def training_seconds(run: Run, execution: Execution, rate: Rate) -> float:
    """Seconds to train a run, without starting, scoring and waiting."""
    flops = run.size.flops_exact(run.recipe.tokens)
    return flops / (rate.flops_per_second * rate.utilisation * execution.workers)


def worker_hours(run: Run, execution: Execution, rate: Rate) -> float:
    """Hours of one worker, summed over the workers: GPU-hours where a worker has a GPU."""
    return training_seconds(run, execution, rate) * execution.workers / 3600
