"""Shows on standard error how far downloads are; the paths of installed files go to standard output."""

from types import TracebackType

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from upath import UPath

from ladder.platform.evaluation.files import download
from ladder.platform.evaluation.files.fetch import Display


class FetchDisplay(Display):
    """A bar for each download where standard error is a terminal, a line where it is not."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self.bars = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)

    def __enter__(self) -> "FetchDisplay":
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def installed(self, path: UPath) -> None:
        """A file is in its place."""
        click.echo(str(path))

    def note(self, text: str) -> None:
        """Something worth knowing that is no failure."""
        click.echo(text, err=True)

    def progress(self, name: str) -> download.Progress:
        """Starts the bar of a download."""
        if self.bars.disable:
            click.echo(f"downloading {name}", err=True)
        task = self.bars.add_task(name, total=None)
        return lambda received, total: self.bars.update(task, completed=received, total=total)
