"""How long `ladder run` takes to find that nothing of a large sweep is left to do.

    python bench/skipping.py [--runs 10000]

Makes a sweep whose runs have the folders of finished and tracked ones, without training any, and calls the command.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from upath import UPath

from ladder.platform.command.chosen import begin
from ladder.platform.corpus.build import build_corpus
from ladder.platform.runs.lease import acquire
from ladder.platform.storage import run_folder, write_json
from ladder.platform.tracking.database import open_tracking, tracking_uri
from ladder.platform.tracking.records import open_sweep
from ladder.platform.tracking.sync import sync_runs

SWEEP = '''"""Is a large sweep skipped quickly?"""

from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Sweep, grid

SWEEP = Sweep(
    name="skipped",
    corpus="skipped",
    context=32,
    points=grid(sizes=("1x32",), tokens=(4096,), seeds=range(RUNS)),
    recipe=small_recipe,
)
'''


def main() -> None:
    """Make the sweep, time the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        storage, file = UPath(folder) / "storage", Path(folder) / "skipped.py"
        make(storage, file, runs)
        for call in ("first", "second"):
            started = time.perf_counter()
            command = [sys.executable, "-m", "ladder", "run", str(file), "--storage", str(storage)]
            done = subprocess.run(command, capture_output=True, text=True)
            print(f"{call} call: {time.perf_counter() - started:.1f} s for {runs:,} runs; {done.stderr.strip()}")


def make(storage: UPath, file: Path, runs: int) -> None:
    """Folders of finished runs, each with its claim, its result and the mark that MLflow has it."""
    storage.mkdir()
    texts = [storage / f"{number}.txt" for number in range(20)]
    for number, text in enumerate(texts):
        text.write_text(f"{number} All work and no play makes a dull corpus. " * 200)
    build_corpus(storage, "skipped", texts, tokenizer="bytes", heldout=0.2, progress=False)
    file.write_text(SWEEP.replace("RUNS", str(runs)))
    chosen = begin(str(file), storage, None, {})
    client = open_tracking(tracking_uri(None, storage))
    tracked = open_sweep(client, chosen.sweep, chosen.runs, storage)
    result = {"step": 2, "time_ms": 0, "execution": {}, "measurements": [{"benchmark": "heldout"}]}
    for run in chosen.runs:
        folder = run_folder(storage, "skipped", run.key)
        lease = acquire(folder, "bench")
        assert lease is not None
        write_json(folder / "result.json", result | {"run": run.key})
        lease.end("finished")
        (folder / "tracking").mkdir()
        (folder / "tracking" / f"{tracked.store}.000001.finished").write_text(json.dumps({}))
    sync_runs(client, tracked, chosen.sweep, chosen.runs, storage)


if __name__ == "__main__":
    main()
