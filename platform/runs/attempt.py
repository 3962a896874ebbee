"""An attempt at a run: the lease that it is made under, its curve, and a heartbeat that keeps both up to date.

The heartbeat is a thread of its own, so that neither a slow step nor a tracking server that hangs stops it; a write
that the storage refuses is tried again at the next beat.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from upath import UPath

from ladder.platform.runs.checkpoints import list_checkpoints, read_mark, remove_partial_checkpoints
from ladder.platform.runs.curve import Curve
from ladder.platform.runs.lease import CLAIMS, Claim, Lease, LeaseLost, Outcome, acquire, failed_attempts, newest_claim
from ladder.platform.storage import create_exclusively, is_local, is_refusal, persistently, read_json

logger = logging.getLogger(__name__)

RESULT = "result.json"
"""The file of a run that is trained and scored."""

Listener = Callable[[dict[str, Any]], None]
"""Told, at each beat, where the run stands."""
Holds = Mapping[str, float]
"""What the workers of an attempt hold of the cluster: `gpus` and `cores`."""
NOTHING: Holds = {"gpus": 0.0, "cores": 0.0}


class Attempt:
    """Work on a run under a lease, from `begin` to `end`."""

    def __init__(
        self, lease: Lease, *, before: Claim | None, holds: Holds = NOTHING, listener: Listener | None = None
    ) -> None:
        self.lease, self.before, self.listener = lease, before, listener
        self.curve = Curve(lease.folder, lease.epoch)
        self._began = time.monotonic()
        self._progress: dict[str, Any] = {**holds, "held_seconds": 0.0}
        self._lost: LeaseLost | None = None
        self._stop = threading.Event()
        self._beats = 1 if is_local(lease.folder) else 15  # seconds between writes
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        persistently(self.curve.publish)
        self._tell(None, None)
        self._thread.start()

    @property
    def folder(self) -> UPath:
        """The run's folder."""
        return self.lease.folder

    @property
    def only_scores(self) -> bool:
        """Whether the run was trained by an earlier attempt."""
        return is_trained(self.before)

    def log(self, metrics: dict[str, float]) -> None:
        """Add a point to the curve; raises LeaseLost where the heartbeat has seen that somebody else took over."""
        self.curve.add({"time_ms": int(time.time() * 1000), **metrics})
        if self._lost is not None:
            raise self._lost

    def say(self, **progress: Any) -> None:
        """Say where the run stands; it is published at the next beat."""
        self._progress |= progress

    def renew(self) -> None:
        """Publish now where the run stands; raises OSError where the storage refuses."""
        self.say(held_seconds=time.monotonic() - self._began)
        self.lease.renew(**self._progress)

    def end(self, outcome: Outcome, reason: str | None = None) -> None:
        """Publish what is left and give the lease back, saying how the attempt ended; a second call does nothing."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join()
        self.say(held_seconds=time.monotonic() - self._began)
        persistently(self.curve.publish)
        persistently(lambda: self.lease.end(outcome, reason, **self._progress))
        self._tell(outcome, reason)

    def _run(self) -> None:
        second = 0
        while not self._stop.wait(1.0):
            second += 1
            if second % self._beats == 0:
                self._beat()
            self._tell(None, None)

    def _beat(self) -> None:
        for duty in (self.curve.publish, self.renew, self.lease.check):
            try:
                duty()
            except LeaseLost as error:
                self._lost = error
            except Exception as error:  # a thread that ends here would end the lease too
                level = logging.WARNING if is_refusal(error) else logging.ERROR
                logger.log(level, "heartbeat of %s: %s", self.folder, error, exc_info=level == logging.ERROR)

    def _tell(self, outcome: Outcome | None, reason: str | None) -> None:
        if self.listener is None:
            return
        try:
            self.listener({**self._progress, "outcome": outcome, "reason": reason})
        except Exception as error:  # whoever listened is gone; the folder says the same
            logger.info("nobody listens to %s: %s", self.folder.name, error)
            self.listener = None


def begin(
    folder: UPath,
    owner: str,
    *,
    trains: bool,
    scores: bool,
    max_failures: int,
    node: str | None = None,
    node_is_lost: Callable[[str], bool] = lambda node: False,
    holds: Holds = NOTHING,
    listener: Listener | None = None,
) -> Attempt | None:
    """Take up a run that this worker may do something for, or None: it is done, failed, somebody else's, or at a stage
    that others see to. A run whose attempts died too often is marked as failed, with the first cause."""
    before = newest_claim(folder)
    if not _is_open(before, trains=trains, scores=scores):
        return None
    lease = acquire(folder, owner, node=node)
    if lease is None:
        return None
    remove_partial_checkpoints(folder)
    step = newest_step(folder)
    lease.begin_at(step)
    reason = None if before is None else _reason_to_give_up(folder, before, step, max_failures, node_is_lost)
    if reason is not None:
        lease.end("failed", reason)
        if listener is not None:
            listener({"outcome": "failed", "reason": reason})
        return None
    return Attempt(lease, before=before, holds=holds, listener=listener)


def is_trained(claim: Claim | None) -> bool:
    """Whether what is left of a run is to score it."""
    return claim is not None and (
        claim.outcome in ("trained", "finished")
        or (claim.outcome != "failed" and claim.progress.get("phase") == "scoring")
    )


def newest_step(folder: UPath) -> int:
    """The step of a run's newest checkpoint; 0 where there is none."""
    checkpoints = list_checkpoints(folder)
    return int(read_mark(checkpoints[0]).get("step", 0)) if checkpoints else 0


def report_error(folder: UPath, epoch: int, reason: str, *, final: bool) -> str:
    """Leave why an attempt is about to end, from any of its workers; returns the reason of the first one that did,
    since the others fail only because it did.

    `final`: it would fail again at every try.
    """
    path = _error_path(folder, epoch)
    data = json.dumps({"reason": reason, "final": final}, indent=1).encode()
    if persistently(lambda: create_exclusively(path, data), seconds=10):
        return reason
    return str((read_json(path) or {}).get("reason", reason))


def _is_open(newest: Claim | None, *, trains: bool, scores: bool) -> bool:
    if newest is None:
        return trains
    if newest.outcome == "failed":
        return False
    return scores if is_trained(newest) else trains


def _reason_to_give_up(
    folder: UPath, before: Claim, step: int, max_failures: int, node_is_lost: Callable[[str], bool]
) -> str | None:
    """Why a run is not tried again after its last attempt, or None where it is."""
    if before.outcome not in (None, "crashed"):
        return None
    last = read_json(_error_path(folder, before.epoch)) or {}
    if last.get("final"):
        return str(last["reason"])
    failures = failed_attempts(folder, before, step=step, node_is_lost=node_is_lost)
    if len(failures) <= max_failures:
        return None
    error = read_json(_error_path(folder, failures[0].epoch)) or {}
    cause = error.get("reason", "its worker died without a word, as it does when memory runs out")
    return f"failed {len(failures)} times at step {step}: {cause}"


def _error_path(folder: UPath, epoch: int) -> UPath:
    return folder / CLAIMS / f"{epoch:06d}.error.json"
