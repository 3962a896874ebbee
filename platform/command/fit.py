"""`ladder fit`: a law fitted to anyone's table of runs, with intervals, health and a status."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ladder.models.errors import InputError
from ladder.platform.command.options import echo_json, json_option

if TYPE_CHECKING:
    from ladder.analysis.api import TableFit

SLOW_VALUES = 5_000_000
"""Rows times refits from which a fit takes seconds and says how far it is."""
EXAMPLE = """
\b
Examples:
  ladder fit runs.csv --law hoffmann --params params_total --tokens tokens \\
      --score heldout/loss
  ladder fit chinchilla.csv --law hoffmann --params "Model Size" \\
      --flops "Training FLOP" --score loss --drop-highest 5 --json
  ladder fit scores.csv --law log-linear --params params_total \\
      --score lambada/perplexity --log-score
  ladder fit scores.csv --law log-linear --law saturating --params N \\
      --score accuracy --holdout
  ladder fit runs.csv --law two-step --params N --tokens D --loss task_loss \\
      --score accuracy
  ladder fit runs.csv --law isoflop --params N --flops C --score loss
  ladder fit runs.csv --law hoffmann --params N*1e9 --tokens D*1e9 \\
      --score loss --where corpus=c4 --drop-missing \\
      --predict N=7e9,D=2e12 --predict N=7e10,D=2e12 --save law.json
  ladder fit --load law.json --predict N=7e11,D=1e13
  ladder fit families.csv --law power --params N --score loss \\
      --group-by family
  ladder fit epochs.csv --law repeated --params N --tokens D --unique U \\
      --score loss --fix E=1.87
  ladder fit scores.csv --law sigmoid --params N --score correct/items \\
      --trials items --chance 0.25
  ladder fit runs.csv --law hoffmann --params N --flops C --score loss \\
      --beside params=N_non_embedding --beside flops=C_with_attention
  ladder fit trials.csv --search lr --score loss --law power-rule --params N
"""


@click.command(name="fit", epilog=EXAMPLE)
@click.argument("table", type=click.Path(path_type=Path), required=False)
@click.option(
    "--law",
    "laws",
    metavar="LAW",
    multiple=True,
    help="Law: log-linear, power, power-offset, kaplan, hoffmann, gadre, repeated, saturating or sigmoid; loss-sigmoid "
    "or loss-error of a loss; two-step; isoflop or envelope (Hoffmann's approaches 2 and 1); power-rule or "
    "power-rule-nd of a learning rate or batch; repeatable.",
)
@click.option("--score", metavar="COLUMN", help="Column of the score: a loss in nats per token, or an accuracy.")
@click.option("--params", metavar="COLUMN", help="Column of N, parameters.")
@click.option("--tokens", metavar="COLUMN", help="Column of D, tokens seen.")
@click.option(
    "--flops", metavar="COLUMN", help="Column of C, training FLOPs; of N, D and C any two give the third by C = 6 N D."
)
@click.option(
    "--loss", metavar="COLUMN", help="Column of the loss that two-step, loss-sigmoid and loss-error take to the score."
)
@click.option("--unique", metavar="COLUMN", help="For repeated: unique tokens, of which D are seen.")
@click.option("--standard-error", "errors", metavar="COLUMN", help="Standard error of each score, in its unit.")
@click.option("--weight", "weights", metavar="COLUMN", help="Weight of each squared residual.")
@click.option(
    "--trials", metavar="COLUMN", help="Items that the score, a share of successes, is of: a binomial likelihood."
)
@click.option("--fix", "fixed", multiple=True, metavar="NAME=VALUE", help="A parameter that is not fitted; repeatable.")
@click.option("--bound", "bounds", multiple=True, metavar="NAME=LOW:HIGH", help="Bounds of a parameter; repeatable.")
@click.option(
    "--objective",
    type=click.Choice(["huber", "lad", "squares"]),
    help="What is minimised.  [default: huber for losses, squares for scores]",
)
@click.option("--delta", type=float, default=1e-3, show_default=True, help="Huber's delta on log loss.")
@click.option(
    "--drop-highest",
    metavar="K",
    type=click.IntRange(min=0),
    default=0,
    help="Leave out the K points of highest score.",
)
@click.option("--holdout", is_flag=True, help="Also predict each larger size from all below it, by every law given.")
@click.option(
    "--bootstrap", type=click.IntRange(min=0), default=1000, show_default=True, help="Refits for the intervals."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seeds starts and resampling.")
@click.option(
    "--starts", type=click.IntRange(min=1), default=200, show_default=True, help="Starting points of the solver."
)
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
@click.option(
    "--cluster", metavar="COLUMN", help="Column whose equal values are one run; the bootstrap draws whole runs."
)
@click.option(
    "--tolerance", type=float, default=0.1, show_default=True, help="For isoflop: width in ln C of one budget."
)
@click.option(
    "--within-factor", "window", type=float, help="For isoflop: only runs within this factor of N of a budget's best."
)
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only these rows (* for anything); repeatable.")
@click.option(
    "--drop-missing", is_flag=True, help="Leave out rows with an empty cell in a used column; they are counted."
)
@click.option("--group-by", metavar="COLUMN", help="One fit for each value of the column.")
@click.option(
    "--beside",
    multiple=True,
    metavar="AXIS=COLUMN",
    help="The fit with another column of params, tokens or flops too.",
)
@click.option(
    "--search", metavar="COLUMN", help="Rows are trials of a search: fit each size's best COLUMN, judged by --score."
)
@click.option(
    "--predict", "places", multiple=True, metavar="N=..,D=..", help="Predict here, with intervals; repeatable."
)
@click.option("--predict-table", type=click.Path(path_type=Path), help="Predict at the N, D, C or L of each row.")
@click.option("--save", type=click.Path(path_type=Path), help="Write the fits as JSON, for --load.")
@click.option("--load", type=click.Path(path_type=Path), help="Predict by fits that --save wrote; no TABLE is read.")
@click.option(
    "--budget",
    "budgets",
    type=float,
    multiple=True,
    metavar="FLOPS",
    help="For isoflop: a budget; repeatable.  [default: found]",
)
@json_option
def command(
    laws: tuple[str, ...],
    holdout: bool,
    as_json: bool,
    group_by: str | None,
    beside: tuple[str, ...],
    search: str | None,
    places: tuple[str, ...],
    predict_table: Path | None,
    save: Path | None,
    load: Path | None,
    **options: Any,
) -> None:
    """Fit a scaling law to TABLE (CSV, TSV, parquet, JSON or JSON lines).

    Residuals are of log loss for the loss laws and of the score itself for log-linear, saturating and sigmoid; the
    objective is their sum over points. Columns may be arithmetic over columns, such as N*1e9 or "N - 50304*width". With
    more than one fit the JSON is {"fits": [...]}.
    """
    import ladder.analysis.api as api

    table = options.pop("table")
    if load is not None:
        if table is not None or laws or save is not None or holdout:
            raise InputError("--load reads a fit that was saved; leave out TABLE, --law, --save and --holdout")
        show(api.load_fits(load), read_places(places, predict_table), as_json, [], [])
        return
    if table is None or not laws or options["score"] is None:
        raise InputError(
            "a fit needs TABLE, --law and --score, as in `ladder fit runs.csv --law power --score loss ...`"
        )
    ways = [name for name, given in (("group-by", group_by), ("beside", beside), ("search", search)) if given]
    if len(ways) > 1 or (ways and holdout):
        raise InputError("--group-by, --beside, --search and --holdout are asked for one at a time; keep one of them")
    requests = list_requests(table, laws, group_by, beside, options)
    found, told = run_search(requests, search) if search else ({n: run_fit(one) for n, one in requests.items()}, [])
    if save is not None:
        api.save_fits(found, save)
    windows = api.hold_out_table(next(iter(requests.values())), list(dict.fromkeys(laws))) if holdout else []
    held = {"holdout": api.holdout_to_json(windows, api.mean_errors(windows))} if windows else {}
    told += [api.describe_holdout(windows, api.mean_errors(windows))] if windows else []
    told += [api.describe_conventions(found)] if beside else []
    show(found, read_places(places, predict_table), as_json, held, told)


def list_requests(
    table: Path, laws: tuple[str, ...], group_by: str | None, beside: tuple[str, ...], options: dict[str, Any]
) -> "dict[str, TableFit]":
    """A request by name for each law, and for each group or convention where there are any."""
    from ladder.analysis.api import TableFit, name_conventions, split_groups

    asked = {law: TableFit(path=table, law_name=law, **options) for law in laws}
    if beside:
        if len(asked) > 1:
            raise InputError("--beside compares conventions of one law; give one --law")
        return name_conventions(next(iter(asked.values())), beside)
    if group_by is None:
        return asked
    several = len(asked) > 1
    return {
        f"{group_by} {name}{f', {law}' if several else ''}": one
        for law, request in asked.items()
        for name, one in split_groups(request, group_by).items()
    }


def run_search(requests: "dict[str, TableFit]", setting: str) -> tuple[dict[str, Any], list[str]]:
    """Fits to the winners of a search by law, and what is told of the winners."""
    from ladder.analysis.api import fit_search, format_number

    found, told = {}, []
    for law, request in requests.items():
        found[law], winners, left = fit_search(request, setting)
        rows = [
            ", ".join(f"{name} {format_number(value)}" for name, value in row.items()) for row in winners.to_dicts()
        ]
        told = ["\n  ".join([f"best {setting} of each size", *rows, *(f"none: {reason}" for reason in left)])]
    return found, told


def run_fit(request: "TableFit") -> Any:
    """The fit, saying how many rows were dropped and, for a large table, how far it is."""
    from ladder.analysis.api import fit_table, prepare

    rows, dropped = prepare(request)
    if dropped:
        click.echo(f"left out {dropped} of {rows.height + dropped} rows with an empty cell", err=True)
    progress = None
    if rows.height * max(request.bootstrap, 1) > SLOW_VALUES:
        click.echo(f"fitting {request.law_name} to {rows.height:,} rows, {request.bootstrap:,} refits ...", err=True)

        def progress(done: int, count: int) -> None:
            click.echo(f"  {done:,} of {count:,} refits", err=True)

    return fit_table(replace(request, progress=progress))


def read_places(places: tuple[str, ...], table: Path | None) -> Any:
    """The places to predict at as a table; None where none are asked for."""
    from ladder.analysis.api import frame_of_places, read_table

    if places and table is not None:
        raise InputError("--predict names places and --predict-table reads them; give one of the two")
    return read_table(table) if table is not None else frame_of_places(places) if places else None


def show(found: dict[str, Any], places: Any, as_json: bool, held: Any, told: list[str]) -> None:
    """Prints the fits with their predictions; their names where the law alone does not tell them apart."""
    from ladder.analysis.api import describe_places, predict_places

    predicted = [None if places is None else predict_places(fit, places) for fit in found.values()]
    named = {name: "" if len(found) == 1 or name == fit.to_json()["law"] else name for name, fit in found.items()}
    if not as_json:
        parts = []
        for (name, fit), rows in zip(found.items(), predicted, strict=True):
            parts += [f"{named[name]}\n{fit!r}".strip(), *([] if rows is None else [describe_places(rows, fit.level)])]
        click.echo("\n\n".join([*parts, *told]))
        return
    told_fits = [
        fit.to_json()
        | ({"group": named[name]} if named[name] else {})
        | ({} if rows is None else {"predictions": rows.to_dicts()})
        for (name, fit), rows in zip(found.items(), predicted, strict=True)
    ]
    result = (told_fits[0] if len(told_fits) == 1 else {"fits": told_fits}) | (held or {})
    echo_json(result)
