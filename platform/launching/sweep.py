"""A sweep from its words to its results: what is finished is skipped, the rest goes to Ray.

The runs' folders say what is left to do; this process keeps no state that another could not read from them. So any
number of drivers may work on one sweep, and each may die and be started again.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmarks.heldout.loss import HELDOUT
from ladder.platform.evaluation.own.file import OwnFile
from ladder.platform.evaluation.registry import definitions
from ladder.platform.evaluation.selection import select
from ladder.platform.launching.cluster import connected, refuse_what_cannot_be_shared
from ladder.platform.launching.control import Control, SweepStopped
from ladder.platform.launching.dispatch import Dispatcher
from ladder.platform.launching.display import Display
from ladder.platform.runs.attempt import RESULT
from ladder.platform.runs.lease import reopen
from ladder.platform.runs.status import RunStatus, list_run_files, read_statuses
from ladder.platform.runs.usage import Usage, read_usages
from ladder.platform.storage import check_exclusive_create, is_refusal, persistently, read_json, run_folder
from ladder.platform.tracking.database import first_line, open_tracking
from ladder.platform.tracking.records import StoreReplaced, TrackedSweep, end_sweep, open_sweep
from ladder.platform.tracking.summary import describe_sweep
from ladder.platform.tracking.sync import sync_runs
from ladder.platform.training.job import Job
from ladder.sweeps.trunks import Relative, find_relatives
from ladder.sweeps.words import Run, Sweep

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """How a call of `run_sweep` ended."""

    statuses: list[RunStatus]
    """Where every run of the sweep stands."""
    worked_on: int
    """Runs that this call trained or scored."""
    wall_seconds: float
    """From the start of the call to its end."""
    busy_seconds: float
    """Time spent training and scoring, summed over the runs that this call finished."""
    slots: int
    """Runs that went on at one time, at most."""
    budget: Control
    """The budget that the call was given, and what of it is spent."""

    @property
    def overhead_seconds(self) -> float | None:
        """Cost of orchestration: seconds a run that a slot spent neither training nor scoring; None if none ran."""
        if not self.worked_on:
            return None
        return max(0.0, self.slots * self.wall_seconds - self.busy_seconds) / self.worked_on


def run_sweep(
    sweep: Sweep,
    runs: Sequence[Run],
    *,
    corpus: Corpus,
    storage: UPath,
    tracking: str,
    address: str | None = None,
    retry_failed: bool = False,
    budget_gpu_hours: float | None = None,
    display: Display | None = None,
) -> SweepOutcome:
    """Do the runs of a sweep that are not finished, on this machine or on the Ray cluster at `address`, and share them
    with whoever else works on the same sweep in the same storage.

    Ctrl-C stops the runs at their last checkpoint and raises KeyboardInterrupt, `ladder stop` does and raises
    SweepStopped; the same call goes on from there. Once the sweep's runs have taken `budget_gpu_hours`, in this call
    and in others before and beside it, no further one is launched; those that go on come to their end.
    """
    started = time.perf_counter()
    chosen, own = choose_benchmarks(sweep, corpus, storage)
    sweep = replace(sweep, benchmarks=chosen)
    wanted = definitions(chosen, own)
    check_exclusive_create(storage)
    files = persistently(lambda: list_run_files(storage, sweep.name))
    statuses = read_statuses(storage, sweep.name, runs, benchmarks=wanted, files=files)
    control = Control(storage, sweep.name, files, budget_gpu_hours=budget_gpu_hours)
    if retry_failed:
        statuses = [_retried(status, storage, sweep) for status in statuses]
    record = SweepRecord(open_tracking(tracking), sweep, runs, storage)
    record.describe(statuses)
    pending = [status for status in statuses if not status.ended]
    slots, worked_on = 0, list[Run]()
    busy_before = {status.run.key: _busy_seconds(storage, sweep, status.run) for status in pending}
    try:
        if pending and not control.budget_is_spent:
            # A thread of its own, so that a tracking server that does not answer stops nothing else.
            with connected(address) as cluster, ThreadPoolExecutor(1) as syncing:
                refuse_what_cannot_be_shared(cluster, storage, tracking)
                jobs = _make_jobs(sweep, runs, pending, storage, record.tracked, own)
                dispatcher = Dispatcher(
                    cluster, sweep, jobs, statuses, storage=storage, control=control, display=display
                )
                statuses = dispatcher.run(ended=partial(record.note_end, syncing))
                slots, worked_on = dispatcher.most_lanes, dispatcher.ended_here
            files = persistently(lambda: list_run_files(storage, sweep.name))
    except BaseException as error:
        record.end("KILLED" if isinstance(error, KeyboardInterrupt | SweepStopped) else "FAILED")
        raise
    record.sync(runs, files)
    record.describe(statuses, sum(read_usages(storage, sweep.name, files).values(), Usage()) if worked_on else None)
    record.end("FINISHED" if all(status.status == "finished" for status in statuses) else "FAILED")
    return SweepOutcome(
        statuses=statuses,
        worked_on=len(worked_on),
        wall_seconds=time.perf_counter() - started,
        busy_seconds=sum(_busy_seconds(storage, sweep, run) - busy_before[run.key] for run in worked_on),
        slots=slots,
        budget=control,
    )


class SweepRecord:
    """MLflow's side of a call of `run_sweep`. The folders are the truth: what MLflow does not take now, it gets at the
    end, or at the next call."""

    def __init__(self, client: MlflowClient, sweep: Sweep, runs: Sequence[Run], storage: UPath) -> None:
        self.client, self.sweep, self.runs, self.storage = client, sweep, runs, storage
        self.tracked = open_sweep(client, sweep, runs, storage)
        self._next_description = 0.0
        self._statuses: Sequence[RunStatus] = ()
        self._ended: deque[Run] = deque()
        """Runs that ended and that MLflow does not know of yet."""

    def sync(self, runs: Sequence[Run], files: Mapping[str, Collection[str]] | None = None) -> None:
        """Bring MLflow to what the folders of some runs say."""
        self._try("the curves and scores", lambda: self._sync(runs, files))

    def write(self, what: str, write: Callable[[MlflowClient, TrackedSweep], None]) -> None:
        """Write something of one's own into the sweep's records; `what` names it where MLflow does not take it."""
        self._try(what, lambda: write(self.client, self.tracked))

    def note_end(self, syncing: Executor, run: Run, statuses: Sequence[RunStatus]) -> None:
        """Note that a run ended, and where all stand; `syncing` tells MLflow, which nothing here waits for."""
        self._statuses = statuses
        self._ended.append(run)
        syncing.submit(self.catch_up)

    def catch_up(self) -> None:
        """Bring MLflow to what the folders say of the runs that ended since the last call, all at once, and twice a
        minute to how far the sweep is."""
        runs = [self._ended.popleft() for _ in range(len(self._ended))]
        if runs:
            self.sync(runs)
        if time.monotonic() > self._next_description:
            self.describe(self._statuses)

    def describe(self, statuses: Sequence[RunStatus], usage: Usage | None = None) -> None:
        """Say in the parent how far the sweep is and, at the end of its work, what it took."""
        self._statuses, self._next_description = statuses, time.monotonic() + 30
        self._try(
            "how far the sweep is", lambda: describe_sweep(self.client, self.tracked, self.sweep, statuses, usage)
        )

    def end(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Say how the sweep's work ended."""
        if any(known.status == "running" for known in self._statuses):  # they were interrupted with the driver
            self.describe([replace(s, status="waiting") if s.status == "running" else s for s in self._statuses])
        self._try("how the sweep ended", lambda: end_sweep(self.client, self.tracked, status=status))

    def _sync(self, runs: Sequence[Run], files: Mapping[str, Collection[str]] | None) -> None:
        try:
            sync_runs(self.client, self.tracked, self.sweep, runs, self.storage, files)
        except StoreReplaced:  # a new and empty database: it gets everything
            self.tracked = open_sweep(self.client, self.sweep, self.runs, self.storage)
            sync_runs(self.client, self.tracked, self.sweep, self.runs, self.storage)

    def _try(self, what: str, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:
            if not isinstance(error, MlflowException) and not is_refusal(error):
                raise
            logger.warning(
                "MLflow did not take %s, which are kept; the next `ladder run` sends them: %s", what, first_line(error)
            )


def choose_benchmarks(sweep: Sweep, corpus: Corpus, storage: UPath) -> tuple[tuple[str, ...], tuple[OwnFile, ...]]:
    """The names of the benchmarks that a sweep is scored on, and the files that define the user's own among them.

    Raises InputError now, and not after hours of training, where a score could not be had. What is absent of a group is
    left out with a warning; the next call scores what has come.
    """
    selection = select(sweep.benchmarks)
    chosen, absent = selection.at_hand(storage=storage, corpus=corpus)
    if absent:
        logger.warning("not scored, since absent: %s; `ladder fetch` gets them", ", ".join(absent))
    tokenizer = load_tokenizer(corpus.tokenizer)
    for benchmark in (HELDOUT, *chosen):
        benchmark.check(storage=storage, corpus=corpus, tokenizer=tokenizer)
    return tuple(benchmark.name for benchmark in chosen if benchmark is not HELDOUT), selection.own


def _retried(status: RunStatus, storage: UPath, sweep: Sweep) -> RunStatus:
    """A failed run made open again, any other as it is."""
    if status.status != "failed":
        return status
    reopen(run_folder(storage, sweep.name, status.run.key))
    return RunStatus(run=status.run, status="waiting", trained=status.trained)


def _make_jobs(
    sweep: Sweep,
    runs: Sequence[Run],
    pending: Sequence[RunStatus],
    storage: UPath,
    tracked: TrackedSweep,
    own: tuple[OwnFile, ...],
) -> list[Job]:
    relatives = find_relatives(runs)
    made = [make_job(sweep, status.run, storage, tracked, relatives.get(status.run.key, ())) for status in pending]
    return [replace(job, own=own) for job in made]


def make_job(sweep: Sweep, run: Run, storage: UPath, tracked: TrackedSweep, relatives: tuple[Relative, ...]) -> Job:
    """The job of a run; InputError where its batch is too small for its workers."""
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
        tracking=tracked,
        benchmarks=sweep.benchmarks,
        heldout_tokens=sweep.heldout_tokens,
        relatives=relatives,
    )


def _busy_seconds(storage: UPath, sweep: Sweep, run: Run) -> float:
    """Seconds that a run was trained and scored, as its result has them; 0 before it has one."""
    result = read_json(run_folder(storage, sweep.name, run.key) / RESULT) or {}
    return float(result.get("seconds_training", 0.0) + result.get("seconds_scoring", 0.0))
