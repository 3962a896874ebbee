"""The runs of a plan: what each of them takes, as a table and for programs."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from ladder.platform.command.chosen import Chosen
from ladder.platform.costs import (
    Rate,
    own_flops,
    planned_gpus,
    planned_memory,
    recomputed_flops,
    training_seconds,
    worker_hours,
)
from ladder.platform.launching.display import duration
from ladder.sweeps.trunks import planned_shared_steps
from ladder.sweeps.words import Run


def run_row(chosen: Chosen, run: Run, rate: Rate, price: float | None, shared_steps: int = 0) -> dict[str, Any]:
    """One run of the plan, for programs; `seconds`, hours, cost and `flops_recomputed`, which activation checkpointing
    adds to them, are without the steps that another run trains."""
    execution = chosen.sweep.execution_for(run.size)
    gpus, hours = planned_gpus(execution, rate), worker_hours(run, execution, rate, shared_steps=shared_steps)
    memory = planned_memory(run, execution, rate)
    return {
        "run": run.key,
        "size": run.size.name,
        "params_total": run.size.params_total,
        "params_non_embedding": run.size.params_non_embedding,
        "tokens": run.recipe.tokens,
        "seed": run.recipe.seed,
        "steps": run.recipe.steps,
        "shared_steps": shared_steps,
        "batch_tokens": run.recipe.batch_tokens,
        "lr_peak": run.recipe.lr_peak,
        "flops_6nd": run.size.flops_6nd(run.recipe.tokens),
        "flops_exact": run.size.flops_exact(run.recipe.tokens),
        "flops_recomputed": recomputed_flops(run, execution, rate, shared_steps=shared_steps),
        "precision": run.recipe.precision,
        "training_bytes": run.size.training_bytes,
        "peak_memory_bytes": memory.peak_bytes,
        "micro_batch_sequences": memory.training.sequences,
        "fits": memory.fits,
        "workers": execution.workers,
        "strategy": memory.training.strategy,
        "activation_checkpointing": memory.training.checkpointing,
        "cpus_per_worker": execution.cpus_per_worker,
        "gpus_per_worker": gpus,
        "accelerator_type": execution.accelerator_type,
        "seconds": training_seconds(run, execution, rate, shared_steps=shared_steps),
        "worker_hours": hours,
        "gpu_hours": hours if gpus else 0.0,
        "cost": None if price is None else hours * price,
    }


def strategy_text(row: dict[str, Any]) -> str:
    """What its workers hold: ddp, fsdp2, ddp + checkpointing."""
    return f"{row['strategy']} + checkpointing" if row["activation_checkpointing"] else str(row["strategy"])


def runs_table(chosen: Chosen, rate: Rate, price: float | None, nodes: Mapping[str, str] | None = None) -> Table:
    """The runs with their costs, and with the nodes that they get where those are known."""
    table = Table(title=f"sweep {chosen.sweep.name}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("run", no_wrap=True)
    shared = planned_shared_steps(chosen.runs)
    steps = ["steps", *(["of them shared"] if any(shared.values()) else [])]
    names = ["N", "D tokens", "D/N", *steps, "batch", "FLOPs (6ND)", "FLOPs (exact)", "memory"]
    rows = [run_row(chosen, run, rate, price, shared[run.key]) for run in chosen.runs]
    shows_strategy = any(row["workers"] > 1 or row["activation_checkpointing"] for row in rows)
    names += ["workers x cores"] if rate.gpu is None else ["workers x GPUs"]
    names += [*(["strategy"] if shows_strategy else []), "time", *([] if rate.gpu is None else ["GPU-hours"])]
    for name in [*names, *([] if price is None else ["cost"])]:
        table.add_column(name, justify="right", no_wrap=True)
    if nodes is not None:
        table.add_column("nodes", no_wrap=True)
    for row in rows:
        cells = [
            row["run"],
            f"{row['params_total']:,}",
            f"{row['tokens']:,}",
            f"{row['tokens'] / row['params_total']:.3g}",
            f"{row['steps']:,}",
            *([f"{row['shared_steps']:,}"] if any(shared.values()) else []),
            f"{row['batch_tokens']:,}",
            f"{row['flops_6nd']:.3g}",
            f"{row['flops_exact']:.3g}",
            f"{row['peak_memory_bytes'] / 2**30:.2f} GiB" + ("" if row["fits"] else " (too much)"),
            workers_text(row),
            *([strategy_text(row)] if shows_strategy else []),
            duration(row["seconds"]),
            *([] if rate.gpu is None else [f"{row['gpu_hours']:,.3g}"]),
        ]
        cells += [] if price is None else [f"{row['cost']:,.2f}"]
        first = [] if nodes is None else [nodes[row["run"]].partition(" or ")[0]]  # the width is that of a terminal
        table.add_row(*cells, *first)
    return table


def workers_text(row: dict[str, Any]) -> str:
    """What a run is trained on: 8 x 1 H100, 1 x 0.25, or 2 x 1 where it has cores only."""
    each = row["gpus_per_worker"] or row["cpus_per_worker"]
    return " ".join([f"{row['workers']} x {each:g}", *([row["accelerator_type"]] if row["accelerator_type"] else [])])


def tell_totals(screen: Console, chosen: Chosen, rate: Rate) -> None:
    """What the sweep takes in all."""
    shared = planned_shared_steps(chosen.runs)
    rows = [run_row(chosen, run, rate, None, shared[run.key]) for run in chosen.runs]
    hours = sum(row["worker_hours"] for row in rows)
    unit = "worker" if rate.gpu is None else "GPU"
    flops = sum(own_flops(run, shared[run.key]) for run in chosen.runs)
    screen.print(
        f"In all {flops:.3g} FLOPs ({flops / 8.64e19:.3g} PF-days), {hours:,.3g} {unit}-hours at "
        f"{rate.flops_per_second * rate.utilisation / 1e12:.3g} TFLOP/s a {unit} ({rate.provenance})."
    )
    recomputed = sum(row["flops_recomputed"] for row in rows)
    if recomputed:
        screen.print(
            f"Activation checkpointing computes {recomputed:.3g} FLOPs a second time, {recomputed / flops:.0%} more; "
            f"the {unit}-hours include them."
        )
    if any(shared.values()):
        alone = sum(own_flops(run, 0) for run in chosen.runs)
        screen.print(
            f"{sum(steps > 0 for steps in shared.values())} of the {len(chosen.runs)} runs branch off a longer one of "
            f"their size where their decay begins, which saves {1 - flops / alone:.0%} of the {alone:.3g} FLOPs that "
            "the runs take one by one."
        )
    too_large = [
        r.size.name for r in chosen.runs if not planned_memory(r, chosen.sweep.execution_for(r.size), rate).fits
    ]
    if too_large:
        device, names = rate.gpu or "this machine", ", ".join(dict.fromkeys(too_large))
        screen.print(f"{len(too_large)} runs do not fit the memory of {device}: {names}.", style="bold")
    tell_corpus(screen, chosen)


def tell_corpus(screen: Console, chosen: Chosen) -> None:
    """How often a sweep reads its corpus, if more than once."""
    if chosen.corpus is None:
        screen.print(
            f"The corpus {chosen.sweep.corpus} is not built yet: names and vocabulary assume the GPT-2 tokenizer."
        )
        return
    there = chosen.corpus.train.n_tokens
    most = max(run.recipe.tokens for run in chosen.runs)
    if most > there:
        screen.print(
            f"The corpus has {there:,} training tokens; the largest budget reads it {most / there:.1f} times, and "
            "repeated tokens are worth less than fresh ones (Muennighoff et al. 2023)."
        )


def training_text(run: Run, chosen: Chosen, rate: Rate) -> str:
    """How long a run takes."""
    return duration(training_seconds(run, chosen.sweep.execution_for(run.size), rate))
