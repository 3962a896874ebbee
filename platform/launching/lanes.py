"""Lanes: Ray Train runs whose workers take one run of the sweep after another.

To start Ray Train's processes costs as much as a small run (about 9 seconds of a processor, measured), so the workers
of a lane stay up between short runs of one shape; after `LANE_SECONDS` or `LANE_RUNS` a lane ends and its place goes to
whatever is largest then, so a long run has a Ray Train run of its own. Nobody hands runs out: a worker takes the first
run of its list whose lease it gets, so lanes, drivers and clusters that work on one sweep share it, and all that anyone
has to know after a crash is in the runs' folders.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.costs import fits
from ladder.platform.gpus import gpu_named
from ladder.platform.launching.cluster import Cluster, gpus_per_worker, node_is_lost
from ladder.platform.launching.nodes import Shape, place
from ladder.platform.runs.attempt import NOTHING, Attempt, Holds, Listener, begin, is_trained, report_error
from ladder.platform.runs.lease import LeaseLost, newest_claim
from ladder.platform.runs.status import missing_benchmarks
from ladder.platform.storage import is_local, persistently
from ladder.platform.training.job import Job, run_job, score_job
from ladder.platform.training.worker import Worker, reset_process
from ladder.sweeps.trunks import waits
from ladder.sweeps.words import Execution, Run

logger = logging.getLogger(__name__)

LANE_SECONDS = 600.0
"""After this long a lane takes no further run: its start is then a hundredth of its time."""
LANE_RUNS = 50
"""After this many runs its processes are renewed, whatever they may have gathered."""
LANE_FAILURES = 8
"""Restarts of a lane's workers before the driver starts another lane. Each run counts its own failures."""


def shape_of(job: Job, cluster: Cluster) -> Shape:
    """The shape of the lane that a job goes to."""
    return shape_for(job.run, job.execution, cluster)


def shape_for(run: Run, execution: Execution, cluster: Cluster) -> Shape:
    """The shape of the lane that a run goes to: as its execution asks, on nodes that hold it."""
    shape = _asked(execution, cluster)

    def too_small(accelerator: str) -> bool:
        gpu = gpu_named(accelerator)
        return gpu is not None and not fits(run, replace(execution, gpus_per_worker=shape.gpus), gpu)

    return place(shape, cluster.types, too_small, grows=cluster.grows)


def scoring_shape(job: Job, cluster: Cluster) -> Shape:
    """The shape of a task that scores what several workers trained: the weights fit any GPU, and a node that is still
    up will do."""
    return place(
        replace(_asked(job.execution, cluster), workers=1), cluster.types, lambda accelerator: False, grows=False
    )


def _asked(execution: Execution, cluster: Cluster) -> Shape:
    return Shape(
        workers=execution.workers,
        cpus=execution.cpus_per_worker,
        gpus=gpus_per_worker(execution, cluster),
        accelerator=execution.accelerator_type,
    )


class LaneHost:
    """Holds the lanes of a driver and what their workers last said; an actor on the driver's node, without a CPU.

    In a process of its own since Ray Train waits for a run where nothing can interrupt it: a Ctrl-C ends the host.
    """

    def __init__(self, *, halted: bool = False) -> None:
        self._news: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._halted = halted
        logging.getLogger("ray.train").setLevel(logging.ERROR)

    def run_lane(self, name: str, shape: Shape, jobs: Sequence[Job], ray_folder: UPath) -> str | None:
        """Run a lane to its end; why it ended, where it did not end well."""
        trainer = make_trainer(name, shape, jobs, ray_folder, host=ray.get_runtime_context().current_actor)
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as error:
            return f"{type(error).__name__}: {error}".strip()
        return None

    def post(self, key: str, lane: str, progress: dict[str, Any]) -> None:
        """Say where a run stands; later words replace earlier ones."""
        with self._lock:
            self._news[key] = {**progress, "lane": lane}

    def halt(self) -> None:
        """From now on the lanes take up no further run; those that go on come to their end."""
        self._halted = True

    def halted(self) -> bool:
        """Whether no further run is to be taken up."""
        return self._halted

    def take(self) -> dict[str, dict[str, Any]]:
        """What was said since the last call, by run."""
        with self._lock:
            news, self._news = self._news, {}
        return news


def make_trainer(
    name: str,
    shape: Shape,
    jobs: Sequence[Job],
    ray_folder: UPath,
    *,
    host: Any,
    train: Callable[[dict[str, Any]], None] | None = None,
) -> TorchTrainer:
    """The Ray Train run of a lane; `train` is what each worker does, None for `lane_worker`."""
    holds: Holds = {"gpus": shape.workers * shape.gpus, "cores": float(shape.workers * shape.cpus)}
    return TorchTrainer(
        train or lane_worker,
        train_loop_config={"lane": name, "jobs": ray.put(list(jobs)), "host": host, "holds": holds},
        torch_config=TorchConfig(backend="nccl" if shape.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=shape.workers,
            use_gpu=bool(shape.gpus),
            resources_per_worker=shape.resources,
            placement_strategy=shape.strategy,
            label_selector=shape.labels or None,
        ),
        run_config=RunConfig(  # type: ignore[arg-type]  # the stub means the class of before version 2
            name=name,  # new at each start: Train silently resumes a name that it knows
            storage_path=ray_folder.path,
            # The storage's own client, with the credentials and addresses that it is configured with.
            storage_filesystem=None if is_local(ray_folder) else PyFileSystem(FSSpecHandler(ray_folder.fs)),
            failure_config=FailureConfig(max_failures=LANE_FAILURES),
        ),
    )


def lane_worker(config: dict[str, Any]) -> None:
    """What Train starts on every worker; the marked lines are all that Ray has to do with training."""
    context = ray.train.get_context()  # [1] who am I
    worker = Worker(
        device=ray.train.torch.get_device(),  # [2] which processor is mine
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
    )
    jobs: list[Job] = ray.get(config["jobs"])  # [3] what there is to do
    lane, host = config["lane"], config["host"]
    node = ray.get_runtime_context().get_node_id()

    def take_up(job: Job) -> Attempt | None:
        return take_job(
            job,
            lane,
            scores=worker.world_size == 1,
            node=node,
            holds=config["holds"],
            listener=lambda progress: host.post.remote(job.run.key, lane, progress),  # [4] how it stands
        )

    work_through(jobs, worker, take_up, halted=lambda: ray.get(host.halted.remote()))


def take_job(
    job: Job,
    owner: str,
    *,
    trains: bool = True,
    scores: bool = True,
    node: str | None = None,
    node_is_lost: Callable[[str], bool] = node_is_lost,
    holds: Holds = NOTHING,
    listener: Listener | None = None,
) -> Attempt | None:
    """An attempt at a job's run, or None where there is nothing in it for this worker."""
    if not persistently(lambda: missing_benchmarks(job.folder, job.definitions)):
        return None
    return persistently(
        lambda: begin(
            job.folder,
            owner,
            trains=trains,
            scores=scores,
            max_failures=job.execution.max_failures,
            node=node,
            node_is_lost=node_is_lost,
            holds=holds,
            listener=listener,
        )
    )


def branches_later(job: Job) -> bool:
    """Whether a run is better begun later, from a checkpoint that a run ahead of it will leave."""

    def standing(key: str) -> tuple[int, bool]:
        claim = persistently(lambda: newest_claim(job.folder_of(key)))
        if claim is None:
            return 0, False
        return claim.progress.get("saved", 0), claim.outcome == "failed" or is_trained(claim)

    return waits(job.relatives, standing)


def work_through(
    jobs: Sequence[Job],
    worker: Worker,
    take_up: Callable[[Job], Attempt | None],
    *,
    halted: Callable[[], bool] = lambda: False,
) -> None:
    """Do one job after another of those that can be taken up, until none can, the lane has lasted long enough or no
    further one is to be taken up."""
    started = time.monotonic()
    attempts = _attempts(jobs, take_up, halted) if worker.first else iter(())
    for _ in range(LANE_RUNS):
        index, attempt = next(attempts, (None, None))
        index, epoch = worker.from_first((index, attempt.lease.epoch if attempt else 0))
        if index is None:
            return
        with errors_told(jobs[index], worker, attempt, epoch):
            run_job(jobs[index], worker, attempt)
        reset_process(worker.device)
        if worker.from_first(time.monotonic() - started > LANE_SECONDS):
            return


def _attempts(
    jobs: Sequence[Job], take_up: Callable[[Job], Attempt | None], halted: Callable[[], bool]
) -> Iterator[tuple[int, Attempt]]:
    left = dict(enumerate(jobs))
    while (index := next((i for i, job in left.items() if not branches_later(job)), None)) is not None:
        if halted():
            return
        attempt = take_up(left.pop(index))
        if attempt is not None:
            yield index, attempt


@contextmanager
def errors_told(job: Job, worker: Worker, attempt: Attempt | None, epoch: int) -> Iterator[None]:
    """Leaves what goes wrong in the block in the run's folder; of several workers the first one's word stays.

    What is raised from here ends all workers of the lane, and Train starts them again: a process in which a collective
    broke, memory ran out or a kernel failed is not to be trusted. A user's mistake, and a lease that was lost, say
    nothing about the process and end it only where there are others that wait for it.
    """
    try:
        yield
    except LeaseLost as error:
        logger.warning("%s", error)
        if attempt is not None:
            attempt.end("released", str(error))
        if worker.world_size > 1:
            raise
    except Exception as error:
        final = isinstance(error, InputError)
        reason = report_error(job.folder, epoch, _describe(error, worker), final=final)
        if attempt is not None:
            attempt.end("failed" if final else "crashed", reason)
        if not final or worker.world_size > 1:
            raise


def score_worker(job: Job, lane: str, host: Any) -> None:
    """A Ray task that scores a run which several workers have trained."""
    worker = Worker(device=torch.device("cuda" if ray.get_gpu_ids() else "cpu"))
    attempt = take_job(
        job,
        lane,
        trains=False,
        node=ray.get_runtime_context().get_node_id(),
        holds={"gpus": float(bool(ray.get_gpu_ids())), "cores": job.execution.cpus_per_worker},
        listener=lambda progress: host.post.remote(job.run.key, lane, progress),
    )
    if attempt is not None:
        torch.set_num_threads(job.execution.cpus_per_worker)
        with errors_told(job, worker, attempt, attempt.lease.epoch):
            score_job(job, attempt, worker.device)


def _describe(error: Exception, worker: Worker) -> str:
    if isinstance(error, InputError):
        return str(error)
    text = f"{type(error).__name__}: {error}"
    if worker.world_size > 1 and (isinstance(error, dist.DistBackendError) or "gloo" in text):
        return f"another worker of the run died without a word, as it does when memory runs out ({text})"
    return text
