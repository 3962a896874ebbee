"""The figure of a search for learning rates: held-out loss over the learning rate, a panel for each size."""

from collections.abc import Mapping

import polars as pl
from matplotlib.figure import Figure

from ladder.analysis.laws.law import format_count, format_number
from ladder.analysis.report.canvas import MARKERS, PALETTE, PANEL_HEIGHT, PANEL_WIDTH, colours, log_axis, styled


def draw_search(table: pl.DataFrame, winners: Mapping[str, float]) -> Figure:
    """Loss over learning rate, a line for each budget and batch, the winner's learning rate marked.

    `table` has the columns size, tokens, rung, lr, batch_tokens and loss (None where a run failed), a row a run;
    `winners` the learning rate by size.
    """
    sizes = table["size"].unique(maintain_order=True).to_list()
    with styled():
        figure = Figure(figsize=(PANEL_WIDTH * len(sizes) + 1, PANEL_HEIGHT + 0.9), layout="constrained")
        for axes, size in zip(figure.subplots(1, len(sizes), squeeze=False)[0], sizes, strict=True):
            rows = table.filter((pl.col("size") == size) & pl.col("loss").is_not_null())
            lines = rows.partition_by(["rung", "batch_tokens"], maintain_order=True, as_dict=False)
            lines.sort(key=lambda line: (line["rung"][0], line["batch_tokens"][0]))
            rungs = sorted(rows["rung"].unique())
            batches = sorted(rows["batch_tokens"].unique())
            for line in lines:
                line = line.sort("lr")
                batch = f", batch {format_count(line['batch_tokens'][0])}" if len(batches) > 1 else ""
                axes.plot(
                    line["lr"],
                    line["loss"],
                    marker=MARKERS[batches.index(line["batch_tokens"][0])],
                    color=colours(len(rungs))[rungs.index(line["rung"][0])],
                    label=f"{format_count(line['tokens'][0])} tokens{batch}",
                )
            axes.axvline(winners[size], color=PALETTE[3], linewidth=1, linestyle="--", zorder=0)
            log_axis(axes, "x", "peak learning rate", format_number)
            axes.set_title(f"{size}, best {format_number(winners[size])}")
            axes.legend(fontsize=8)
        figure.axes[0].set_ylabel("held-out loss, nats per token")
    return figure
