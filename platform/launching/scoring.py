"""Many checkpoints scored at one time, over Ray: a task for each, the largest first.

A task yields what becomes of each benchmark as soon as it is known. What it scored is in the cache, so that a task
whose worker died is started again and goes on from there.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import ray
import torch
from ray.exceptions import RayError, RayTaskError
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.weights import weight_files
from ladder.platform.evaluation.checkpoints.score import Outcome, ScoringTask, find_cached, score_checkpoint
from ladder.platform.evaluation.scorer import Progress, tell_nobody
from ladder.platform.launching.cluster import connected
from ladder.platform.processes import count_cores
from ladder.platform.runs.checkpoints import list_checkpoints

logger = logging.getLogger(__name__)

SLOT_BYTES = 2 << 30
"""Memory of a slot on processors besides the weights, which it holds twice while it loads them."""


def finished_checkpoints(storage: UPath, sweep: str) -> list[str]:
    """The newest checkpoint of each finished run of a sweep; InputError where there is none."""
    folder = storage / "sweeps" / sweep
    runs = sorted(path.parent for path in folder.glob("*/result.json"))
    checkpoints = [kept[0] for run in runs if (kept := list_checkpoints(run))]
    if not checkpoints:
        there = sorted(path.name for path in (storage / "sweeps").glob("*") if path.is_dir())
        known = f"sweeps there are {', '.join(there)}" if there else "there are no sweeps"
        raise InputError(f"no finished run of sweep {sweep} in {storage / 'sweeps'}: {known}; `ladder run` trains one")
    return [str(checkpoint) for checkpoint in checkpoints]


def score_all(
    tasks: Sequence[ScoringTask],
    *,
    concurrent: int | None = None,
    address: str | None = None,
    progress: Progress = tell_nobody,
) -> Iterator[Outcome]:
    """What becomes of each benchmark on each checkpoint, in the order that it is known.

    `concurrent` checkpoints at one time; None takes as many as there are GPUs, or as cores and memory hold. One at a
    time on this machine needs no Ray: it is scored here, and `progress` is told how far it is. One that fails does not
    stop the others.
    """
    if address is not None:
        yield from _on_ray(tasks, concurrent, address)
        return
    with ThreadPoolExecutor(count_cores()) as threads:  # starting Ray takes longer than a look into the cache
        found = list(threads.map(find_cached, tasks)) if len(tasks) > 1 else [None]
    for outcomes in found:
        yield from outcomes or []
    left = [task for task, outcomes in zip(tasks, found, strict=True) if outcomes is None]
    if len(left) > 1 and (concurrent or _room(left)) > 1:
        yield from _on_ray(left, concurrent, None)
        return
    for task in left:
        try:
            yield from score_checkpoint(task, progress)
        except Exception as error:
            if len(tasks) == 1:
                raise
            logger.error("scoring %s failed", task.checkpoint, exc_info=error)
            yield Outcome(checkpoint=task.checkpoint, benchmark=None, problem=f"{type(error).__name__}: {error}")


def _on_ray(tasks: Sequence[ScoringTask], concurrent: int | None, address: str | None) -> Iterator[Outcome]:
    with connected(address) as cluster:
        gpus = 1 if cluster.gpus and tasks[0].device != "cpu" else 0
        room = cluster.gpus if gpus else _room(tasks) if cluster.local else cluster.cpus
        slots = min(len(tasks), concurrent or int(room))
        cpus = _cores_each(slots, gpus)
        if cluster.local and slots * cpus > cluster.cpus:
            wanted = f"wants as many cores, this machine has {cluster.cpus:g}: ask for less"
            raise InputError(f"--concurrent-checkpoints {slots} {wanted}")
        remote = ray.remote(_on_worker).options(num_cpus=cpus, num_gpus=gpus, max_retries=1, num_returns="streaming")
        yield from _spread(sorted(tasks, key=_weight_bytes, reverse=True), remote, slots=slots, cpus=cpus)


def _on_worker(task: ScoringTask, threads: int) -> Iterator[Outcome]:
    """What Ray starts on a worker."""
    torch.set_num_threads(threads)
    yield from score_checkpoint(task)


def _spread(tasks: Sequence[ScoringTask], remote: Any, *, slots: int, cpus: int) -> Iterator[Outcome]:
    """Keeps `slots` tasks going until all are done."""
    waiting = list(tasks)
    going: dict[Any, ScoringTask] = {}
    while waiting or going:
        while waiting and len(going) < slots:
            task = waiting.pop(0)
            going[remote.remote(task, cpus)] = task
        ready, _ = ray.wait(list(going), num_returns=1)
        stream: Any = ready[0]
        try:
            outcome: Outcome = ray.get(next(stream))
            yield outcome
        except StopIteration:
            del going[stream]
        except RayError as error:
            task = going.pop(stream)
            logger.info("scoring %s failed", task.checkpoint, exc_info=error)
            yield Outcome(checkpoint=task.checkpoint, benchmark=None, problem=_describe(error))


def _describe(error: RayError) -> str:
    if isinstance(error, RayTaskError):
        return f"{type(error.cause).__name__}: {error.cause}"
    return (
        f"its worker died, as it does when memory runs out ({type(error).__name__}); try fewer --concurrent-checkpoints"
    )


def _room(tasks: Sequence[ScoringTask]) -> int:
    """Checkpoints that this machine can score at one time."""
    gpus = torch.cuda.device_count()
    if gpus and tasks[0].device != "cpu":
        return gpus
    each = SLOT_BYTES + 2 * max(_weight_bytes(task) for task in tasks)
    return max(1, min(count_cores(), int(psutil.virtual_memory().available // each)))


def _cores_each(slots: int, gpus: int) -> int:
    """Cores of a slot: its share, and no more than a node has, since Ray waits for ever for what no node has."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    able = [int(node["CPU"]) for node in nodes if node.get("CPU") and node.get("GPU", 0) >= gpus]
    return max(1, min(sum(able) // slots, min(able))) if able else 1


def _weight_bytes(task: ScoringTask) -> int:
    """Bytes of a checkpoint's weights, 0 where they are not on this machine."""
    folder = Path(task.checkpoint)
    return sum(path.stat().st_size for path in weight_files(folder) if path.exists()) if folder.is_dir() else 0
