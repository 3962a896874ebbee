"""`ladder sizes`: the ladder."""

import click
from rich.table import Table

from ladder.models.sizes import PAPER_SIZES, RUNGS, Size, parse_size
from ladder.platform.command.options import console, echo_json, json_option


@click.command("sizes")
@click.argument("names", nargs=-1)
@click.option("--context", default=1024, show_default=True, help="Tokens that the network sees at once.")
@click.option("--vocabulary", default=50257, show_default=True, help="Classes: 50257 with gpt2, 257 with bytes.")
@json_option
def command(names: tuple[str, ...], context: int, vocabulary: int, as_json: bool) -> None:
    """Show model sizes: shape, parameters by group, FLOPs a token, memory to train.

    Without NAMES the paper's four and the rungs below them; any other size is named by its shape.

    \b
    Examples:
      ladder sizes
      ladder sizes 117M 6x384 4x128h2 --vocabulary 257
    """
    sizes = [parse_size(name, context=context, vocabulary=vocabulary) for name in names or _default_names()]
    if as_json:
        echo_json([_row(size) for size in sizes])
    else:
        console().print(_table(sizes))


def _default_names() -> list[str]:
    return [size.name for size in (*RUNGS, *PAPER_SIZES.values())]


def _row(size: Size) -> dict[str, object]:
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
    }


def _table(sizes: list[Size]) -> Table:
    table = Table(
        title=f"context {sizes[0].context} tokens, vocabulary {sizes[0].vocabulary:,}",
        caption="FLOPs: training, forward and backward, with attention and head. Memory: weights, gradients and AdamW "
        "in fp32, without activations.",
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
        "memory",
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
        )
    return table
