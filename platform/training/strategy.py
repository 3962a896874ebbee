"""What a run's workers hold, where it is left to ladder: the cheapest way that is predicted to fit their memory."""

from dataclasses import replace
from itertools import product

from ladder.models.errors import InputError
from ladder.models.memory import Strategy, Training, peak_bytes
from ladder.models.sizes import Size
from ladder.sweeps.words import Execution

MEMORY_SHARE = 0.9
"""Of a device's memory, for what a step is predicted to take; the rest is room for its driver and fragmentation."""


def choose_strategy(
    size: Size, execution: Execution, *, share: int, precision: str, device: str, memory_bytes: float
) -> Training:
    """How a worker trains `share` sequences a step, one of them at a time, on a `device` (cuda or cpu) with a memory.

    What the execution leaves open is the first of these, cheapest first, whose predicted peak fits: ddp, fsdp2, ddp
    with activation checkpointing, fsdp2 with it. To exchange weights beside gradients takes less time than a third more
    work does. Where none fits it is the last, which takes the least memory. One worker has nothing to share out.
    """
    strategies: tuple[Strategy, ...] = ("ddp", "fsdp2") if execution.strategy == "auto" else (execution.strategy,)
    if execution.workers == 1:
        strategies = ("ddp",)
    asked = execution.activation_checkpointing
    recomputes = (False, True) if asked is None else (asked,)
    training = Training(
        sequences=1, precision=precision, device=device, accumulates=share > 1, workers=execution.workers
    )
    ways = [replace(training, strategy=s, checkpointing=c) for c, s in product(recomputes, strategies)]
    return next((way for way in ways if peak_bytes(size, way) <= MEMORY_SHARE * memory_bytes), ways[-1])


def check_shares(execution: Execution, training: Training, batch_sequences: int) -> None:
    """Raises InputError where workers under fsdp2 would have different shares of the batch: they gather weights for
    each micro-batch together, so all must have as many."""
    if training.strategy == "fsdp2" and batch_sequences % training.workers:
        raise InputError(
            f"a batch of {batch_sequences} sequences for {training.workers} workers with strategy "
            f"{execution.strategy}{' (fsdp2 here)' if execution.strategy == 'auto' else ''}: wanted a multiple of "
            "the workers. Change workers, or batch_tokens in the recipe."
        )
