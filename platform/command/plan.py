"""`ladder plan`: what a sweep would cost and could resolve; what a budget is best spent on."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.command.chosen import corpus_option
from ladder.platform.command.completion import complete_sweeps
from ladder.platform.command.options import json_option, storage_option, tracking_option
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
  ladder plan demo --tasks sst2 --task-seeds 3 --train-examples 1500
      what fine-tuning its sizes costs, and how sure the scores will be
  ladder plan --flops 1e21 --from cpu
      the compute-optimal run of 1e21 FLOPs by that sweep's law
  ladder plan --flops 5.76e23 --table chinchilla.csv --params "Model Size" \\
      --flops-column "Training FLOP" --score loss --drop-highest 5 --gpu A100

\b
References, besides the name of any sweep that was run:
{LISTED}
"""


FITTED = ("params", "tokens", "flops_column", "score", "drop_highest", "cluster")
"""Options that say which columns are fitted."""
FINE_TUNED = ("task_seeds", "train_examples", "data")
"""Options that say how a sweep is fine-tuned."""
SIMULATED = ("nodes", "reference", "noise", "noise_from", "target_flops", "added_runs", "added_flops", "simulations")
"""Options that serve the plan of a sweep."""


@click.command("plan", epilog=EPILOG)
@click.argument("sweep", required=False, shell_complete=complete_sweeps)
@click.option("--flops", type=float, help="Plan this budget, training FLOPs, by a fitted law, in place of a sweep.")
@click.option("--from", "fitted", metavar="SWEEP", help="With --flops: the sweep whose runs are fitted.")
@click.option("--table", type=click.Path(path_type=Path), help="With --flops: a table of runs to fit, as `ladder fit`.")
@click.option("--law", default="hoffmann", show_default=True, help="With --flops: hoffmann, gadre or kaplan.")
@click.option("--score", help="With --flops: column or measurement of the loss.  [default for a sweep: heldout/loss]")
@click.option("--params", help="With --flops: column of N.  [default for a sweep: params_total]")
@click.option("--tokens", help="With --table: column of D.")
@click.option("--flops-column", help="With --table: column of C; of N, D and C any two give the third by C = 6 N D.")
@click.option("--drop-highest", type=click.IntRange(min=0), default=0, help="With --table: leave out the K highest.")
@click.option("--cluster", help="With --table: column whose equal values are drawn together.")
@click.option("--serve-tokens", type=float, help="With --flops: tokens to be served; the cheapest model of that loss.")
@click.option("--bootstrap", type=click.IntRange(min=0), default=1000, show_default=True, help="With --flops: refits.")
@click.option("--tasks", help="Plan fine-tuning the sweep's sizes on these tasks, with commas, in place of training.")
@click.option("--task-seeds", type=click.IntRange(1), default=5, show_default=True, help="With --tasks: seeds.")
@click.option("--train-examples", type=click.IntRange(1), help="With --tasks: training examples.  [default: all]")
@click.option("--data", help="With --tasks: folder that holds the tasks' folders.  [default: tasks in the storage]")
@click.option("--reference", default="besiroglu", show_default=True, help="Law taken for the truth; see below.")
@click.option(
    "--noise",
    type=click.FloatRange(0, min_open=True),
    help="Standard deviation of ln loss between runs that differ in the seed alone.  "
    f"[default: measured where --reference is a sweep, else {SEED_NOISE}]",
)
@click.option("--noise-from", metavar="SWEEP", help="Measure the noise from this sweep's settings with several seeds.")
@click.option("--target-flops", type=float, help="Extrapolate the loss to here.  [default: 10 x the largest run]")
@click.option("--added-runs", type=click.IntRange(0, 100), default=4, show_default=True, help="Most runs to propose.")
@click.option("--added-flops", type=float, help="Most FLOPs of a proposed run.  [default: those of the largest run]")
@click.option("--simulations", type=click.IntRange(100), default=SIMULATIONS, show_default=True, help="Simulated fits.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of simulations and refits.")
@click.option(
    "--gpu",
    "--device",
    "gpu",
    type=click.Choice([*PEAK_BF16_FLOPS], case_sensitive=False),
    help="GPU to plan for.  [default: the one that the sweep's runs ask for, one core, measured now, where they ask "
    f"for none, and {ASSUMED_GPU} where they name none or with --flops]",
)
@click.option(
    "--mfu",
    "--utilisation",
    "utilisation",
    type=click.FloatRange(0, 1, min_open=True),
    default=ASSUMED_UTILISATION,
    show_default=True,
    help="Share of the peak rate that training reaches; `ladder bench` measures it.",
)
@click.option(
    "--nodes",
    metavar="FILE or ADDRESS",
    help="Show the node type that each run gets, by a cluster's file such as cluster.yaml, or on a cluster that is up.",
)
@click.option("--price-per-gpu-hour", "--price", "price", type=click.FloatRange(0), help="In any currency.")
@corpus_option
@storage_option
@tracking_option
@json_option
@click.pass_context
def command(context: click.Context, /, sweep: str | None, storage: UPath, corpus: str | None, **options: Any) -> None:
    """Show what SWEEP would cost, run by run, and what a fit to it could resolve; or, with --flops, what to train with
    a budget by the law of runs at hand. Nothing is trained.

    The sweep is simulated under a reference law and the noise of seeds, and every simulation is refitted: the intervals
    are those that `ladder fit` would report. Then the cheapest runs to add are named, with what they narrow.
    """
    common = {name: options[name] for name in ("tracking", "gpu", "utilisation", "price", "seed", "as_json")}
    common |= {"storage": storage, "corpus": corpus}
    if options["tasks"] is not None:
        from ladder.platform.command.plan_finetune import show_finetuning

        refuse_stray(context, (*SIMULATED, "flops"), "plan the sweep itself: leave out --tasks")
        if sweep is None:
            raise InputError("--tasks plans the fine-tuning of a sweep's sizes: name one, as in `ladder plan demo`")
        asked = {name: options[name] for name in ("train_examples", "data", "gpu", "utilisation", "price", "as_json")}
        show_finetuning(sweep, options["tasks"], seeds=options["task_seeds"], storage=storage, corpus=corpus, **asked)
        return
    refuse_stray(context, FINE_TUNED, "plan fine-tuning: add --tasks")
    if options["flops"] is None:
        from ladder.platform.command.plan_sweep import SweepRequest, show_sweep

        refuse_stray(
            context, (*FITTED, "bootstrap", "law", "fitted", "table", "serve_tokens"), "plan a budget: add --flops"
        )
        if sweep is None:
            raise InputError("name a sweep, such as `ladder plan demo`, or a budget: `ladder plan --flops 1e21 demo`")
        show_sweep(SweepRequest(sweep=sweep, **common, **{name: options[name] for name in SIMULATED}))
        return
    from ladder.platform.command.plan_budget import BudgetRequest, TableColumns, show_budget

    refuse_stray(context, SIMULATED, "plan a sweep: leave out --flops")
    columns = TableColumns(path=options["table"], **{name: options[name] for name in FITTED})
    source = one_source(sweep, options["fitted"], options["table"])
    named = {name: options[name] for name in ("flops", "law", "bootstrap", "serve_tokens")}
    show_budget(BudgetRequest(sweep=source, columns=columns, **named, **common))


def refuse_stray(context: click.Context, names: tuple[str, ...], remedy: str) -> None:
    """InputError for options that were given and mean nothing for what was asked."""
    given = [
        option.opts[0]
        for option in context.command.params
        if option.name in names and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise InputError(f"{', '.join(given)} would be ignored here, since it serves to {remedy}, or leave it out")


def one_source(sweep: str | None, fitted: str | None, table: Path | None) -> str | None:
    """The sweep to fit, None for the table; InputError unless exactly one of the three is given."""
    given = [value for value in (sweep, fitted, table) if value is not None]
    if len(given) != 1:
        raise InputError(
            f"--flops plans by one set of runs and got {len(given) or 'none'}; name a sweep that was run, as in "
            "`ladder plan --flops 1e21 demo`, or a table with --table"
        )
    return sweep or fitted
