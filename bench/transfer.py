"""Does the best learning rate of a small size hold for a larger one? With CompleteP and without, on a real corpus.

    python bench/transfer.py [--seeds 0 1] [--around 2] [--plot docs/transfer.png]

Finds the best learning rate of 2x64, 4x128 and 6x256 by factors of two in both parametrisations, all else equal, and
draws held-out loss against it. The base shape of CompleteP is 2x64, so there the two are the same runs. A search begins
at the best rate of the size before, and ends when the best has as many worse ones as `--around` says on either side.
Stopped and started again, it goes on where it was.
"""

import argparse
from pathlib import Path

import polars as pl
import seaborn as sns
from short_runs import ShortRuns, best_rate, make_recipe, parser

SIZES = ("2x64", "4x128", "6x256")
TOKENS = 256_000
START = 2.0**-7
PARAMETRIZATIONS = {
    "standard": {},
    "completep": {"parametrization": "completep", "base_width": 64, "base_layers": 2},
}


def main() -> None:
    """Train what is missing, print a table, draw it."""
    options = arguments()
    runs = ShortRuns(options)
    rows = []
    for seed in options.seeds:
        start = dict.fromkeys(PARAMETRIZATIONS, START)
        for size in SIZES:
            for name in PARAMETRIZATIONS:
                losses = search(runs, size, name, seed, start[name], options.around)
                if losses is None:
                    print("no time left: start again to go on")
                    return
                start[name] = min(losses, key=losses.__getitem__)
                rows += [
                    {"size": size, "parametrization": name, "lr": rate, "seed": seed, "loss": loss}
                    for rate, loss in losses.items()
                ]
    table = pl.DataFrame(rows)
    report(table)
    if options.plot is not None:
        draw(table, options.plot)


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    options = parser(__doc__)
    options.add_argument("--around", type=int, default=1, help="worse rates wanted on either side of the best")
    options.add_argument("--plot", type=Path, help="a PNG file to draw")
    return options.parse_args()


def search(runs: ShortRuns, size: str, name: str, seed: int, start: float, around: int) -> dict[float, float] | None:
    """Loss by learning rate of one size in one parametrisation; None where there is no time left."""
    changes = {} if size == SIZES[0] else PARAMETRIZATIONS[name]  # at the base both are the same, bit for bit
    return best_rate(lambda rate: runs.loss(size, make_recipe(TOKENS, rate, seed, **changes)), start, around=around)


def report(table: pl.DataFrame) -> None:
    """Loss by learning rate, and the best rate of each size and seed."""
    for name in PARAMETRIZATIONS:
        print(f"\n{name}: held-out nats per token by peak learning rate, best marked")
        for (size, seed), here in table.filter(pl.col("parametrization") == name).group_by(
            "size", "seed", maintain_order=True
        ):
            best = here["loss"].min()
            cells = [
                f"2^{pl.Series([rate]).log(2)[0]:.0f} {loss:.4f}{'*' if loss == best else ''}"
                for rate, loss in here.select("lr", "loss").iter_rows()
            ]
            print(f"{size:6} seed {seed}: " + "  ".join(cells))


def draw(table: pl.DataFrame, path: Path) -> None:
    """Two panels, one for each parametrisation: held-out loss against the learning rate, a line for each size."""
    table = table.filter(pl.col("loss").is_finite())
    grid = sns.relplot(
        data=table.to_pandas(),
        x="lr",
        y="loss",
        hue="size",
        col="parametrization",
        kind="line",
        marker="o",
        errorbar=("pi", 100),
        palette="viridis",
        height=3.6,
        aspect=1.2,
    )
    for name, axes in grid.axes_dict.items():
        here = table.filter(pl.col("parametrization") == name)
        means = here.group_by("size", "lr", maintain_order=True).agg(pl.col("loss").mean()).sort("loss")
        best = means.group_by("size", maintain_order=True).first()
        axes.plot(best["lr"], best["loss"], "*", markersize=16, color="crimson", zorder=5)
        axes.set_xscale("log", base=2)
        axes.set_title("CompleteP, base 2x64" if name == "completep" else "standard")
        axes.set_xlabel("peak learning rate" + (", at the base" if name == "completep" else ""))
        axes.set_ylabel("held-out nats per byte")
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.savefig(path, dpi=110)
    print(f"drawn: {path}")


if __name__ == "__main__":
    main()
