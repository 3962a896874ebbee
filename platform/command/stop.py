"""`ladder stop`: a sweep's work ended from any machine that sees its storage."""

import time

import click
from upath import UPath

from ladder.platform.command.chosen import choose, corpus_option
from ladder.platform.command.completion import complete_sweeps
from ladder.platform.command.options import storage_option
from ladder.platform.runs.orders import give_order
from ladder.platform.runs.status import RunStatus, read_statuses
from ladder.platform.storage import is_local


@click.command("stop")
@click.argument("sweep", shell_complete=complete_sweeps)
@corpus_option
@storage_option
@click.option(
    "--wait-seconds", "seconds", default=120.0, show_default=True, help="Longest wait until nobody works on it."
)
def command(sweep: str, corpus: str | None, storage: UPath, seconds: float) -> None:
    """End the work on SWEEP, wherever it goes on, and leave it resumable: every `ladder run` of it ends as by Ctrl-C.

    Runs go on from their last checkpoints when `ladder run` or `ladder submit` is called again. The exit code is 1
    where somebody still works on it after the wait: a driver that was stopped itself, or that no longer sees the
    storage; its leases expire.

    \b
    Examples:
      ladder stop demo
      ladder stop gpt2 --storage s3://bucket/ladder
    """
    chosen = choose(sweep, storage, corpus, begun=True)
    give_order(storage, chosen.sweep.name, "stop")

    def at_work() -> list[RunStatus]:
        return [s for s in read_statuses(storage, chosen.sweep.name, chosen.runs) if s.status == "running"]

    before = running = at_work()
    end = time.monotonic() + seconds
    while running and time.monotonic() < end:
        time.sleep(1.0 if is_local(storage) else 5.0)
        running = at_work()
    if not before:
        click.echo(f"sweep {chosen.sweep.name}: no run of it was going on; drivers that wait for room end too.")
        return
    for status in running:
        click.echo(f"  {status.run.key} is still held by {status.owner}", err=True)
    what = f"{len(before) - len(running)} of {len(before)} runs that were going on have stopped"
    click.echo(f"sweep {chosen.sweep.name}: {what}; `ladder run` takes them up again.")
    if running:
        raise SystemExit(1)
