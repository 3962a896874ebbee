"""`ladder ui`: MLflow's UI on the right store."""

import os
import sys

import click
from upath import UPath

from ladder.platform.command.options import storage_option, tracking_option
from ladder.platform.tracking.database import open_tracking, tracking_uri


@click.command("ui")
@storage_option
@tracking_option
@click.option("--port", default=5000, show_default=True, help="Port on the loopback address.")
def command(storage: UPath, tracking: str | None, port: int) -> None:
    """Open MLflow's UI on the runs of this storage; Ctrl-C ends it.

    \b
    Example:
      ladder ui --port 5001
    """
    uri = tracking_uri(tracking, storage)
    open_tracking(uri)
    if uri.startswith(("http://", "https://")):
        click.echo(f"The runs are on the MLflow server at {uri}")
        return
    click.echo(f"MLflow's UI on {uri}: http://127.0.0.1:{port}", err=True)
    # In this process's place, so that Ctrl-C and the exit code are MLflow's own.
    os.execv(
        sys.executable,
        [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--backend-store-uri",
            uri,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ],
    )
