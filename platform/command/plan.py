"""`ladder plan`: a dry run."""

from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table
from upath import UPath

from ladder.analysis.planning import SEED_NOISE, Resolution, resolve
from ladder.platform.command.chosen import Chosen, choose, corpus_option
from ladder.platform.command.options import console, echo_json, json_option, storage_option
from ladder.platform.costs import ASSUMED_UTILISATION, Rate, training_seconds, worker_hours
from ladder.platform.hardware import PEAK_BF16_FLOPS, matrix_rate, resolve_precision
from ladder.platform.launching.display import duration


@click.command("plan")
@click.argument("sweep")
@corpus_option
@storage_option
@click.option(
    "--device", type=click.Choice([*PEAK_BF16_FLOPS]), help="GPU to plan for.  [default: one core, measured now]"
)
@click.option(
    "--utilisation",
    type=click.FloatRange(0, 1, min_open=True),
    default=ASSUMED_UTILISATION,
    show_default=True,
    help="Share of the peak rate that training reaches; `ladder bench` measures it.",
)
@click.option("--price", type=click.FloatRange(0), help="Price of a worker for an hour, in any currency.")
@click.option(
    "--noise",
    type=click.FloatRange(0, min_open=True),
    default=SEED_NOISE,
    show_default=True,
    help="Standard deviation of ln loss between runs that differ in the seed alone.",
)
@json_option
def command(
    sweep: str,
    corpus: str | None,
    storage: UPath,
    device: str | None,
    utilisation: float,
    price: float | None,
    noise: float,
    as_json: bool,
) -> None:
    """Show what SWEEP would cost, run by run, and what a fit to it could resolve. Nothing is trained.

    \b
    Examples:
      ladder plan demo
      ladder plan gpt2 --device H100 --utilisation 0.4 --price 2.50
    """
    chosen = choose(sweep, storage, corpus, dry=True)
    rate = _rate(device, utilisation)
    resolution = resolve(
        [run.size.params_total for run in chosen.runs], [run.recipe.tokens for run in chosen.runs], noise=noise
    )
    if as_json:
        rows = [_row(chosen, index, rate, price) for index in range(len(chosen.runs))]
        echo_json(
            {
                "sweep": chosen.sweep.name,
                "runs": rows,
                "rate": vars(rate),
                "resolution": resolution.to_json(),
            }
        )
        return
    screen = console()
    screen.print(_table(chosen, rate, price))
    _tell_design(screen, chosen, rate, resolution)


def _rate(device: str | None, utilisation: float) -> Rate:
    if device is not None:
        return Rate(
            flops_per_second=PEAK_BF16_FLOPS[device],
            utilisation=utilisation,
            provenance=f"{device}'s data sheet, dense bf16; the utilisation is assumed",
        )
    cpu = torch.device("cpu")
    torch.set_num_threads(1)
    precision = resolve_precision("auto", cpu)
    return Rate(
        flops_per_second=matrix_rate(cpu, precision),
        utilisation=utilisation,
        provenance=f"one core of this machine, {precision} matrix products measured now; the utilisation is assumed",
    )


def _row(chosen: Chosen, index: int, rate: Rate, price: float | None) -> dict[str, Any]:
    run, execution = chosen.runs[index], chosen.sweep.execution
    hours = worker_hours(run, execution, rate)
    return {
        "run": run.key,
        "size": run.size.name,
        "params_total": run.size.params_total,
        "params_non_embedding": run.size.params_non_embedding,
        "tokens": run.recipe.tokens,
        "steps": run.recipe.steps,
        "batch_tokens": run.recipe.batch_tokens,
        "lr_peak": run.recipe.lr_peak,
        "flops_6nd": run.size.flops_6nd(run.recipe.tokens),
        "flops_exact": run.size.flops_exact(run.recipe.tokens),
        "training_bytes": run.size.training_bytes,
        "seconds": training_seconds(run, execution, rate),
        "worker_hours": hours,
        "cost": None if price is None else hours * price,
    }


def _table(chosen: Chosen, rate: Rate, price: float | None) -> Table:
    table = Table(title=f"sweep {chosen.sweep.name}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("run", no_wrap=True)
    names = ["N", "D tokens", "D/N", "steps", "batch", "FLOPs (6ND)", "FLOPs (exact)", "memory", "time"]
    for name in [*names, *([] if price is None else ["cost"])]:
        table.add_column(name, justify="right", no_wrap=True)
    for index in range(len(chosen.runs)):
        row = _row(chosen, index, rate, price)
        cells = [
            row["run"],
            f"{row['params_total']:,}",
            f"{row['tokens']:,}",
            f"{row['tokens'] / row['params_total']:.3g}",
            f"{row['steps']:,}",
            f"{row['batch_tokens']:,}",
            f"{row['flops_6nd']:.3g}",
            f"{row['flops_exact']:.3g}",
            f"{row['training_bytes'] / 2**30:.2f} GiB",
            duration(row["seconds"]),
        ]
        table.add_row(*cells, *([] if price is None else [f"{row['cost']:,.2f}"]))
    return table


def _tell_design(screen: Console, chosen: Chosen, rate: Rate, resolution: Resolution) -> None:
    hours = sum(worker_hours(run, chosen.sweep.execution, rate) for run in chosen.runs)
    flops = sum(run.size.flops_exact(run.recipe.tokens) for run in chosen.runs)
    screen.print(
        f"In all {flops:.3g} FLOPs ({flops / 8.64e19:.3g} PF-days), {hours:,.3g} worker-hours at "
        f"{rate.flops_per_second * rate.utilisation / 1e12:.3g} TFLOP/s a worker ({rate.provenance})."
    )
    if chosen.corpus is None:
        screen.print(
            f"The corpus {chosen.sweep.corpus} is not built yet: names and vocabulary assume the GPT-2 tokenizer."
        )
    else:
        _tell_epochs(screen, chosen)
    low, high = resolution.ratios
    screen.print(
        f"\n{resolution.sizes} sizes, {resolution.budgets} token counts, {low:.3g} to {high:.3g} tokens per parameter. "
        f"Under {resolution.law}'s law as refitted by Besiroglu et al. 2024, with ln loss noisy by {resolution.noise}:"
    )
    if resolution.problem:
        screen.print(f"  {resolution.status}: {resolution.problem}")
    for name, width in resolution.half_widths.items():
        screen.print(f"  {name:6} would be known to +-{width:.2g} (95 % t interval)")


def _tell_epochs(screen: Console, chosen: Chosen) -> None:
    assert chosen.corpus is not None
    there = chosen.corpus.train.n_tokens
    most = max(run.recipe.tokens for run in chosen.runs)
    if most > there:
        screen.print(
            f"The corpus has {there:,} training tokens; the largest budget reads it {most / there:.1f} times, and "
            "repeated tokens are worth less than fresh ones (Muennighoff et al. 2023)."
        )
