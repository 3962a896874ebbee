"""What a driver takes for sweeps of many short runs on a simulated cluster.

    python bench/scale.py [--runs 100 1000] [--gpus 1000] [--lanes 64] [--seconds 5] [--ray]

The driver is that of `ladder run`, with leases, claims, curves, results and an SQLite database of MLflow. But the lanes
are no Ray Train runs: they are threads of a process, or with --ray of an actor, where a run takes up its lease, sleeps
and leaves a curve of twenty points and a result. The cluster's nodes, of eight GPUs each, are only said to be there.
Each sweep has a driver of its own, since its memory is measured.
"""

import argparse
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
from upath import UPath

from ladder.platform.command.chosen import begin
from ladder.platform.corpus.build import build_corpus
from ladder.platform.launching import dispatch, sweep
from ladder.platform.launching.cluster import Cluster
from ladder.platform.launching.lanes import LaneHost
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
    execution=Execution(gpus_per_worker=1, cpus_per_worker=1),
)
'''
CURVE_POINTS = 20
NODE_GPUS = 8


class SleepingHost(LaneHost):
    """A host whose lanes sleep in place of training."""

    seconds = 5.0

    def run_lane(self, name: str, shape: Shape, jobs: Sequence[Job], ray_folder: UPath) -> str | None:
        """Take the first run whose lease can be had, then the next, as a lane's worker does."""
        for job in jobs:
            if self.halted():
                break
            lease = None if (job.folder / "claims").exists() else acquire(job.folder, name)
            if lease is None:
                continue
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
            lease.end("finished", gpus=1.0, cores=1.0, held_seconds=self.seconds)
            self.post(job.run.key, name, {"outcome": "finished", "reason": None, "step": CURVE_POINTS})
        return None


class Processes:
    """What a dispatcher uses of Ray, with the host of its lanes in a process that needs no Ray."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._calls, self._news = context.Queue(), context.Queue()
        self._process = context.Process(
            target=_serve, args=(self._calls, self._news, SleepingHost.seconds), daemon=True
        )
        self._process.start()
        self._said: dict[str, dict[str, Any]] = {}
        self._ended: set[str] = set()
        call = SimpleNamespace
        self.host = call(
            run_lane=call(remote=self._run_lane), take=call(remote=self._take), halt=call(remote=lambda: None)
        )

    def remote(self, kind: Any) -> Any:
        """The host, however it is asked for."""
        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=lambda **halted: self.host))

    def get(self, value: Any) -> Any:
        """What a call gave: a lane's name stands for its end, which was a good one."""
        return None if isinstance(value, str) else value

    def wait(self, lanes: Sequence[str], **options: Any) -> tuple[list[str], list[str]]:
        """The lanes that have ended, and the others."""
        self._hear()
        return [lane for lane in lanes if lane in self._ended], [lane for lane in lanes if lane not in self._ended]

    def shutdown(self) -> None:
        """End the process."""
        self._process.kill()

    def _run_lane(self, name: str, shape: Shape, jobs: Sequence[Job], ray_folder: UPath) -> str:
        self._calls.put((name, list(jobs)))
        return name

    def _take(self) -> dict[str, dict[str, Any]]:
        self._hear()
        said, self._said = self._said, {}
        return said

    def _hear(self) -> None:
        while not self._news.empty():
            key, lane, progress = self._news.get()
            if key is None:
                self._ended.add(lane)
            else:
                self._said[key] = {**progress, "lane": lane}


def _serve(calls: Any, news: Any, seconds: float) -> None:
    class Host(SleepingHost):
        def post(self, key: str, lane: str, progress: dict[str, Any]) -> None:
            news.put((key, lane, progress))

    host = Host()
    host.seconds = seconds

    def lane(name: str, jobs: Sequence[Job]) -> None:
        host.run_lane(name, Shape(workers=1, cpus=1, gpus=1, accelerator=None), jobs, UPath("."))
        news.put((None, name, {}))

    while True:
        threading.Thread(target=lane, args=calls.get(), daemon=True).start()


@contextmanager
def simulated(gpus: int, *, on_ray: bool) -> Iterator[Cluster]:
    """Said to be a cluster of nodes with eight GPUs each: a Ray on this machine, or processes without it."""
    types = (NodeType(name="simulated", cpus=64, gpus=NODE_GPUS, count=gpus // NODE_GPUS),)
    if on_ray:
        ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=200 * 2**20,
            log_to_driver=False,
            dashboard_host="127.0.0.1",
        )
    else:
        patched: Any = dispatch
        patched.ray, patched.on_this_node = Processes(), lambda: None
    try:
        yield Cluster(local=True, types=types)
    finally:
        dispatch.ray.shutdown()


def drive(runs: int, *, gpus: int, lanes: int, seconds: float, on_ray: bool) -> dict[str, float]:
    """Run such a sweep from this process, as its driver; what it took."""
    SleepingHost.seconds = seconds
    patched: Any = (dispatch, sweep)
    patched[0].LaneHost, patched[0].MAX_LANES, patched[0].LANE_BYTES = SleepingHost, lanes, 0.0
    patched[1].connected = lambda address: simulated(gpus, on_ray=on_ray)
    with tempfile.TemporaryDirectory() as folder:
        storage, file = UPath(folder) / "storage", Path(folder) / "scale.py"
        storage.mkdir()
        texts = [storage / f"{number}.txt" for number in range(20)]
        for number, text in enumerate(texts):
            text.write_text(f"{number} All work and no play makes a dull corpus. " * 200)
        build_corpus(storage, "scale", texts, tokenizer="bytes", heldout=0.2, progress=False)
        file.write_text(SWEEP.replace("RUNS", str(runs)))
        chosen = begin(str(file), storage, None, {})
        before, started = time.process_time(), time.perf_counter()
        outcome = sweep.run_sweep(
            chosen.sweep, chosen.runs, corpus=chosen.corpus, storage=storage, tracking=tracking_uri(None, storage)
        )
        assert all(status.status == "finished" for status in outcome.statuses)
        return {
            "runs": runs,
            "wall_seconds": time.perf_counter() - started,
            "driver_seconds": time.process_time() - before,
            "driver_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30,
            "lanes": outcome.slots,
        }


def main() -> None:
    """Each sweep in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--gpus", type=int, default=1000)
    parser.add_argument("--lanes", type=int, default=64, help="lanes that the driver may have at one time")
    parser.add_argument("--seconds", type=float, default=5.0, help="what a run sleeps")
    parser.add_argument("--ray", action="store_true", help="have the host of lanes on Ray")
    parser.add_argument("--json", action="store_true", help="in this process, the one number of runs")
    given = parser.parse_args()
    if given.json:
        print(
            json.dumps(
                drive(given.runs[0], gpus=given.gpus, lanes=given.lanes, seconds=given.seconds, on_ray=given.ray)
            )
        )
        return
    for runs in given.runs:
        options = ["--gpus", str(given.gpus), "--lanes", str(given.lanes), "--seconds", str(given.seconds)]
        command = [sys.executable, __file__, "--runs", str(runs), *options, "--json", *(["--ray"] if given.ray else [])]
        took = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        print(
            f"{runs:6,} runs, {took['lanes']:.0f} lanes: {took['wall_seconds']:.0f} s; driver "
            f"{took['driver_seconds']:.1f} processor seconds, {1000 * took['driver_seconds'] / runs:.1f} ms a run, "
            f"{took['driver_gib']:.2f} GiB at most",
            flush=True,
        )


if __name__ == "__main__":
    main()
