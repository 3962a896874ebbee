"""`ladder finetune`: what checkpoints score on labelled tasks after fine-tuning, beside the same sizes from scratch."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from upath import UPath

from ladder.platform.command.completion import complete_sweeps
from ladder.platform.command.options import (
    address_option,
    device_option,
    echo_json,
    json_option,
    precision_option,
    storage_option,
    tokenizer_option,
    tracking_option,
)
from ladder.platform.storage import exists

if TYPE_CHECKING:
    import torch

    from ladder.platform.finetuning.grid import Cell
    from ladder.platform.finetuning.local import JobState


@click.command("finetune")
@click.argument("checkpoints", nargs=-1, required=True, metavar="SWEEP|CHECKPOINT...", shell_complete=complete_sweeps)
@click.option(
    "--tasks",
    required=True,
    metavar="NAMES",
    help="Tasks, with commas: sst2, cola, snli, mnli, qnli, rte, scitail, qqp, "
    "mrpc, stsb, race, story-cloze, copa, wnli.",
)
@click.option("--largest", is_flag=True, help="Of a sweep, fine-tune each size's checkpoint of the most tokens only.")
@click.option("--sizes", help="Fine-tune checkpoints of these sizes only, with commas, such as 2x32,3x64h2.")
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="Seeds of each run, from 0.")
@click.option(
    "--lr-factors",
    default="1",
    show_default=True,
    help="Multiples of the learning rate; of several, one is "
    "chosen on a tenth of the training examples, which is kept apart.",
)
@click.option("--lr", type=float, help="Learning rate in place of the rule's, a quarter of pre-training's peak.")
@click.option(
    "--layers",
    default="all",
    show_default=True,
    help="What is taken over, with commas: all, a number of "
    "blocks, embeddings. Nothing, which is from scratch, is always among them.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False),
    help="Folder that holds the tasks' folders, such as SST-2.  [default: tasks in the storage]",
)
@click.option("--train-examples", type=click.IntRange(1), help="Training examples, drawn by the seed.  [default: all]")
@click.option("--epochs", type=int, default=3, show_default=True, help="Passes over the training examples.")
@click.option("--batch-examples", type=int, default=32, show_default=True, help="Examples in a step.")
@click.option(
    "--lm-weights",
    default="0.5",
    show_default=True,
    help="Weight of the auxiliary language-model loss; of several, with commas, each is a point of the grid.",
)
@click.option("--dropout", type=float, default=0.1, show_default=True, help="Share of units dropped.")
@tokenizer_option
@device_option
@precision_option
@click.option("--keep-weights", is_flag=True, help="Keep the fine-tuned weights in the runs' folders.")
@click.option("--retry-failed", is_flag=True, help="Take failed runs up again.")
@click.option(
    "--concurrent-runs", type=click.IntRange(min=1), help="Runs at one time.  [default: 1 here, all of a cluster]"
)
@address_option
@storage_option
@tracking_option
@json_option
def command(
    checkpoints: Sequence[str],
    device: str,
    retry_failed: bool,
    concurrent_runs: int | None,
    address: str | None,
    storage: UPath,
    tracking: str | None,
    as_json: bool,
    **grid: Any,
) -> None:
    """Fine-tune checkpoints on labelled tasks as GPT-1 did, and tell what they score on each task's dev split.

    Each checkpoint, task, learning rate and seed is a run of its own in the storage under finetuning/. A run that is
    finished is never trained again; Ctrl-C stops, and the same command goes on from the last checkpoint. The same size
    from scratch is always trained too: what is gained over it is transfer. The exit code is 1 where a run failed.

    \b
    Examples:
      ladder finetune demo --largest --tasks sst2 --seeds 3 \\
          --train-examples 2000 --concurrent-runs 2
      ladder finetune openai-community/gpt2 --tasks sst2,cola,rte \\
          --lr-factors 0.5,1,2
      ladder finetune storage/sweeps/cpu/RUN/step-00001000.0001 --tasks rte \\
          --layers all,embeddings,1,2
    """
    from ladder.platform.command.finetune_display import show
    from ladder.platform.evaluation.checkpoints.open import choose_device
    from ladder.platform.finetuning.records import Records
    from ladder.platform.finetuning.summary import summarise
    from ladder.platform.launching.finetuning import fine_tune_all
    from ladder.platform.tracking.database import tracking_uri

    processor = choose_device(device)
    cells = _expand(checkpoints, processor, storage, **grid)
    records = Records(tracking_uri(tracking, storage), _experiment(checkpoints, storage), storage)
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints what happens to its workers on standard output
        states = fine_tune_all(
            [cell.job for cell in cells],
            processor,
            show=_show,
            concurrent=concurrent_runs,
            address=address,
            retry_failed=retry_failed,
        )
    records.write(states)
    rows = summarise(cells)
    records.write_summary(rows)
    if as_json:
        echo_json([row.to_json() for row in rows])
    else:
        show(rows)
    if any(state.state == "failed" for state in states):
        raise SystemExit(1)


def _expand(
    checkpoints: Sequence[str],
    processor: "torch.device",
    storage: UPath,
    *,
    tasks: str,
    seeds: int,
    lr_factors: str,
    lm_weights: str,
    lr: float | None,
    layers: str,
    data: str | None,
    tokenizer: str | None,
    precision: str,
    keep_weights: bool,
    largest: bool,
    sizes: str | None,
    **recipe: Any,
) -> "list[Cell]":
    """The runs that are asked for, in their places."""
    from ladder.platform.finetuning.grid import expand
    from ladder.platform.finetuning.registry import find_tasks
    from ladder.platform.finetuning.starting import largest_budgets, of_sizes, open_start
    from ladder.platform.hardware import resolve_precision
    from ladder.platform.processes import count_cores
    from ladder.sweeps.finetuning import FineTuning
    from ladder.sweeps.words import Execution

    factors = _numbers("--lr-factors", lr_factors)
    resolved: Any = resolve_precision(precision, processor)
    starts = [open_start(source, tokenizer=tokenizer) for source in _sources(checkpoints, storage)]
    starts = starts if sizes is None else of_sizes(starts, _words(sizes))
    shared = FineTuning(lr_peak=1.0 if lr is None else lr, precision=resolved, **recipe)
    return expand(
        largest_budgets(starts) if largest else starts,
        find_tasks(_words(tasks)),
        recipe=shared,
        lr=lr,
        lr_factors=factors,
        lm_weights=_numbers("--lm-weights", lm_weights, least=0),
        layers=_words(layers),
        seeds=range(seeds),
        data=data or str(storage / "tasks"),
        storage=str(storage),
        execution=Execution(cpus_per_worker=count_cores()),
        keep_weights=keep_weights,
    )


def _sources(checkpoints: Sequence[str], storage: UPath) -> list[str]:
    """The checkpoints, a sweep's finished ones in the place of its name."""
    from ladder.platform.launching.scoring import finished_checkpoints

    sources: list[str] = []
    for name in checkpoints:
        sources += finished_checkpoints(storage, name) if _is_sweep(name, storage) else [name]
    return list(dict.fromkeys(sources))


def _is_sweep(name: str, storage: UPath) -> bool:
    return not Path(name).is_dir() and "/" not in name and exists(storage / "sweeps" / name)


def _experiment(checkpoints: Sequence[str], storage: UPath) -> str:
    """The MLflow experiment: a sweep's own, or one for all other checkpoints."""
    alone = len(checkpoints) == 1 and _is_sweep(checkpoints[0], storage)
    return f"{checkpoints[0]}-transfer" if alone else "transfer"


def _words(given: str) -> list[str]:
    return given.replace(",", " ").split()


def _numbers(option: str, given: str, *, least: float | None = None) -> list[float]:
    """The numbers of an option: of at least `least`, or above 0."""
    from ladder.models.errors import InputError

    try:
        numbers = [float(word) for word in _words(given)]
    except ValueError:
        numbers = []
    if not numbers or not all((0 < one if least is None else least <= one) and one < float("inf") for one in numbers):
        wanted = "numbers above 0" if least is None else f"numbers of at least {least:g}"
        raise InputError(f"{option}: got {given!r}, wanted {wanted} with commas, such as 0.5,1,2")
    return list(dict.fromkeys(numbers))


def _show(state: "JobState", known: int, total: int) -> None:
    """One line for each run that comes to its end."""
    run = state.job.run
    if state.state == "failed":
        click.echo(f"[{known}/{total}] {run.key} failed: {state.reason}", err=True)
        return
    result = state.job.result() or {}
    first = result["measurements"][0]
    was = f"in {result['seconds_training']:.1f} s" if state.worked_on else "is there already"
    collapsed = ", all answers the same" if result["collapsed"]["dev"] else ""
    cut = result["cut_share"]
    click.echo(
        f"[{known}/{total}] {run.key} {was}: {first['metric']} {first['value']:.3f}{collapsed}; cut "
        f"{cut['train']:.0%} of train, {cut['dev']:.0%} of dev, padding {result['padding_share']:.0%}",
        err=True,
    )
