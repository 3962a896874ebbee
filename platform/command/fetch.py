"""`ladder fetch`: benchmark files into storage."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from upath import UPath

from ladder.platform.command.completion import complete_benchmarks
from ladder.platform.command.options import storage_option

if TYPE_CHECKING:
    from rich.table import Table


@click.command("fetch")
@click.argument("benchmarks", nargs=-1, metavar="[BENCHMARK...]", shell_complete=complete_benchmarks)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help="Folder with local copies of the files or of their archives; nothing is then downloaded.",
)
@click.option("--examples", is_flag=True, help="Also the train or dev split that `--shots` draws examples from.")
@click.option(
    "--tasks",
    metavar="NAMES",
    default="",
    help="Tasks of `ladder finetune`, with commas, or all: their published files.",
)
@click.option("--overwrite", is_flag=True, help="Replace what is in storage already.")
@click.option("--list", "listed", is_flag=True, help="Show the benchmarks and what of them is in storage.")
@storage_option
def command(
    benchmarks: tuple[str, ...],
    source: Path | None,
    examples: bool,
    tasks: str,
    overwrite: bool,
    listed: bool,
    storage: UPath,
) -> None:
    """Put the files of each BENCHMARK (or group: gpt2-paper, gpt1, all) into storage, checked by sha256.

    They are downloaded from where they are published. An archive that several of the benchmarks asked for are in is
    downloaded once. A download that was cut goes on where it was, at the next attempt or the next call. A benchmark is
    installed whole or not at all, and one that fails does not stop the others.

    With --from nothing is downloaded: DIR, DIR/BENCHMARK and other folders in DIR are looked through for the file, or
    for the archive under the name that it has at its address.

    A group leaves out what only a person can get, such as Story Cloze, which is given to who fills in a form. The exit
    code is 1 where some of what was asked for is there now and some is not.

    \b
    Examples:
      ladder fetch --list
      ladder fetch all
      ladder fetch cbt-cn cbt-ne wikitext103
      ladder fetch lambada wikitext2 --from ~/downloads
      ladder fetch --tasks sst2,cola,rte
    """
    from ladder.platform.command.fetch_display import FetchDisplay
    from ladder.platform.command.options import console
    from ladder.platform.evaluation.files.fetch import fetch
    from ladder.platform.finetuning.fetch import fetch_tasks
    from ladder.platform.finetuning.published import PUBLISHED

    if listed:
        console().print(_table(storage, benchmarks))
        return
    if not benchmarks and not tasks:
        raise click.UsageError("name benchmarks, or `all`; `ladder fetch --list` shows them; or --tasks")
    with FetchDisplay() as display:
        if tasks:
            names = [name for name in PUBLISHED if name != "story-cloze"] if tasks == "all" else tasks.split(",")
            fetch_tasks(names, storage=storage, source_dir=source, again=overwrite, display=display)
        if not benchmarks:
            return
        fetch(benchmarks, storage=storage, source_dir=source, examples=examples, again=overwrite, display=display)


def _table(storage: UPath, names: tuple[str, ...]) -> "Table":
    """One row a benchmark: what it is, its files, their bytes and whether they are in storage."""
    from rich.table import Table

    from ladder.platform.evaluation.registry import known_benchmarks
    from ladder.platform.evaluation.selection import select

    table = Table("benchmark", "source", "files", box=None, padding=(0, 2, 0, 0))
    table.add_column("bytes", justify="right")
    table.add_column("installed")
    table.add_column("citation")
    for benchmark in select(names).benchmarks if names else known_benchmarks().values():
        paths = [benchmark.folder(storage) / file.name for file in benchmark.files]
        there = [path for path in paths if path.exists()]
        size = f"{sum(path.stat().st_size for path in there):,}" if there else ""
        if benchmark.from_corpus:
            state = "made from a corpus"
        elif len(there) == len(paths):
            state = "yes"
        else:
            state = "no" if all(file.downloadable for file in benchmark.files) else "no; by hand, --from DIR"
        files = ", ".join(file.name for file in benchmark.files)
        table.add_row(benchmark.name, benchmark.source, files, size, state, benchmark.citation)
    return table
