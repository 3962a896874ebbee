"""`ladder bench`: training speed on this hardware."""

import os
from typing import TYPE_CHECKING

import click
from rich.table import Table

from ladder.models.errors import InputError
from ladder.models.sizes import parse_size
from ladder.platform.command.options import console, echo_json, json_option, precision_option
from ladder.sweeps.words import Execution

if TYPE_CHECKING:
    from ladder.platform.training.speed import Speed


@click.command("bench")
@click.argument("sizes", nargs=-1)
@click.option("--context", default=256, show_default=True, help="Tokens that the network sees at once.")
@click.option("--vocabulary", default=50257, show_default=True, help="Classes: 50257 with gpt2, 257 with bytes.")
@click.option("--batch-sequences", default=16, show_default=True, help="Sequences of a step.")
@click.option("--steps", default=10, show_default=True, help="Steps measured, after three that warm up.")
@precision_option
@click.option("--attention", default="auto", show_default=True, help="auto, xformers, blocked, sdpa or reference.")
@click.option("--compile/--no-compile", default=False, show_default=True, help="Whether to use torch.compile.")
@click.option("--threads", default=os.cpu_count() or 1, show_default="all cores", help="Threads on a CPU.")
@json_option
def command(
    sizes: tuple[str, ...],
    context: int,
    vocabulary: int,
    batch_sequences: int,
    steps: int,
    precision: str,
    attention: str,
    compile: bool,
    threads: int,
    as_json: bool,
) -> None:
    """Measure tokens a second and MFU of SIZES on this hardware, by real training steps on random tokens.

    \b
    Examples:
      ladder bench 4x128 6x384 --vocabulary 257
      ladder bench 117M --context 1024 --batch-sequences 8
    """
    import torch

    from ladder.platform.training.speed import measure_speed

    if min(batch_sequences, steps, threads) < 1:
        raise InputError("--batch-sequences, --steps and --threads: wanted numbers above 0.")
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    speeds = [
        measure_speed(
            parse_size(name, context=context, vocabulary=vocabulary),
            batch_sequences=batch_sequences,
            steps=steps,
            precision=precision,  # type: ignore[arg-type]  # click has checked it
            execution=Execution(attention=attention, compile=compile, log_every_steps=1),
            device=device,
        )
        for name in sizes or ("4x128", "6x384")
    ]
    if as_json:
        echo_json([speed.to_json() for speed in speeds])
    else:
        console().print(_table(speeds))


def _table(speeds: "list[Speed]") -> Table:
    table = Table(title=f"on {speeds[0].device}; peak rate: {speeds[0].peak_source}", title_justify="left", box=None)
    for name in ("size", "precision", "attention", "batch", "tokens/s", "MFU", "of matrix rate", "peak memory"):
        table.add_column(name, justify="left" if name == "size" else "right")
    for speed in speeds:
        table.add_row(
            speed.size,
            speed.precision,
            speed.attention,
            f"{speed.batch_sequences} sequences",
            f"{speed.tokens_per_second:,.0f}",
            f"{speed.mfu:.1%}",
            f"{speed.matrix_share:.1%}",
            f"{speed.peak_memory_bytes / 2**30:.2f} GiB",
        )
    return table
