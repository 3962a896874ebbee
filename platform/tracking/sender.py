"""Sends the curve of a run to MLflow while it is trained, in a thread that holds nobody up and loses nothing.

Only published points are sent, after a look at the lease, each batch until MLflow has acknowledged it. Whatever goes
wrong is tried again with longer pauses; what could not be sent by the end is brought over by `sync_runs`, since the
curve's file has it. So is all of it where the database was replaced by a new one: the sweep's experiment and parent
are for the driver to make again, who knows the sweep; hundreds of workers that made them at once would have to agree.
"""

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from ladder.models.errors import hide_credentials
from ladder.platform.runs.curve import Curve
from ladder.platform.runs.lease import Lease, LeaseLost
from ladder.platform.storage import is_local
from ladder.platform.tracking.records import (
    StoreReplaced,
    TrackedSweep,
    batches,
    check_store,
    describe,
    identity_params,
    open_record,
)
from ladder.sweeps.words import Run

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 30.0
"""Seconds between two attempts at a server that does not answer."""


class Sender:
    """Keeps MLflow's record of a run up to its curve, until it is closed."""

    def __init__(self, tracked: TrackedSweep, run: Run, curve: Curve, lease: Lease, *, params: dict[str, str]) -> None:
        self.tracked, self.run, self.curve, self.lease = tracked, run, curve, lease
        self.params = identity_params(run) | params
        self.pause = 2.0 if is_local(lease.folder) else 10.0  # each look at the lease is a request to an object store
        self._client: MlflowClient | None = None
        self._record: str | None = None
        self._records: set[str] = set()
        self._sent = 0
        self._closing = threading.Event()
        self._end = float("inf")  # of the time to send in, once it is closing
        self._thread = threading.Thread(target=self._work, name="sender", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def close(self, timeout: float = 10.0) -> None:
        """Send what is left if MLflow answers within `timeout` seconds; from then on nothing more is sent."""
        self._end = time.monotonic() + timeout
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    @property
    def acknowledged(self) -> dict[str, Any] | None:
        """The record that points were sent to, and how many of the curve's first MLflow has acknowledged."""
        return {"record": min(self._records), "points": self._sent} if len(self._records) == 1 else None

    def _work(self) -> None:
        pause = self.pause
        while True:
            closing = self._closing.wait(pause)
            try:
                self._send()
                pause = self.pause
            except (LeaseLost, StoreReplaced) as error:
                logger.warning("run %s: no more points are sent to MLflow: %s", self.run.key, error)
                return
            except Exception as error:  # whatever MLflow and what it stands on raise: training goes on without it
                level = logging.WARNING if pause == self.pause else logging.DEBUG  # once for each outage
                what = hide_credentials(str(error))
                logger.log(level, "run %s: MLflow took no points, which are kept: %s", self.run.key, what)
                self._record = None  # the database may be another one by now
                pause = min(2 * pause, LONGEST_PAUSE)
            if closing:
                return

    def _send(self) -> None:
        """Send the points that are published and not acknowledged."""
        if self._client is None:
            from ladder.platform.tracking.database import open_tracking  # takes a second to import

            self._client = open_tracking(self.tracked.uri)
        if self._record is None:
            self._record = self._begin(self._client)
            self._records.add(self._record)
        for count, metrics in batches(self.curve.published(self._sent)):
            self._check()
            self._client.log_batch(self._record, metrics=metrics, synchronous=True)
            self._sent += count

    def _begin(self, client: "MlflowClient") -> str:
        """MLflow's id of the run's record, which says from now on that the run is running and how."""
        check_store(client, self.tracked)
        self._check()
        record = open_record(client, self.tracked, self.run, self.lease.folder)
        self._check()
        describe(client, record, self.params, "running")
        return str(record.info.run_id)

    def _check(self) -> None:
        """Raises where nothing more may be sent: the run is somebody else's, or the time to close in is over."""
        self.lease.check()
        if time.monotonic() > self._end:
            raise TimeoutError("the run has ended, and the sweep's driver sends what is left")
