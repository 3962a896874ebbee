"""`ladder tune` from a sweep to its tuned.json: what has ended is read, the rest goes to Ray Tune.

sweeps/<sweep>-tune/<run>/    the runs of the search, as those of any sweep; an MLflow experiment of that name
sweeps/<sweep>/tuned.json     the winners, read by the rule `tuned`, with every trial; trials.csv and tuned.png too
"""

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import polars as pl
from mlflow.tracking import MlflowClient
from upath import UPath

from ladder.analysis.api import draw_search
from ladder.platform.corpus.store import Corpus
from ladder.platform.launching.cluster import connected, refuse_what_cannot_be_shared
from ladder.platform.launching.sweep import SweepRecord, choose_benchmarks, make_job
from ladder.platform.runs.lease import reopen
from ladder.platform.storage import check_exclusive_create, persistently, run_folder, write_bytes
from ladder.platform.tracking.database import open_tracking
from ladder.platform.tracking.records import TrackedSweep, open_record
from ladder.platform.tuning.found import TUNED
from ladder.platform.tuning.outcome import SearchOutcome, summarise
from ladder.platform.tuning.progress import Place, Progress
from ladder.platform.tuning.results import RunResult, read_result
from ladder.platform.tuning.tuner import Listener, run_trials
from ladder.sweeps.search import SearchSpace, SizeSearch
from ladder.sweeps.trunks import find_relatives
from ladder.sweeps.words import Run, Sweep


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """A search and where it is carried out."""

    sweep: Sweep
    """The sweep whose sizes are searched."""
    searches: tuple[SizeSearch, ...]
    """What is tried."""
    space: SearchSpace
    """How it was laid out."""
    corpus: Corpus
    """What is trained on."""
    storage: UPath
    """Where the runs and the winners are kept."""
    tracking: str
    """MLflow tracking URI."""
    address: str | None = None
    """Ray cluster; None: this machine."""
    retry_failed: bool = False
    """Whether runs that failed are tried again."""

    @property
    def runs(self) -> list[Run]:
        """Every run that the search may take."""
        return [run for search in self.searches for trial in search.trials for run in trial.runs]

    @property
    def trial_sweep(self) -> Sweep:
        """The sweep that the runs of the search belong to."""
        sweep = self.sweep
        question = f"Which learning rate trains each size of sweep {sweep.name} best? The search of `ladder tune`."
        return replace(sweep, name=f"{sweep.name}-tune", benchmarks=(), laws=(), question=question)

    def folder_of(self, run: Run) -> UPath:
        """The folder of a run of the search."""
        return run_folder(self.storage, self.trial_sweep.name, run.key)


def tune(request: SearchRequest, *, listener: Listener) -> SearchOutcome:
    """Search, or go on with a search, and keep what was found.

    Ctrl-C stops the runs at their last checkpoint and raises KeyboardInterrupt; the same call goes on from there.
    """
    choose_benchmarks(request.trial_sweep, request.corpus, request.storage)
    check_exclusive_create(request.storage)
    if request.retry_failed:
        for run in request.runs:
            reopen(request.folder_of(run))
    record = SweepRecord(open_tracking(request.tracking), request.trial_sweep, request.runs, request.storage)
    progress = Progress(
        request.searches, request.space, lambda run: persistently(lambda: read_result(request.folder_of(run), run))
    )
    try:
        _run_what_is_left(request, progress, record, listener)
        date = time.strftime("%Y-%m-%d")
        outcome = summarise(progress, request.space, sweep=request.sweep.name, date=date)
    except BaseException as error:
        record.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    record.sync(request.runs)
    files = keep_outcome(request, outcome)
    record.write(
        "what the search found", lambda client, tracked: _tell_mlflow(client, tracked, request, outcome, files)
    )
    record.end("FINISHED")
    return outcome


def keep_outcome(request: SearchRequest, outcome: SearchOutcome) -> dict[str, bytes]:
    """Write the files of what was found into the sweep's folder; their content by name."""
    table = pl.DataFrame([vars(row) for row in outcome.rows], infer_schema_length=None)
    image = io.BytesIO()
    winners = {winner.size: winner.lr for winner in outcome.found.winners}
    draw_search(table, winners).savefig(image, format="png", dpi=150, facecolor="white")
    files = {
        "trials.csv": table.write_csv().encode(),
        "tuned.png": image.getvalue(),
        TUNED: json.dumps(outcome.to_json(), indent=1).encode(),  # last, as it is what others read
    }
    for name, data in files.items():
        path = request.storage / "sweeps" / request.sweep.name / name
        persistently(lambda path=path, data=data: write_bytes(path, data))  # type: ignore[misc]
    return files


def _run_what_is_left(request: SearchRequest, progress: Progress, record: SweepRecord, listener: Listener) -> None:
    """Do the runs that have no result."""
    first = progress.next()
    if first is None:  # all that the search asks for is in the folders
        return
    sweep = request.trial_sweep
    relatives = {
        key: others
        for search in request.searches
        for trial in search.trials
        for key, others in find_relatives(trial.runs).items()
    }
    jobs = {
        run.key: make_job(sweep, run, request.storage, record.tracked, relatives.get(run.key, ()))
        for run in request.runs
    }
    # A thread of its own, so that a tracking server that does not answer stops nothing else.
    with connected(request.address) as cluster, ThreadPoolExecutor(1) as syncing:

        def note(place: Place, result: RunResult) -> None:
            syncing.submit(record.sync, [progress.run_at(place)])
            listener(place, result)

        refuse_what_cannot_be_shared(cluster, request.storage, request.tracking)
        run_trials(progress, jobs, cluster, first=first, listener=note)


def _tell_mlflow(
    client: MlflowClient, tracked: TrackedSweep, request: SearchRequest, outcome: SearchOutcome, files: dict[str, bytes]
) -> None:
    """What was found, with the parent, and with each run what became of its trial."""
    client.set_tag(tracked.parent, "ladder.tuned", outcome.found.provenance)
    for name in (TUNED, "trials.csv"):
        client.log_text(tracked.parent, files[name].decode(), name)
    winners = {winner.run for winner in outcome.found.winners}
    rungs = {(row.size, row.lr, row.batch_tokens): row.rung for row in outcome.rows}  # the last row is of its last rung
    by_key = {run.key: run for run in request.runs}
    for row in outcome.rows:
        last = rungs[row.size, row.lr, row.batch_tokens]
        fate = "went on" if row.rung < last else "failed" if row.loss is None else "left behind"
        fate = "winner" if row.run in winners else fate
        child = open_record(client, tracked, by_key[row.run], request.folder_of(by_key[row.run]))
        client.set_tag(child.info.run_id, "ladder.tuning", f"rung {row.rung}: {fate}")
