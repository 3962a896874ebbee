"""Options that commands share."""

import json
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from rich.console import Console
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.command.completion import complete_benchmarks
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


def tokenizer_option(function: Function) -> Function:
    """`--tokenizer`, of a checkpoint."""
    return click.option(
        "--tokenizer", metavar="NAME", help="gpt2 or bytes.  [default: the one that the checkpoint names]"
    )(function)


def device_option(function: Function) -> Function:
    """`--device`, what a model computes on."""
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="What to compute on; auto takes a GPU where there is one.",
    )(function)


def precision_option(function: Function) -> Function:
    """`--precision`, of a model's products."""
    return click.option(
        "--precision",
        type=click.Choice(["auto", "bf16", "fp32"]),
        default="auto",
        show_default=True,
        help="Precision of matrix products; auto takes bf16 where it is faster.",
    )(function)


def address_option(function: Function) -> Function:
    """`--address`, a Ray cluster."""
    return click.option(
        "--address",
        envvar="RAY_ADDRESS",
        show_envvar=True,
        help="Ray cluster to work on (host:port, or auto on its head).  [default: this machine]",
    )(function)


def price_option(function: Function) -> Function:
    """`--price-per-gpu-hour`, handed to the command as `price`."""
    return click.option(
        "--price-per-gpu-hour", "price", type=click.FloatRange(0), help="Price of a GPU-hour, in any currency."
    )(function)


def benchmarks_option(text: str, *, default: str | None = None) -> Callable[[Function], Function]:
    """`--benchmarks`, names and groups; `text` says what they are for."""
    return click.option(
        "--benchmarks",
        multiple=True,
        metavar="NAMES",
        shell_complete=complete_benchmarks,
        help=f"{text} Repeatable, or with commas." + ("" if default is None else f"  [default: {default}]"),
    )


def given_options(names: Iterable[str]) -> list[str]:
    """Those of the options, by the command's own names for them, that stand on the command line."""
    context = click.get_current_context()
    return [name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]


def refuse_stray(names: Iterable[str], remedy: str) -> None:
    """InputError for those of the options that stand on the command line though nothing would read them."""
    given = given_options(names)
    if given:
        words = [option.opts[0] for option in click.get_current_context().command.params if option.name in given]
        raise InputError(f"{', '.join(words)} would be ignored here, since it serves to {remedy}, or leave it out")


def console() -> Console:
    """Standard output for tables; wide where it is no terminal, so that a file or a pipe gets whole columns."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=200)


def echo_json(value: Any) -> None:
    """Write a result as JSON to standard output."""
    click.echo(json.dumps(finite(value), indent=2, allow_nan=False))


def json_line(value: Any) -> str:
    """A result as JSON in one line."""
    return json.dumps(finite(value), ensure_ascii=False, allow_nan=False)


def finite(value: Any) -> Any:
    """The value with null in place of numbers that JSON has no word for: not a number, and infinite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list | tuple) else value
