"""`ladder status`: how far a sweep is."""

import click
from upath import UPath

from ladder.platform.command.chosen import choose, corpus_option
from ladder.platform.command.options import console, echo_json, json_option, storage_option
from ladder.platform.launching.display import table
from ladder.platform.runs.status import read_statuses


@click.command("status")
@click.argument("sweep")
@corpus_option
@storage_option
@json_option
def command(sweep: str, corpus: str | None, storage: UPath, as_json: bool) -> None:
    """Show how far the runs of SWEEP are: waiting, running, finished or failed, and why.

    \b
    Examples:
      ladder status demo
      ladder status gpt2 --storage s3://bucket/ladder --json
    """
    chosen = choose(sweep, storage, corpus)
    statuses = read_statuses(storage, chosen.sweep.name, chosen.runs)
    if as_json:
        echo_json({"sweep": chosen.sweep.name, "runs": [status.to_json() for status in statuses]})
        return
    console().print(table(statuses))
    for status in statuses:
        if status.reason:
            click.echo(f"{status.run.key}: {status.reason}")
