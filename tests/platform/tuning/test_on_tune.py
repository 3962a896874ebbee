"""A search on a real local Ray Tune: interrupted, gone on with, finished, read by a sweep's recipe."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import psutil
import pytest
from mlflow.tracking import MlflowClient
from upath import UPath

SWEEP = '''"""Which learning rate is best? Prediction: one that no rule of thumb gives."""

from ladder.sweeps.rules import small_recipe
from ladder.sweeps.tuned import tuned
from ladder.sweeps.words import Execution, Sweep, grid

SWEEP = Sweep(
    name="path",
    corpus="small",
    context=32,
    points=grid(sizes=("1x16", "1x32"), tokens=(368_640,)),
    recipe=tuned("path", small_recipe),
    heldout_tokens=1024,
    execution=Execution(checkpoint_seconds=0.5, log_every_steps=5),
)
'''


def ladder(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "ladder", *map(str, arguments)]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    path = tmp_path / "path.py"
    path.write_text(SWEEP)
    return path


def results(storage: UPath) -> dict[str, str]:
    """The result of each run of the search that has ended, by key."""
    return {path.parent.name: path.read_text() for path in (storage / "sweeps" / "path-tune").glob("*/result.json")}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_search_survives_an_interruption_and_feeds_the_sweep(sweep: Path, storage: UPath) -> None:
    options = ("--storage", storage, "--lr-steps", 3, "--rungs", 2)
    before = subprocess.run(ladder("plan", sweep, "--storage", storage), capture_output=True, text=True)
    assert before.returncode == 2 and "Run `ladder tune path` first" in before.stderr

    first = subprocess.Popen(ladder("tune", sweep, *options), stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not results(storage):
        assert time.monotonic() < end and first.poll() is None, first.stderr.read() if first.stderr else ""
        time.sleep(0.05)
    family = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130
    _, alive = psutil.wait_procs(family, timeout=20)
    names = []
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            names.append(process.name())
    assert not names
    kept = results(storage)
    assert 0 < len(kept) < 8 and not (storage / "sweeps" / "path" / "tuned.json").exists()

    second = subprocess.run(ladder("tune", sweep, *options, "--json"), capture_output=True, text=True, timeout=200)
    assert second.returncode == 0, second.stderr
    found = json.loads(second.stdout)
    assert len(found["trials"]) == 8 == len(results(storage)), "six trials, and a third of each size's goes on"
    assert {key: results(storage)[key] for key in kept} == kept, "what had ended is not done again"
    for size in ("1x16", "1x32"):
        rows = [row for row in found["trials"] if row["size"] == size]
        best = min((row for row in rows if row["rung"] == 1), key=lambda row: row["loss"])
        (last,) = (row for row in rows if row["rung"] == 2)
        assert last["lr"] == best["lr"]
        assert last["trained_tokens"] < last["tokens"] == 368_640, "it went on from the trunk of the shorter one"
    assert found["grid_tokens"] == 6 * 368_640
    assert found["trained_tokens"] == 6 * 122_880 + 2 * (368_640 - (122_880 - 24_576)), "trunks and decays, once each"

    folder = Path(str(storage)) / "sweeps" / "path"
    table = pl.read_csv(folder / "trials.csv")
    assert table.height == 8 and {"params_non_embedding", "tokens", "lr", "batch_tokens", "loss"} <= set(table.columns)
    assert (folder / "tuned.png").read_bytes().startswith(b"\x89PNG")
    assert_tracked(storage, found)

    third = subprocess.run(ladder("tune", sweep, *options), capture_output=True, text=True, timeout=100)
    assert third.returncode == 0 and "held-out loss" not in third.stderr, "nothing is left to do"
    assert "Held-out loss, nats per token" in third.stdout

    plan = subprocess.run(ladder("plan", sweep, "--storage", storage, "--json"), capture_output=True, text=True)
    planned = json.loads(plan.stdout)
    assert "small_recipe, tuned by `ladder tune path` of" in planned["recipe"]
    assert sorted(run["run"] for run in planned["runs"]) == sorted(winner["run"] for winner in found["winners"])


def assert_tracked(storage: UPath, found: dict[str, object]) -> None:
    """MLflow has each run with its score and its fate, and the winners with the parent."""
    client = MlflowClient(f"sqlite:///{storage}/mlflow.db")
    experiment = client.get_experiment_by_name("path-tune")
    assert experiment is not None
    records = client.search_runs([experiment.experiment_id], "tags.`ladder.kind` = 'run'")
    assert len(records) == 8 and all("heldout/loss" in record.data.metrics for record in records)
    fates = [record.data.tags["ladder.tuning"] for record in records]
    assert sorted(fates) == sorted(["rung 2: winner"] * 2 + ["rung 1: went on"] * 2 + ["rung 1: left behind"] * 4)
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`ladder.kind` = 'sweep'")
    assert parent.data.tags["ladder.tuned"].startswith("`ladder tune path` of ")
    assert "tuned.json" in [artifact.path for artifact in client.list_artifacts(parent.info.run_id)]
    assert (
        json.loads(Path(experiment.artifact_location, parent.info.run_id, "artifacts", "tuned.json").read_text())
        == found
    )
