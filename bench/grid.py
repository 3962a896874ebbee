"""A grid of small runs: by `ladder run`, a run on each core, beside the same runs one after the other on all cores.

    python bench/grid.py [--size 3x64h2] [--tokens 1600000]

Both begin with a built corpus and an empty storage, and both include their start: Python, imports, and for `ladder run`
Ray and MLflow. The runs one after the other are our own training loop in one process, scored alike. Prints tokens per
second of each and their ratio.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from upath import UPath

from ladder.platform.corpus.pydocs import NAME, ensure_corpus

SWEEP = '''"""Eight small runs."""

from dataclasses import replace

from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Execution, Sweep, grid

SWEEP = Sweep(
    name="grid",
    corpus="pydocs",
    context=64,
    points=grid(sizes=("{size}",), tokens=({tokens},), seeds=tuple(range({runs}))),
    recipe=lambda size, tokens, seed: small_recipe(size, tokens, seed, batch_tokens=1024),
    heldout_tokens=65_536,
    execution=Execution(cpus_per_worker={cores}),
)
'''

ONE_BY_ONE = """
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
        run=run, execution=chosen.sweep.execution_for(run.size), sweep="grid", storage=str(storage), tracking=tracked,
        benchmarks=(), heldout_tokens=chosen.sweep.heldout_tokens,
    )
    for run in chosen.runs
]
work_through(jobs, Worker(device=torch.device("cpu")), lambda job: take_job(job, "one by one"))
"""


def main() -> None:
    """Time both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="3x64h2")
    parser.add_argument("--tokens", type=int, default=1_600_000, help="of each run")
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--cores", type=int, default=2)
    arguments = parser.parse_args()
    in_lanes = timed(arguments, cores_of_a_run=1, command=[sys.executable, "-m", "ladder", "run"])
    alone = timed(arguments, cores_of_a_run=arguments.cores, command=[sys.executable, "-c", ONE_BY_ONE])
    tokens = arguments.runs * arguments.tokens
    print(f"{arguments.runs} runs of {arguments.size} on {arguments.tokens:,} tokens, {arguments.cores} cores")
    print(f"ladder run, a run on each core:         {in_lanes:6.1f} s, {tokens / in_lanes:8,.0f} tokens/s")
    print(f"one after the other on {arguments.cores} threads:       {alone:6.1f} s, {tokens / alone:8,.0f} tokens/s")
    print(f"ratio {alone / in_lanes:.2f}")


def timed(arguments: argparse.Namespace, *, cores_of_a_run: int, command: list[str]) -> float:
    """Seconds of a command with the sweep's file and an empty storage behind it; `ladder run` names the storage."""
    with tempfile.TemporaryDirectory() as folder:
        sweep, storage = Path(folder) / "grid.py", Path(folder) / "storage"
        words = {"size": arguments.size, "tokens": arguments.tokens, "runs": arguments.runs, "cores": cores_of_a_run}
        sweep.write_text(SWEEP.format(**words))
        ensure_corpus(UPath(storage), NAME)
        where = ["--storage", str(storage)] if "run" in command else [str(storage)]
        started = time.perf_counter()
        subprocess.run([*command, str(sweep), *where], check=True)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
