"""Workers that train together, for tests: processes of one gloo group on this machine."""

import gc
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ladder.platform.training.worker import Worker


def run_gang(work: Callable[..., None], workers: int, folder: Path, *arguments: Any) -> None:
    """Call `work(worker, *arguments)` in each of `workers` processes, with a group that meets in a folder.

    Raises what went wrong in one of them. None outlives the test, also where its time is up.
    """
    multiprocessing.set_forkserver_preload([work.__module__])  # torch is imported once, not once a process
    rendezvous = str(folder / f"rendezvous-{workers}")
    mp.start_processes(  # type: ignore[no-untyped-call]
        _process, args=(workers, rendezvous, work, arguments), nprocs=workers, daemon=True, start_method="forkserver"
    )


def _process(rank: int, workers: int, rendezvous: str, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=workers)
    work(Worker(device=torch.device("cpu"), rank=rank, world_size=workers), *arguments)
    # Data parallelism that outlives the group ends it itself, holding Python's lock, and now and then waits for ever
    # for a thread of gloo's that wants the lock.
    gc.collect()
    dist.destroy_process_group()
