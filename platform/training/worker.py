"""A training process: which of a run's workers it is, what the first tells the others, how it is reset between runs."""

import gc
import sys
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One of the processes that train a run together."""

    device: torch.device
    """The processor that it trains on."""
    rank: int = 0
    """Its number, from 0; the first one keeps checkpoints, the curve and the lease."""
    world_size: int = 1
    """How many there are."""

    @property
    def first(self) -> bool:
        """Whether it is the one that speaks for all."""
        return self.rank == 0

    def from_first(self, value: T) -> T:
        """The first worker's value, on all workers; a collective call, which each of them makes."""
        if self.world_size == 1:
            return value
        shared = [value]
        device = self.device if dist.get_backend() == "nccl" else None
        dist.broadcast_object_list(shared, src=0, device=device)
        return shared[0]


def reset_process(device: torch.device) -> None:
    """Drop what a run leaves in its process, so that the next one of another shape finds it as it was.

    Dynamo compiles one code object for at most 8 shapes and then runs it uncompiled without an error; its cache also
    keeps every compiled graph alive. What is left afterwards, most of it modules, is frozen: to look through it again
    after every run would take half a second.
    """
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    gc.collect()
    gc.freeze()
    if device.type == "cuda":
        torch.cuda.empty_cache()
