"""`ladder fetch`: benchmark files into storage."""

from pathlib import Path

import click

EPILOG = """\b
Example:
  ladder fetch lambada wikitext2 --from ~/downloads
"""


@click.command(epilog=EPILOG)
@click.argument("benchmarks", nargs=-1, required=True, metavar="BENCHMARK...")
@click.option("--from", "source", type=click.Path(path_type=Path), help="Folder with local copies of the files.")
@click.option("--storage", envvar="LADDER_STORAGE", default="./storage", show_default=True, help="Storage root.")
def command(benchmarks: tuple[str, ...], source: Path | None, storage: str) -> None:
    """Put the files of each BENCHMARK (or `all`) into storage, checked by sha256.

    Copies are looked for in DIR/BENCHMARK/ and in DIR itself.
    """
    from ladder.platform.evaluation.fetch import fetch
    from ladder.platform.storage import open_storage

    for path in fetch(benchmarks, storage=open_storage(storage), source_dir=source):
        click.echo(str(path))
