"""`ladder fit`: a law fitted to anyone's table of runs, with intervals, health and a status."""

import json
from pathlib import Path
from typing import Any

import click

EXAMPLE = """
\b
Example:
  ladder fit runs.csv --law hoffmann --params params_total --tokens tokens --score heldout/loss
  ladder fit chinchilla.csv --law hoffmann --params "Model Size" --flops "Training FLOP" \\
      --score loss --drop-highest 5 --bootstrap 4000 --json
  ladder fit scores.csv --law log-linear --params params_total --score lambada/perplexity --log-score
  ladder fit scores.csv --law log-linear --law saturating --params N --score accuracy --holdout
  ladder fit runs.csv --law two-step --params N --tokens D --loss task_loss --score accuracy
  ladder fit runs.csv --law isoflop --params N --flops C --score loss
"""


@click.command(name="fit", epilog=EXAMPLE)
@click.argument("table", type=click.Path(path_type=Path))
@click.option(
    "--law",
    "laws",
    required=True,
    multiple=True,
    help="log-linear, power, power-offset, kaplan, hoffmann, gadre, saturating or sigmoid; loss-sigmoid or loss-error "
    "of a loss; two-step; isoflop or envelope (Hoffmann's approaches 2 and 1).  May be given more than once.",
)
@click.option("--score", required=True, help="Column of the score: a loss in nats per token, or an accuracy.")
@click.option("--params", help="Column of N, parameters.")
@click.option("--tokens", help="Column of D, tokens seen.")
@click.option("--flops", help="Column of C, training FLOPs; of N, D and C any two give the third by C = 6 N D.")
@click.option("--loss", help="Column of the loss that two-step, loss-sigmoid and loss-error take to the score.")
@click.option(
    "--objective", type=click.Choice(["huber", "lad", "squares"]), help="Default: huber for losses, squares for scores."
)
@click.option("--delta", type=float, default=1e-3, show_default=True, help="Huber's delta on log loss.")
@click.option("--drop-highest", type=click.IntRange(min=0), default=0, help="Leave out the K points of highest score.")
@click.option("--holdout", is_flag=True, help="Also predict each larger size from all below it, by every law given.")
@click.option(
    "--bootstrap", type=click.IntRange(min=0), default=1000, show_default=True, help="Refits for the intervals."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seeds starts and resampling.")
@click.option("--starts", type=click.IntRange(min=1), default=200, show_default=True, help="Starting points.")
@click.option("--log-score", is_flag=True, help="For log-linear: the line is in ln score (perplexities).")
@click.option("--raw-residual", is_flag=True, help="Residuals of the loss itself instead of its logarithm.")
@click.option("--chance", type=float, default=0.0, show_default=True, help="For sigmoid: the score of guessing.")
@click.option(
    "--anchor/--no-anchor",
    "anchored",
    default=True,
    show_default=True,
    help="For two-step: a loss of 0 is the score's maximum, 1 or 100 (Bhagia et al. 2024).",
)
@click.option("--level", type=float, default=0.95, show_default=True, help="Confidence level of the intervals.")
@click.option("--cluster", help="Column whose equal values are one run; the bootstrap draws whole runs.")
@click.option(
    "--tolerance", type=float, default=0.1, show_default=True, help="For isoflop: width in ln C of one budget."
)
@click.option("--budget", "budgets", type=float, multiple=True, help="For isoflop: a budget in FLOPs; else found.")
@click.option("--json", "as_json", is_flag=True, help="Write the result as JSON to standard output.")
def command(laws: tuple[str, ...], holdout: bool, as_json: bool, **options: Any) -> None:
    """Fit a scaling law to TABLE (CSV, TSV, parquet, JSON or JSON lines).

    Residuals are of log loss for the loss laws and of the score itself for log-linear, saturating and sigmoid; the
    objective is their sum over points. With more than one law the JSON is {"fits": [...]}.
    """
    # Imported here, so that `ladder --help` does not pay for numpy, polars and scipy.
    from ladder.analysis.api import TableFit, describe_holdout, fit_table, hold_out_table, holdout_to_json, mean_errors

    path = options.pop("table")
    requests = [TableFit(path=path, law_name=law, **options) for law in dict.fromkeys(laws)]
    found = [fit_table(request) for request in requests]
    windows = hold_out_table(requests[0], [request.law_name for request in requests]) if holdout else []
    errors = mean_errors(windows)
    if as_json:
        result = found[0].to_json() if len(found) == 1 else {"fits": [fit.to_json() for fit in found]}
        result |= {"holdout": holdout_to_json(windows, errors)} if holdout else {}
        click.echo(json.dumps(result, indent=2))
        return
    click.echo("\n\n".join([repr(fit) for fit in found] + ([describe_holdout(windows, errors)] if holdout else [])))
