"""Options that commands share."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click
from rich.console import Console
from upath import UPath

from ladder.platform.storage import open_storage

Function = TypeVar("Function", bound=Callable[..., Any])


def _to_storage(context: click.Context, parameter: click.Parameter, value: str) -> UPath:
    return open_storage(value)


def storage_option(function: Function) -> Function:
    """`--storage`, handed to the command as a path."""
    return click.option(
        "--storage",
        envvar="LADDER_STORAGE",
        default="./storage",
        show_default=True,
        show_envvar=True,
        callback=_to_storage,
        help="Folder or URI (s3://, gs://) of corpora, checkpoints and reports.",
    )(function)


def tracking_option(function: Function) -> Function:
    """`--tracking`, an MLflow tracking URI."""
    return click.option(
        "--tracking",
        envvar="MLFLOW_TRACKING_URI",
        show_envvar=True,
        help="MLflow tracking URI.  [default: the SQLite file mlflow.db in the storage]",
    )(function)


def json_option(function: Function) -> Function:
    """`--json`, handed to the command as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Write the result as JSON to standard output.")(
        function
    )


def console() -> Console:
    """Standard output for tables; wide where it is no terminal, so that a file or a pipe gets whole columns."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=200)


def echo_json(value: Any) -> None:
    """Write a result as JSON to standard output."""
    click.echo(json.dumps(value, indent=2))
