"""A sweep from its words to its results: what is finished is skipped, the rest goes to Ray."""

import contextlib
import io
import logging
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmarks.heldout import HELDOUT
from ladder.platform.evaluation.registry import find_benchmarks
from ladder.platform.launching.cluster import (
    DRIVER_RESOURCE,
    Cluster,
    concurrent_runs,
    gpus_per_worker,
    start_cluster,
)
from ladder.platform.launching.display import Display
from ladder.platform.launching.lanes import Queue, run_lane
from ladder.platform.launching.status import RunStatus, read_status, read_statuses, unscored
from ladder.platform.storage import read_json, remove_folder, run_folder
from ladder.platform.tracking.database import open_tracking
from ladder.platform.tracking.records import open_records, settle
from ladder.platform.training.worker import Job
from ladder.sweeps.words import Execution, Run, Sweep

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """How a call of `run_sweep` ended."""

    statuses: list[RunStatus]
    """Where every run of the sweep stands."""
    carried_out: int
    """Runs that were given to Ray by this call."""
    wall_seconds: float
    """From the start of the call to its end."""
    busy_seconds: float
    """Time spent training and scoring, summed over the runs that this call finished."""
    slots: int
    """Runs that could go on at one time."""

    @property
    def overhead_seconds(self) -> float | None:
        """Cost of orchestration: seconds a run that a slot spent neither training nor scoring; None if none ran."""
        if not self.carried_out:
            return None
        return max(0.0, self.slots * self.wall_seconds - self.busy_seconds) / self.carried_out


def run_sweep(
    sweep: Sweep,
    runs: Sequence[Run],
    *,
    corpus: Corpus,
    storage: UPath,
    tracking: str,
    address: str | None = None,
    retry_failed: bool = False,
    display: Display | None = None,
) -> SweepOutcome:
    """Carry out the runs of a sweep that are not finished, on this machine or on the Ray cluster at `address`.

    Ctrl-C stops the runs at their last checkpoint and raises KeyboardInterrupt; the same call goes on from there.
    """
    started = time.perf_counter()
    _check_benchmarks(sweep, corpus, storage)
    client = open_tracking(tracking)
    records = open_records(client, sweep, runs, storage)
    pending = [run for run in runs if _wants_work(storage, sweep, run, retry_failed)]
    for run in pending:  # what an earlier attempt said last, it no longer says
        (run_folder(storage, sweep.name, run.key) / "progress.json").unlink(missing_ok=True)
    busy_before = _busy_seconds(storage, sweep, pending)
    slots = 0
    if pending:
        jobs = {run.key: _job(sweep, run, storage, tracking, records[run.key]) for run in _longest_first(pending)}
        with Watch(client, sweep, runs, records, storage, display):
            slots = _on_ray(sweep, jobs, address)
    for run in runs:
        settle(client, records[run.key], run_folder(storage, sweep.name, run.key))
    return SweepOutcome(
        statuses=read_statuses(storage, sweep.name, runs),
        carried_out=len(pending),
        wall_seconds=time.perf_counter() - started,
        busy_seconds=_busy_seconds(storage, sweep, pending) - busy_before,
        slots=slots,
    )


def _check_benchmarks(sweep: Sweep, corpus: Corpus, storage: UPath) -> None:
    """Raises InputError now, and not after hours of training, where a score could not be had."""
    for benchmark in find_benchmarks((HELDOUT.name, *sweep.benchmarks)):
        benchmark.check(storage=storage, corpus=corpus, tokenizer=load_tokenizer(corpus.tokenizer))


def _wants_work(storage: UPath, sweep: Sweep, run: Run, retry_failed: bool) -> bool:
    status = read_status(storage, sweep.name, run).status
    if status == "finished":
        return bool(unscored(storage, sweep, run))
    return status != "failed" or retry_failed


def _longest_first(runs: Sequence[Run]) -> list[Run]:
    """The longest run started last would keep one slot busy while the others are idle."""
    return sorted(runs, key=lambda run: run.size.flops_exact(run.recipe.tokens), reverse=True)


def _job(sweep: Sweep, run: Run, storage: UPath, tracking: str, run_id: str) -> Job:
    execution = sweep.execution_for(run.size)
    if run.batch_sequences < execution.workers:
        raise InputError(
            f"run {run.key} has {run.batch_sequences} sequences in a step, fewer than its {execution.workers} "
            "workers: ask for fewer with --workers."
        )
    return Job(
        run=run,
        execution=execution,
        sweep=sweep.name,
        storage=str(storage),
        tracking=tracking,
        run_id=run_id,
        benchmarks=sweep.benchmarks,
        heldout_tokens=sweep.heldout_tokens,
    )


def _on_ray(sweep: Sweep, jobs: dict[str, Job], address: str | None) -> int:
    """Run all jobs; returns how many went on at one time."""
    cluster = start_cluster(address)
    signal.signal(signal.SIGTERM, _interrupt)  # a stop by a scheduler is a Ctrl-C; Ray has just put its own word here
    try:
        shapes: dict[Execution, dict[str, Job]] = {}
        for key, job in jobs.items():
            shapes.setdefault(job.execution, {})[key] = job
        return max([_tune(sweep, group, cluster) for group in shapes.values()])
    finally:
        ray.shutdown()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _tune(sweep: Sweep, jobs: dict[str, Job], cluster: Cluster) -> int:
    first = next(iter(jobs.values()))
    lanes = min(len(jobs), concurrent_runs(first.execution, cluster))
    books = first.folder.parent / f".ray-{uuid.uuid4().hex[:8]}"  # Train's own; all nodes must see it
    # On the node of this process, which drives the sweep, and of no processor.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = ray.remote(Queue).options(num_cpus=0, scheduling_strategy=here).remote(jobs)
    lane = tune.with_parameters(
        run_lane,
        queue=queue,
        job=first,
        gpus=gpus_per_worker(first.execution, cluster),
        folder=str(books),
        failures=len(jobs) * (1 + first.execution.max_failures),
    )
    with tempfile.TemporaryDirectory(prefix="ladder-tune-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(lane, {DRIVER_RESOURCE: 1}),
            param_space={"lane": tune.grid_search(list(range(lanes)))},
            tune_config=tune.TuneConfig(max_concurrent_trials=lanes),
            # Tune's own books are of no use to a second call: what is finished is what has a result.
            run_config=tune.RunConfig(name=sweep.name, storage_path=scratch, verbose=0),
        )
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # Tune prints there whatever its verbosity
                results = tuner.fit()
        finally:
            remove_folder(books)
        for error in results.errors:
            logger.error("a lane of the sweep ended: %s", error)
    return lanes


def _busy_seconds(storage: UPath, sweep: Sweep, runs: Sequence[Run]) -> float:
    results = [read_json(run_folder(storage, sweep.name, run.key) / "result.json") or {} for run in runs]
    return float(sum(r.get("seconds_training", 0.0) + r.get("seconds_scoring", 0.0) for r in results))


class Watch(threading.Thread):
    """Follows the runs while Ray has the main thread: shows them, and settles in MLflow each one that ends."""

    def __init__(
        self,
        client: MlflowClient,
        sweep: Sweep,
        runs: Sequence[Run],
        records: dict[str, str],
        storage: UPath,
        display: Display | None,
    ) -> None:
        super().__init__(name="watch", daemon=True)
        self.client, self.sweep, self.runs, self.records = client, sweep, list(runs), records
        self.storage, self.display = storage, display
        self.ended: set[str] = set()
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(1.0):
            self.look()

    def look(self) -> None:
        """Look once at every run."""
        statuses = read_statuses(self.storage, self.sweep.name, self.runs)
        for status in statuses:
            key = status.run.key
            if status.status not in ("finished", "failed") or key in self.ended:
                continue
            try:
                settle(self.client, self.records[key], run_folder(self.storage, self.sweep.name, key))
            except MlflowException as error:
                logger.warning("MLflow did not take the scores of %s, which are kept: %s", key, error)
            self.ended.add(key)
        if self.display is not None:
            self.display.show(statuses)

    def __enter__(self) -> "Watch":
        if self.display is not None:
            self.display.__enter__()
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stopped.set()
        self.join()
        self.look()
        if self.display is not None:
            self.display.__exit__(None, None, None)
