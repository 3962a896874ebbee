"""An attempt keeps its lease and its curve up to date whatever is refused, and gives up on what always fails."""

import logging
import time
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from ladder.platform.runs.attempt import Attempt, begin, report_error
from ladder.platform.runs.checkpoints import new_checkpoint, publish_checkpoint
from ladder.platform.runs.curve import read_curve
from ladder.platform.runs.lease import LeaseLost, acquire, newest_claim, reopen
from ladder.platform.storage import is_refusal


def start(run: UPath, owner: str = "a", **options: Any) -> Attempt | None:
    return begin(run, owner, **{"trains": True, "scores": True, "max_failures": 1, **options})


@pytest.fixture
def run(tmp_path: Path) -> UPath:
    return UPath(tmp_path / "run")


def wait_until(true: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.05)


def test_the_heartbeat_publishes_points_and_progress(run: UPath) -> None:
    heard: list[dict[str, Any]] = []
    attempt = start(run, listener=heard.append)
    assert attempt is not None
    attempt.say(phase="training", loss=3.0)
    attempt.log({"step": 10, "train/loss": 3.0})
    wait_until(lambda: read_curve(run))
    (point,) = read_curve(run)
    assert point["step"] == 10 and abs(point["time_ms"] / 1000 - time.time()) < 60
    said = {"phase": "training", "loss": 3.0}
    wait_until(lambda: said.items() <= newest_claim(run).progress.items())  # type: ignore[union-attr]
    attempt.end("finished")
    assert heard[0]["outcome"] is None and heard[-1]["outcome"] == "finished" and heard[-1]["loss"] == 3.0


def test_a_refused_write_stops_neither_the_heartbeat_nor_the_curve(
    run: UPath, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = start(run)
    assert attempt is not None
    refused: list[int] = []

    def refuse(*_: object, **__: object) -> None:
        refused.append(1)
        raise OSError("503 Slow Down")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("ladder.platform.runs.lease.write_json", refuse)
        patch.setattr(attempt.curve, "publish", refuse)
        attempt.log({"step": 10, "train/loss": 3.0})
        wait_until(lambda: len(refused) >= 4)
    assert "503 Slow Down" in caplog.text
    attempt.say(step=10)
    wait_until(lambda: newest_claim(run).progress.get("step") == 10)  # type: ignore[union-attr]
    assert [point["step"] for point in read_curve(run)] == [10]
    attempt.end("released")


def test_one_that_was_taken_over_is_told_at_the_next_point(run: UPath) -> None:
    attempt = start(run)
    assert attempt is not None
    assert acquire(run, "a") is not None  # the lane's next process
    wait_until(lambda: attempt._lost)
    with pytest.raises(LeaseLost):
        attempt.log({"step": 1})
    attempt.end("released")
    newest = newest_claim(run)
    assert newest is not None and newest.epoch == 2 and newest.outcome is None


def crash(run: UPath, reason: str, *, final: bool = False, **options: Any) -> None:
    attempt = start(run, **options)
    assert attempt is not None
    attempt.end("failed" if final else "crashed", report_error(run, attempt.lease.epoch, reason, final=final))


def test_a_run_that_dies_too_often_is_failed_with_its_cause_and_can_be_opened_again(run: UPath) -> None:
    for reason in ("OutOfMemoryError: 1", "OutOfMemoryError: 2"):
        crash(run, reason)
    assert start(run) is None
    newest = newest_claim(run)
    assert newest is not None and newest.outcome == "failed"
    assert newest.reason == "failed 2 times at step 0: OutOfMemoryError: 2"
    assert start(run) is None, "it stays failed"
    reopen(run)
    attempt = start(run)
    assert attempt is not None
    attempt.end("released")


def test_lost_nodes_exhaust_nothing(run: UPath) -> None:
    for _ in range(10):
        crash(run, "ActorDiedError", node="spot", node_is_lost=lambda node: node == "spot")
    attempt = start(run, node_is_lost=lambda node: node == "spot")
    assert attempt is not None
    attempt.end("released")


def test_an_error_of_another_worker_is_the_cause(run: UPath) -> None:
    attempt = start(run)
    assert attempt is not None
    assert report_error(run, 1, "benchmark x is not there", final=True) == "benchmark x is not there"
    assert report_error(run, 1, "RuntimeError: Connection closed by peer", final=False) == "benchmark x is not there"
    attempt._stop.set()  # killed with the others: it says nothing
    assert start(run) is None
    newest = newest_claim(run)
    assert newest is not None and (newest.outcome, newest.reason) == ("failed", "benchmark x is not there")


def test_a_mistake_is_final_though_the_attempt_made_progress(run: UPath) -> None:
    attempt = start(run)
    assert attempt is not None
    report_error(run, 1, "benchmark x is not there", final=True)
    attempt._stop.set()
    with new_checkpoint(run, step=50, epoch=1) as folder:
        publish_checkpoint(folder, run, {"step": 50}, keep=2, check=lambda: None)
    assert start(run) is None
    newest = newest_claim(run)
    assert newest is not None and newest.outcome == "failed"


def test_what_is_trained_is_for_those_that_score(run: UPath) -> None:
    assert start(run, trains=False) is None, "not trained yet"
    attempt = start(run, scores=False)
    assert attempt is not None
    attempt.end("trained")
    assert start(run, scores=False) is None
    scoring = start(run, trains=False)
    assert scoring is not None and scoring.only_scores
    scoring.say(phase="scoring")
    scoring.end("released")
    again = start(run, trains=False)
    assert again is not None, "interrupted while scoring, it is scored again and not trained"
    again.end("failed", "no such benchmark")
    assert start(run) is None


def test_refusals_are_told_from_answers() -> None:
    assert is_refusal(ConnectionRefusedError()) and is_refusal(OSError(28, "No space left on device"))
    assert not is_refusal(FileNotFoundError()) and not is_refusal(ValueError()) and not is_refusal(FileExistsError())
