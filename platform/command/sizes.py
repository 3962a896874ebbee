"""`ladder sizes`: the ladder."""

from typing import Any

import click
from rich.table import Table

from ladder.models.errors import InputError
from ladder.models.memory import STRATEGIES, Training, peak_bytes
from ladder.models.sizes import PAPER_SIZES, RUNGS, Size, parse_size
from ladder.platform.command.options import console, echo_json, json_option


@click.command("sizes")
@click.argument("names", nargs=-1)
@click.option("--context", default=1024, show_default=True, help="Tokens that the network sees at once.")
@click.option("--vocabulary", default=50257, show_default=True, help="Classes: 50257 with gpt2, 257 with bytes.")
@click.option(
    "--micro-batch-sequences", "sequences", default=8, show_default=True, help="Sequences through the network at once."
)
@click.option(
    "--precision",
    type=click.Choice(["bf16", "fp32"]),
    default="bf16",
    show_default=True,
    help="Precision of matrix products.",
)
@click.option(
    "--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True, help="What to compute on."
)
@click.option("--workers", default=1, show_default=True, help="Training processes of one run.")
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default="ddp",
    show_default=True,
    help="What each of several workers holds.",
)
@click.option(
    "--activation-checkpointing",
    "checkpointing",
    is_flag=True,
    help="Compute blocks again in the backward pass, to keep less.",
)
@json_option
def command(names: tuple[str, ...], context: int, vocabulary: int, as_json: bool, **training: Any) -> None:
    """Show model sizes: shape, parameters by group, FLOPs a token, and the memory that training takes at its peak.

    Without NAMES the paper's four and the rungs below them; any other size is named by its shape. The peak is of one
    worker, predicted from the micro-batch, the precision and how workers share the state.

    \b
    Examples:
      ladder sizes
      ladder sizes 117M 6x384 4x128h2 --vocabulary 257
      ladder sizes 762M 1542M --micro-batch-sequences 4 --workers 8 \\
          --strategy fsdp2 --activation-checkpointing
    """
    if min(training["sequences"], training["workers"]) < 1:
        raise InputError("--micro-batch-sequences and --workers: wanted numbers above 0.")
    planned = Training(**training, accumulates=True)
    sizes = [parse_size(name, context=context, vocabulary=vocabulary) for name in names or _default_names()]
    if as_json:
        echo_json([_row(size, planned) for size in sizes])
    else:
        console().print(_table(sizes, planned))


def _default_names() -> list[str]:
    return [size.name for size in (*RUNGS, *PAPER_SIZES.values())]


def _row(size: Size, planned: Training) -> dict[str, object]:
    return {
        "name": size.name,
        "n_layer": size.n_layer,
        "d_model": size.d_model,
        "n_head": size.n_head,
        "context": size.context,
        "vocabulary": size.vocabulary,
        "params_total": size.params_total,
        "params_non_embedding": size.params_non_embedding,
        "params": size.parameter_counts(),
        "flops_per_token": size.flops_per_token,
        "training_bytes": size.training_bytes,
        "peak_memory_bytes": peak_bytes(size, planned),
    }


def _table(sizes: list[Size], planned: Training) -> Table:
    table = Table(
        title=f"context {sizes[0].context} tokens, vocabulary {sizes[0].vocabulary:,}",
        caption="FLOPs: training, forward and backward, with attention and head. State: weights, gradients and AdamW "
        f"in fp32. Peak: predicted for a worker of {planned.workers} on {planned.device}, {planned.sequences} "
        f"sequences at once in {planned.precision}" + (f", {planned.strategy}" if planned.workers > 1 else "") + ".",
        title_justify="left",
        caption_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    table.add_column("size", no_wrap=True)
    for name in (
        "layers",
        "width",
        "heads",
        "parameters",
        "without embeddings",
        "tokens emb.",
        "MFLOP/token",
        "state",
        "peak",
    ):
        table.add_column(name, justify="right")
    for size in sizes:
        table.add_row(
            size.name,
            str(size.n_layer),
            str(size.d_model),
            str(size.n_head),
            f"{size.params_total:,}",
            f"{size.params_non_embedding:,}",
            f"{size.parameter_counts()['token_embedding']:,}",
            f"{size.flops_per_token / 1e6:,.1f}",
            f"{size.training_bytes / 2**30:,.2f} GiB",
            f"{peak_bytes(size, planned) / 2**30:,.2f} GiB",
        )
    return table
