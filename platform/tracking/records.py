"""The records of a sweep in MLflow: a parent, and a child for each run that somebody started.

The runs' folders are the truth; MLflow may be away, behind, or new and empty. So all that is done here may be done
again, by anybody: a point is sent with its own time, which is part of MLflow's key, so one sent twice is there once;
which record is a run's is decided by a file that only one process can create; a finished run gets a mark.

    sweeps/<sweep>/tracking-<store>.json                    MLflow's id of the parent
    sweeps/<sweep>/<run>/tracking/<store>.json              MLflow's id of the child
    sweeps/<sweep>/<run>/tracking/<store>.<epoch>.<what>    the mark: MLflow has what the folder said after that attempt

MLflow is imported where it is used: `TrackedSweep` travels to workers, whose first steps need not wait for it.
"""

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from upath import UPath

from ladder.models.errors import InputError, hide_credentials
from ladder.platform.provenance import commit, user, versions
from ladder.platform.runs.curve import CurvePoint, read_curve
from ladder.platform.runs.lease import CLAIMS, Claim, newest_claim
from ladder.platform.runs.status import Status
from ladder.platform.storage import create_exclusively, list_names, read_json
from ladder.platform.tracking.view import LOSS, scaling_metrics
from ladder.sweeps.tuned import describe_rule
from ladder.sweeps.words import Run, Sweep

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Metric
    from mlflow.entities import Run as Record
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

MLFLOW_STATUS = {"waiting": "SCHEDULED", "running": "RUNNING", "finished": "FINISHED", "failed": "FAILED"}
TRACKING = "tracking"
"""Folder of a run's notes about its record."""
SWEEP_FILE = "sweep.json"
"""Artifact of the parent that lists the keys of the sweep's runs; a tag has room for 300."""
MEASUREMENTS_FILE = "measurements.json"
"""Artifact of a child that describes its scores."""
LARGEST_BATCH = 1000
"""Metrics that MLflow takes at once."""
LONGEST_TAG = 8000
"""Characters of a tag's value that MLflow keeps."""


@dataclass(frozen=True, kw_only=True)
class TrackedSweep:
    """Where the records of a sweep are; it travels to workers."""

    uri: str
    """MLflow tracking URI."""
    experiment: str
    """MLflow's id of the experiment."""
    parent: str
    """MLflow's id of the sweep's parent run."""
    store: str
    """Short name of the experiment in this database; another where the database is new."""


class StoreReplaced(OSError):
    """The database is not the one that the sweep was opened in: open it again, then `sync_runs` fills the new one."""


def open_sweep(client: "MlflowClient", sweep: Sweep, runs: Sequence[Run], storage: UPath) -> TrackedSweep:
    """The sweep's experiment and parent, made where they are not there, and the parent marked as running."""
    from mlflow.entities import RunTag

    from ladder.platform.tracking.database import open_experiment

    experiment = open_experiment(client, sweep.name, storage)
    store, experiment_id = _store_name(experiment), str(experiment.experiment_id)
    note = storage / "sweeps" / sweep.name / f"tracking-{store}.json"
    made_here = {"ladder.sweep": sweep.name}
    # The parent holds no points, so one that another storage of the same sweep made will do.
    known = sorted(_search(client, experiment_id, made_here), key=lambda record: "ladder.kind" not in record.data.tags)
    parent = _agree(client, note, experiment_id, known, made_here, name=sweep.name)
    _refuse_deleted(client, parent, note)
    _delete_strays(client, known, parent)
    tags = {
        "ladder.kind": "sweep",
        "ladder.question": sweep.question,
        "ladder.laws": json.dumps(sweep.laws),
        "ladder.recipe": describe_rule(sweep.recipe),
        "ladder.versions": json.dumps(versions()),
        "ladder.commit": commit() or "unknown",
        "mlflow.user": user(),
    }
    client.log_batch(parent, tags=[RunTag(name, _cut(value)) for name, value in tags.items()])
    client.log_text(parent, json.dumps({"runs": [run.key for run in runs]}, indent=1), SWEEP_FILE)
    client.update_run(parent, "RUNNING")
    return TrackedSweep(uri=client.tracking_uri, experiment=experiment_id, parent=parent, store=store)


def end_sweep(
    client: "MlflowClient", tracked: TrackedSweep, *, status: Literal["FINISHED", "FAILED", "KILLED"]
) -> None:
    """Say how the sweep's work ended."""
    client.set_terminated(tracked.parent, status)


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
    for run in runs if unmarked else ():
        key = run.key
        if key in unmarked:
            _sync_or_warn(client, tracked, run, root / key, files[key])


def find_parent(client: "MlflowClient", sweep: str) -> str | None:
    """MLflow's id of a sweep's parent, or None before its first start."""
    experiment = client.get_experiment_by_name(sweep)
    if experiment is None:
        return None
    parents = _search(client, experiment.experiment_id, {"ladder.kind": "sweep"})
    return parents[0].info.run_id if parents else None


def check_store(client: "MlflowClient", tracked: TrackedSweep) -> None:
    """Raises StoreReplaced where the database is not the one that the sweep was opened in.

    Ids of experiments are 1, 2, ... in every database, so the id alone may be that of another sweep.
    """
    from mlflow.exceptions import MlflowException

    try:
        store = _store_name(client.get_experiment(tracked.experiment))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        store = "none"
    if store != tracked.store:
        where = hide_credentials(tracked.uri)
        raise StoreReplaced(f"the database at {where} is new: it has experiment {store}, not {tracked.store}")


def open_record(
    client: "MlflowClient", tracked: TrackedSweep, run: Run, folder: UPath, *, started_ms: int | None = None
) -> "Record":
    """The child record of a run, made where there is none.

    Of several who make one at once, all get the same. A record without `ladder.kind` is of somebody who was killed
    before it was agreed on, and is taken; one that has it but is not noted in the folder was that of a folder that was
    removed, and holds other points.
    """
    note = folder / TRACKING / f"{tracked.store}.json"
    made_here = {"ladder.run": run.key}
    known = {record.info.run_id: record for record in _search(client, tracked.experiment, made_here)}
    free = [record for record in known.values() if "ladder.kind" not in record.data.tags]
    tags = made_here | {"mlflow.parentRunId": tracked.parent, "mlflow.user": user()}
    run_id = _agree(client, note, tracked.experiment, free, tags, name=run.key, started_ms=started_ms)
    record = known.get(run_id) or client.get_run(run_id)
    if "ladder.kind" not in record.data.tags:
        client.set_tag(run_id, "ladder.kind", "run")
    _delete_strays(client, free, run_id)
    return record


def describe(
    client: "MlflowClient",
    record: "Record",
    params: Mapping[str, str],
    status: Status,
    reason: str | None = None,
    *,
    ended_ms: int | None = None,
    metrics: Sequence["Metric"] = (),
) -> None:
    """Write a run's params and status, in ladder's words and in MLflow's, with the last of its metrics: a call less. A
    param once written cannot change, so a resumed run keeps its first ones."""
    from mlflow.entities import Param, RunTag

    run_id, known = record.info.run_id, record.data.params
    tags = {"ladder.status": status, "ladder.reason": _cut(reason or "")}
    client.log_batch(
        run_id,
        metrics=metrics,
        params=[Param(name, value) for name, value in params.items() if name not in known],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    if status in ("finished", "failed"):
        client.set_terminated(run_id, MLFLOW_STATUS[status], ended_ms)
    else:
        client.update_run(run_id, MLFLOW_STATUS[status])


def identity_params(run: Run) -> dict[str, str]:
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


def batches(points: Sequence[CurvePoint]) -> Iterator[tuple[int, list["Metric"]]]:
    """Points of a curve as metrics with the points' own times: how many points, and what to send at once for them."""
    from mlflow.entities import Metric

    count, metrics = 0, list["Metric"]()
    for point in points:
        values = {name: value for name, value in point.items() if name not in ("step", "time_ms")}
        if count and len(metrics) + len(values) > LARGEST_BATCH:
            yield count, metrics
            count, metrics = 0, []
        metrics += [Metric(name, v, int(point["time_ms"]), int(point["step"])) for name, v in values.items()]
        count += 1
    if count:
        yield count, metrics


def _sync_or_warn(
    client: "MlflowClient", tracked: TrackedSweep, run: Run, folder: UPath, names: Collection[str]
) -> None:
    """Sync a run, unless its record is one that the user deleted: the others can still be synced."""
    from mlflow.exceptions import MlflowException

    for last in (False, False, True):
        try:
            return _sync_run(client, tracked, run, folder, names)
        except MlflowException as error:
            if error.error_code == "BAD_REQUEST" and not last:
                continue  # MLflow's answer where somebody else wrote the same rows in this moment
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            check_store(client, tracked)
            return logger.warning("MLflow's record of run %s is not up to date: %s", run.key, error)


def _sync_run(client: "MlflowClient", tracked: TrackedSweep, run: Run, folder: UPath, names: Collection[str]) -> None:
    claim = newest_claim(folder)  # read before the rest: what its holder wrote before ending it is there
    if claim is None or claim.live:
        return
    curve, result = read_curve(folder), read_json(folder / "result.json")
    mark = f"{TRACKING}/{tracked.store}.{claim.epoch:06d}.{_what(claim, curve, result)}"
    if mark in names:
        return
    status: Status = "finished" if result else "failed" if claim.outcome == "failed" else "waiting"
    if curve or status != "waiting":
        _write_record(client, tracked, run, folder, curve, result, status, claim.reason)
    create_exclusively(folder / mark, b"")


def _write_record(
    client: "MlflowClient",
    tracked: TrackedSweep,
    run: Run,
    folder: UPath,
    curve: Sequence[CurvePoint],
    result: dict[str, Any] | None,
    status: Status,
    reason: str | None,
) -> None:
    """All that a folder says of a run, with the status last: what is said to be finished has its scores."""
    record = open_record(client, tracked, run, folder, started_ms=int(curve[0]["time_ms"]) if curve else None)
    metrics = [metric for _, batch in batches(curve) for metric in batch]
    if result:
        metrics += _scores(run, result)
        client.log_text(record.info.run_id, json.dumps(result["measurements"], indent=1), MEASUREMENTS_FILE)
    while len(metrics) > LARGEST_BATCH:
        client.log_batch(record.info.run_id, metrics=metrics[:LARGEST_BATCH], synchronous=True)
        metrics = metrics[LARGEST_BATCH:]
    ended_ms = int(result["time_ms"]) if result else int(curve[-1]["time_ms"]) if curve else None
    params = identity_params(run) | (result["execution"] if result else {})
    told = reason if status == "failed" else None
    describe(client, record, params, status, told, ended_ms=ended_ms, metrics=metrics)


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


def _agree(
    client: "MlflowClient",
    note: UPath,
    experiment: str,
    known: Sequence["Record"],
    tags: Mapping[str, str],
    *,
    name: str,
    started_ms: int | None = None,
) -> str:
    """MLflow's id of the record that `note` names; where there is no note, one of `known` or a new record gets it."""
    noted = read_json(note)
    if noted is not None:
        return str(noted["run_id"])
    record = known[0] if known else client.create_run(experiment, start_time=started_ms, tags=dict(tags), run_name=name)
    run_id = str(record.info.run_id)
    if create_exclusively(note, json.dumps({"run_id": run_id}).encode()):
        return run_id
    agreed = str((read_json(note) or {})["run_id"])
    if not known and agreed != run_id:
        client.delete_run(run_id)
    return agreed


def _delete_strays(client: "MlflowClient", records: Iterable["Record"], agreed: str) -> None:
    """Delete records that a kill or a lost answer left behind: another was agreed on."""
    for record in records:
        if "ladder.kind" not in record.data.tags and record.info.run_id != agreed:
            client.delete_run(record.info.run_id)


def _refuse_deleted(client: "MlflowClient", parent: str, note: UPath) -> None:
    from mlflow.exceptions import MlflowException

    try:
        deleted = client.get_run(parent).info.lifecycle_stage == "deleted"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        deleted = True
    if deleted:
        raise InputError(
            f"the sweep's parent run {parent} is deleted in MLflow: restore it with "
            f"`mlflow runs restore --run-id {parent}`, or remove {note} to have a new one made."
        )


def _store_name(experiment: "Experiment") -> str:
    return f"{experiment.experiment_id}-{experiment.creation_time}"


def _cut(value: str) -> str:
    """A tag's value, cut visibly where MLflow would cut it in silence."""
    return value if len(value) <= LONGEST_TAG else value[: LONGEST_TAG - 10] + " ... (cut)"


def _search(client: "MlflowClient", experiment: str, tags: Mapping[str, str]) -> list["Record"]:
    where = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    found: list[Record] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment], filter_string=where, max_results=1000, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found
