"""Keeps a driver alive: one that was killed, as the system does when memory runs out, is started again.

    python -m ladder.platform.launching.supervisor run my_sweep.py --address auto ...

A driver keeps no state that is not in the storage, so the next one goes on where the last one was. What it says by its
exit code is the end: that runs failed, that the user was wrong, that it was told to stop or that its budget is spent.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence

RESTARTS = 10
"""Times that a driver is started again within `PERIOD_SECONDS`; one that dies more often would die for ever."""
PERIOD_SECONDS = 3600.0
PAUSE_SECONDS = 5.0
"""Before a driver is started again, so that what it held is noticed to be free."""


def supervise(command: Sequence[str], *, pause: float = PAUSE_SECONDS) -> int:
    """Run a command until it ends by itself; its exit code, or 128 + the signal's number where it was killed too often.

    SIGTERM and SIGINT go to the command, and are then its end.
    """
    deaths: list[float] = []
    asked_to_end = False
    process: subprocess.Popen[bytes] | None = None

    def forward(number: int, _: object) -> None:
        nonlocal asked_to_end
        asked_to_end = True
        if process is not None and process.poll() is None:
            process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    while True:
        process = subprocess.Popen(command)
        code = process.wait()
        if code >= 0 or asked_to_end:
            return code if code >= 0 else 128 - code
        now = time.monotonic()
        deaths = [*(death for death in deaths if now - death < PERIOD_SECONDS), now]
        if len(deaths) > RESTARTS:
            print(f"ladder: the driver was killed {len(deaths)} times by signal {-code}, the last one", file=sys.stderr)
            return 128 - code
        print(f"ladder: the driver was killed by signal {-code} and is started again", file=sys.stderr, flush=True)
        time.sleep(pause)


if __name__ == "__main__":
    sys.exit(supervise([sys.executable, "-m", "ladder", *sys.argv[1:]]))
