"""`ladder fetch`: benchmark files into storage."""

from pathlib import Path

import click
from upath import UPath

from ladder.platform.command.options import storage_option


@click.command("fetch")
@click.argument("benchmarks", nargs=-1, required=True, metavar="BENCHMARK...")
@click.option("--from", "source", type=click.Path(path_type=Path), help="Folder with local copies of the files.")
@storage_option
def command(benchmarks: tuple[str, ...], source: Path | None, storage: UPath) -> None:
    """Put the files of each BENCHMARK (or `all`) into storage, checked by sha256.

    Copies are looked for in DIR/BENCHMARK/ and in DIR itself.

    \b
    Examples:
      ladder fetch lambada wikitext2 --from ~/downloads
      ladder fetch all --from ~/downloads
    """
    from ladder.platform.evaluation.fetch import fetch

    for path in fetch(benchmarks, storage=storage, source_dir=source):
        click.echo(str(path))
