"""One worker at a time works on a run, and one that was taken over harms nothing."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from ladder.platform.runs.lease import Claim, LeaseLost, acquire, failed_attempts, newest_claim, read_claim


@pytest.fixture(params=["file", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    """A run's folder, on this file system and on a store of objects."""
    return UPath(tmp_path / "run") if request.param == "file" else UPath(f"memory:/{tmp_path}/run")


def test_a_run_has_one_holder_until_it_is_given_back(run: UPath) -> None:
    lease = acquire(run, "a")
    assert lease is not None and acquire(run, "b") is None
    lease.end("released")
    following = acquire(run, "b")
    assert following is not None and following.epoch == 2
    with pytest.raises(LeaseLost, match="attempt 2"):
        lease.check()
    following.check()


def test_a_lane_follows_itself_at_once(run: UPath) -> None:
    assert acquire(run, "a") is not None
    following = acquire(run, "a")
    assert following is not None and following.epoch == 2


def test_an_expired_lease_is_taken_over_and_its_late_holder_is_told(run: UPath) -> None:
    slow = acquire(run, "a", seconds=0.05)
    assert slow is not None
    time.sleep(0.1)
    assert acquire(run, "b") is not None
    slow.renew(step=7)  # writes its own claim only
    newest = newest_claim(run)
    assert newest is not None and newest.owner == "b" and newest.progress == {}
    with pytest.raises(LeaseLost):
        slow.check()


def test_renewing_holds_it_and_says_where_the_run_stands(run: UPath) -> None:
    lease = acquire(run, "a", seconds=0.3)
    assert lease is not None
    for step in range(4):
        time.sleep(0.15)
        lease.renew(step=step)
        assert acquire(run, "b") is None
    newest = newest_claim(run)
    assert newest is not None and newest.progress == {"step": 3}


def test_an_ended_lease_is_not_renewed_by_a_late_heartbeat(run: UPath) -> None:
    lease = acquire(run, "a")
    assert lease is not None
    lease.end("failed", "why", step=3)
    lease.renew(step=4)
    newest = newest_claim(run)
    assert newest is not None and (newest.outcome, newest.reason, newest.progress) == ("failed", "why", {"step": 3})


def _try_to_acquire(folder: str, owner: str, all_there: Any, won: "multiprocessing.Queue[str]") -> None:
    all_there.wait()
    lease = acquire(UPath(folder), owner)
    if lease is not None:
        won.put(owner)
    all_there.wait()  # the lease of a process that is gone would be void


def test_of_many_processes_that_try_at_once_one_gets_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    won: multiprocessing.Queue[str] = context.Queue()
    all_there = context.Barrier(8)
    tries = [
        context.Process(target=_try_to_acquire, args=(str(tmp_path / "run"), str(n), all_there, won)) for n in range(8)
    ]
    for process in tries:
        process.start()
    for process in tries:
        process.join()
    assert won.get(timeout=5) and won.empty()
    assert sorted(os.listdir(tmp_path / "run" / "claims")) == ["000001.json"], "no leftovers beside the claim"


def test_the_lease_of_a_killed_process_of_this_machine_is_void_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from upath import UPath; from ladder.platform.runs.lease import acquire; "
        "assert acquire(UPath(sys.argv[1]), 'a'); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert acquire(UPath(tmp_path / "run"), "b") is None
    holder.send_signal(signal.SIGSTOP)
    assert acquire(UPath(tmp_path / "run"), "b") is None, "a stopped process is not gone"
    holder.kill()
    holder.wait()
    assert acquire(UPath(tmp_path / "run"), "b") is not None


def attempts(run: UPath, *ends: tuple[int, str | None, str | None]) -> Claim:
    """Attempts at a run by (step that they began at, how they ended, node); returns the newest."""
    for step, outcome, node in ends:
        lease = acquire(run, "a", node=node)
        assert lease is not None
        lease.begin_at(step)
        if outcome is not None:
            lease.end(outcome, f"reason at {step}")  # type: ignore[arg-type]
    newest = newest_claim(run)
    assert newest is not None
    return newest


@pytest.mark.parametrize(
    ("ends", "step", "epochs"),
    [
        ([(0, "crashed", "n"), (0, None, "n"), (0, "crashed", "n")], 0, [3, 2, 1]),
        ([(0, "crashed", "n"), (0, "released", "n"), (0, "crashed", "n")], 0, [3]),
        ([(0, "crashed", "n"), (0, "crashed", "n"), (50, "crashed", "n")], 50, [3]),
        ([(0, "crashed", "n"), (0, "crashed", "n")], 50, []),
        ([(0, None, "gone"), (0, None, "gone"), (0, None, "n")], 0, [3]),
        ([(0, None, "gone"), (0, None, "gone")], 0, []),
    ],
)
def test_failures_are_counted_without_progress_and_without_lost_nodes(
    tmp_path: Path, ends: list[tuple[int, str | None, str | None]], step: int, epochs: list[int]
) -> None:
    run = UPath(tmp_path / "run")
    newest = attempts(run, *ends)
    counted = failed_attempts(run, newest, step=step, node_is_lost=lambda node: node == "gone")
    assert [claim.epoch for claim in counted] == epochs


def test_a_claim_that_nobody_made_is_none(run: UPath) -> None:
    assert newest_claim(run) is None and read_claim(run, 1) is None
