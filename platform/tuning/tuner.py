"""A search on Ray Tune: each trial of Tune is a run in one process, by the machinery of a sweep's runs.

Tune places the trials on the cluster and starts them; `TuneSearcher` says which is next. What a trial leaves is in its
run's folder (lease, curve, checkpoints, result), so nothing of Tune's own state is kept: a search that was interrupted
is started again and finds its runs. No progress is reported to Tune before a run's end, as nothing is decided before.
"""

import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ray
import ray.tune
import torch
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.search import Searcher
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.launching.cluster import Cluster
from ladder.platform.launching.lanes import errors_told, shape_of, take_job
from ladder.platform.runs.lease import void
from ladder.platform.storage import is_local, persistently, remove_folder
from ladder.platform.training.job import Job, run_job
from ladder.platform.training.worker import Worker, reset_process
from ladder.platform.tuning.progress import Place, Progress
from ladder.platform.tuning.results import RunResult, read_result

ENVIRONMENT = {
    # A Ctrl-C is raised here, and not turned into a result that looks complete.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Its newer display writes to standard output whatever it is told, and that is for --json.
    "RAY_AIR_NEW_OUTPUT": "0",
    # Records of its own that Tune writes for each trial: the run's folder has all.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
TRIAL_FAILURES = 20
"""Starts of one trial's process that Tune makes; the run counts its own failures, and gives up long before."""
LOOK_SECONDS = 2.0
"""Between two looks at a run that somebody else works on."""

Listener = Callable[[Place, RunResult], None]
"""Told of each run that ends."""


def run_trials(
    progress: Progress, jobs: Mapping[str, Job], cluster: Cluster, *, first: Place, listener: Listener
) -> None:
    """Train and score runs, `first` being the first that `progress` gave, until the search has ended.

    On Ctrl-C the runs are left at their last checkpoints with their leases given back. Raises InputError for a run that
    this cluster can never hold, and where the processes of a trial cannot be kept alive.
    """
    for name, value in ENVIRONMENT.items():
        os.environ[name] = value
    name = f"tune-{uuid.uuid4().hex[:8]}"
    searcher = TuneSearcher(progress, first, slots=count_slots(jobs, cluster), listener=listener)
    try:
        with _tune_folder(cluster, next(iter(jobs.values()))) as folder:
            _make_tuner(name, searcher, jobs, cluster, folder).fit()
    except BaseException:  # Ctrl-C above all
        ray.shutdown()
        for place in searcher.running.values():
            job = jobs[progress.run_at(place).key]
            void(job.folder, owner=f"{name}-{job.run.key}", outcome="released")
        raise
    if searcher.problem is not None:
        raise InputError(searcher.problem)


class TuneSearcher(Searcher):
    """Tells Ray Tune the next run of a search, and notes what ended."""

    def __init__(self, progress: Progress, first: Place, *, slots: int, listener: Listener) -> None:
        super().__init__(metric="loss", mode="min")
        self._first: Place | None = first
        self.progress, self.slots, self.listener = progress, slots, listener
        self.running: dict[str, Place] = {}
        """Runs that go on now, by Tune's id of the trial."""
        self.problem: str | None = None
        """Why the search cannot go on."""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # its stub omits str
        """The next run, None while that depends on runs that go on, FINISHED at the end."""
        if self.problem is not None:
            return str(Searcher.FINISHED)
        if len(self.running) >= self.slots:
            return None
        place, self._first = self._first or self.progress.next(), None
        if place is None:
            return None if self.running else str(Searcher.FINISHED)
        self.running[trial_id] = place
        return {"run": self.progress.run_at(place).key}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note how a run ended."""
        place = self.running.pop(trial_id)
        if error or result is None:
            key = self.progress.run_at(place).key
            self.problem = (
                f"the processes of run {key} end without a result, {TRIAL_FAILURES} times. `ladder --verbose tune` "
                "shows why; the search goes on where it was."
            )
            return
        found = RunResult(loss=result["loss"], trained_tokens=result["trained_tokens"], reason=result["reason"])
        self.progress.record(place, found)
        self.listener(place, found)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the folders of the runs have it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it beside its own state, which is never read again


class TrialWorker(ray.tune.Trainable):
    """A process that does one run after another, as Tune gives them to it."""

    def setup(  # type: ignore[override]  # with_parameters gives the rest
        self, config: dict[str, Any], jobs: Mapping[str, Job], owner: str
    ) -> None:
        """Called once in the process."""
        self.jobs, self.owner = jobs, owner
        self.worker = Worker(device=torch.device("cuda" if ray.get_gpu_ids() else "cpu"))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Tune gives the process to the next run instead of starting another, which takes seconds."""
        return True

    def step(self) -> dict[str, Any]:
        """Do the run of the config to its end."""
        job = self.jobs[self.config["run"]]
        result = finish_run(job, self.worker, f"{self.owner}-{job.run.key}")
        return {**vars(result), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the run keeps its own."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: see `save_checkpoint`."""


def finish_run(job: Job, worker: Worker, owner: str) -> RunResult:
    """Train and score a run from where it stands, or wait for whoever works on it; how it ended."""
    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else None
    gpus = (job.execution.gpus_per_worker or 1.0) if worker.device.type == "cuda" else 0.0
    holds = {"gpus": gpus, "cores": float(job.execution.cpus_per_worker)}
    while (result := persistently(lambda: read_result(job.folder, job.run))) is None:
        attempt = take_job(job, owner, node=node, holds=holds)
        if attempt is None:
            time.sleep(LOOK_SECONDS)
            continue
        with errors_told(job, worker, attempt, attempt.lease.epoch):
            run_job(job, worker, attempt)
        reset_process(worker.device)
    return result


def count_slots(jobs: Mapping[str, Job], cluster: Cluster) -> int:
    """Runs that go on at one time; InputError for one that wants several workers, or more than there is."""
    slots = []
    for job in jobs.values():
        execution = job.execution
        if execution.workers > 1:
            raise InputError(
                f"size {job.run.size.name} is to be trained by {execution.workers} workers, wanted 1: `ladder tune` "
                "trains each trial in one process. Search smaller sizes, or ask for --workers 1."
            )
        shape = shape_of(job, cluster)
        fitting = sum(kind.count * kind.room(shape) for kind in cluster.types)
        if fitting == 0:
            raise InputError(
                f"run {job.run.key} wants {shape}, and {cluster.describe()}. Ask for less with --cpus-per-worker or "
                "--gpus-per-worker, or use a larger cluster (--address)."
            )
        slots.append(min(fitting, execution.concurrent_runs or fitting))
    return min(slots)


def _make_tuner(
    name: str, searcher: TuneSearcher, jobs: Mapping[str, Job], cluster: Cluster, folder: UPath
) -> "ray.tune.Tuner":
    def resources(config: dict[str, Any]) -> PlacementGroupFactory:
        shape = shape_of(jobs[config["run"]], cluster)
        return PlacementGroupFactory([shape.resources], bundle_label_selector=[shape.labels] if shape.labels else None)

    trainable = ray.tune.with_parameters(TrialWorker, jobs=dict(jobs), owner=name)
    return ray.tune.Tuner(
        ray.tune.with_resources(trainable, resources),
        tune_config=ray.tune.TuneConfig(
            metric="loss", mode="min", search_alg=searcher, num_samples=len(jobs) + 1, reuse_actors=True
        ),
        run_config=ray.tune.RunConfig(
            name=name,
            storage_path=folder.path,
            # The storage's own client, with the credentials and addresses that it is configured with.
            storage_filesystem=None if is_local(folder) else PyFileSystem(FSSpecHandler(folder.fs)),
            failure_config=ray.tune.FailureConfig(max_failures=TRIAL_FAILURES),
            verbose=0,
        ),
    )


@contextlib.contextmanager
def _tune_folder(cluster: Cluster, job: Job) -> Iterator[UPath]:
    """A folder for what Tune writes, which all nodes see; of no use afterwards."""
    if cluster.local:
        folder = UPath(tempfile.mkdtemp(prefix="ladder-tune-"))
    else:
        folder = job.folder.parent / f".ray-{uuid.uuid4().hex[:8]}"
    try:
        yield folder
    finally:
        with contextlib.suppress(Exception):  # it is a leftover then
            remove_folder(folder)
