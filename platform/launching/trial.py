"""One run on Ray: Tune calls `run_trial` on the head node, Train places the run's workers and starts `ray_worker` on
each.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
from ray.train import Checkpoint
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.config import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig

from ladder.platform.storage import read_json, write_json
from ladder.platform.training.place import Place
from ladder.platform.training.worker import Job, carry_out


def run_trial(config: dict[str, Any], jobs: dict[str, Job], gpus: int) -> dict[str, Any]:
    """Drive one run to its end; called by Tune with the run's key. Returns how it ended."""
    job = jobs[config["key"]]
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    trainer = TorchTrainer(
        ray_worker,  # type: ignore[arg-type]  # Ray's stub forgets that what it returns comes back
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=job.execution.workers,
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": job.execution.cpus_per_worker, **({"GPU": gpus} if gpus else {})},
        ),
        # The name carries the hash of the run's identity, since Train silently resumes a name that it knows.
        run_config=RunConfig(  # type: ignore[arg-type]  # the stub means the class of before version 2
            name=job.run.key,
            storage_path=str(job.folder.parent),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            failure_config=FailureConfig(max_failures=job.execution.max_failures, controller_failure_limit=3),
        ),
    )
    try:
        outcome: dict[str, Any] = trainer.fit().return_value  # type: ignore[attr-defined]
    except ray.train.TrainingFailedError as error:
        outcome = {"status": "failed", "reason": _root_cause(error)}
        progress = read_json(job.folder / "progress.json") or {}
        write_json(job.folder / "progress.json", progress | outcome)
    return outcome


def ray_worker(config: dict[str, Any]) -> dict[str, Any]:
    """What Train starts on every worker; the marked lines are all that Ray has to do with training."""
    job: Job = config["job"]
    context = ray.train.get_context()  # [1] who am I
    place = Place(
        device=ray.train.torch.get_device(),  # [2] which processor is mine
        rank=context.get_world_rank(),
        world=context.get_world_size(),
    )
    with tempfile.TemporaryDirectory(prefix="ladder-") as scratch, _resumed() as resume:
        return carry_out(job, place, resume=resume, scratch=Path(scratch), keep=_keep)


@contextmanager
def _resumed() -> Iterator[Path | None]:
    checkpoint = ray.train.get_checkpoint()  # [3] where to go on from
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder)


def _keep(folder: Path | None, name: str) -> None:
    checkpoint = Checkpoint.from_directory(str(folder)) if folder is not None else None
    ray.train.report({"checkpoint": name}, checkpoint=checkpoint, checkpoint_dir_name=name)  # [4] keep this


def _root_cause(error: BaseException) -> str:
    """The last line of the deepest error, which is what went wrong in the worker."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        error = next(iter(failures.values()))
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
