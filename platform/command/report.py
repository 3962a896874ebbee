"""`ladder report`: the scaling-law report of a sweep, of two sweeps, or of anyone's table of runs."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.command.chosen import corpus_option
from ladder.platform.command.completion import complete_sweeps
from ladder.platform.command.options import storage_option, tracking_option
from ladder.platform.identity import check_schema
from ladder.platform.storage import exists, report_path, saved_example
from ladder.sweeps.load import tracked_name

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


@click.command("report")
@click.argument("sweeps", nargs=-1, metavar="[SWEEP [OTHER]]", shell_complete=complete_sweeps)
@corpus_option
@storage_option
@tracking_option
@click.option("--table", type=click.Path(path_type=Path), help="Report on the runs of this CSV, parquet or JSON file.")
@click.option("--score", "scores", multiple=True, metavar="COLUMN[=KIND]", help="Table: a score; may be repeated.")
@click.option("--params", metavar="COLUMN", help="Table: column of N, parameters.")
@click.option("--tokens", metavar="COLUMN", help="Table: column of D, tokens seen.")
@click.option(
    "--flops", metavar="COLUMN", help="Table: column of C; of N, D and C any two give the third by C = 6 N D."
)
@click.option("--run", metavar="COLUMN", help="Table: name of the run.")
@click.option("--size", metavar="COLUMN", help="Table: name of the size.")
@click.option("--seed-column", "seed", metavar="COLUMN", help="Table: seed of the run.")
@click.option("--cluster", metavar="COLUMN", help="Table: equal values are checkpoints of one run.")
@click.option(
    "--where", multiple=True, metavar="COLUMN=VALUE", help="Table: only these rows (* for anything); repeatable."
)
@click.option("--group-by", metavar="COLUMN", help="Table: a report for each value, and a page that compares them.")
@click.option("--pool", is_flag=True, help="Table: all rows are one family of models, whatever a column of words says.")
@click.option("--chance", multiple=True, metavar="COLUMN=VALUE", help="Table: the score of guessing; may be repeated.")
@click.option(
    "--law",
    "laws",
    metavar="LAW",
    multiple=True,
    help="Table: a law of the loss; may be repeated.  [default: hoffmann]",
)
@click.option(
    "--drop-highest", metavar="K", type=click.IntRange(min=0), default=0, help="Table: leave out the K highest losses."
)
@click.option("--tolerance", type=float, help="Table: width in ln C of one budget at equal compute.  [default: found]")
@click.option(
    "--budget", "budgets", type=float, multiple=True, metavar="FLOPS", help="Table: a budget; may be repeated."
)
@click.option("--name", help="Table: title and folder of the report.  [default: the file's name]")
def command(
    sweeps: Sequence[str],
    corpus: str | None,
    storage: UPath,
    tracking: str | None,
    table: Path | None,
    name: str | None,
    group_by: str | None,
    **columns: Any,
) -> None:
    """Fit the laws of SWEEP to its finished runs and write the report; its path is printed last.

    The report is one HTML file that needs no network; it is stored with the sweep's run in MLflow too. With OTHER both
    sweeps are compared in one report. A sweep is a file, the name of one in `sweeps/`, or one in the tracking store.

    With --table the runs are read from a file: columns are named by options. KIND of a score is loss, perplexity,
    bits, accuracy or error, and follows from the column's name where that says it.

    \b
    Examples:
      ladder report demo
      ladder report cpu --corpus web
      ladder report demo cpu
      ladder report --table runs.csv --params N --tokens D --score loss_c4 \\
          --score err_piqa --where dataset=rpj
      ladder report --table runs.csv --params N --tokens D --score loss_c4 \\
          --group-by dataset
    """
    if table is not None:
        path = report_table(table, name, columns, storage, sweeps, group_by)
    else:
        given = sorted(option for option, value in {**columns, "group-by": group_by}.items() if value)
        if given or not 1 <= len(sweeps) <= 2:
            raise InputError(
                f"got {len(sweeps)} sweeps" + (f" and --{', --'.join(given)}" if given else "") + "; "
                "wanted one sweep, two to compare, or --table FILE with the names of its columns"
            )
        from ladder.platform.tracking.database import tracking_uri

        path = report_sweeps(
            [tracked_name(sweep, corpus) for sweep in sweeps], storage, tracking_uri(tracking, storage)
        )
    click.echo(path)


def report_table(
    table: Path, name: str | None, columns: dict[str, Any], storage: UPath, sweeps: Sequence[str], group_by: str | None
) -> UPath:
    """Writes the report of a file, or of each of its families with a page over them, and returns the page's path."""
    from ladder.analysis.api import TableColumns, read_table_runs, report_families, write_report

    if sweeps:
        raise InputError(f"got the sweep {sweeps[0]} and --table; give one or the other")
    if not columns["scores"]:
        raise InputError("--table needs at least one --score COLUMN; the options name the columns of the table")
    if name is not None and (not name.strip() or "/" in name or name.startswith(".")):
        raise InputError(
            f"--name {name!r} names a folder of the storage; give a name without / that does not start with ."
        )
    if group_by is not None:
        path = report_path(storage, name or table.stem)
        with tempfile.TemporaryDirectory(prefix="ladder-report-") as folder:
            report_families(table, TableColumns(**columns), group_by, name or table.stem, Path(folder))
            for written in sorted(Path(folder).rglob("*.html")):
                publish(written, path.parent / written.relative_to(folder).as_posix())
        return path
    data = read_table_runs(table, TableColumns(**columns), name)
    path = report_path(storage, data.name)
    with tempfile.TemporaryDirectory(prefix="ladder-report-") as folder:
        return publish(write_report(data, Path(folder) / path.name), path)


def report_sweeps(names: Sequence[str], storage: UPath, uri: str) -> UPath:
    """Writes the report of one sweep or the comparison of two, stores it in MLflow, and returns its path."""
    from ladder.analysis.api import read_sweep, write_comparison, write_report
    from ladder.platform.tracking.database import open_tracking

    if len(set(names)) < len(names):
        raise InputError(f"got the sweep {names[0]} twice; give two sweeps to compare, or one for its report")
    check_schema(storage)
    data = [read_sweep(uri, name) for name in names]
    path = report_path(storage, "-and-".join(names))
    with tempfile.TemporaryDirectory(prefix="ladder-report-") as folder:
        page = Path(folder) / path.name
        example = saved_example(storage, names[0])
        link = example.name if exists(example) else None  # it stands beside the report
        written = (
            write_report(data[0], page, example=link) if len(data) == 1 else write_comparison(data[0], data[1], page)
        )
        publish(written, path)
        log_page(open_tracking(uri), names, written, path)
    return path


def publish(written: Path, path: UPath) -> UPath:
    """Copies a page into the storage."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(written.read_bytes())
    return path


def log_page(client: "MlflowClient", names: Sequence[str], written: Path, path: UPath) -> None:
    """Stores a page with the run of each sweep that it is about, which names its `path` in the storage too; a
    comparison goes into a folder of its own."""
    from ladder.platform.tracking.records import find_parent

    for name in names:
        others = "-and-".join(other for other in names if other != name)
        parent = find_parent(client, name)
        if parent is not None:
            client.log_artifact(parent, str(written), f"report-with-{others}" if others else "report")
            client.set_tag(parent, f"ladder.report-with-{others}" if others else "ladder.report", str(path))
