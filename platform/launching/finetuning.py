"""Many fine-tuning runs at one time, over Ray: workers that each take one run after another.

Nobody hands runs out: every worker is given all of them and takes the first whose lease it gets, as other commands and
clusters at the same storage do. A worker that dies is started again, and whoever comes to its run goes on from its last
checkpoint.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import ray
import torch
from ray.exceptions import RayTaskError

from ladder.models.errors import InputError
from ladder.platform.finetuning.job import FineTuneJob
from ladder.platform.finetuning.local import JobState, find_state, run_here
from ladder.platform.launching.cluster import connected
from ladder.platform.runs.lease import reopen

LOOK_SECONDS = 1.0
"""Between looks at how far the runs are."""
RETRIES = 3
"""Times that a worker which died is started again."""

Show = Callable[[JobState, int, int], None]


def fine_tune_all(
    jobs: Sequence[FineTuneJob],
    device: torch.device,
    *,
    show: Show,
    concurrent: int | None = None,
    address: str | None = None,
    retry_failed: bool = False,
) -> list[JobState]:
    """Do the runs that are not done; what became of each, once however often it is listed.

    `concurrent` at one time; None takes one in this process, or on a cluster as many as it has GPUs or else cores.
    `show` is told each outcome, how many are known and how many there are.
    """
    chosen = list({job.run.key: job for job in jobs}.values())
    for job in chosen if retry_failed else ():
        reopen(job.folder)
    left = [job for job in chosen if find_state(job) is None]
    if address is None and min(concurrent or 1, len(left)) <= 1:
        return run_here(chosen, device, show=show)
    with connected(address) as cluster:
        gpus = 1 if cluster.gpus and device.type == "cuda" else 0
        slots = min(len(left), concurrent or int(cluster.gpus if gpus else cluster.cpus))
        cpus = max(1, int(cluster.cpus) // slots) if cluster.local else 1
        if cluster.local and slots > (cluster.gpus if gpus else cluster.cpus):
            there = int(cluster.gpus if gpus else cluster.cpus)
            raise InputError(f"--concurrent-runs {slots}: this machine has room for {there}")
        remote = ray.remote(_on_worker).options(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)
        turns = [[*left[turn:], *left[:turn]] for turn in range(slots)]  # so that they do not all ask for the same
        going = [remote.remote([_with_threads(job, cpus) for job in turn], device.type) for turn in turns]
        return _watch(chosen, {job.run.key for job in left}, going, show)


def _on_worker(jobs: Sequence[FineTuneJob], device: str) -> None:
    """What Ray starts on a worker."""
    run_here(jobs, torch.device(device), show=lambda state, known, total: None)


def _with_threads(job: FineTuneJob, cpus: int) -> FineTuneJob:
    return replace(job, execution=replace(job.execution, cpus_per_worker=cpus))


def _watch(
    jobs: Sequence[FineTuneJob], left: Collection[str], going: "list[ray.ObjectRef[None]]", show: Show
) -> list[JobState]:
    """Show each run's end until all workers are done; `left` are the keys of the runs that had not ended before.

    Raises what a worker raised.
    """
    states: dict[str, JobState] = {}
    while True:
        done, going = ray.wait(going, num_returns=len(going), timeout=LOOK_SECONDS) if going else ([], [])
        for job in jobs:
            state = find_state(job) if job.run.key not in states else None
            if state is not None:
                states[job.run.key] = replace(state, worked_on=job.run.key in left)
                show(states[job.run.key], len(states), len(jobs))
        try:
            ray.get(done)
        except RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise error.cause from error
            raise
        if not going:
            break
    return [states[job.run.key] for job in jobs]
