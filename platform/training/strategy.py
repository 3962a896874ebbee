"""What a run's workers hold, where it is left to ladder: the cheapest way that is predicted to fit their memory."""

from dataclasses import replace
from itertools import product

from ladder.models.errors import InputError
from ladder.models.memory import Strategy, Training, largest_divisor, largest_micro_batch, peak_bytes
from ladder.models.sizes import Size
from ladder.sweeps.words import Execution, Run

CPU_TOKENS = 8192
"""On a processor, larger micro-batches only leave its caches."""
MEMORY_SHARE = 0.9
"""Of a device's memory, for what a step is predicted to take; the rest is room for its driver and fragmentation."""


def plan_training(
    run: Run,
    execution: Execution,
    *,
    precision: str,
    device: str,
    memory_bytes: float,
    free_bytes: float | None = None,
    saved: int | None = None,
) -> Training:
    """How each worker trains a run on a `device` (cuda or cpu) with a memory, `free_bytes` of it now (None: all).

    The strategy as `choose_strategy` says; sequences at once as asked for, as a checkpoint has it (`saved`), or as many
    as fit, in this order and so that they divide a worker's share of the batch. How many fit depends on the memory that
    is free, and other sums round differently.
    """
    share = -(-run.batch_sequences // execution.workers)
    if run.recipe.optimizer == "muon" and execution.strategy == "auto":
        execution = replace(execution, strategy="ddp")  # see check_sharing
    training = choose_strategy(
        run.size, execution, share=share, precision=precision, device=device, memory_bytes=memory_bytes
    )
    if execution.micro_batch_tokens is not None:
        limit = execution.micro_batch_tokens // run.size.context
    elif saved is not None:
        limit = saved
    elif device == "cpu":
        limit = CPU_TOKENS // run.size.context
    else:
        free = memory_bytes if free_bytes is None else free_bytes
        limit = largest_micro_batch(run.size, training, memory_bytes=MEMORY_SHARE * free, share=share)
    sequences = largest_divisor(share, limit)
    return replace(training, sequences=sequences, accumulates=sequences < share)


def least_bytes(run: Run, training: Training) -> int:
    """Bytes at the peak of a step with one sequence at a time."""
    share = -(-run.batch_sequences // training.workers)
    return peak_bytes(run.size, replace(training, sequences=1, accumulates=share > 1))


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


def check_sharing(run: Run, strategy: str, workers: int) -> None:
    """Raises InputError where workers cannot share a run's weights out, as fsdp2 has them do.

    They gather weights for each micro-batch together, so all must have as many; and Muon needs whole matrices.
    """
    if strategy != "fsdp2" or workers == 1:
        return
    if run.recipe.optimizer == "muon":
        raise InputError(
            "strategy: got fsdp2 with the optimizer muon, wanted ddp: Muon makes each update of a whole matrix, and "
            "under fsdp2 a worker has some of its rows. Use --strategy ddp, or adamw in the recipe."
        )
    if run.batch_sequences % workers:
        raise InputError(
            f"a batch of {run.batch_sequences} sequences with strategy fsdp2 on {workers} workers: wanted as many for "
            "each worker. Change workers, or batch_tokens in the recipe, or ask for --strategy ddp."
        )
