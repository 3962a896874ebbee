"""The MLflow runs of a sweep: one parent, one child for each run, found by tag and never made twice."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.entities import Run as Record
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.provenance import commit, versions
from ladder.platform.storage import is_local, read_json
from ladder.platform.tracking.runlog import read_curve
from ladder.sweeps.words import Run, Sweep

Params = dict[str, str]


def open_records(client: MlflowClient, sweep: Sweep, runs: Sequence[Run], storage: UPath) -> dict[str, str]:
    """The MLflow run ids of a sweep's runs by key; what is missing is made, the parent is brought up to date."""
    experiment = _experiment(client, sweep.name, storage)
    parent = _parent(client, experiment, sweep, runs)
    found = find_records(client, experiment)
    return {run.key: found[run.key] if run.key in found else _child(client, experiment, parent, run) for run in runs}


def find_parent(client: MlflowClient, sweep: str) -> str | None:
    """The MLflow run id of a sweep's parent, or None before its first start."""
    experiment = client.get_experiment_by_name(sweep)
    if experiment is None:
        return None
    parents = _search(client, experiment.experiment_id, "tags.`ladder.kind` = 'sweep'")
    return parents[0].info.run_id if parents else None


def find_records(client: MlflowClient, experiment: str) -> dict[str, str]:
    """The MLflow run id of every run in an experiment, by its key."""
    children = _search(client, experiment, "tags.`ladder.kind` = 'run'")
    return {child.data.tags["ladder.run"]: child.info.run_id for child in children}


def identity_params(run: Run) -> Params:
    """What defines a run, as MLflow's params."""
    size, recipe = run.size, run.recipe
    params = {
        **{name: getattr(size, name) for name in ("n_layer", "d_model", "n_head", "context", "vocabulary")},
        **{name: value for name, value in asdict(recipe).items() if name != "precision"},
        "size": size.name,
        "params_total": size.params_total,
        "params_non_embedding": size.params_non_embedding,
        "steps": recipe.steps,
        "flops_6nd": size.flops_6nd(recipe.tokens),
        "flops_exact": size.flops_exact(recipe.tokens),
        "corpus": run.corpus,
        "corpus_fingerprint": run.corpus_fingerprint,
    }
    return {name: str(value) for name, value in params.items()}


def set_status(client: MlflowClient, run_id: str, status: str, reason: str | None = None) -> None:
    """Mark a child run as waiting, running, finished or failed, in ladder's words and in MLflow's."""
    client.set_tag(run_id, "ladder.status", status)
    client.set_tag(run_id, "ladder.reason", reason or "")
    mlflow_status = {"waiting": "SCHEDULED", "running": "RUNNING", "finished": "FINISHED", "failed": "FAILED"}[status]
    if mlflow_status in ("FINISHED", "FAILED"):
        client.set_terminated(run_id, mlflow_status)
    else:
        client.update_run(run_id, mlflow_status)


def log_points(client: MlflowClient, run_id: str, points: Sequence[dict[str, float]]) -> None:
    """Log points of a curve, each a dict with `step` and metrics, in batches."""
    now = int(time.time() * 1000)
    metrics = [
        Metric(name, value, now, int(point["step"]))
        for point in points
        for name, value in point.items()
        if name != "step"
    ]
    for first in range(0, len(metrics), 1000):  # MLflow's largest batch
        client.log_batch(run_id, metrics=metrics[first : first + 1000], synchronous=True)


def log_params(client: MlflowClient, run_id: str, params: Params) -> None:
    """Log params that are not there yet; a param once logged cannot change, so a resumed run keeps its first ones."""
    known = client.get_run(run_id).data.params
    client.log_batch(run_id, params=[Param(name, value) for name, value in params.items() if name not in known])


def log_measurements(client: MlflowClient, run_id: str, measurements: Sequence[dict[str, Any]], step: int) -> None:
    """Log final scores as metrics and, with unit, direction, count and standard error, as `measurements.json`."""
    log_points(
        client, run_id, [{"step": step, **{f"{m['benchmark']}/{m['metric']}": m["value"] for m in measurements}}]
    )
    client.log_text(run_id, json.dumps(measurements, indent=1), "measurements.json")


def settle(client: MlflowClient, run_id: str, folder: UPath) -> bool:
    """Bring a run's record in MLflow up to what its folder says: the curve, the scores and how it ended.

    The folder is the truth; MLflow may have been unreachable, or its database may be new. Returns whether the run has
    ended.
    """
    result, progress = read_json(folder / "result.json"), read_json(folder / "progress.json") or {}
    record = client.get_run(run_id)
    if result is None:
        if progress.get("status") == "failed" and record.info.status != "FAILED":
            set_status(client, run_id, "failed", progress.get("reason"))
        return progress.get("status") == "failed"
    scored = {f"{m['benchmark']}/{m['metric']}" for m in result["measurements"]}
    if record.info.status == "FINISHED" and scored <= record.data.metrics.keys():
        return True
    curve = read_curve(folder / "metrics.jsonl")
    if curve and record.data.metrics.get("train/tokens") != curve[-1]["train/tokens"]:
        log_points(client, run_id, curve)
    log_params(client, run_id, result["execution"])
    log_measurements(client, run_id, result["measurements"], result["step"])
    set_status(client, run_id, "finished")
    return True


def _experiment(client: MlflowClient, name: str, storage: UPath) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        raise InputError(
            f"the MLflow experiment {name!r} is deleted: restore it with "
            f"`mlflow experiments restore -x {experiment.experiment_id}`, or give the sweep another name."
        )
    if experiment is not None:
        return str(experiment.experiment_id)
    # A server decides where artifacts go; beside an SQLite file they go into the storage.
    beside = f"{storage}/mlflow/{name}" if is_local(storage) and client.tracking_uri.startswith("sqlite:") else None
    try:
        return str(client.create_experiment(name, artifact_location=beside))
    except MlflowException as error:
        raise InputError(f"the MLflow experiment {name!r} cannot be made: {error}") from error


def _parent(client: MlflowClient, experiment: str, sweep: Sweep, runs: Sequence[Run]) -> str:
    found = _search(client, experiment, "tags.`ladder.kind` = 'sweep'")
    record = found[0] if found else client.create_run(experiment, run_name=sweep.name)
    tags = {
        "ladder.kind": "sweep",
        "ladder.question": sweep.question,
        "ladder.laws": json.dumps(sweep.laws),
        "ladder.runs": json.dumps([run.key for run in runs]),
        "ladder.versions": json.dumps(versions()),
        "ladder.commit": commit() or "unknown",
        "mlflow.user": os.environ.get("USER", "unknown"),
    }
    client.log_batch(record.info.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    return str(record.info.run_id)


def _child(client: MlflowClient, experiment: str, parent: str, run: Run) -> str:
    tags = {
        "ladder.kind": "run",
        "ladder.run": run.key,
        "ladder.status": "waiting",
        "mlflow.parentRunId": parent,
        "mlflow.user": os.environ.get("USER", "unknown"),
    }
    record = client.create_run(experiment, run_name=run.key, tags=tags)
    client.log_batch(record.info.run_id, params=[Param(k, v) for k, v in identity_params(run).items()])
    client.update_run(record.info.run_id, "SCHEDULED")
    return str(record.info.run_id)


def _search(client: MlflowClient, experiment: str, where: str) -> list[Record]:
    found: list[Record] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment], filter_string=where, max_results=1000, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found
