"""`ladder retry`: failed runs made open again."""

import click
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.command.chosen import choose, corpus_option
from ladder.platform.command.completion import complete_sweeps
from ladder.platform.command.options import storage_option
from ladder.platform.runs.lease import reopen
from ladder.platform.runs.orders import give_order
from ladder.platform.runs.status import read_statuses
from ladder.platform.storage import run_folder


@click.command("retry")
@click.argument("sweep", shell_complete=complete_sweeps)
@click.argument("run", required=False)
@corpus_option
@storage_option
def command(sweep: str, run: str | None, corpus: str | None, storage: UPath) -> None:
    """Open the failed runs of SWEEP again, or the one with the key RUN; their failures no longer count.

    A `ladder run` under which they failed, and that still goes on, takes them up; otherwise the next one does. They go
    on from their last checkpoints. `ladder status` shows the keys, and why a run failed.

    \b
    Examples:
      ladder retry demo
      ladder retry gpt2 12x768h12-2.5B-s0-1a2b3c4d
    """
    chosen = choose(sweep, storage, corpus, begun=True)
    name = chosen.sweep.name
    statuses = {status.run.key: status for status in read_statuses(storage, name, chosen.runs)}
    failed = [key for key, status in statuses.items() if status.status == "failed"]
    if run is not None and run not in failed:
        what = f"is {statuses[run].status}" if run in statuses else "is no run of it"
        known = f"Failed are {', '.join(failed)}." if failed else "None of its runs failed."
        raise InputError(f"sweep {name}: {run} {what}, wanted the key of a run that failed. {known}")
    opened = failed if run is None else [run]
    for key in opened:
        reopen(run_folder(storage, name, key))
        click.echo(f"{key} is open again; it had failed: {statuses[key].reason}")
    if opened:
        give_order(storage, name, "retry")
    click.echo(f"sweep {name}: {len(opened)} runs are open again." if opened else f"sweep {name}: no run failed.")
