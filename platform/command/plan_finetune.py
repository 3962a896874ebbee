"""`ladder plan SWEEP --tasks ...`: what fine-tuning a sweep's sizes costs, and which standard error its seeds reach."""

from dataclasses import asdict
from typing import Any

from rich.table import Table
from upath import UPath

from ladder.platform.command.chosen import choose
from ladder.platform.command.options import console, echo_json
from ladder.platform.costs import Rate, asked_gpu, find_rate
from ladder.platform.finetuning.outlook import SEED_DEVIATION, Outlook, foresee_finetuning
from ladder.platform.finetuning.registry import find_tasks
from ladder.sweeps.finetuning import FineTuning


def show_finetuning(
    sweep: str,
    tasks: str,
    *,
    seeds: int,
    train_examples: int | None,
    data: str | None,
    storage: UPath,
    corpus: str | None,
    gpu: str | None,
    utilisation: float,
    price: float | None,
    as_json: bool,
) -> None:
    """Print the plan of fine-tuning."""
    chosen = choose(sweep, storage, corpus, dry=True)
    sizes = list({run.size.shape_name: run.size for run in chosen.runs}.values())
    tokenizer = chosen.corpus.tokenizer if chosen.corpus else "bytes" if sizes[0].vocabulary < 1000 else "gpt2"
    rows = foresee_finetuning(
        sizes,
        find_tasks(tasks.replace(",", " ").split()),
        recipe=FineTuning(lr_peak=1.0, train_examples=train_examples),
        seeds=seeds,
        tokenizer=tokenizer,
        data=data or str(storage / "tasks"),
    )
    rate = find_rate(gpu or asked_gpu(chosen.sweep.name, chosen.executions), utilisation)
    hours = sum(rate.hours(row.flops) for row in rows)
    if as_json:
        shown: list[dict[str, Any]] = [
            asdict(row) | {"standard_error": row.standard_error, "worker_hours": rate.hours(row.flops)} for row in rows
        ]
        cost = None if price is None else price * hours
        echo_json({"sweep": chosen.sweep.name, "tasks": shown, "worker_hours": hours, "cost": cost, "rate": vars(rate)})
        return
    screen = console()
    screen.print(_table(rows, rate))
    unit = "core-hours" if rate.gpu is None else f"{rate.gpu}-hours"
    money = "" if price is None else f", {price * hours:,.2f} at {price:g} an hour"
    screen.print(f"{sum(row.n_runs for row in rows)} runs, {hours:,.3g} {unit}{money} ({rate.provenance}).")
    screen.print(
        f"Standard errors are of an accuracy: over the scored examples at most, over {seeds} seeds if seeds differ by "
        f"{SEED_DEVIATION:g}, as they did on SST-2 at small sizes. Differences between checkpoints are paired by "
        "example and have less of the first.",
        highlight=False,
    )


def _table(rows: list[Outlook], rate: Rate) -> Table:
    table = Table("size", "task", box=None, padding=(0, 2, 0, 0))
    for name in ("runs", "tokens a run", "FLOPs", "hours", "cut", "se items", "se seeds", "se both"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row.size,
            row.task,
            str(row.n_runs),
            f"{row.tokens:,}",
            f"{row.flops:.3g}",
            f"{rate.hours(row.flops):.3g}",
            f"{row.cut_share:.0%}",
            f"{row.standard_error_items:.4f}",
            f"{row.standard_error_seeds:.4f}",
            f"{row.standard_error:.4f}",
        )
    return table
