"""Progress in the terminal: one line for each run, redrawn in place; where there is no terminal, a line when a run
starts, ends or fails."""

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ladder.platform.runs.status import RunStatus

COLOURS = {"waiting": "dim", "running": "cyan", "finished": "green", "failed": "red"}


TO_DO = "are to be done"
"""In what a driver says once it has looked at the sweep and the cluster and refused nothing."""


class Display:
    """Shows the state of a sweep's runs on standard error."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self.shown: dict[str, str] = {}
        self.started = time.perf_counter()

    def __enter__(self) -> "Display":
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def begin(self, sweep: str, number: int, where: str) -> None:
        """Say that so many runs are begun, and on what."""
        self.console.print(
            f"sweep {sweep}: {number} runs {TO_DO}; {where}", highlight=False, soft_wrap=True, markup=False
        )

    def show(self, statuses: Sequence[RunStatus]) -> None:
        """Show where the runs stand now."""
        if self.live is not None:
            self.live.update(table(statuses, rows=max(5, self.console.height - 4)), refresh=True)
            return
        for status in statuses:
            word = status.status
            if word != "waiting" and self.shown.get(status.run.key, "waiting") != word:
                self.console.print(
                    f"[{time.perf_counter() - self.started:5.0f} s] {_line(status)}", highlight=False, soft_wrap=True
                )
            self.shown[status.run.key] = word


def table(statuses: Sequence[RunStatus], *, rows: int | None = None, caption: str | None = None) -> Table:
    """Runs as a table: status, loss, tokens a second, share done, time left; below it a caption.

    Of more runs than `rows`, those that go on or failed are shown first; None shows all.
    """
    ended, left_out = sum(status.ended for status in statuses), len(statuses) - (rows or len(statuses))
    title = f"{ended} of {len(statuses)} runs ended" + (f", {left_out} not shown" if left_out > 0 else "")
    grid = Table(
        title=title, title_justify="left", caption=caption, caption_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    for name in ("run", "status", "loss", "tokens/s", "done", "left"):
        grid.add_column(name, justify="left" if name in ("run", "status") else "right", no_wrap=True)
    for status in _most_telling(statuses, rows) if left_out > 0 else statuses:
        progress = status.progress
        running = status.status == "running"
        word = progress.get("phase", "starting") if running else status.status
        grid.add_row(
            status.run.key,
            word,
            f"{progress['loss']:.3f}" if "loss" in progress else "",
            f"{progress['tokens_per_second']:,.0f}" if running and "tokens_per_second" in progress else "",
            f"{status.tokens / status.run.recipe.tokens:.0%}" if status.tokens else "",
            duration(progress["seconds_left"]) if running and "seconds_left" in progress else "",
            style=COLOURS[status.status],
        )
    return grid


def _most_telling(statuses: Sequence[RunStatus], rows: int | None) -> list[RunStatus]:
    """So many of the runs, in their order: running ones first, then failed, waiting, finished."""
    order = ("running", "failed", "waiting", "finished")
    chosen = sorted(statuses, key=lambda status: order.index(status.status))[:rows]
    keys = {status.run.key for status in chosen}
    return [status for status in statuses if status.run.key in keys]


def duration(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 12 min, 3.5 h, 2.1 d."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} d"


def _line(status: RunStatus) -> str:
    loss = f", loss {status.progress['loss']:.3f} nats/token" if "loss" in status.progress else ""
    reason = f": {status.reason}" if status.reason else ""
    return f"{status.run.key} {status.status}{loss}{reason}"
