"""`ladder explore`: a page that shows one text through checkpoints."""

import contextlib
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.command.completion import complete_sweeps
from ladder.platform.command.desktop import has_display
from ladder.platform.command.options import device_option, refuse_stray, storage_option, tokenizer_option

if TYPE_CHECKING:
    from ladder.platform.explore.shelf import Shelf


@click.command("explore")
@click.argument("sources", nargs=-1, required=True, metavar="SWEEP|CHECKPOINT...", shell_complete=complete_sweeps)
@click.option(
    "--samples",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Items of `ladder evaluate --samples`, to look into; repeatable.",
)
@click.option(
    "--save",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Write the page with its example as one HTML file and end.  [default: beside the sweep's report]",
)
@tokenizer_option
@device_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; there is no password.")
@click.option(
    "--port",
    default=5050,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--open/--no-open", "opens", default=None, help="Open the page in a browser.  [default: on a desktop]")
@storage_option
def command(
    sources: tuple[str, ...],
    samples: tuple[Path, ...],
    save: str | None,
    tokenizer: str | None,
    device: str,
    host: str,
    port: int,
    opens: bool | None,
    storage: UPath,
) -> None:
    """Show one text through every checkpoint of a SWEEP, or through CHECKPOINTs; Ctrl-C ends it.

    The page shows the next token while one types, all sizes and token budgets side by side, how surprised a checkpoint
    is by each token, where a token looks, and what each layer would say. A CHECKPOINT is a folder of ours or of
    Hugging Face, the URI of one, or a Hugging Face name; the folder of a run shows all steps kept of it.

    \b
    Examples:
      ladder explore demo
      ladder explore storage/sweeps/demo/RUN
      ladder explore gpt2 gpt2-medium --port 5051
      ladder explore demo --save talk.html
    """
    if save is not None:
        refuse_stray(("host", "port", "opens"), "serve the page: leave out --save")
    from ladder.platform.evaluation.checkpoints.open import choose_device
    from ladder.platform.explore.catalogue import find_entries
    from ladder.platform.explore.items import read_items
    from ladder.platform.explore.page import page_state
    from ladder.platform.explore.shelf import Shelf

    entries = find_entries(sources, storage)
    shelf = Shelf(entries, device=choose_device(device), tokenizer=tokenizer)
    state = page_state(", ".join(Path(source).name for source in sources), entries, read_items(samples, entries))
    if save is not None:
        click.echo(_save(shelf, state, _place(save, sources, storage)))
        return
    from ladder.platform.explore.server import open_socket, serve

    with contextlib.suppress(KeyboardInterrupt), open_socket(host, port) as listening:  # Ctrl-C is how it ends
        address = f"http://{host}:{listening.getsockname()[1]}"
        if host not in ("127.0.0.1", "localhost", "::1"):
            click.echo(f"anyone who reaches {host} can use this page: it has no password", err=True)
        click.echo(f"{len(entries)} checkpoints: {address}")
        sys.stdout.flush()
        if has_display() if opens is None else opens:
            webbrowser.open(address)
        serve(shelf, state, listening, host)


def _save(shelf: "Shelf", state: dict[str, Any], path: UPath) -> UPath:
    """Write the page with the example's answers, by the largest checkpoint and the smallest beside it."""
    from ladder.platform.explore.page import saved_page
    from ladder.platform.explore.views import Question, answer_all
    from ladder.platform.storage import write_bytes

    names = list(shelf.entries)
    question = Question(model=names[-1], other=names[0] if len(names) > 1 else "")
    write_bytes(path, saved_page(state, question, answer_all(shelf, question), "ladder").encode())
    return path


def _place(save: str, sources: tuple[str, ...], storage: UPath) -> UPath:
    """Where the saved page goes: the file named, or beside the report of the one sweep."""
    from ladder.platform.storage import list_names, saved_example

    if save:
        return UPath(save)
    if len(sources) != 1 or not list_names(storage / "sweeps" / sources[0]):
        raise InputError("--save without a file writes beside a sweep's report; name a FILE, or one sweep to show")
    return saved_example(storage, sources[0])
