"""An MLflow server killed in the middle of batches, away, and back with its database or with a new one."""

import threading
from typing import Any

import pytest

from ladder.platform.tracking import records

STEPS = 200


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("database_after", ["same", "new"])
def test_the_points_in_mlflow_are_those_of_the_folder(
    backend: Any, database_after: str, server: Any, served: Any, away_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender is in the middle of its batches when the server is killed; another run ends while it is away."""
    monkeypatch.setattr(records, "LARGEST_BATCH", 4)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    served.open()
    lease, curve = served.folders[0].take_up()
    for step in range(1, STEPS):
        curve.add(served.point(step))
    curve.publish()
    sender = served.sender(lease, curve)
    sender.start()
    served.wait_for(lambda: sender._sent >= 20)
    server.kill()
    sent = sender._sent
    assert sent < STEPS - 1, "the server was to be killed in the middle"
    served.folders[1].finish()
    threading.Event().wait(away_seconds)
    curve.add(served.point(STEPS))
    curve.publish()
    if database_after == "new":
        backend.renew()
    server.start()
    sender.close(120)
    if database_after == "same":
        assert served.history(0) == served.folders[0].spool, "the sender alone has sent all"
    lease.end("released")
    if database_after == "new":
        with pytest.raises(records.StoreReplaced):
            served.sync()
    served.open()
    for _ in range(2):
        served.sync()
        assert [served.history(n) for n in (0, 1)] == [served.folders[n].spool for n in (0, 1)]
        assert served.history(0).total() == 2 * STEPS and len(served.parents()) == 1
    print(f"{sent} of {STEPS} points were sent when the server was killed")
