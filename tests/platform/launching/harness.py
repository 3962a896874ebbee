"""Sweeps that run in processes of their own, what they leave, and what they would have left undisturbed."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from mlflow.tracking import MlflowClient
from upath import UPath

from ladder.platform.runs.curve import read_curve
from ladder.platform.runs.lease import Claim, newest_claim

SWEEP = '''"""Does the path hold, whatever breaks? Prediction: it does."""

from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Execution, Sweep, grid

SWEEP = Sweep(
    name="path",
    corpus="small",
    context=32,
    points=grid(sizes=("1x32", "2x32"), tokens=TOKENS, seeds=SEEDS),
    recipe=small_recipe,
    heldout_tokens=1024,
    execution=Execution(checkpoint_seconds=0.5, log_every_steps=5),
)
'''


def ladder(*arguments: object) -> list[str]:
    """The command in a process of its own."""
    return [sys.executable, "-m", "ladder", *map(str, arguments)]


def wait_for(what: str, seconds: float, found: Callable[[], Any]) -> Any:
    """What `found` gives as soon as it is true; fails after some seconds."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, f"no {what} within {seconds} s"
        time.sleep(0.2)
    return value


class Sweep:
    """A sweep's file, its storage and what is in it."""

    def __init__(
        self, folder: Path, storage: UPath, *, tokens: tuple[int, ...] = (1_024_000,), seeds: tuple[int, ...] = (0,)
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.file, self.storage, self.tokens, self.seeds = folder / "path.py", storage, tokens, seeds
        self.file.write_text(SWEEP.replace("TOKENS", repr(tokens)).replace("SEEDS", repr(seeds)))

    def start(self, *options: object, **popen: Any) -> "subprocess.Popen[str]":
        """`ladder run` of it; what it says goes to a file beside the sweep's."""
        log = (self.file.parent / f"run-{time.monotonic_ns()}.log").open("w")
        command = ladder("run", self.file, "--storage", self.storage, *options)
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True, **popen)

    def said(self) -> str:
        """What all calls of `ladder run` said."""
        return "\n".join(path.read_text() for path in sorted(self.file.parent.glob("run-*.log")))

    @property
    def folders(self) -> list[UPath]:
        """The folders of its runs that somebody took up."""
        return sorted(path.parent for path in (self.storage / "sweeps" / "path").glob("*/claims"))

    def claims(self) -> dict[str, Claim]:
        """The newest claim of each run that somebody took up."""
        return {folder.name: claim for folder in self.folders if (claim := newest_claim(folder)) is not None}

    def losses(self) -> dict[str, list[tuple[float, float]]]:
        """Step and loss of each point of each run."""
        return {f.name: [(p["step"], p["train/loss"]) for p in read_curve(f)] for f in self.folders}

    def results(self) -> dict[str, Any]:
        """The measured values of each finished run."""
        files = (self.storage / "sweeps" / "path").glob("*/result.json")
        return {p.parent.name: [m["value"] for m in json.loads(p.read_text())["measurements"]] for p in files}

    def assert_tracked_exactly(self, tracking: str | None = None) -> None:
        """MLflow holds each point of each curve once, with its time, and no other."""
        client = MlflowClient(tracking or f"sqlite:///{self.storage}/mlflow.db")
        experiment = client.get_experiment_by_name("path")
        assert experiment is not None
        records = client.search_runs([experiment.experiment_id], "tags.`ladder.kind` = 'run'")
        assert sorted(record.data.tags["ladder.run"] for record in records) == [f.name for f in self.folders]
        for record in records:
            curve = read_curve(self.storage / "sweeps" / "path" / record.data.tags["ladder.run"])
            history = client.get_metric_history(record.info.run_id, "train/loss")
            assert sorted((m.step, m.timestamp, m.value) for m in history) == [
                (p["step"], p["time_ms"], p["train/loss"]) for p in curve
            ]


UNDISTURBED = """
import sys
import torch
from upath import UPath
from ladder.platform.command.chosen import begin
from ladder.platform.launching.lanes import take_job, work_through
from ladder.platform.tracking.database import open_tracking, tracking_uri
from ladder.platform.tracking.records import open_sweep
from ladder.platform.training.job import Job
from ladder.platform.training.worker import Worker

storage = UPath(sys.argv[2])
chosen = begin(sys.argv[1], storage, None, {})
tracked = open_sweep(open_tracking(tracking_uri(None, storage)), chosen.sweep, chosen.runs, storage)
jobs = [
    Job(
        run=run, execution=chosen.sweep.execution_for(run.size), sweep=chosen.sweep.name, storage=str(storage),
        tracking=tracked, benchmarks=(), heldout_tokens=chosen.sweep.heldout_tokens,
    )
    for run in chosen.runs
]
work_through(jobs, Worker(device=torch.device("cpu")), lambda job: take_job(job, "undisturbed"))
"""


def undisturbed(sweep: Sweep, folder: Path) -> Sweep:
    """The same sweep run from its beginning to its end in one process, without Ray, in a storage of its own."""
    storage = UPath(folder / "undisturbed")
    shutil.copytree(Path(str(sweep.storage)) / "corpora", Path(storage.path) / "corpora", symlinks=True)
    twin = Sweep(folder / "twin", storage, tokens=sweep.tokens, seeds=sweep.seeds)
    done = subprocess.run(
        [sys.executable, "-c", UNDISTURBED, twin.file, storage], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return twin


def processes_of_ray(name: str) -> list[psutil.Process]:
    """Ray's processes whose title has a word in it."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        title = " ".join(process.info["cmdline"] or ())
        if title.startswith("ray::") and name in title and process.pid != os.getpid():
            found.append(process)
    return found


def kill_family(pid: int) -> None:
    """Kill a process and all that it started, the parent first, as a power cut would."""
    parent = psutil.Process(pid)
    family = [parent, *parent.children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended with its parent
            process.kill()
    psutil.wait_procs(family, timeout=20)
