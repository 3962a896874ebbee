"""What a driver takes for sweeps of many short runs on a simulated cluster.

    python bench/scale.py [--runs 100 1000] [--gpus 1000] [--lanes 64] [--seconds 5]

The driver is that of `ladder run`, with leases, claims, curves, results and an SQLite database of MLflow. Its lanes are
calls of an actor of a Ray on this machine, as they are on a cluster. But a lane starts no Ray Train run: it takes up a
run's lease, sleeps, and leaves a curve of twenty points and a result. The nodes, of eight GPUs each, are only said to
be there, and a run asks for two of them, as sixteen workers. No worker sends its curve, so the driver makes every
record of MLflow by itself.

Driver time: the processor seconds of the driver's process, all its threads together, from the launch of the first lane
until the sweep's end is in MLflow. Start: those before it: imports, Ray's start, the reading of the sweep's folders.
Each sweep has a driver of its own, since its memory is measured.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from upath import UPath

from ladder.platform.command.chosen import begin
from ladder.platform.corpus.build import build_corpus
from ladder.platform.launching import dispatch, sweep
from ladder.platform.launching.cluster import Cluster
from ladder.platform.launching.dispatch import Dispatcher
from ladder.platform.launching.lanes import LANE_RUNS, LaneHost
from ladder.platform.launching.nodes import NodeType, Shape
from ladder.platform.runs.curve import Curve
from ladder.platform.runs.lease import acquire
from ladder.platform.storage import write_json
from ladder.platform.tracking.database import tracking_uri
from ladder.platform.training.job import Job

SWEEP = '''"""How much does a driver take? Prediction: the same for each run, however many there are."""

from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Execution, Sweep, grid

SWEEP = Sweep(
    name="scale",
    corpus="scale",
    context=32,
    points=grid(sizes=("1x32",), tokens=(40960,), seeds=range(RUNS)),
    recipe=small_recipe,
    execution=Execution(workers=16, gpus_per_worker=1, cpus_per_worker=1),
)
'''
CURVE_POINTS = 20
NODE_GPUS = 8


class SleepingHost(LaneHost):
    """A host whose lanes sleep in place of training."""

    seconds = 5.0

    def run_lane(self, name: str, shape: Shape, jobs: Sequence[Job], ray_folder: UPath) -> str | None:
        """Take the first run whose lease can be had, then the next, as a lane's worker does."""
        taken = 0
        for job in jobs:
            if self.halted() or taken == LANE_RUNS:
                break
            lease = None if (job.folder / "claims").exists() else acquire(job.folder, name)
            if lease is None:
                continue
            taken += 1
            self.post(job.run.key, name, {"outcome": None, "reason": None, "step": 0})
            time.sleep(self.seconds)
            curve = Curve(job.folder, lease.epoch)
            for step in range(1, CURVE_POINTS + 1):
                time_ms = int(time.time() * 1000)
                curve.add(
                    {"step": step, "time_ms": time_ms, "train/loss": 5.0 - step / 10, "train/tokens": 2048 * step}
                )
            curve.publish()
            score = {"benchmark": "heldout", "metric": "loss", "value": 3.0, "unit": "nats", "direction": "lower"}
            result = {"run": job.run.key, "step": CURVE_POINTS, "time_ms": int(time.time() * 1000)}
            done = {"execution": {"device": "none"}, "measurements": [score]}
            write_json(job.folder / "result.json", result | done)
            lease.end("finished", gpus=16.0, cores=16.0, held_seconds=self.seconds)
            self.post(job.run.key, name, {"outcome": "finished", "reason": None, "step": CURVE_POINTS})
        return None


class TimedDispatcher(Dispatcher):
    """A dispatcher that notes how far the process's time was when its first lane was launched."""

    launched_at: float | None = None

    def _start_lane(self, shape: Shape, jobs: Sequence[Job]) -> None:
        if TimedDispatcher.launched_at is None:
            TimedDispatcher.launched_at = time.process_time()
        super()._start_lane(shape, jobs)


@contextmanager
def simulated(gpus: int) -> Iterator[Cluster]:
    """A Ray on this machine that is said to be a cluster of nodes with eight GPUs each."""
    types = (NodeType(name="simulated", cpus=64, gpus=NODE_GPUS, count=gpus // NODE_GPUS),)
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        dashboard_host="127.0.0.1",
    )
    try:
        yield Cluster(local=True, types=types)
    finally:
        ray.shutdown()


def drive(runs: int, *, gpus: int, lanes: int, seconds: float) -> dict[str, float]:
    """Run such a sweep from this process, as its driver; what it took."""
    SleepingHost.seconds = seconds
    patched: Any = (dispatch, sweep)
    patched[0].LaneHost, patched[0].MAX_LANES, patched[0].LANE_BYTES = SleepingHost, lanes, 0.0
    patched[1].connected, patched[1].Dispatcher = lambda address: simulated(gpus), TimedDispatcher
    with tempfile.TemporaryDirectory() as folder:
        storage, file = UPath(folder) / "storage", Path(folder) / "scale.py"
        storage.mkdir()
        texts = [storage / f"{number}.txt" for number in range(20)]
        for number, text in enumerate(texts):
            text.write_text(f"{number} All work and no play makes a dull corpus. " * 200)
        build_corpus(storage, "scale", texts, tokenizer="bytes", heldout=0.2, progress=False)
        file.write_text(SWEEP.replace("RUNS", str(runs)))
        started = time.perf_counter()
        chosen = begin(str(file), storage, None, {})
        outcome = sweep.run_sweep(
            chosen.sweep, chosen.runs, corpus=chosen.corpus, storage=storage, tracking=tracking_uri(None, storage)
        )
        ended_at, launched_at = time.process_time(), TimedDispatcher.launched_at
        assert launched_at is not None and all(status.status == "finished" for status in outcome.statuses)
        marks = len(list(storage.glob("sweeps/scale/*/tracking/*.finished")))
        assert marks == runs, f"MLflow has {marks} of {runs} runs"
        return {
            "runs": runs,
            "lanes": outcome.slots,
            "wall_seconds": time.perf_counter() - started,
            "start_seconds": launched_at,
            "driver_seconds": ended_at - launched_at,
            "driver_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30,
        }


def main() -> None:
    """Each sweep in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--gpus", type=int, default=1000)
    parser.add_argument("--lanes", type=int, default=64, help="lanes that the driver may have at one time")
    parser.add_argument("--seconds", type=float, default=5.0, help="what a run sleeps")
    parser.add_argument("--json", action="store_true", help="in this process, the one number of runs")
    given = parser.parse_args()
    if given.json:
        print(json.dumps(drive(given.runs[0], gpus=given.gpus, lanes=given.lanes, seconds=given.seconds)))
        return
    for runs in given.runs:
        options = ["--gpus", str(given.gpus), "--lanes", str(given.lanes), "--seconds", str(given.seconds)]
        command = [sys.executable, __file__, "--runs", str(runs), *options, "--json"]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        took = json.loads(said.splitlines()[-1])
        print(
            f"{runs:6,} runs, {took['lanes']:.0f} lanes: {took['wall_seconds']:.0f} s; processor seconds: start "
            f"{took['start_seconds']:.1f}, driver {took['driver_seconds']:.1f}, "
            f"{1000 * took['driver_seconds'] / runs:.1f} ms a run; {took['driver_gib']:.2f} GiB at most",
            flush=True,
        )


if __name__ == "__main__":
    main()
