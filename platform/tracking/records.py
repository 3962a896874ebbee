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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from upath import UPath

from ladder.models.errors import InputError, hide_credentials
from ladder.platform.provenance import commit, user, versions
from ladder.platform.runs.curve import CurvePoint
from ladder.platform.runs.status import Status
from ladder.platform.storage import create_exclusively, read_json
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
LARGEST_BATCH = 1000
"""Metrics that MLflow takes at once."""
LONGEST_TAG = 8000
"""Characters of a tag's value that MLflow keeps."""
NEW = {"ladder.kind": "new"}
"""Tag of a record that nobody has described yet."""


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
    _refuse_deleted(client, note)

    def known() -> list["Record"]:  # a parent holds no points, so one that another storage of the sweep made will do
        return sorted(_search(client, experiment_id, made_here), key=_is_new)

    parent = _agree(client, note, experiment_id, known, made_here, name=sweep.name).info.run_id
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
    client: "MlflowClient",
    tracked: TrackedSweep,
    run: Run,
    folder: UPath,
    *,
    started_ms: int | None = None,
    new: Callable[[], Sequence["Record"]] | None = None,
) -> "Record":
    """The child record of a run, made where there is none; `describe` says what it is.

    Of several who make one at once, all get the same. A new record of the run that its folder does not name is of
    somebody who was killed before it was agreed on, and is taken (`new` gives all new records, where they are at hand).
    One that was described, but is not named, was that of a folder that was removed, and holds other points.
    """

    def known() -> list["Record"]:
        records = new_records(client, tracked) if new is None else new()
        return [record for record in records if record.data.tags.get("ladder.run") == run.key]

    note = folder / TRACKING / f"{tracked.store}.json"
    tags = {"ladder.run": run.key, "mlflow.parentRunId": tracked.parent, "mlflow.user": user()}
    return _agree(client, note, tracked.experiment, known, tags, name=run.key, started_ms=started_ms)


def new_records(client: "MlflowClient", tracked: TrackedSweep) -> list["Record"]:
    """The records that somebody has made just now, or left behind when he was killed."""
    return _search(client, tracked.experiment, NEW)


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
    tags = {"ladder.kind": "run", "ladder.status": status, "ladder.reason": _cut(reason or "")}
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


def _agree(
    client: "MlflowClient",
    note: UPath,
    experiment: str,
    known: Callable[[], Sequence["Record"]],
    tags: Mapping[str, str],
    *,
    name: str,
    started_ms: int | None = None,
) -> "Record":
    """The record that `note` names; where there is no note, one of `known` or else a new record gets it."""
    noted, found = read_json(note), list["Record"]()
    if noted is None:
        made = {**tags, **NEW}
        found.extend(known() or [client.create_run(experiment, start_time=started_ms, tags=made, run_name=name)])
        noted = {"run_id": found[0].info.run_id}
        if not create_exclusively(note, json.dumps(noted).encode()):
            noted = read_json(note) or {}  # somebody else was quicker
    run_id = noted["run_id"]
    for record in found:
        if record.info.run_id != run_id and _is_new(record):
            client.delete_run(record.info.run_id)
    return next((record for record in found if record.info.run_id == run_id), None) or client.get_run(run_id)


def _is_new(record: "Record") -> bool:
    return NEW.items() <= record.data.tags.items()


def _refuse_deleted(client: "MlflowClient", note: UPath) -> None:
    """Raises InputError where the user deleted the parent that `note` names."""
    from mlflow.exceptions import MlflowException

    noted = read_json(note)
    if noted is None:
        return
    parent = noted["run_id"]
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
