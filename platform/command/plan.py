"""`ladder plan`: what a sweep would cost and could resolve; what a budget is best spent on."""

from pathlib import Path
from typing import Any

import click
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.command.chosen import corpus_option
from ladder.platform.command.completion import complete_sweeps
from ladder.platform.command.options import json_option, price_option, refuse_stray, storage_option, tracking_option
from ladder.platform.gpus import ASSUMED_GPU, ASSUMED_UTILISATION, PEAK_BF16_FLOPS

# What `--help` shows of `ladder.analysis.api`, which takes a second to import; a test compares them.
SEED_NOISE = 0.005
SIMULATIONS = 2000
REFERENCES = {
    "besiroglu": "Besiroglu et al. 2024, table 1",
    "hoffmann": "Hoffmann et al. 2022, approach 3",
    "kaplan": "Kaplan et al. 2020, eq. 1.5",
}

LISTED = "\n".join(f"  {name:10} {source}" for name, source in REFERENCES.items())
EPILOG = f"""
\b
Examples:
  ladder plan demo
      cost, what the fit could resolve, and the runs to add
  ladder plan gpt2 --gpu H100 --mfu 0.4 --price-per-gpu-hour 2.50
  ladder plan gpt2 --reference cpu --target-flops 1e23
      under the law of a sweep that was run, its own noise included
  ladder plan gpt2 --gpu H100 --nodes cluster.yaml
      with the node type that each run gets
  ladder plan demo --tasks sst2 --seeds 3 --train-examples 1500
      what fine-tuning its sizes costs, and how sure the scores will be
  ladder plan cpu --budget 1e21
      the compute-optimal run of 1e21 FLOPs by that sweep's law
  ladder plan --budget 5.76e23 --table chinchilla.csv --score loss \\
      --params "Model Size" --flops "Training FLOP" --drop-highest 5

\b
References, besides the name of any sweep that was run:
{LISTED}
"""


FITTED = ("params", "tokens", "flops", "score", "drop_highest", "cluster")
"""Options that say which columns are fitted."""
BUDGETED = ("budget", "law", "table", "serve_tokens", "bootstrap")
"""Options that serve the plan of a budget, besides the columns."""
FINE_TUNED = ("seeds", "train_examples", "data")
"""Options that say how a sweep is fine-tuned."""
SIMULATED = ("nodes", "reference", "noise", "noise_from", "target_flops", "added_runs", "added_flops", "simulations")
"""Options that serve the plan of a sweep."""


@click.command("plan", epilog=EPILOG)
@click.argument("sweep", required=False, shell_complete=complete_sweeps)
@click.option(
    "--budget", type=float, metavar="FLOPS", help="Budget to plan, in training FLOPs, by a law fitted to SWEEP's runs."
)
@click.option("--table", type=click.Path(path_type=Path), help="With --budget: fit a table of runs in place of SWEEP.")
@click.option(
    "--law", metavar="LAW", default="hoffmann", show_default=True, help="With --budget: law, hoffmann, gadre or kaplan."
)
@click.option(
    "--score", metavar="COLUMN", help="With --budget: column of the score, a loss.  [default for a sweep: heldout/loss]"
)
@click.option("--params", metavar="COLUMN", help="With --budget: column of N.  [default for a sweep: params_total]")
@click.option("--tokens", metavar="COLUMN", help="With --table: column of D.")
@click.option(
    "--flops", metavar="COLUMN", help="With --table: column of C; of N, D and C any two give the third by C = 6 N D."
)
@click.option(
    "--drop-highest", metavar="K", type=click.IntRange(min=0), default=0, help="With --table: leave out the K highest."
)
@click.option("--cluster", metavar="COLUMN", help="With --table: column whose equal values are drawn together.")
@click.option("--serve-tokens", type=float, help="With --budget: tokens to be served; the cheapest model of that loss.")
@click.option("--bootstrap", type=click.IntRange(min=0), default=1000, show_default=True, help="With --budget: refits.")
@click.option(
    "--tasks", metavar="NAMES", help="Plan fine-tuning the sweep's sizes on these tasks, with commas, not training."
)
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="With --tasks: seeds of a run.")
@click.option("--train-examples", type=click.IntRange(min=1), help="With --tasks: training examples.  [default: all]")
@click.option(
    "--data",
    type=click.Path(file_okay=False),
    help="With --tasks: folder that holds the tasks' folders.  [default: tasks in the storage]",
)
@click.option("--reference", default="besiroglu", show_default=True, help="Law taken for the truth; see below.")
@click.option(
    "--noise",
    type=click.FloatRange(0, min_open=True),
    help="Standard deviation of ln loss between runs that differ in the seed alone.  "
    f"[default: measured where --reference is a sweep, else {SEED_NOISE}]",
)
@click.option(
    "--noise-from",
    metavar="SWEEP",
    shell_complete=complete_sweeps,
    help="Measure the noise from this sweep's settings with several seeds.",
)
@click.option("--target-flops", type=float, help="Extrapolate the loss to here.  [default: 10 x the largest run]")
@click.option("--added-runs", type=click.IntRange(0, 100), default=4, show_default=True, help="Most runs to propose.")
@click.option("--added-flops", type=float, help="Most FLOPs of a proposed run.  [default: those of the largest run]")
@click.option("--simulations", type=click.IntRange(100), default=SIMULATIONS, show_default=True, help="Simulated fits.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of simulations and refits.")
@click.option(
    "--gpu",
    type=click.Choice([*PEAK_BF16_FLOPS], case_sensitive=False),
    metavar="GPU",
    help="GPU to plan for, such as h100; a wrong name lists all.  [default: the one that the sweep's runs ask for; one "
    f"core, measured now, where they ask for none; {ASSUMED_GPU} where they name none, and with --budget]",
)
@click.option(
    "--mfu",
    "utilisation",
    type=click.FloatRange(0, 1, min_open=True),
    default=ASSUMED_UTILISATION,
    show_default=True,
    help="Share of the peak rate that training reaches; `ladder bench` measures it.",
)
@click.option(
    "--nodes",
    metavar="FILE|ADDRESS",
    help="Show the node type that each run gets, by a cluster's file such as cluster.yaml, or on a cluster that is up.",
)
@price_option
@corpus_option
@storage_option
@tracking_option
@json_option
def command(sweep: str | None, storage: UPath, corpus: str | None, **options: Any) -> None:
    """Show what SWEEP would cost, run by run, and what a fit to it could resolve; or, with --budget, what to train with
    so many FLOPs by the law of its runs. Nothing is trained.

    The sweep is simulated under a reference law and the noise of seeds, and every simulation is refitted: the intervals
    are those that `ladder fit` would report. Then the cheapest runs to add are named, with what they narrow.
    """
    common = {name: options[name] for name in ("tracking", "gpu", "utilisation", "price", "seed", "as_json")}
    common |= {"storage": storage, "corpus": corpus}
    if options["tasks"] is not None:
        from ladder.platform.command.plan_finetune import show_finetuning

        refuse_stray((*SIMULATED, *FITTED, *BUDGETED, "seed"), "plan the sweep itself: leave out --tasks")
        if sweep is None:
            raise InputError("--tasks plans the fine-tuning of a sweep's sizes: name one, as in `ladder plan demo`")
        asked = {name: options[name] for name in ("train_examples", "data", "gpu", "utilisation", "price", "as_json")}
        show_finetuning(sweep, options["tasks"], seeds=options["seeds"], storage=storage, corpus=corpus, **asked)
        return
    refuse_stray(FINE_TUNED, "plan fine-tuning: add --tasks")
    refuse_number(options["flops"])
    if options["budget"] is None:
        from ladder.platform.command.plan_sweep import SweepRequest, show_sweep

        refuse_stray((*FITTED, *BUDGETED), "plan a budget: add --budget")
        if sweep is None:
            raise InputError("name a sweep: `ladder plan demo`, or with a budget `ladder plan demo --budget 1e21`")
        show_sweep(SweepRequest(sweep=sweep, **common, **{name: options[name] for name in SIMULATED}))
        return
    from ladder.platform.command.plan_budget import BudgetRequest, TableColumns, show_budget

    refuse_stray(SIMULATED, "plan a sweep: leave out --budget")
    if options["table"] is not None:
        refuse_stray(("corpus", "tracking"), "find the runs of a sweep: leave out --table")
    columns = TableColumns(path=options["table"], **{name: options[name] for name in FITTED})
    check_source(sweep, options["table"])
    named = {name: options[name] for name in ("budget", "law", "bootstrap", "serve_tokens")}
    show_budget(BudgetRequest(sweep=sweep, columns=columns, **named, **common))


def refuse_number(flops: str | None) -> None:
    """InputError where a budget is given as if it were a column."""
    try:
        float(flops or "")
    except ValueError:
        return
    raise InputError(f"--flops names a column of --table, got {flops}: a budget is given by --budget {flops}")


def check_source(sweep: str | None, table: Path | None) -> None:
    """InputError unless exactly one of the two is given."""
    if (sweep is None) == (table is None):
        got = "none" if sweep is None else "two"
        raise InputError(
            f"--budget plans by one set of runs, got {got}; name a sweep that was run, as in "
            "`ladder plan demo --budget 1e21`, or a table with --table"
        )
