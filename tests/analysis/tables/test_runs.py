"""A sweep read back from an MLflow store that was written as the platform writes it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from ladder.analysis.tables.sweeps import SweepData, read_sweep
from ladder.models.errors import InputError


def write_run(client: MlflowClient, experiment: str, parent: str, key: str, **what: Any) -> str:
    """One child run with params, metrics [(name, value, step)], tags and measurements."""
    run = client.create_run(
        experiment, tags={"ladder.kind": "run", "ladder.run": key, "mlflow.parentRunId": parent, **what["tags"]}
    )
    params = [Param(name, str(value)) for name, value in what.get("params", {}).items()]
    metrics = [Metric(name, value, stamp, step) for stamp, (name, value, step) in enumerate(what.get("metrics", []))]
    client.log_batch(run.info.run_id, metrics, params, [RunTag("written", "yes")])
    if "measurements" in what:
        client.log_text(run.info.run_id, json.dumps(what["measurements"]), "measurements.json")
    return str(run.info.run_id)


MEASUREMENT = {
    "benchmark": "cloze", "protocol": "cbt", "metric": "accuracy", "value": 0.4, "unit": "fraction",
    "direction": "higher", "count": 400, "standard_error": 0.02, "chance": 0.1, "seconds": 1.0,
    "description": "one word of ten", "totals": {},
}  # fmt: skip
PARAMS = {
    "size": "2x64", "params_total": 132928, "params_non_embedding": 100096, "tokens": "4e5", "flops_6nd": 3.2e11,
    "flops_exact": 3.5e11, "seed": 0, "corpus": "pydocs", "corpus_fingerprint": "abc", "precision": "bf16",
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tracking URI with one sweep: finished, finished without scores, failed, running, superseded, waiting."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("little", artifact_location=(folder / "artifacts").as_uri())
    keys = ["a", "b", "c", "d", "e"]
    tags = {
        "ladder.kind": "sweep", "ladder.question": "Does it scale?\n\nYes.", "ladder.laws": '["hoffmann"]',
        "ladder.versions": '{"torch": "2.13"}', "ladder.commit": "c0ffee",
    }  # fmt: skip
    parent = client.create_run(experiment, tags=tags).info.run_id
    client.log_text(parent, json.dumps({"runs": keys}), "sweep.json")
    finished = {"ladder.status": "finished"}
    # Step 2 is logged twice, as after a resume: the last stays.
    loss = [("train/loss", 5.0, 1), ("train/loss", 4.0, 2), ("train/loss", 3.5, 2), ("train/tokens", 8192.0, 2)]
    scores = [("heldout/loss", 3.6, 2), ("cloze/accuracy", 0.4, 2), ("words/perplexity", float("inf"), 2)]
    write_run(client, experiment, parent, "a", tags=finished, params=PARAMS, metrics=[("heldout/loss", 9.0, 2)])
    write_run(
        client, experiment, parent, "a", tags=finished, params=PARAMS, metrics=loss + scores, measurements=[MEASUREMENT]
    )
    write_run(client, experiment, parent, "b", tags=finished, params=PARAMS | {"tokens": 8e5}, metrics=scores[:1])
    write_run(
        client, experiment, parent, "c", tags={"ladder.status": "failed", "ladder.reason": "loss is nan at step 7"}
    )
    write_run(client, experiment, parent, "d", tags={"ladder.status": "running"}, params=PARAMS, metrics=loss)
    write_run(client, experiment, parent, "dropped", tags=finished, params=PARAMS, metrics=scores)
    yield uri


@pytest.fixture(scope="module")
def little(store: str) -> SweepData:
    """The sweep as read."""
    return read_sweep(store, "little")


def test_only_runs_of_the_sweep_as_it_is_now_are_rows_each_with_its_status(little: SweepData) -> None:
    assert dict(little.table.select("run", "status").iter_rows()) == {
        "a": "finished", "b": "finished", "c": "failed", "d": "running", "e": "waiting",
    }  # fmt: skip


def test_params_come_with_their_declared_types(little: SweepData) -> None:
    row = little.table.row(0, named=True)
    assert (row["params_total"], row["tokens"], row["flops_6nd"], row["seed"]) == (132928, 400_000, 3.2e11, 0)


def test_the_latest_run_of_a_key_counts(little: SweepData) -> None:
    assert little.table["heldout/loss"][0] == 3.6


def test_a_missing_or_infinite_score_is_null(little: SweepData) -> None:
    assert little.table["cloze/accuracy"].to_list() == [0.4, None, None, None, None]
    assert little.table["words/perplexity"].to_list() == [None] * 5


def test_training_metrics_are_curves_and_not_scores(little: SweepData) -> None:
    assert not any(name.startswith("train/") for name in little.table.columns)
    curve = little.curves.filter(little.curves["run"] == "a")
    assert curve.select("step", "train_loss", "tokens").rows() == [(1, 5.0, None), (2, 3.5, 8192.0)]


def test_a_run_describes_its_own_measurements(little: SweepData) -> None:
    described = little.describe("cloze/accuracy")
    assert (described["unit"], described["direction"], described["chance"]) == ("fraction", "higher", 0.1)
    assert little.describe("words/perplexity")["unit"] is None
    assert little.standard_errors.row(0, named=True) == {
        "run": "a", "name": "cloze/accuracy", "standard_error": 0.02, "count": 400,
    }  # fmt: skip


def test_failed_runs_come_with_their_reason(little: SweepData) -> None:
    assert little.failed.rows() == [("c", "loss is nan at step 7")]


def test_provenance_is_read_from_the_parent_and_the_runs(little: SweepData) -> None:
    assert (little.question, little.laws) == ("Does it scale?\n\nYes.", ("hoffmann",))
    assert little.provenance.commit == "c0ffee"
    assert little.provenance.versions == {"torch": "2.13"}
    assert little.provenance.settings["corpus_fingerprint"] == ("abc",)
    assert set(little.provenance.mlflow_run_ids) == {"a", "b", "c", "d"}


def test_an_unknown_sweep_is_refused_with_the_known_ones(store: str) -> None:
    with pytest.raises(InputError, match="no sweep 'large'; it has little"):
        read_sweep(store, "large")


def test_a_store_that_is_not_there_is_refused_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tracking store"):
        read_sweep(f"sqlite:///{tmp_path}/absent.db", "demo")
    assert not (tmp_path / "absent.db").exists()
