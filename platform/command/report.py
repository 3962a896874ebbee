"""`ladder report`: the scaling-law report of a sweep."""

import tempfile
from pathlib import Path

import click
from upath import UPath

from ladder.analysis.report import write_report
from ladder.analysis.runs import read_sweep
from ladder.platform.command.chosen import corpus_option
from ladder.platform.command.options import storage_option, tracking_option
from ladder.platform.storage import report_path
from ladder.platform.tracking.database import open_tracking, tracking_uri
from ladder.platform.tracking.records import find_parent
from ladder.sweeps.load import load_sweep


@click.command("report")
@click.argument("sweep")
@corpus_option
@storage_option
@tracking_option
def command(sweep: str, corpus: str | None, storage: UPath, tracking: str | None) -> None:
    """Fit the laws of SWEEP to its finished runs and write the report; its path is printed last.

    The report is one HTML file that needs no network; it is stored with the sweep's run in MLflow too.

    \b
    Examples:
      ladder report demo
      ladder report cpu --corpus web
    """
    name = load_sweep(sweep).name + (f"-{corpus}" if corpus else "")
    uri = tracking_uri(tracking, storage)
    data = read_sweep(uri, name)
    path = report_path(storage, name)
    with tempfile.TemporaryDirectory(prefix="ladder-report-") as folder:
        written = write_report(data, Path(folder) / path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(written.read_bytes())
        client = open_tracking(uri)
        parent = find_parent(client, name)
        if parent is not None:
            client.log_artifact(parent, str(written), "report")
    click.echo(path)
