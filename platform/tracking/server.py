"""MLflow's server on this machine, for as long as somebody looks at it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from ladder.models.errors import InputError

LOOPBACK = "127.0.0.1"
"""The only address that the server listens on."""
START_SECONDS = 120.0
"""How long it may take to come up on a busy machine; 7 s on two quiet cores."""
END_SECONDS = 2.0
"""How long its processes get to end by themselves."""


class LocalServer:
    """An MLflow server on the loopback address, in a session of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", address: str, log: IO[bytes]) -> None:
        self.process, self.address, self._log = process, address, log

    def wait_until_up(self) -> None:
        """Return when it answers; InputError with what it said where it ends, or does not come up."""
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise InputError(f"MLflow's server did not come up: {self._last_words()}")
            time.sleep(0.1)

    def wait(self) -> None:
        """Wait until it ends, which it does not by itself: InputError with what it said."""
        code = self.process.wait()
        raise InputError(f"MLflow's server ended with code {code}: {self._last_words()}")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return " / ".join(lines[-3:]) or "it said nothing"


@contextmanager
def local_server(uri: str, port: int) -> Iterator[LocalServer]:
    """A server on the tracking database `uri`, which may not be up yet; at the end of the block nothing is left of it.

    One process serves one person: MLflow's default, four of them and a job runner with seven more, does not come up on
    two busy cores. Raises InputError where the port is taken.
    """
    port = _find_port(port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port), "--workers", "1"]
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true"} | os.environ
    # By the environment, since an address of a database may hold a password and command lines are open to all.
    environment |= {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield LocalServer(process, f"http://{LOOPBACK}:{port}", log)
        finally:
            _end(process)


def _find_port(port: int) -> int:
    """The port itself where it is free, a free one for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            return int(probe.getsockname()[1])
        except (OSError, OverflowError) as error:
            raise InputError(f"port {port} of {LOOPBACK} cannot be used: {error}. Name another with --port.") from error


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the server and what it started, which are a process group; a second Ctrl-C does not keep it from that."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _kill_group(process)
    finally:
        signal.signal(signal.SIGINT, before)


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    for number, seconds in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, 0.5)):
        end = time.monotonic() + seconds
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
            while time.monotonic() < end:
                process.poll()  # takes the dead one out of the group
                os.killpg(process.pid, 0)
                time.sleep(0.05)
            continue
        return
