"""What `ladder finetune` shows: its table, each checkpoint beside the one before it, and what a reader may overlook."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ladder.platform.command.options import console

if TYPE_CHECKING:
    from rich.table import Table

    from ladder.platform.finetuning.summary import Beside, Transfer

LOSSES = ("cross_entropy", "squared_error")
"""Metrics that no baseline has."""
OTHERS = {"majority": "majority", "all_positive": "all positive", "bag_of_words": "bag of words", "scratch": "scratch"}
"""Columns of what a mean is compared with, by its name in the summary."""


def show(rows: "Sequence[Transfer]") -> None:
    """The tables, then the sentences."""
    if not rows:
        return
    screen = console()
    screen.print(transfer_table(rows))
    if any("checkpoint_before" in row.beside for row in rows):
        screen.print(difference_table(rows))
    for sentence in sentences(rows):
        screen.print(sentence, highlight=False)


def transfer_table(rows: "Sequence[Transfer]") -> "Table":
    """A row for each metric of each checkpoint."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("checkpoint", "task", "metric", "taken over", "lm weight", "lr x"):
        table.add_column(name, overflow="fold")
    for name in ("seeds", "value", "se seeds", "se items", *OTHERS.values(), "over scratch", "95 % interval"):
        table.add_column(name, justify="right")
    for row in rows:
        scratch = row.beside.get("scratch")
        table.add_row(
            short_name(row),
            row.task,
            row.metric,
            row.layers,
            f"{row.lm_weight:g}",
            f"{row.lr_factor:g}",
            f"{row.seeds}" + (f" of {row.seeds + row.missing}" if row.missing else ""),
            f"{row.value:.4f}",
            number(row.standard_error_seeds),
            number(row.standard_error_items),
            *(number(row.beside[name].value) if name in row.beside else "" for name in OTHERS),
            f"{scratch.difference.value:+.4f}" if scratch else "",
            interval(scratch),
        )
    return table


def difference_table(rows: "Sequence[Transfer]") -> "Table":
    """Each checkpoint less the one before it, paired by seed and example."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), title="Each checkpoint beside the one before", title_justify="left")
    for name in ("checkpoint", "task", "metric", "less"):
        table.add_column(name, overflow="fold")
    for name in ("difference", "se seeds", "se items", "95 % interval"):
        table.add_column(name, justify="right")
    names = {row.checkpoint: short_name(row) for row in rows}
    for row in rows:
        beside = row.beside.get("checkpoint_before")
        if beside is not None:
            of = beside.difference
            table.add_row(
                f"{short_name(row)} ({row.layers})",
                row.task,
                row.metric,
                names.get(beside.name, beside.name),
                f"{of.value:+.4f}",
                number(of.error_seeds),
                number(of.error_items),
                interval(beside),
            )
    return table


def sentences(rows: "Sequence[Transfer]") -> list[str]:
    """Where networks are not above what they have to be above, give one answer, or have lost seeds."""
    told: dict[str, dict[str, None]] = {}  # of whom it is said, each once

    def tell(row: "Transfer", what: str) -> None:
        where = f"on {row.task} ({row.layers} taken over, lm weight {row.lm_weight:g})"
        told.setdefault(f"{where}: {what}", {})[short_name(row)] = None

    for row in rows:
        if row.missing:
            tell(row, f"{row.missing} of {row.seeds + row.missing} seeds have no result; they are not in it.")
        if row.metric in LOSSES:
            continue
        below = [words for name, words in OTHERS.items() if name in row.beside and not_above(row, name)]
        if below:
            tell(row, f"{row.metric} is not above {', '.join(below)}.")
        if row.seeds == 1:
            tell(row, "one seed says nothing about other seeds; differences have no interval.")
        if row.collapsed:
            tell(row, f"{row.collapsed} of {row.seeds} seeds give one answer to every example.")
    return [f"{', '.join(names)} {what}" for what, names in told.items()]


def not_above(row: "Transfer", name: str) -> bool:
    """Whether a mean is not above another beyond doubt; of one seed, whether it is not above it at all."""
    beside = row.beside[name]
    better = beside.better(row.direction)
    return beside.difference.value <= 0 if better is None else not better


def short_name(row: "Transfer") -> str:
    """The run of a checkpoint of ours, else its size and what it is called."""
    path = Path(row.checkpoint)
    return path.parent.name if path.name.startswith("step-") else f"{row.size} {row.checkpoint}"


def number(value: float | None) -> str:
    """Four digits, or nothing."""
    return "" if value is None else f"{value:.4f}"


def interval(beside: "Beside | None") -> str:
    """Low to high, or nothing."""
    if beside is None or beside.difference.low is None or beside.difference.high is None:
        return ""
    return f"{beside.difference.low:+.4f} to {beside.difference.high:+.4f}"
