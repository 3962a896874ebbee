"""What a run will take: time from FLOPs, money from time."""

from dataclasses import dataclass

import torch

from ladder.platform.gpus import PEAK_BF16_FLOPS
from ladder.platform.hardware import matrix_rate, resolve_precision
from ladder.sweeps.words import Execution, Run

ASSUMED_UTILISATION = 0.35
"""Share of the peak rate that training reaches, until runs of the sweep have been measured."""
ASSUMED_GPU = "H100"
"""GPU that a budget is costed on where none is named."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast a whole GPU trains, or a processor core."""

    gpu: str | None
    """The GPU, of PEAK_BF16_FLOPS; None: a core."""

    flops_per_second: float
    """Peak rate of its matrix products, FLOP/s."""
    utilisation: float
    """Share of it that training reaches."""
    provenance: str
    """Where the two numbers are from."""

    def hours(self, flops: float) -> float:
        """Its hours for some training FLOPs."""
        return flops / (self.flops_per_second * self.utilisation) / 3600


def gpu_rate(gpu: str, utilisation: float) -> Rate:
    """The rate of a GPU of PEAK_BF16_FLOPS."""
    return Rate(
        gpu=gpu,
        flops_per_second=PEAK_BF16_FLOPS[gpu],
        utilisation=utilisation,
        provenance=f"{gpu}'s data sheet, dense bf16; the utilisation is assumed",
    )


def find_rate(gpu: str | None, utilisation: float) -> Rate:
    """The rate of a GPU by its data sheet, or of one core of this machine, measured now."""
    if gpu is not None:
        return gpu_rate(gpu, utilisation)
    cpu = torch.device("cpu")
    torch.set_num_threads(1)
    precision = resolve_precision("auto", cpu)
    return Rate(
        gpu=None,
        flops_per_second=matrix_rate(cpu, precision),
        utilisation=utilisation,
        provenance=f"one core of this machine, {precision} matrix products measured now; the utilisation is assumed",
    )


def planned_gpus(execution: Execution, rate: Rate) -> float:
    """GPUs of one worker at a rate: none at a core's; at a GPU's as asked for, or one where none was asked for."""
    return 0.0 if rate.gpu is None else execution.gpus_per_worker or 1.0


def training_seconds(run: Run, execution: Execution, rate: Rate, *, shared_steps: int = 0) -> float:
    """Seconds to train a run, without starting, scoring and waiting; a share of a GPU has that share of its rate."""
    return (
        worker_hours(run, rate, shared_steps=shared_steps)
        * 3600
        / (execution.workers * (planned_gpus(execution, rate) or 1.0))
    )


def worker_hours(run: Run, rate: Rate, *, shared_steps: int = 0) -> float:
    """Hours of whole GPUs, or of cores, to train a run, summed over its workers, without steps that another trains."""
    return rate.hours(own_flops(run, shared_steps))


def own_flops(run: Run, shared_steps: int) -> float:
    """Training FLOPs of a run without the steps at its beginning that another one trains."""
    return run.size.flops_exact(run.recipe.tokens - shared_steps * run.recipe.batch_tokens)
