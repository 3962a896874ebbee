"""A sweep on a real local Ray: interrupted, taken up again, finished, reported, and on a cluster as a job."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from mlflow.tracking import MlflowClient
from upath import UPath

from ladder.platform.runs.curve import read_curve

SWEEP = '''"""Does the path hold from end to end?

Prediction: it does.
"""

from dataclasses import replace

from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Execution, Sweep, grid


def recipe(size, tokens, seed):
    """As the small recipe; the wild size diverges."""
    made = small_recipe(size, tokens, seed)
    return replace(made, lr_peak=1e30, warmup_tokens=0) if size.name == "1x16" else made


SWEEP = Sweep(
    name="path",
    corpus="small",
    context=32,
    points=grid(sizes=("1x16", "1x32"), tokens=(40_960,)) + grid(sizes=("2x32",), tokens=(2_048_000,)),
    recipe=recipe,
    benchmarks=("pages-bytes",),
    heldout_tokens=1024,
    execution=Execution(checkpoint_seconds=0.5, log_every_steps=5),
)
'''


def ladder(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "ladder", *map(str, arguments)]


def read_status(sweep: Path, storage: UPath) -> dict[str, dict[str, object]]:
    """Status by size; the run's key begins with it."""
    done = subprocess.run(
        ladder("status", sweep, "--storage", storage, "--json"), capture_output=True, text=True, check=True
    )
    return {run["run"].split("-")[0]: run for run in json.loads(done.stdout)["runs"]}


def wait_for(what: str, seconds: float, found: object) -> None:
    end = time.monotonic() + seconds
    while not found():  # type: ignore[operator]
        assert time.monotonic() < end, f"no {what} within {seconds} s"
        time.sleep(0.2)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    path = tmp_path / "path.py"
    path.write_text(SWEEP)
    return path


@pytest.mark.endurance
@pytest.mark.timeout(400)  # two sweeps on Ray; a minute where nothing else runs
def test_a_sweep_survives_an_interruption_and_is_never_trained_twice(sweep: Path, storage: UPath) -> None:
    runs = Path(str(storage)) / "sweeps" / "path"
    first = subprocess.Popen(ladder("run", sweep, "--storage", storage), stderr=subprocess.PIPE, text=True)
    wait_for("checkpoint of the long run", 90, lambda: list(runs.glob("2x32-*/step-*/training.json")))
    family = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130, first.stderr.read() if first.stderr else ""
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not [process.name() for process in alive]

    second = subprocess.run(ladder("run", sweep, "--storage", storage), capture_output=True, text=True, timeout=300)
    status = read_status(sweep, storage)
    assert {size: run["status"] for size, run in status.items()} == {
        "1x16": "failed",
        "1x32": "finished",
        "2x32": "finished",
    }, second.stderr
    assert second.returncode == 1, "a failed run is told by the exit code"
    assert "is not finite at step" in str(status["1x16"]["reason"]) and "is not finite at step" in second.stderr
    (folder,) = runs.glob("2x32-*")
    steps = [point["step"] for point in read_curve(UPath(folder))]
    assert steps == sorted(set(steps)) and steps[-1] == 1000, "a resumed run repeats no point and misses none"
    assert steps == list(range(5, 1001, 5))

    third = subprocess.run(ladder("run", sweep, "--storage", storage), capture_output=True, text=True)
    assert "nothing to train" in third.stderr

    report = subprocess.run(ladder("report", sweep, "--storage", storage), capture_output=True, text=True)
    page = Path(report.stdout.strip().splitlines()[-1])
    assert page.is_file(), report.stderr
    text = page.read_text()
    assert "2x32" in text and "is not finite at step" in text and "<script src" not in text

    client = MlflowClient(f"sqlite:///{storage}/mlflow.db")
    experiment = client.get_experiment_by_name("path")
    assert experiment is not None
    finished = client.search_runs([experiment.experiment_id], "tags.`ladder.status` = 'finished'")
    assert len(finished) == 2 and all("heldout/loss" in run.data.metrics for run in finished)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """A Ray head on this machine as cluster.yaml starts one, with two cores; gives the job server's address."""
    port, dashboard = 26379, 28265
    head = subprocess.Popen(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"),
            *(f"--dashboard-port={dashboard}", "--num-cpus=2"),
            *("--temp-dir", f"/tmp/ladder-ray-{os.getpid()}", "--ray-client-server-port=20001"),
            "--dashboard-agent-listen-port=52466",  # the default is taken where another Ray runs on this machine
        ],
        # As on the nodes of cluster.yaml, ladder's environment comes first on the path: a job's `python` is its own.
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(15)
    yield f"http://127.0.0.1:{dashboard}"
    family = psutil.Process(head.pid).children(recursive=True)
    for process in [psutil.Process(head.pid), *family]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    head.wait(10)


@pytest.mark.endurance
@pytest.mark.timeout(400)
def test_a_sweep_runs_as_a_job_on_a_cluster(cluster: str, sweep: Path, storage: UPath) -> None:
    done = subprocess.run(
        ladder("submit", sweep, "--address", cluster, "--storage", storage, "--wait"),
        capture_output=True,
        text=True,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )
    status = read_status(sweep, storage)
    assert {run["status"] for run in status.values()} == {"finished", "failed"}, done.stderr
    assert done.returncode == 1 and "failed with exit code 1" in done.stderr, "the diverging run fails the job"
