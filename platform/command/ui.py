"""`ladder ui`: MLflow's UI, opened on a prepared page of a sweep."""

import contextlib
import signal
import sys
import webbrowser
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click
from upath import UPath

from ladder.models.errors import InputError, hide_credentials
from ladder.platform.command.chosen import corpus_option
from ladder.platform.command.completion import complete_sweeps
from ladder.platform.command.desktop import has_display
from ladder.platform.command.options import storage_option, tracking_option
from ladder.platform.tracking.server import local_server
from ladder.platform.tracking.view import VIEW_TAG, prepare_view, view_address
from ladder.sweeps.load import tracked_name

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


@click.command("ui")
@click.argument("sweep", required=False, shell_complete=complete_sweeps)
@corpus_option
@storage_option
@tracking_option
@click.option(
    "--port",
    default=5000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--open/--no-open", "opens", default=None, help="Open the page in a browser.  [default: on a desktop]")
def command(
    sweep: str | None, corpus: str | None, storage: UPath, tracking: str | None, port: int, opens: bool | None
) -> None:
    """Open MLflow's UI on the runs of SWEEP, or of the sweep that was begun last; Ctrl-C ends it.

    Prints the addresses of a prepared page: all runs, with charts of training loss over tokens, of held-out loss over
    parameters and over FLOPs on logarithmic axes, and of size, tokens, learning rate and scores side by side; and of
    the same runs as a table. SWEEP is a file, the name of one in `sweeps/`, or one in the tracking store.

    \b
    Examples:
      ladder ui
      ladder ui demo --port 5001
      ladder ui gpt2 --tracking http://127.0.0.1:5000
    """
    from ladder.platform.tracking.database import open_tracking, tracking_uri

    uri = tracking_uri(tracking, storage)
    client = open_tracking(uri)
    experiment = find_experiment(client, None if sweep is None else tracked_name(sweep, corpus), uri)
    opens = has_display() if opens is None else opens
    if uri.startswith(("http://", "https://")):
        if experiment is not None:
            prepare_view(client, experiment)
        _show(client, experiment, uri, opens)
        return
    with _interrupted_quietly(), local_server(uri, port) as server:
        click.echo(f"starting MLflow's server on {hide_credentials(uri)} ...", err=True)
        if experiment is not None:  # while the server comes up
            prepare_view(client, experiment)
        server.wait_until_up()
        _show(client, experiment, server.address, opens)
        click.echo("Ctrl-C ends it.", err=True)
        server.wait()


def find_experiment(client: "MlflowClient", sweep: str | None, uri: str) -> str | None:
    """MLflow's id of a sweep's experiment; None, for the sweep that was begun last, is None where there is no sweep.

    Raises InputError where there is no sweep of the name.
    """
    if sweep is None:
        everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
        last = client.search_runs(
            everywhere, "tags.`ladder.kind` = 'sweep'", max_results=1, order_by=["attributes.start_time DESC"]
        )
        return last[0].info.experiment_id if last else None
    experiment = client.get_experiment_by_name(sweep)
    if experiment is None:
        known = ", ".join(sorted(e.name for e in client.search_experiments() if e.name != "Default")) or "none"
        raise InputError(
            f"the store {hide_credentials(uri)} has no sweep {sweep!r}; it has {known}. Run `ladder run {sweep}` first."
        )
    return str(experiment.experiment_id)


def _show(client: "MlflowClient", experiment: str | None, server: str, opens: bool) -> None:
    """Print the addresses of the prepared pages, the sweep's own first, and open that."""
    address = server if experiment is None else view_address(server, experiment)
    if experiment is None:
        click.echo(f"MLflow: {server} (there is no sweep yet)")
    else:
        click.echo(f"sweep {client.get_experiment(experiment).name}")
        click.echo(f"  charts: {address}\n  table:  {view_address(server, experiment, charts=False)}")
    for other in client.search_experiments(order_by=["name ASC"]):
        if VIEW_TAG in other.tags and other.experiment_id != experiment:
            click.echo(f"sweep {other.name}: {view_address(server, other.experiment_id)}")
    sys.stdout.flush()
    if opens:
        webbrowser.open(address)


@contextlib.contextmanager
def _interrupted_quietly() -> Iterator[None]:
    """Ctrl-C, or the signals of a closed terminal and of a system that goes down, is how this command ends; also where
    the shell that started it in the background has turned Ctrl-C off."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before: list[Callable[..., object] | int | None] = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    except KeyboardInterrupt:
        click.echo("MLflow's server has ended.", err=True)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
