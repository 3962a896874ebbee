"""MLflow's records of fine-tuning runs: a parent for what one command asks, and a child for each run that has ended.

The runs' folders are the truth, and whatever is done here may be done again: points have their own times, which of
several records is a run's is decided by a file that only one process can create, and a mark says what MLflow has.

    finetuning/<run>/tracking/<store>.json       MLflow's id of the record
    finetuning/<run>/tracking/<store>.finished   the mark: MLflow has all that the folder says
"""

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlflow.entities import Experiment, Param, RunTag
from mlflow.exceptions import MlflowException
from upath import UPath

from ladder.platform.finetuning.local import JobState
from ladder.platform.finetuning.summary import Transfer, name_settings
from ladder.platform.provenance import commit, user
from ladder.platform.runs.curve import read_curve
from ladder.platform.storage import create_exclusively, exists, read_json
from ladder.platform.tracking.database import first_line, open_experiment, open_tracking
from ladder.platform.tracking.records import batches
from ladder.sweeps.finetuning import FineTuningRun

logger = logging.getLogger(__name__)

SUMMARY = "transfer.json"
"""Artifact of the parent: a row for each metric of each checkpoint and recipe, as `summary.Transfer` has it, with the
setting in which its recipe differs from the task's others."""
ENDED = {"finished": "FINISHED", "failed": "FAILED"}


class Records:
    """The experiment `name` in MLflow at `uri`."""

    def __init__(self, uri: str, name: str, storage: UPath) -> None:
        """InputError where MLflow cannot be reached, before anything is trained."""
        self.client, self.name = open_tracking(uri), name
        self.experiment: Experiment = open_experiment(self.client, name, storage)
        self.store = f"{self.experiment.experiment_id}-{self.experiment.creation_time}"

    def write(self, states: Sequence[JobState]) -> None:
        """Bring MLflow to what the folders say of runs that have ended; those it has already cost nothing.

        Where MLflow fails it is logged, and the next call does what is left.
        """
        left = [state for state in states if not exists(self._mark(state))]
        try:
            parent = self._parent() if left else ""
            for state in left:
                self._write(state, parent)
        except MlflowException as error:
            logger.warning("MLflow has not all records: %s; the same command sends them again", first_line(error))

    def write_summary(self, rows: Sequence[Transfer]) -> None:
        """Keep what the runs come to with the parent, where the report reads it; a row replaces that of the same
        checkpoint, task, part taken over and recipe, and all others stay."""
        if not rows:
            return
        new = [row.to_json() for row in rows]
        try:
            parent = self._parent()
            kept = [row for row in self._summary(parent) if _place(row) not in {_place(one) for one in new}]
            told = [*kept, *new]
            for task in {row["task"] for row in told}:
                name_settings([row for row in told if row["task"] == task])
            self.client.log_text(parent, json.dumps(told, indent=1), SUMMARY)
        except MlflowException as error:
            logger.warning("MLflow has not the summary: %s; the same command sends it again", first_line(error))

    def _summary(self, parent: str) -> list[dict[str, Any]]:
        """The summary that is there."""
        if SUMMARY not in {item.path for item in self.client.list_artifacts(parent)}:
            return []
        with tempfile.TemporaryDirectory(prefix="ladder-summary-") as folder:
            path = Path(self.client.download_artifacts(parent, SUMMARY, folder))
            rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return rows

    def _parent(self) -> str:
        """MLflow's id of the parent, made where there is none."""
        ours = "tags.`ladder.kind` = 'finetuning'"
        found = self.client.search_runs([self.experiment.experiment_id], filter_string=ours, max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {"ladder.kind": "finetuning", "ladder.commit": commit() or "unknown", "mlflow.user": user()}
        made = self.client.create_run(self.experiment.experiment_id, tags=tags, run_name=self.name)
        self.client.set_terminated(made.info.run_id)
        return str(made.info.run_id)

    def _write(self, state: JobState, parent: str) -> None:
        """A run's curve, scores and what defines it; its status last."""
        run, folder = state.job.run, state.job.folder
        curve, result = read_curve(folder), state.job.result()
        run_id = self._record(state, parent, int(curve[0]["time_ms"]) if curve else None)
        points = [dict(point) for point in curve]
        if result is not None:
            scores = {f"{one['benchmark']}/{one['metric']}": one["value"] for one in result["measurements"]}
            points.append({"step": result["step"], "time_ms": result["time_ms"], **scores})
            self.client.log_text(run_id, json.dumps(result["measurements"], indent=1), "measurements.json")
        for _, metrics in batches(points):
            self.client.log_batch(run_id, metrics=metrics, synchronous=True)
        tags = {"ladder.status": state.state, "ladder.reason": state.reason or ""}
        params = [Param(name, str(value)) for name, value in describe(run).items()]
        self.client.log_batch(run_id, params=params, tags=[RunTag(name, value[:5000]) for name, value in tags.items()])
        self.client.set_terminated(run_id, ENDED[state.state], int(points[-1]["time_ms"]) if points else None)
        create_exclusively(self._mark(state), b"")

    def _record(self, state: JobState, parent: str, started_ms: int | None) -> str:
        """MLflow's id of a run's record; of several who make one at once all get the same."""
        note = state.job.folder / "tracking" / f"{self.store}.json"
        noted: dict[str, str] | None = read_json(note)
        if noted is not None:
            return noted["run_id"]
        key = state.job.run.key
        tags = {"ladder.run": key, "ladder.kind": "transfer", "mlflow.parentRunId": parent, "mlflow.user": user()}
        made = self.client.create_run(self.experiment.experiment_id, start_time=started_ms, tags=tags, run_name=key)
        run_id = str(made.info.run_id)
        if create_exclusively(note, json.dumps({"run_id": run_id}).encode()):
            return run_id
        self.client.delete_run(run_id)
        agreed: dict[str, str] = read_json(note) or {}
        return agreed["run_id"]

    def _mark(self, state: JobState) -> UPath:
        return state.job.folder / "tracking" / f"{self.store}.{state.state}"


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells rows of a summary apart; those of an earlier version say nothing of their recipe."""
    recipe = json.dumps(row.get("recipe"), sort_keys=True)
    return *(row[name] for name in ("checkpoint", "task", "metric", "layers")), recipe


def describe(run: FineTuningRun) -> dict[str, Any]:
    """What defines a run, as MLflow's params."""
    return {
        "task": run.task,
        "size": run.size.shape_name,
        "params_total": run.size.params_total,
        "params_non_embedding": run.size.params_non_embedding,
        "checkpoint": run.checkpoint or "none",
        "data": run.data,
        **asdict(run.recipe),
    }
