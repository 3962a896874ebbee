"""Brings MLflow to what the folders of runs say: after an end, a kill, an outage, or in a database that is new.

It is the driver's side. While a run is trained its worker sends the curve (`sender`), and what that left out is added
here. A run costs three calls, its artifact aside, and those that have nothing new to say one in
all.
"""

import json
import logging
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from ladder.platform.runs.curve import CurvePoint, read_curve
from ladder.platform.runs.lease import CLAIMS, Claim, newest_claim
from ladder.platform.runs.status import Status
from ladder.platform.storage import create_exclusively, list_names, read_json
from ladder.platform.tracking.records import (
    LARGEST_BATCH,
    TRACKING,
    TrackedSweep,
    batches,
    check_store,
    describe,
    identity_params,
    new_records,
    open_record,
)
from ladder.platform.tracking.view import LOSS, scaling_metrics
from ladder.sweeps.words import Run, Sweep

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.entities import Run as Record
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

MEASUREMENTS_FILE = "measurements.json"
"""Artifact of a child that describes its scores."""


def sync_runs(
    client: "MlflowClient",
    tracked: TrackedSweep,
    sweep: Sweep,
    runs: Sequence[Run],
    storage: UPath,
    files: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Bring MLflow to what the folders say of the runs that nobody works on now; marked ones cost nothing.

    `files` has the names of the files in each run's folder, relative to it, by the run's key; None: every folder is
    looked at.
    Raises StoreReplaced where the database is another one than the sweep was opened in, MlflowException where it does
    not answer: what is not done then is done by the next call.
    """
    check_store(client, tracked)
    root = storage / "sweeps" / sweep.name
    files = {run.key: _names(root / run.key) for run in runs} if files is None else files
    unmarked = {key for key, names in files.items() if not _is_marked(tracked.store, names)}
    sync = _Sync(client, tracked)
    for run in runs if unmarked else ():
        if run.key in unmarked:
            sync.run_or_warn(run, root / run.key, files[run.key])


@dataclass(frozen=True)
class _Sync:
    """One call's work, with what is asked once for all its runs."""

    client: "MlflowClient"
    tracked: TrackedSweep

    @cached_property
    def new(self) -> Sequence["Record"]:
        """The records that nobody has described yet."""
        return new_records(self.client, self.tracked)

    def run_or_warn(self, run: Run, folder: UPath, names: Collection[str]) -> None:
        """Sync a run, unless its record is one that the user deleted: the others can still be synced."""
        from mlflow.exceptions import MlflowException

        for last in (False, False, True):
            try:
                return self.run(run, folder, names)
            except MlflowException as error:
                if error.error_code == "BAD_REQUEST" and not last:
                    continue  # MLflow's answer where somebody else wrote the same rows in this moment
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                check_store(self.client, self.tracked)
                return logger.warning("MLflow's record of run %s is not up to date: %s", run.key, error)

    def run(self, run: Run, folder: UPath, names: Collection[str]) -> None:
        """Write what is new in a run's folder into its record, and mark it."""
        claim = newest_claim(folder)  # read before the rest: what its holder wrote before ending it is there
        if claim is None or claim.live:
            return
        curve, result = read_curve(folder), read_json(folder / "result.json")
        mark = f"{TRACKING}/{self.tracked.store}.{claim.epoch:06d}.{_what(claim, curve, result)}"
        if mark in names:
            return
        status: Status = "finished" if result else "failed" if claim.outcome == "failed" else "waiting"
        if curve or status != "waiting":
            self._write_record(run, folder, claim, curve, result, status)
        create_exclusively(folder / mark, b"")

    def _write_record(
        self,
        run: Run,
        folder: UPath,
        claim: Claim,
        curve: Sequence[CurvePoint],
        result: dict[str, Any] | None,
        status: Status,
    ) -> None:
        """All that a folder says of a run, with the status last: what is said to be finished has its scores."""
        started_ms = int(curve[0]["time_ms"]) if curve else None
        record = open_record(self.client, self.tracked, run, folder, started_ms=started_ms, new=lambda: self.new)
        sent = claim.progress.get("tracked") or {"record": None, "points": 0}
        left = curve[sent["points"] :] if sent["record"] == record.info.run_id else curve
        metrics = [metric for _, batch in batches(left) for metric in batch]
        if result:
            metrics += _scores(run, result)
            self._log_measurements(record, result["measurements"])
        while len(metrics) > LARGEST_BATCH:
            self.client.log_batch(record.info.run_id, metrics=metrics[:LARGEST_BATCH], synchronous=True)
            metrics = metrics[LARGEST_BATCH:]
        ended_ms = int(result["time_ms"]) if result else int(curve[-1]["time_ms"]) if curve else None
        params = identity_params(run) | (result["execution"] if result else {})
        reason = claim.reason if status == "failed" else None
        describe(self.client, record, params, status, reason, ended_ms=ended_ms, metrics=metrics)

    def _log_measurements(self, record: "Record", measurements: Sequence[Mapping[str, Any]]) -> None:
        """What the client's `log_text` does, which would read the whole record again to learn where artifacts go."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        place = get_artifact_repository(record.info.artifact_uri, tracking_uri=self.tracked.uri)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / MEASUREMENTS_FILE
            file.write_text(json.dumps(measurements, indent=1))
            place.log_artifact(str(file))  # type: ignore[no-untyped-call]


def _scores(run: Run, result: dict[str, Any]) -> list["Metric"]:
    """The final scores as metrics. A result keeps its first time when more benchmarks are scored, so no score is there
    twice; a score that took another's place has its own, later time, so that it is the last one."""
    times: dict[int, dict[str, float]] = {}
    for m in result["measurements"]:
        times.setdefault(m.get("time_ms", result["time_ms"]), {})[f"{m['benchmark']}/{m['metric']}"] = m["value"]
    points = [{"step": result["step"], "time_ms": time_ms, **scores} for time_ms, scores in times.items()]
    metrics = [metric for _, batch in batches(points) for metric in batch]
    losses = [scores[LOSS] for scores in times.values() if LOSS in scores]
    if losses:
        flops = run.size.flops_6nd(run.recipe.tokens)
        metrics += scaling_metrics(run.size.params_total, flops, losses[0], result["time_ms"])
    return metrics


def _what(claim: Claim, curve: Sequence[CurvePoint], result: Any | None) -> str:
    """What a mark says of an attempt: its outcome, or how far it came where it was killed and may yet be alive."""
    return claim.outcome or f"open-{len(curve)}{'-scored' if result else ''}"


def _is_marked(store: str, names: Collection[str]) -> bool:
    """Whether MLflow has all that will ever be said of a run's newest attempt, or nobody ever took the run up."""
    newest = max((name for name in names if name.startswith(f"{CLAIMS}/") and name.endswith(".json")), default=None)
    if newest is None:
        return True
    prefix = f"{TRACKING}/{store}.{newest.removeprefix(f'{CLAIMS}/').removesuffix('.json')}."
    return any(name.startswith(prefix) and not name.startswith(f"{prefix}open-") for name in names)


def _names(folder: UPath) -> list[str]:
    """Names of the files of a run that `_is_marked` looks at."""
    return [f"{below}/{name}" for below in (CLAIMS, TRACKING) for name in list_names(folder / below)]
