"""Does the search find the learning rate that a grid finds, and at what share of the grid's tokens?

    python bench/tune.py [--storage tune-storage] [--tokens 1600000]

Two sizes on the embedded corpus, seven learning rates a factor of two apart: `ladder tune` as it is, then the grid,
with every learning rate trained to the end. Ctrl-C, or the end of a time limit, stops it; the same command goes on.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SWEEP = '''"""Does successive halving find the learning rate that a grid finds? Prediction: within one step of it."""

from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Execution, Sweep, grid


def recipe(size, tokens, seed):
    return small_recipe(size, tokens, seed, batch_tokens=1024)


SWEEP = Sweep(
    name="tune-bench",
    corpus="pydocs",
    context=64,
    points=grid(sizes=("2x32h1", "3x64h2"), tokens=(TOKENS,)),
    recipe=recipe,
    heldout_tokens=131_072,
    execution=Execution(checkpoint_seconds=10.0),
)
'''


def main() -> None:
    """Search, run the grid, print both and what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", type=Path, default=Path("tune-storage"), help="where both are kept")
    parser.add_argument("--tokens", type=int, default=1_600_000, help="last budget")
    arguments = parser.parse_args()
    arguments.storage.mkdir(parents=True, exist_ok=True)
    search = run_tune(arguments.storage, arguments.tokens)
    grid = run_tune(arguments.storage, arguments.tokens, "--rungs", "1")
    share = search["trained_tokens"] / grid["grid_tokens"]
    print(f"search: {search['trained_tokens']:,} tokens, {share:.1%} of the grid's")
    print(f"grid:   {grid['grid_tokens']:,} tokens")
    for found, best in zip(search["winners"], grid["winners"], strict=True):
        steps = abs(step_of(search, found["run"]) - step_of(grid, best["run"]))
        print(f"{found['size']}: search {found['lr']:.3g} (loss {found['loss']:.4f}), grid {best['lr']:.3g} "
              f"(loss {best['loss']:.4f}), {steps} steps apart")  # fmt: skip
        for row in (row for row in grid["trials"] if row["size"] == found["size"]):
            at = [
                f"{one['loss']:.4f}" for one in search["trials"] if (one["size"], one["lr"]) == (row["size"], row["lr"])
            ]
            print(f"    lr {row['lr']:<8.3g} grid {row['loss']:.4f}   search {'  '.join(at)}")


def run_tune(storage: Path, tokens: int, *options: str) -> Any:
    """`ladder tune` of the sweep to its end; its JSON."""
    file = storage / "tune_bench.py"
    file.write_text(SWEEP.replace("TOKENS", str(tokens)))
    command = [sys.executable, "-m", "ladder", "tune", str(file), "--storage", str(storage), "--json", *options]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def step_of(outcome: Any, run: str) -> int:
    """The learning rate of a run, in steps from the recipe's."""
    return int(next(row["lr_step"] for row in outcome["trials"] if row["run"] == run))


if __name__ == "__main__":
    main()
