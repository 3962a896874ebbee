"""Does the best learning rate of a small size hold for a larger one? With CompleteP and without, on a real corpus.

    python bench/transfer.py [--seeds 0 1] [--results storage/bench/transfer.jsonl] [--plot docs/transfer.png]

Trains 2x64, 4x128 and 6x256 at each learning rate of a grid by factors of two, in both parametrisations, with all else
equal, and draws held-out loss against the learning rate. The base shape of CompleteP is 2x64, so there the two are the
same. About 40 minutes a seed on two cores; stopped and started again, it goes on where it was.
"""

import argparse
from pathlib import Path

import polars as pl
import seaborn as sns
from short_runs import ShortRuns, make_recipe, mean, parser

SIZES = ("2x64", "4x128", "6x256")
TOKENS = 1_000_000
RATES = tuple(2.0**power for power in range(-11, -4))
COMPLETEP = {"parametrization": "completep", "base_width": 64, "base_layers": 2}


def main() -> None:
    """Train what is missing, print a table, draw it."""
    options = arguments()
    runs = ShortRuns(options)
    rows = []
    for seed in options.seeds:
        for size in options.sizes:
            for name, rate in ((name, rate) for name in ("standard", "completep") for rate in RATES):
                # At the base shape both are the same run, bit for bit.
                changes = COMPLETEP if name == "completep" and size != SIZES[0] else {}
                loss = runs.loss(size, make_recipe(TOKENS, rate, seed, **changes))
                if loss is None:
                    print("no time left: start again to go on")
                    return
                rows.append({"size": size, "parametrization": name, "lr": rate, "seed": seed, "loss": loss})
    table = pl.DataFrame(rows)
    report(table)
    if options.plot is not None:
        draw(table, options.plot)


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    options = parser(__doc__, "storage/bench/transfer.jsonl")
    options.add_argument("--sizes", nargs="+", default=list(SIZES))
    options.add_argument("--plot", type=Path, help="a PNG file to draw")
    return options.parse_args()


def report(table: pl.DataFrame) -> None:
    """Loss by learning rate for each size, mean over seeds, and the best rate of each size."""
    for name in ("standard", "completep"):
        print(f"\n{name}: held-out nats per token, mean of {table['seed'].n_unique()} seeds")
        print(f"{'size':8}" + "".join(f"{rate:>10.5f}" for rate in RATES) + "   best   by seed")
        for size in table["size"].unique(maintain_order=True):
            here = table.filter(pl.col("size") == size, pl.col("parametrization") == name)
            means = [mean(here.filter(pl.col("lr") == rate)["loss"].to_list()) for rate in RATES]
            best = RATES[means.index(min(means))]
            each = [
                here.filter(pl.col("seed") == seed).sort("loss")["lr"][0] for seed in sorted(table["seed"].unique())
            ]
            cells = "".join(f"{loss:>10.4f}" for loss in means)
            print(f"{size:8}{cells}   {best:.5f}   {' '.join(f'{rate:.5f}' for rate in each)}")


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
        for size in table["size"].unique(maintain_order=True):
            here = table.filter(pl.col("size") == size, pl.col("parametrization") == name)
            means = here.group_by("lr").agg(pl.col("loss").mean()).sort("loss")
            axes.plot(means["lr"][0], means["loss"][0], marker="*", markersize=16, color="crimson", zorder=5)
        axes.set_xscale("log", base=2)
        axes.set_title("CompleteP (base 2x64)" if name == "completep" else "standard")
        axes.set_xlabel("peak learning rate" + (" at the base" if name == "completep" else ""))
        axes.set_ylabel("held-out nats per byte")
    low = table["loss"].min()
    assert isinstance(low, float)
    grid.set(ylim=(low - 0.05, low + 1.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.savefig(path, dpi=110)
    print(f"drawn: {path}")


if __name__ == "__main__":
    main()
