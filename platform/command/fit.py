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
"""


@click.command(name="fit", epilog=EXAMPLE)
@click.argument("table", type=click.Path(path_type=Path))
@click.option(
    "--law",
    "law_name",
    required=True,
    help="log-linear, power, power-offset, kaplan, hoffmann, gadre, saturating or sigmoid.",
)
@click.option("--score", required=True, help="Column of the score: a loss in nats per token, or an accuracy.")
@click.option("--params", help="Column of N, parameters.")
@click.option("--tokens", help="Column of D, tokens seen.")
@click.option("--flops", help="Column of C, training FLOPs; of N, D and C any two give the third by C = 6 N D.")
@click.option(
    "--objective", type=click.Choice(["huber", "lad", "squares"]), help="Default: huber for losses, squares for scores."
)
@click.option("--delta", type=float, default=1e-3, show_default=True, help="Huber's delta on log loss.")
@click.option("--drop-highest", type=click.IntRange(min=0), default=0, help="Leave out the K points of highest score.")
@click.option(
    "--bootstrap", type=click.IntRange(min=0), default=1000, show_default=True, help="Refits for the 95 % intervals."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seeds starts and resampling.")
@click.option("--starts", type=click.IntRange(min=1), default=200, show_default=True, help="Starting points.")
@click.option("--log-score", is_flag=True, help="For log-linear: the line is in ln score (perplexities).")
@click.option("--raw-residual", is_flag=True, help="Residuals of the loss itself instead of its logarithm.")
@click.option("--chance", type=float, default=0.0, show_default=True, help="For sigmoid: the score of guessing.")
@click.option("--cluster", help="Column whose equal values are one run; the bootstrap draws whole runs.")
@click.option("--json", "as_json", is_flag=True, help="Write the result as JSON to standard output.")
def command(**options: Any) -> None:
    """Fit a scaling law to TABLE (CSV, TSV, parquet, JSON or JSON lines).

    Residuals are of log loss for the loss laws and of the score itself for log-linear, saturating and sigmoid; the
    objective is their sum over points.
    """
    # Imported here, so that `ladder --help` does not pay for numpy, polars and scipy.
    from ladder.analysis.describe import describe_fit, fit_to_json
    from ladder.analysis.fit_table import TableFit, fit_table

    as_json = options.pop("as_json")
    request = TableFit(path=options.pop("table"), **options)
    fit = fit_table(request)
    click.echo(json.dumps(fit_to_json(fit), indent=2) if as_json else describe_fit(fit))
