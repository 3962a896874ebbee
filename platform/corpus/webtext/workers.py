"""Worker processes that may die: a page that kills its parser is found, tried again and at last named and left out.

A supervisor (a thread, or a task of Ray) has one child process. Before each page the child tells its address, so
when the child dies the supervisor knows which page did it, starts another child and repeats the task. A page that
was under way at TRIES deaths is left out of the next attempt, which reports it as an error. So the result does not
depend on when or where a worker died. There is no limit of time: what a page becomes must not depend on how busy a
machine is.
"""

import contextlib
import logging
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from ladder.models.errors import InputError

logger = logging.getLogger(__name__)

TRIES = 3
_SERVE = "import sys; from ladder.platform.corpus.webtext.workers import serve; serve(int(sys.argv[1]))"


@dataclass
class Watch:
    """What a part's function tells of its progress, and what it must leave out."""

    skipped: frozenset[str] = frozenset()
    """Addresses of pages that killed their worker at every try."""
    report: Callable[[str], None] = field(default=lambda address: None)
    """To be called with the address of each page before it is parsed."""

    def may_parse(self, address: str) -> bool:
        """Reports the page and says whether to go on with it; False for one that kills its worker."""
        if address in self.skipped:
            return False
        self.report(address)
        return True


PartFunction = Callable[[Any, Watch], Any]


class WorkerDied(Exception):
    """The child ended without an answer; `address` is the page that it was at, None before the first."""

    def __init__(self, address: str | None, exit_code: int | None) -> None:
        super().__init__(address, exit_code)
        self.address = address
        self.exit_code = exit_code


class ChildWorker:
    """One child process, started when first needed and again after a death."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._closed = False

    def run(self, function: PartFunction, task: Any) -> Any:
        """What the function returns for the task, with pages left out that killed the child at TRIES tries.

        Raises what the function raised; InputError if the child dies TRIES times before any page, or once more at what
        the function does not leave out.
        """
        deaths: Counter[str | None] = Counter()
        skipped: set[str] = set()
        while True:
            try:
                return self._attempt(function, task, frozenset(skipped))
            except WorkerDied as death:
                if self._closed:
                    raise
                deaths[death.address] += 1
                logger.warning("a worker died (exit code %s) at %s", death.exit_code, death.address or "its start")
                if deaths[death.address] < TRIES:
                    continue
                if death.address is None or death.address in skipped:  # at no page that could be left out
                    raise InputError(
                        f"a worker process died {deaths[death.address]} times at {death.address or 'its start'} "
                        f"(exit code {death.exit_code}), perhaps for lack of memory: use fewer --processes"
                    ) from death
                skipped.add(death.address)

    def close(self) -> None:
        """Ends the child at once, from any thread; a task under way raises WorkerDied."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()
            process.wait()

    def _attempt(self, function: PartFunction, task: Any, skipped: frozenset[str]) -> Any:
        connection = self._start()
        address = None
        try:
            connection.send((function, task, skipped))
            while True:
                kind, value = connection.recv()
                if kind == "page":
                    address = value
                    continue
                if kind == "raised":
                    raise value
                return value
        except (EOFError, BrokenPipeError, ConnectionResetError):
            assert self._process is not None
            exit_code = self._process.wait()
            connection.close()
            self._connection = None
            raise WorkerDied(address, exit_code) from None

    def _start(self) -> Connection:
        if self._connection is None:
            # Neither forked, since this process may hold threads whose locks a fork would copy for ever, nor spawned by
            # multiprocessing, which would import the caller's script again. A group of its own keeps Ctrl-C from it:
            # the parent alone answers that.
            self._connection, theirs = multiprocessing.Pipe()
            with theirs:
                descriptor = theirs.fileno()
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _SERVE, str(descriptor)],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(descriptor,),
                    process_group=0,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                )
        return self._connection


def serve(descriptor: int) -> None:
    """The child: takes functions with their tasks until the pipe closes, as it does when the parent ends."""
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            function, task, skipped = connection.recv()
            watch = Watch(skipped=skipped, report=lambda address: connection.send(("page", address)))
            try:
                answer = ("result", function(task, watch))
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:
                answer = ("raised", error)
            connection.send(answer)
    os._exit(0)  # without the hooks of libraries that threads may hold up
