"""MLflow holds what the folders say, once, whatever was interrupted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.storage import run_folder, write_json
from ladder.platform.tracking.database import open_tracking, tracking_uri
from ladder.platform.tracking.records import find_parent, find_records, open_records, settle
from ladder.platform.tracking.runlog import RunLog, read_curve
from ladder.sweeps.expand import CorpusFacts, expand
from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Run, Sweep, grid

SWEEP = Sweep(
    name="mine",
    corpus="c",
    context=32,
    points=grid(sizes=("2x32", "2x64"), tokens=(1024,)),
    recipe=small_recipe,
    question="What is asked.",
)
RUNS = expand(SWEEP, CorpusFacts(name="c", vocabulary=257, fingerprint="f"), precision="fp32")
SCORE = {"benchmark": "heldout", "metric": "loss", "value": 2.5, "unit": "nats per token", "direction": "lower"}
EXECUTION = {"precision": "fp32", "device": "cpu"}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> UPath:
    return UPath(tmp_path_factory.mktemp("storage"))


@pytest.fixture(scope="module")
def client(storage: UPath) -> MlflowClient:
    return open_tracking(tracking_uri(None, storage))


def points(n: int) -> list[dict[str, float]]:
    return [{"step": s, "train/loss": 5.0 - s, "train/tokens": 512.0 * s} for s in range(1, n + 1)]


def finish(storage: UPath, sweep: Sweep, run: Run) -> UPath:
    """What a worker leaves behind."""
    folder = run_folder(storage, sweep.name, run.key)
    result = {"run": run.key, "step": 2, "measurements": [SCORE], "execution": EXECUTION}
    write_json(folder / "result.json", result)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points(2)))
    return folder


def test_a_sweep_has_one_parent_and_one_child_a_run_however_often_it_is_opened(
    client: MlflowClient, storage: UPath
) -> None:
    first = open_records(client, SWEEP, RUNS, storage)
    assert open_records(client, SWEEP, RUNS, storage) == first
    experiment = client.get_experiment_by_name("mine")
    assert experiment is not None
    assert find_records(client, experiment.experiment_id) == first
    parent = find_parent(client, "mine")
    assert parent is not None
    tags = client.get_run(parent).data.tags
    assert tags["ladder.question"] == "What is asked."
    assert json.loads(tags["ladder.runs"]) == [run.key for run in RUNS]
    child = client.get_run(first[RUNS[0].key])
    assert child.data.tags["mlflow.parentRunId"] == parent
    assert child.data.params["params_total"] == str(RUNS[0].size.params_total)


def test_a_finished_run_is_settled_from_its_folder_alone(client: MlflowClient, storage: UPath) -> None:
    sweep = replace(SWEEP, name="settled")
    records = open_records(client, sweep, RUNS, storage)
    folder = finish(storage, sweep, RUNS[0])
    run_id = records[RUNS[0].key]
    assert settle(client, run_id, folder)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.tags["ladder.status"] == "finished"
    assert run.data.metrics["heldout/loss"] == 2.5 and run.data.params["precision"] == "fp32"
    assert [m.value for m in client.get_metric_history(run_id, "train/loss")] == [4.0, 3.0]
    settle(client, run_id, folder)
    assert len(client.get_metric_history(run_id, "train/loss")) == 2, "settling again adds nothing"
    assert not settle(client, records[RUNS[1].key], run_folder(storage, sweep.name, RUNS[1].key))


def test_a_failed_run_keeps_its_reason(client: MlflowClient, storage: UPath) -> None:
    sweep = replace(SWEEP, name="failed")
    records = open_records(client, sweep, RUNS, storage)
    folder = run_folder(storage, sweep.name, RUNS[0].key)
    write_json(
        folder / "progress.json", {"status": "failed", "reason": "the loss is not finite at step 7", "updated": 0}
    )
    assert settle(client, records[RUNS[0].key], folder)
    run = client.get_run(records[RUNS[0].key])
    assert run.info.status == "FAILED" and run.data.tags["ladder.reason"] == "the loss is not finite at step 7"


def test_a_deleted_experiment_is_named_with_the_remedy(client: MlflowClient, storage: UPath) -> None:
    sweep = replace(SWEEP, name="deleted")
    open_records(client, sweep, RUNS, storage)
    experiment = client.get_experiment_by_name("deleted")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(InputError, match="mlflow experiments restore"):
        open_records(client, sweep, RUNS, storage)


def test_the_log_of_a_run_reaches_the_file_and_mlflow(client: MlflowClient, storage: UPath, tmp_path: Path) -> None:
    sweep = replace(SWEEP, name="logged")
    records = open_records(client, sweep, RUNS, storage)
    run_id, folder = records[RUNS[0].key], run_folder(storage, sweep.name, RUNS[0].key)
    log = RunLog(tmp_path / "curve.jsonl", folder=folder, tracking=client.tracking_uri, run_id=run_id)
    log.params(EXECUTION)
    for point in points(3):
        log.point(point)
    log.progress(status="running", step=3)
    log.close()
    assert read_curve(tmp_path / "curve.jsonl") == points(3)
    assert json.loads((folder / "progress.json").read_text())["step"] == 3
    assert [m.step for m in client.get_metric_history(run_id, "train/loss")] == [1, 2, 3]
    assert client.get_run(run_id).info.status == "RUNNING"


def test_a_dead_tracking_server_neither_stops_nor_loses_the_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    log = RunLog(tmp_path / "c.jsonl", folder=UPath(tmp_path / "run"), tracking="http://127.0.0.1:9", run_id="none")
    for point in points(2):
        log.point(point)
    log.close()
    assert read_curve(tmp_path / "c.jsonl") == points(2)


def test_a_half_written_line_of_a_curve_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "tr')
    assert read_curve(path) == [{"step": 1}]


def test_tracking_beside_a_remote_storage_must_be_named() -> None:
    with pytest.raises(InputError, match="--tracking"):
        tracking_uri(None, UPath("memory://bucket"))
    assert tracking_uri("http://host:5000", UPath("memory://bucket")) == "http://host:5000"


def test_a_tracking_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match="http://127.0.0.1:9 cannot be reached"):
        open_tracking("http://127.0.0.1:9")
