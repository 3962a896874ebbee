"""What a run will take: memory from its shape, time from FLOPs, money from time."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from ladder.models.errors import InputError
from ladder.models.memory import Training, peak_bytes
from ladder.platform.gpus import ASSUMED_GPU, PEAK_BF16_FLOPS, Gpu, gpu_named
from ladder.platform.hardware import matrix_rate, resolve_precision
from ladder.platform.training.step import memory_of
from ladder.platform.training.strategy import least_bytes, plan_training
from ladder.sweeps.words import Execution, Run


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


def asked_gpu(sweep: str, executions: Iterable[Execution]) -> str | None:
    """The GPU that the runs of a sweep ask for, None where they ask for none; InputError where its rate is unknown."""
    asking = [execution for execution in executions if execution.asks_for_gpus]
    if not asking:
        return None
    named = sorted({execution.accelerator_type for execution in asking if execution.accelerator_type is not None})
    if not named:
        return ASSUMED_GPU
    gpu = gpu_named(named[0])
    if len(named) > 1 or gpu is None or gpu.name not in PEAK_BF16_FLOPS:
        raise InputError(
            f"the runs of {sweep} ask for {' and '.join(named)}, and a plan counts with one GPU of a known rate: name "
            f"{', '.join(PEAK_BF16_FLOPS)} with --gpu."
        )
    return gpu.name


def planned_gpus(execution: Execution, rate: Rate) -> float:
    """GPUs of one worker at a rate: none at a core's; at a GPU's as asked for, or one where none was asked for."""
    return 0.0 if rate.gpu is None else execution.gpus_per_worker or 1.0


def training_seconds(run: Run, execution: Execution, rate: Rate, *, shared_steps: int = 0) -> float:
    """Seconds to train a run, without starting, scoring and waiting; a share of a GPU has that share of its rate."""
    return (
        worker_hours(run, execution, rate, shared_steps=shared_steps)
        * 3600
        / (execution.workers * (planned_gpus(execution, rate) or 1.0))
    )


def worker_hours(run: Run, execution: Execution, rate: Rate, *, shared_steps: int = 0) -> float:
    """Hours of whole GPUs, or of cores, to train a run, summed over its workers, without steps that another trains."""
    recomputed = recomputed_flops(run, execution, rate, shared_steps=shared_steps)
    return rate.hours(own_flops(run, shared_steps) + recomputed)


def own_flops(run: Run, shared_steps: int) -> float:
    """Training FLOPs of a run without the steps at its beginning that another one trains."""
    return run.size.flops_exact(_own_tokens(run, shared_steps))


def recomputed_flops(run: Run, execution: Execution, rate: Rate, *, shared_steps: int = 0) -> float:
    """FLOPs that activation checkpointing adds to a run's own, 0 where its workers will train without it."""
    if not planned_memory(run, execution, rate).training.checkpointing:
        return 0.0
    return run.size.recomputed_flops_per_token * _own_tokens(run, shared_steps)


def _own_tokens(run: Run, shared_steps: int) -> int:
    return run.recipe.tokens - shared_steps * run.recipe.batch_tokens


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What a run is predicted to take of a worker's memory."""

    training: Training
    """How its workers will train it."""
    peak_bytes: int
    """At the peak of a step."""
    least_bytes: int
    """The same with one sequence at a time."""
    memory_bytes: int
    """What there is."""

    @property
    def fits(self) -> bool:
        """Whether the run is not refused: one sequence at a time fits."""
        return self.least_bytes <= self.memory_bytes


def plan_memory(run: Run, execution: Execution, *, on_gpu: bool, memory_bytes: int) -> MemoryPlan:
    """The memory of a run on a GPU or a processor of that much memory, as its workers will choose to train it."""
    precision = "fp32" if run.recipe.precision == "fp32" else "bf16"
    training = plan_training(
        run, execution, precision=precision, device="cuda" if on_gpu else "cpu", memory_bytes=memory_bytes
    )
    return MemoryPlan(
        training=training,
        peak_bytes=peak_bytes(run.size, training),
        least_bytes=least_bytes(run, training),
        memory_bytes=memory_bytes,
    )


def planned_memory(run: Run, execution: Execution, rate: Rate) -> MemoryPlan:
    """The memory of a run on the GPU that it names or is planned for, or on this machine."""
    if rate.gpu is None:
        return plan_memory(run, execution, on_gpu=False, memory_bytes=memory_of(torch.device("cpu"))[1])
    gpu = gpu_named(execution.accelerator_type or rate.gpu)
    assert gpu is not None, f"no GPU {execution.accelerator_type or rate.gpu}"
    return plan_memory(run, execution, on_gpu=True, memory_bytes=int(gpu.memory_bytes * execution_share(execution)))


def fits(run: Run, execution: Execution, gpu: Gpu) -> bool:
    """Whether at least one sequence at a time of a run is predicted to fit the GPU, or the share of it, of a worker."""
    return _plan_on(run, execution, gpu).fits


def refuse_too_large(run: Run, execution: Execution, gpu: Gpu) -> None:
    """InputError where not even one sequence of a run fits the GPU that it asks for."""
    plan = _plan_on(run, execution, gpu)
    if not plan.fits:
        raise InputError(
            f"{run.key} does not fit {execution.gpus_per_worker or 1:g} of {gpu.name}: one sequence of "
            f"{run.size.context} tokens at a time takes {plan.least_bytes / 2**30:,.1f} GiB with "
            f"{plan.training.strategy} on {execution.workers} workers and there are {plan.memory_bytes / 2**30:,.1f}. "
            "Ask for another accelerator_type, for more workers, or take the size out of the sweep."
        )


def _plan_on(run: Run, execution: Execution, gpu: Gpu) -> MemoryPlan:
    return plan_memory(run, execution, on_gpu=True, memory_bytes=int(gpu.memory_bytes * execution_share(execution)))


def execution_share(execution: Execution) -> float:
    """The share of a GPU that one worker has, as asked for."""
    return execution.gpus_per_worker or 1.0
