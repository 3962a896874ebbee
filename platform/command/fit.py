"""`ladder fit`: a law fitted to anyone's table of runs, with intervals, health and a status."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ladder.analysis.api import (
    Fit,
    TableFit,
    describe_holdout,
    describe_places,
    fit_table,
    frame_of_places,
    hold_out_table,
    holdout_to_json,
    load_fit,
    mean_errors,
    predict_places,
    prepare,
    read_table,
    save_fit,
    split_groups,
)
from ladder.models.errors import InputError

SLOW_VALUES = 5_000_000
"""Rows times refits from which a fit takes seconds and says how far it is."""
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
  ladder fit runs.csv --law hoffmann --params N*1e9 --tokens D*1e9 --score loss --where corpus=c4 --drop-missing \\
      --predict N=7e9,D=2e12 --predict N=7e10,D=2e12 --save law.json
  ladder fit families.csv --law power --params N --score loss --group-by family
  ladder fit --load law.json --predict C=1e24
"""


@click.command(name="fit", epilog=EXAMPLE)
@click.argument("table", type=click.Path(path_type=Path), required=False)
@click.option(
    "--law",
    "laws",
    multiple=True,
    help="log-linear, power, power-offset, kaplan, hoffmann, gadre, saturating or sigmoid; loss-sigmoid or loss-error "
    "of a loss; two-step; isoflop or envelope (Hoffmann's approaches 2 and 1).  May be given more than once.",
)
@click.option("--score", help="Column of the score: a loss in nats per token, or an accuracy.")
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
@click.option("--window", type=float, help="For isoflop: only runs within this factor of N of a budget's best.")
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only these rows; may be repeated.")
@click.option(
    "--drop-missing", is_flag=True, help="Leave out rows with an empty cell in a used column; they are counted."
)
@click.option("--group-by", metavar="COLUMN", help="One fit for each value of the column.")
@click.option(
    "--predict", "places", multiple=True, metavar="N=..,D=..", help="Predict here, with intervals; repeatable."
)
@click.option("--predict-table", type=click.Path(path_type=Path), help="Predict at the N, D, C or L of each row.")
@click.option("--save", type=click.Path(path_type=Path), help="Write the fit as JSON, for --load.")
@click.option("--load", type=click.Path(path_type=Path), help="Predict by a fit that --save wrote; no TABLE is read.")
@click.option("--budget", "budgets", type=float, multiple=True, help="For isoflop: a budget in FLOPs; else found.")
@click.option("--json", "as_json", is_flag=True, help="Write the result as JSON to standard output.")
def command(
    laws: tuple[str, ...],
    holdout: bool,
    as_json: bool,
    group_by: str | None,
    places: tuple[str, ...],
    predict_table: Path | None,
    save: Path | None,
    load: Path | None,
    **options: Any,
) -> None:
    """Fit a scaling law to TABLE (CSV, TSV, parquet, JSON or JSON lines).

    Residuals are of log loss for the loss laws and of the score itself for log-linear, saturating and sigmoid; the
    objective is their sum over points. Columns may be arithmetic over columns, such as N*1e9 or "N - 50304*width". With
    more than one law, or with --group-by, the JSON is {"fits": [...]}.
    """
    # Imported here, so that `ladder --help` does not pay for numpy, polars and scipy.

    table = options.pop("table")
    if load is not None:
        if table is not None or laws or save is not None or holdout:
            raise InputError("--load reads a fit that was saved; leave out TABLE, --law, --save and --holdout")
        show([("", load_fit(load))], read_places(places, predict_table), as_json, [], "")
        return
    if table is None or not laws or options["score"] is None:
        raise InputError(
            "a fit needs TABLE, --law and --score, as in `ladder fit runs.csv --law power --score loss ...`"
        )
    requests = list_requests(table, laws, group_by, options)
    found = [(name, run_fit(request)) for name, request in requests]
    if save is not None:
        save_only(found, save)
    windows = hold_out_table(requests[0][1], list(dict.fromkeys(laws))) if holdout and group_by is None else []
    if holdout and group_by is not None:
        raise InputError("--holdout is of one table; leave out --group-by, or choose one group with --where")
    held = {"holdout": holdout_to_json(windows, mean_errors(windows))} if windows else {}
    told = describe_holdout(windows, mean_errors(windows)) if windows else ""
    show(found, read_places(places, predict_table), as_json, held, told)


def list_requests(
    table: Path, laws: tuple[str, ...], group_by: str | None, options: dict[str, Any]
) -> list[tuple[str, Any]]:
    """A named request for each law, and for each group where there are any."""

    asked = [TableFit(path=table, law_name=law, **options) for law in dict.fromkeys(laws)]
    if group_by is None:
        return [("", request) for request in asked]
    return [(f"{group_by} {name}", one) for request in asked for name, one in split_groups(request, group_by).items()]


def run_fit(request: Any) -> Any:
    """The fit, saying how many rows were dropped and, for a large table, how far it is."""

    rows, dropped = prepare(request)
    if dropped:
        click.echo(f"left out {dropped} of {rows.height + dropped} rows with an empty cell", err=True)
    progress = None
    if rows.height * max(request.bootstrap, 1) > SLOW_VALUES:
        click.echo(f"fitting {request.law_name} to {rows.height:,} rows, {request.bootstrap:,} refits ...", err=True)

        def progress(done: int, count: int) -> None:
            click.echo(f"  {done:,} of {count:,} refits", err=True)

    return fit_table(replace(request, progress=progress))


def save_only(found: list[tuple[str, Any]], path: Path) -> None:
    """Saves the one fit; InputError where there are several, or it is of a kind without a file form."""

    if len(found) != 1 or not isinstance(found[0][1], Fit):
        raise InputError(
            "--save keeps one fit of one law of the score; leave out --group-by, further laws and two-step"
        )
    save_fit(found[0][1], path)


def read_places(places: tuple[str, ...], table: Path | None) -> Any:
    """The places to predict at as a table; None where none are asked for."""

    if places and table is not None:
        raise InputError("--predict names places and --predict-table reads them; give one of the two")
    return read_table(table) if table is not None else frame_of_places(places) if places else None


def show(found: list[tuple[str, Any]], places: Any, as_json: bool, held: Any, told: str) -> None:
    """Prints the fits with their predictions."""

    predicted = [None if places is None else predict_places(fit, places) for _, fit in found]
    if not as_json:
        parts = []
        for (name, fit), rows in zip(found, predicted, strict=True):
            parts += [f"{name}\n{fit!r}".strip(), *([] if rows is None else [describe_places(rows, fit.level)])]
        click.echo("\n\n".join([*parts, *([told] if told else [])]))
        return
    told_fits = [
        fit.to_json() | ({"group": name} if name else {}) | ({} if rows is None else {"predictions": rows.to_dicts()})
        for (name, fit), rows in zip(found, predicted, strict=True)
    ]
    result = (told_fits[0] if len(told_fits) == 1 else {"fits": told_fits}) | (held or {})
    click.echo(json.dumps(result, indent=2))
