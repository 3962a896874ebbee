"""A lease on a run: who works on it now, and the proof that somebody who was slow no longer does.

claims/000001.json, claims/000002.json, ... in the run's folder, one for each time that somebody took the run up. A
claim is created exclusively, so of two who try for one epoch only one succeeds; the newest claim is the lease, and its
holder renews it by writing it again with a later expiry. Whoever finds the newest claim ended or expired creates the
next one. Before a checkpoint or a result is published the holder looks for a claim after its own: a worker that was
stopped, while another took over, finds it and publishes nothing. So no clock decides what is right: a clock that is
off, or a pause between look and write, costs work done twice, and never a wrong result, since what is published has the
epoch in its name or is the same whoever writes it.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import psutil
from upath import UPath

from ladder.platform.storage import create_exclusively, exists, is_local, list_names, read_json, write_json

CLAIMS = "claims"
"""Folder of a run's claims."""

Outcome = Literal["released", "crashed", "trained", "finished", "failed"]
"""How a claim ended: given back, ended by an error that may not happen again, trained but not scored, done, or failed
for good. None while it is held, and for ever where its holder was killed."""


class LeaseLost(Exception):
    """Another worker took the run over."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One attempt at a run, as its file has it."""

    epoch: int
    """Which attempt, from 1."""
    owner: str
    """Who holds it; the workers that a lane starts one after another share its name."""
    host: str
    """The machine, with its boot and process namespace."""
    pid: int
    """The process on it."""
    process_started: float
    """When that process started, in seconds since 1970, since process numbers are used again."""
    node: str | None
    """Ray's id of the node; None outside Ray."""
    step: int
    """The step that it began at."""
    expires: float
    """When it is void unless renewed, in seconds since 1970."""
    outcome: Outcome | None = None
    """How it ended; see `Outcome`."""
    reason: str | None = None
    """Why, where it did not end well."""
    progress: dict[str, Any] = field(default_factory=dict)
    """What its holder last said: phase, step, steps, tokens, loss, tokens_per_second, seconds_left."""

    @property
    def live(self) -> bool:
        """Whether its holder is at work, as far as can be told from here."""
        return self.outcome is None and time.time() < self.expires and not self._process_is_gone

    @property
    def _process_is_gone(self) -> bool:
        if self.host != this_host():
            return False
        try:
            return bool(abs(psutil.Process(self.pid).create_time() - self.process_started) > 1.0)
        except psutil.NoSuchProcess:
            return True


class Lease:
    """The right to work on a run, until it is ended or taken over. Safe to use from several threads."""

    def __init__(self, folder: UPath, claim: Claim, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self._claim = claim
        self._lock = threading.Lock()

    @property
    def epoch(self) -> int:
        """Number of the attempt."""
        return self._claim.epoch

    @property
    def step(self) -> int:
        """The step that the attempt began at."""
        return self._claim.step

    def renew(self, **progress: Any) -> None:
        """Hold it for another term, and say where the run stands.

        Raises OSError where the storage refuses the write: the lease then lasts until its old expiry.
        """
        with self._lock:
            if self._claim.outcome is not None:
                return
            renewed = replace(self._claim, expires=time.time() + self.seconds, progress=self._claim.progress | progress)
            write_json(_path(self.folder, self.epoch), asdict(renewed))
            self._claim = renewed

    def begin_at(self, step: int) -> None:
        """Note the step that the attempt begins at; whoever counts failures later compares it with the next one's."""
        with self._lock:
            self._claim = replace(self._claim, step=step)
        self.renew()

    def check(self) -> None:
        """Raises LeaseLost where somebody else took over; called before anything is published."""
        if exists(_path(self.folder, self.epoch + 1)):
            raise LeaseLost(f"run {self.folder.name} was taken over by another worker (attempt {self.epoch + 1})")

    def end(self, outcome: Outcome, reason: str | None = None, **progress: Any) -> None:
        """Say how the attempt ended; it is not renewed from then on."""
        with self._lock:
            self._claim = replace(self._claim, outcome=outcome, reason=reason, progress=self._claim.progress | progress)
            write_json(_path(self.folder, self.epoch), asdict(self._claim))


def acquire(folder: UPath, owner: str, *, node: str | None = None, seconds: float | None = None) -> Lease | None:
    """A lease on the run in `folder`, or None where somebody else holds it or was quicker.

    `owner` may follow itself at once: a lane's workers are only started again when those before them are gone. Terms
    are of `seconds`; None: see `lease_seconds`.
    """
    newest = newest_claim(folder)
    if newest is not None and newest.live and newest.owner != owner:
        return None
    term = seconds or lease_seconds(folder)
    claim = Claim(
        epoch=(newest.epoch if newest else 0) + 1,
        owner=owner,
        host=this_host(),
        pid=os.getpid(),
        process_started=psutil.Process().create_time(),
        node=node,
        step=newest.step if newest else 0,
        expires=time.time() + term,
    )
    data = json.dumps(asdict(claim), indent=1).encode()
    return Lease(folder, claim, term) if create_exclusively(_path(folder, claim.epoch), data) else None


def void(folder: UPath, *, owner: str, outcome: Outcome | None) -> None:
    """End the lease of an owner that is known to be gone, so that nobody has to wait until it expires; nothing where
    somebody else has it by now. Without an outcome it counts as an attempt that died."""
    newest = newest_claim(folder)
    if newest is not None and newest.owner == owner and newest.outcome is None:
        write_json(_path(folder, newest.epoch), asdict(replace(newest, outcome=outcome, expires=0.0)))


def reopen(folder: UPath) -> None:
    """Make a failed run open again: its failures no longer count. Nothing where it has not failed."""
    newest = newest_claim(folder)
    if newest is None or newest.outcome != "failed":
        return
    held = {"held_seconds": 0.0} if "held_seconds" in newest.progress else {}  # nobody holds anything for it
    opened = replace(newest, epoch=newest.epoch + 1, outcome="released", reason=None, progress=newest.progress | held)
    create_exclusively(_path(folder, opened.epoch), json.dumps(asdict(opened), indent=1).encode())


def lease_seconds(folder: UPath) -> float:
    """Seconds of a term: on an object store long enough to sit out minutes of refused writes. Clocks of machines may
    differ by a fraction of it."""
    return 30.0 if is_local(folder) else 240.0


def newest_claim(folder: UPath) -> Claim | None:
    """The newest claim on a run, or None where nobody ever took it up."""
    epoch = max((claim_epoch(name) for name in list_names(folder / CLAIMS)), default=0)
    return read_claim(folder, epoch) if epoch else None


def read_claim(folder: UPath, epoch: int) -> Claim | None:
    """The claim of an epoch, or None where there is none."""
    value = read_json(_path(folder, epoch))
    return None if value is None else Claim(**value)


def failed_attempts(folder: UPath, newest: Claim, *, step: int, node_is_lost: Callable[[str], bool]) -> list[Claim]:
    """Attempts up to `newest` that died or crashed one after another without progress, newest first.

    `step` is that of the checkpoint which the next attempt begins at. An attempt after which the next begins at a later
    step made progress and ends the count, as one does that was given back; one whose node was lost is no failure.
    """
    failed: list[Claim] = []
    claim: Claim | None = newest
    while claim is not None and claim.outcome in (None, "crashed") and step <= claim.step:
        if claim.node is None or not node_is_lost(claim.node):
            failed.append(claim)
        step = claim.step
        claim = read_claim(folder, claim.epoch - 1) if claim.epoch > 1 else None
    return failed


@cache
def this_host() -> str:
    """This machine, in this boot and process namespace: where it is the same, a process number means one process."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    parts = [socket.gethostname()]
    if boot.exists():  # Linux
        parts += [boot.read_text().strip(), os.readlink(namespace)]
    return "/".join(parts)


def _path(folder: UPath, epoch: int) -> UPath:
    return folder / CLAIMS / f"{epoch:06d}.json"


def claim_epoch(name: str) -> int:
    """The epoch that a file among the claims is of, 0 for a file that is no claim."""
    stem = name.removesuffix(".json")
    return int(stem) if stem.isdigit() else 0
