"""MLflow has each fine-tuning run once, under one parent, with its curve and scores."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from upath import UPath

from ladder.platform.finetuning.data import load_task
from ladder.platform.finetuning.grid import expand
from ladder.platform.finetuning.local import run_here
from ladder.platform.finetuning.records import Records
from ladder.platform.finetuning.registry import TASKS
from ladder.platform.finetuning.starting import open_start
from ladder.platform.finetuning.summary import summarise
from ladder.platform.tracking.database import tracking_uri
from ladder.sweeps.finetuning import FineTuning
from ladder.sweeps.words import Execution


@pytest.mark.slow
def test_each_run_is_there_once_under_one_parent(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    load_task.cache_clear()
    storage = UPath(tmp_path / "storage")
    cells = expand(
        [open_start(str(checkpoint))],
        [TASKS["sst2"]],
        recipe=FineTuning(lr_peak=1.0, precision="fp32", batch_examples=16),
        lr=1e-3,
        lr_factors=[1.0],
        layers=["all"],
        seeds=[0, 1],
        data=str(data),
        storage=str(storage),
        execution=Execution(log_every_steps=1),
    )
    states = run_here([cell.job for cell in cells], torch.device("cpu"), show=lambda state, known, total: None)
    for _ in range(2):
        records = Records(tracking_uri(None, storage), "mine-transfer", storage)
        records.write(states)
    client = records.client
    found = client.search_runs([records.experiment.experiment_id])
    parents = [one for one in found if one.data.tags["ladder.kind"] == "finetuning"]
    children = {one.data.tags["ladder.run"]: one for one in found if one.data.tags["ladder.kind"] == "transfer"}
    assert len(parents) == 1 and len(found) == 5
    assert children.keys() == {cell.job.run.key for cell in cells}
    for cell in cells:
        record, result = children[cell.job.run.key], cell.job.result() or {}
        assert record.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert record.info.status == "FINISHED" and record.data.params["layers"] == cell.layers
        assert record.data.metrics["sst2/accuracy"] == pytest.approx(result["measurements"][0]["value"])
        history = client.get_metric_history(record.info.run_id, "train/loss")
        assert [point.step for point in history] == list(range(1, 19)), "each step once, although it was sent twice"
    rows = summarise(cells)
    records.write_summary(rows)
    records.write_summary([replace(row, value=0.25) for row in rows if row.layers == "all"])
    path = Path(client.download_artifacts(parents[0].info.run_id, "transfer.json"))
    kept = {(row["layers"], row["metric"]): row["value"] for row in json.loads(path.read_text())}
    assert len(kept) == len(rows) == 4 and kept["all", "accuracy"] == 0.25
    assert kept["nothing", "accuracy"] == next(
        row.value for row in rows if (row.layers, row.metric) == ("nothing", "accuracy")
    )
    fewer = [replace(row, recipe=row.recipe | {"train_examples": 64}) for row in rows]
    records.write_summary(fewer)
    records.write_summary(fewer)
    path = Path(client.download_artifacts(parents[0].info.run_id, "transfer.json"))
    assert [(row["setting"], row["layers"]) for row in json.loads(path.read_text()) if row["metric"] == "accuracy"] == [
        ("train examples all", "nothing"), ("train examples all", "all"),
        ("train examples 64", "all"), ("train examples 64", "nothing"),
    ]  # fmt: skip
    state = states[0]
    (state.job.folder / "tracking" / f"{records.store}.finished").unlink()
    records.write(states)
    assert len(client.search_runs([records.experiment.experiment_id])) == 5
    history = client.get_metric_history(children[state.job.run.key].info.run_id, "train/loss")
    assert len(history) == 18
