"""Parts made by one process, by several, or by Ray: the same parts, since a part depends on its task alone."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext.stages import Task, is_done, write_summary
from ladder.platform.corpus.webtext.workers import ChildWorker, PartFunction, Watch
from ladder.platform.processes import count_cores

RAY_FROM_BYTES = 1 << 30
"""Below so much input, about ten minutes of one core's extraction, Ray's start and its workers cost more than they give
(13 to 20 s and 1 GiB, measured)."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How stages are carried out; no part of what they give."""

    workers: int | None = None
    """Processes on this machine, or tasks at once on Ray; None: one per core."""
    address: str | None = None
    """A Ray cluster, `auto` or `local`; None: this machine without Ray."""
    ray_from_bytes: int = RAY_FROM_BYTES
    """Stages with less input run without Ray, whatever the address."""
    progress: bool = True
    """Whether to show a bar on standard error."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(f"got {self.workers} processes, wanted at least 1")

    @property
    def n_workers(self) -> int:
        """Processes at once."""
        return self.workers or count_cores()


def make_parts(
    title: str,
    function: PartFunction,
    tasks: Sequence[Task],
    execution: Execution,
    *,
    n_bytes: int,
    isolated: bool = False,
) -> None:
    """Makes the parts that are not there yet. `n_bytes` of input decide whether Ray is worth it.

    `isolated`: pages can kill their process, so that even a single worker is a process of its own. Raises what the
    function raises; the parts made until then stay and are not made again.
    """
    waiting = [task for task in tasks if not is_done(task)]
    with _progress_bar(title, len(tasks), shown=execution.progress) as advance:
        advance(len(tasks) - len(waiting))
        if not waiting:
            return
        waiting[0].folder.mkdir(parents=True, exist_ok=True)
        if execution.address is not None and n_bytes >= execution.ray_from_bytes:
            from ladder.platform.corpus.webtext.ray_engine import make_parts_on_ray  # late: it imports Ray

            make_parts_on_ray(function, waiting, execution, advance, isolated=isolated)
        elif not isolated and (len(waiting) == 1 or execution.n_workers == 1):
            for task in waiting:
                write_summary(task, function(task, Watch()))
                advance(1)
        else:
            _make_with_children(function, waiting, min(execution.n_workers, len(waiting)), advance)


def make_part_in_child(child: ChildWorker, function: PartFunction, task: Task) -> None:
    """Makes one part in a child process and marks it as whole."""
    write_summary(task, child.run(function, task))


def _make_with_children(
    function: PartFunction, tasks: Sequence[Task], workers: int, advance: Callable[[int], None]
) -> None:
    """Threads, each with a child process, take the tasks in their order."""
    children: list[ChildWorker] = []
    own = threading.local()
    stopping = threading.Event()

    def make(task: Task) -> None:
        if stopping.is_set():
            return
        if not hasattr(own, "child"):
            own.child = ChildWorker()
            children.append(own.child)
        make_part_in_child(own.child, function, task)

    pool = ThreadPoolExecutor(workers)
    pending: set[Future[Any]] = {pool.submit(make, task) for task in tasks}
    try:
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                advance(1)
    except BaseException:
        stopping.set()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        for child in children:
            child.close()
        pool.shutdown(wait=True)


@contextlib.contextmanager
def _progress_bar(title: str, total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(title, total=total)
        yield lambda n: bar.update(task, advance=n)
