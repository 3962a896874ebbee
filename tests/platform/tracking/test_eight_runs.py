"""Eight runs at once, five hundred points each: MLflow has every point once, and training hardly pays for it."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from upath import UPath

from ladder.platform.runs.curve import read_curve
from ladder.platform.storage import run_folder
from ladder.platform.tracking.database import open_tracking
from ladder.platform.tracking.records import open_sweep
from ladder.platform.tracking.sync import sync_runs
from ladder.sweeps.expand import CorpusFacts, expand
from ladder.sweeps.words import grid
from tests.platform.tracking.conftest import SWEEP, Postgres, Server, Sqlite

ROOT = Path(__file__).parents[3]
POINTS = 500
STEP_SECONDS = 0.04
EIGHT = replace(SWEEP, points=grid(sizes=("2x32",), tokens=(1024,), seeds=range(8)))
RUNS = expand(EIGHT, CorpusFacts(name="c", vocabulary=257, fingerprint="f"), precision="fp32")
MOST_SLOWED = 0.02

# Steps of 40 ms, a point each, in which the processor is free, as beside a GPU: what the process takes of one all the
# same is that of points, heartbeat and sender, and at most so much of each step is lost. It is counted from the first
# acknowledged point on: the import of MLflow belongs to the start.
WORKER = """
import json, sys, time
from upath import UPath
from ladder.platform.runs.attempt import begin
from ladder.platform.tracking.sender import Sender
from ladder.platform.tracking.records import TrackedSweep
from tests.platform.tracking.test_eight_runs import EIGHT, POINTS, RUNS, STEP_SECONDS
from ladder.platform.storage import run_folder

run, storage = RUNS[int(sys.argv[1])], UPath(sys.argv[2])
attempt = begin(run_folder(storage, EIGHT.name, run.key), "worker", trains=True, scores=True, max_failures=3)
sender = Sender(TrackedSweep(**json.loads(sys.argv[3])), run, attempt.curve, attempt.lease, params={"device": "cpu"})
sender.start()
attempt.log({"step": 1, "train/loss": 5.0, "train/tokens": 512.0})
while sender._sent < 1:
    time.sleep(0.05)
began = time.process_time()
for step in range(2, POINTS + 1):
    time.sleep(STEP_SECONDS)
    attempt.log({"step": step, "train/loss": 5.0 - step / 1000, "train/tokens": 512.0 * step})
spent = time.process_time() - began
attempt.curve.publish()
sender.close(60)
attempt.end("released")
print(json.dumps({"slowed": spent / (STEP_SECONDS * (POINTS - 1))}))
"""


@pytest.mark.endurance
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("backend", "served"), [("sqlite", False), ("postgres", True)], indirect=["backend"])
def test_no_point_is_lost_or_doubled_and_steps_are_hardly_slower(
    backend: Sqlite | Postgres, served: bool, tmp_path: Path
) -> None:
    server = Server(tmp_path, backend.uri)
    if served:
        server.start()
    storage, uri = UPath(tmp_path / "storage"), server.uri if served else backend.uri
    client = open_tracking(uri)
    tracked = open_sweep(client, EIGHT, RUNS, storage)
    words = json.dumps(vars(tracked))
    try:
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(number), str(storage), words],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(len(RUNS))
        ]
        said = [worker.communicate()[0] for worker in workers]
        assert [worker.returncode for worker in workers] == [0] * len(RUNS)
        slowed = [json.loads(words)["slowed"] for words in said]
        mean = sum(slowed) / len(slowed)
        print(f"{backend.uri.partition(':')[0]}: steps slowed by {mean:.2%}, most {max(slowed):.2%}")
        for who in ("senders alone", "the driver's look afterwards"):
            for run in RUNS:
                (record,) = client.search_runs([tracked.experiment], f"tags.`ladder.run` = '{run.key}'")
                history = client.get_metric_history(record.info.run_id, "train/loss")
                curve = read_curve(run_folder(storage, EIGHT.name, run.key))
                points = Counter((m.step, m.timestamp, m.value) for m in history)
                assert points == Counter((p["step"], p["time_ms"], p["train/loss"]) for p in curve), who
                assert points.total() == POINTS
            sync_runs(client, tracked, EIGHT, RUNS, storage)
        assert mean <= MOST_SLOWED
    finally:
        server.kill()
