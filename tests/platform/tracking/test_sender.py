"""A sender brings a run's points to MLflow while it is trained; nothing that MLflow does holds up anybody else."""

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ladder.platform.tracking import database
from ladder.platform.tracking.records import batches


def train(world: Any, curve: Any, steps: range) -> None:
    """Make points and publish each, as a training loop and its heartbeat do."""
    for step in steps:
        curve.add(world.point(step))
        curve.publish()


def test_points_reach_mlflow_with_their_own_times(world: Any) -> None:
    world.open()
    lease, curve = world.folders[0].take_up()
    sender = world.sender(lease, curve)
    sender.start()
    train(world, curve, range(1, 4))
    sender.close()
    assert world.history() == world.folders[0].spool and world.history().total() == 6
    record = world.record()
    assert record.info.status == "RUNNING" and record.data.tags["ladder.status"] == "running"
    assert record.data.params["precision"] == "fp32" and record.data.params["size"] == world.runs[0].size.name
    lease.end("released")
    world.sync()
    assert world.history() == world.folders[0].spool


def test_a_sender_after_a_kill_takes_the_same_record_and_doubles_nothing(world: Any) -> None:
    world.open()
    for steps in (range(1, 6), range(3, 9)):
        lease, curve = world.folders[0].take_up()
        sender = world.sender(lease, curve)
        sender.start()
        train(world, curve, steps)
        sender.close()
    assert world.history() == world.folders[0].spool and world.history().total() == 16


class Listening:
    """A client that notes the metrics that it is given."""

    def __init__(self, client: Any) -> None:
        self.client, self.metrics = client, list[Any]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def log_batch(self, run_id: str, metrics: Any = (), **others: Any) -> None:
        self.metrics.extend(metrics)
        self.client.log_batch(run_id, metrics=metrics, **others)


@pytest.mark.parametrize(("record", "sent_again"), [("its own", 4), ("another", 10)])
def test_the_driver_sends_what_the_sender_did_not(world: Any, record: str, sent_again: int) -> None:
    """Was the whole curve again, which the database looks up point by point."""
    world.open()
    lease, curve = world.folders[0].take_up()
    sender = world.sender(lease, curve)
    sender.start()
    train(world, curve, range(1, 4))
    sender.close()
    train(world, curve, range(4, 6))
    said = sender.acknowledged
    assert said == {"record": world.record().info.run_id, "points": 3}
    lease.end("released", tracked=said if record == "its own" else said | {"record": "another"})
    driver = Listening(world.client)
    world.sync(driver)
    assert len(driver.metrics) == sent_again
    assert world.history() == world.folders[0].spool and world.history().total() == 10


def test_what_is_not_published_is_not_sent(world: Any) -> None:
    world.open()
    lease, curve = world.folders[0].take_up()
    train(world, curve, range(1, 3))
    curve.add(world.point(3))
    sender = world.sender(lease, curve)
    sender.start()
    sender.close()
    assert world.history().total() == 4


def test_a_worker_that_was_taken_over_sends_nothing_more(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    world.open()
    lease, curve = world.folders[0].take_up()
    sender = world.sender(lease, curve)
    sender.start()
    train(world, curve, range(1, 3))
    world.wait_for(lambda: world.records() and world.history() == world.folders[0].spool)
    following, its_curve = world.folders[0].take_up()
    train(world, curve, range(3, 6))
    train(world, its_curve, range(3, 4))
    sender.close()
    assert "taken over" in caplog.text and world.history().total() == 4
    following.end("released")
    world.sync()
    assert world.history() == world.folders[0].spool and world.history().total() == 6


def test_a_sender_and_two_syncs_at_once_make_one_record(world: Any) -> None:
    world.open()
    lease, curve = world.folders[0].take_up()
    train(world, curve, range(1, 4))
    lease.end("released")  # so that the syncs want the run as well
    senders = [world.sender(lease, curve) for _ in range(2)]
    for sender in senders:
        sender.start()
    with ThreadPoolExecutor() as threads:
        syncs = [threads.submit(world.sync) for _ in range(2)]
    for sender in senders:
        sender.close(60)
    assert [sync.result() for sync in syncs] == [None, None]
    assert world.history() == world.folders[0].spool


def test_a_long_curve_goes_in_batches_that_mlflow_takes(world: Any) -> None:
    found = list(batches([world.point(step) for step in range(1201)]))
    assert [(count, len(metrics)) for count, metrics in found] == [(500, 1000), (500, 1000), (201, 402)]


def test_an_error_of_any_kind_is_tried_again(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.open()
    lease, curve = world.folders[0].take_up()
    refusals = iter([OSError("503"), ValueError("not JSON"), RuntimeError("pool")])
    check = lease.check

    def refused() -> None:
        for error in refusals:
            raise error
        check()

    monkeypatch.setattr(lease, "check", refused)
    sender = world.sender(lease, curve)
    sender.start()
    train(world, curve, range(1, 4))
    world.wait_for(lambda: world.records() and world.history() == world.folders[0].spool)
    sender.close()


def test_a_server_that_accepts_and_never_answers_holds_up_nobody(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call would take as long as the server hangs; publishing, renewing and closing go on."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3600")
    world.open()
    with socket.create_server(("127.0.0.1", 0)) as hung:
        world.tracked = type(world.tracked)(
            uri=f"http://127.0.0.1:{hung.getsockname()[1]}", experiment="1", parent="p", store="s"
        )
        lease, curve = world.folders[0].take_up()
        sender = world.sender(lease, curve)
        sender.start()
        connection, _ = hung.accept()  # the sender is in its call now
        train(world, curve, range(1, 4))
        lease.renew(step=3)
        sender.close(0.1)
        lease.end("released")
    world.open()
    connection.close()
    world.sync()
    assert world.history() == world.folders[0].spool and world.history().total() == 6


def test_calls_end_soon_unless_the_user_wants_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    database.limit_waiting()
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

    assert (MLFLOW_HTTP_REQUEST_TIMEOUT.get(), MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()) == (77, 2)


def test_a_sender_that_was_never_started_can_be_closed(world: Any) -> None:
    world.open()
    world.sender(*world.folders[0].take_up()).close()
