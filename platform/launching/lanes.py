"""Runs on Ray, in lanes. Tune starts a lane on the head node, Train places the lane's workers, and they carry out runs
one after another until the queue is empty.

To start Ray Train's processes costs as much as a small run (about 9 seconds of a processor for each run, measured), so
the workers of a lane stay up between runs. A worker that dies takes nothing else with it: Train starts the lane's
workers again, and they go on with the run that they were at, from its last checkpoint.
"""

import logging
from typing import Any

import ray
import ray.train
import ray.train.collective
import ray.train.torch
import torch
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig

from ladder.platform.storage import read_json, write_json
from ladder.platform.training.place import Place
from ladder.platform.training.worker import Job, carry_out


class Queue:
    """Hands out the jobs of a sweep to its lanes; an actor on the head node, of no processor."""

    def __init__(self, jobs: dict[str, Job]) -> None:
        self.jobs = jobs
        self.waiting = list(jobs)
        self.at: dict[int, str] = {}
        self.failures: dict[str, int] = {}
        self.reasons: dict[str, str] = {}

    def take(self, lane: int) -> Job | None:
        """The next job of a lane, or None when there is none; a lane that was restarted gets back the job it was at.

        A job at which a lane's workers died too often is failed and not handed out again.
        """
        key = self.at.pop(lane, None)
        if key is not None:
            self.failures[key] = self.failures.get(key, 0) + 1
            if self.failures[key] > self.jobs[key].execution.max_failures:
                self._give_up(key)
                key = None
        if key is None:
            key = self.waiting.pop(0) if self.waiting else None
        if key is None:
            return None
        self.at[lane] = key
        return self.jobs[key]

    def end(self, lane: int) -> None:
        """Note that a lane is through with its job."""
        self.at.pop(lane, None)

    def explain(self, lane: int, reason: str) -> None:
        """Note why a lane's workers are about to die."""
        if lane in self.at:
            self.reasons[self.at[lane]] = reason

    def _give_up(self, key: str) -> None:
        reason = self.reasons.get(key, "its worker died without a word, as it does when memory runs out")
        path = self.jobs[key].folder / "progress.json"
        failed = {"status": "failed", "reason": f"failed {self.failures[key]} times: {reason}"}
        write_json(path, (read_json(path) or {"updated": 0}) | failed)


def run_lane(config: dict[str, Any], *, queue: Any, job: Job, gpus: float, folder: str, failures: int) -> None:
    """Drive a lane, whose number Tune gives, until the queue is empty; `job` says what workers to start."""
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    lane = config["lane"]
    trainer = TorchTrainer(
        ray_worker,
        train_loop_config={"lane": lane, "queue": queue},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=job.execution.workers,
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": job.execution.cpus_per_worker, **({"GPU": gpus} if gpus else {})},
        ),
        run_config=RunConfig(  # type: ignore[arg-type]  # the stub means the class of before version 2
            # A fresh folder at every call: Train silently resumes a name that it knows, and what is to be resumed is
            # for the runs' own folders to say.
            name=f"lane-{lane}",
            storage_path=folder,
            failure_config=FailureConfig(max_failures=failures, controller_failure_limit=3),
        ),
    )
    trainer.fit()


def ray_worker(config: dict[str, Any]) -> None:
    """What Train starts on every worker; the marked lines are all that Ray has to do with training."""
    lane, queue = config["lane"], config["queue"]
    context = ray.train.get_context()  # [1] who am I
    place = Place(
        device=ray.train.torch.get_device(),  # [2] which processor is mine
        rank=context.get_world_rank(),
        world=context.get_world_size(),
    )
    while (job := _take(queue, lane, place)) is not None:  # [3] what to do next
        try:
            carry_out(job, place)
        except Exception as error:
            ray.get(queue.explain.remote(lane, f"{type(error).__name__}: {error}"))
            raise
        if place.rank == 0:
            ray.get(queue.end.remote(lane))  # [4] that is done
        if place.device.type == "cuda":
            torch.cuda.empty_cache()


def _take(queue: Any, lane: int, place: Place) -> Job | None:
    """The lane's next job, the same on all of its workers."""
    job: Job | None = ray.get(queue.take.remote(lane)) if place.rank == 0 else None
    if place.world == 1:
        return job
    shared: Job | None = ray.train.collective.broadcast_from_rank_zero(job)
    return shared
