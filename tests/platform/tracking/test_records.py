"""MLflow holds what the folders say, each point once, whatever was interrupted and however often it is synced."""

import os
import pickle
import pwd
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from ladder.analysis.tables.sweeps import read_sweep
from ladder.models.errors import InputError
from ladder.platform import provenance
from ladder.platform.runs.status import RunStatus
from ladder.platform.runs.usage import Usage
from ladder.platform.tracking.database import open_tracking, tracking_uri
from ladder.platform.tracking.records import (
    NEW,
    StoreReplaced,
    batches,
    end_sweep,
    find_parent,
    open_record,
    open_sweep,
)
from ladder.platform.tracking.summary import describe_sweep
from ladder.platform.tracking.sync import sync_runs
from ladder.platform.tracking.view import VIEW_TAG


def log(world: Any, points: list[dict[str, float]]) -> None:
    """Send points as a sender does that is then killed."""
    record = open_record(world.client, world.tracked, world.runs[0], world.folders[0].path)
    for _, metrics in batches(points):
        world.client.log_batch(record.info.run_id, metrics=metrics)


class Counted:
    """A client that counts what is asked of it."""

    def __init__(self, client: Any) -> None:
        self.client, self.calls = client, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self.client, name)


def test_a_sweep_has_one_parent_however_often_it_is_opened(world: Any) -> None:
    first = world.open()
    assert world.open() == first
    (parent,) = world.parents()
    assert parent.info.run_id == first.parent == find_parent(world.client, "mine")
    assert parent.info.status == "RUNNING"
    assert parent.data.tags["ladder.question"] == "What is asked."
    assert "ladder.runs" not in parent.data.tags


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_the_parent_says_how_the_sweep_ended_and_runs_again_when_it_is_opened_again(world: Any, status: str) -> None:
    tracked = world.open()
    end_sweep(world.client, tracked, status=status)
    assert world.client.get_run(tracked.parent).info.status == status
    world.open()
    assert world.client.get_run(tracked.parent).info.status == "RUNNING"


def test_ten_thousand_keys_are_read_back(world: Any) -> None:
    runs = [replace(world.runs[0], recipe=replace(world.runs[0].recipe, seed=seed)) for seed in range(10_000)]
    tracked = open_sweep(world.client, world.sweep, runs, world.storage)
    assert max(len(value) for value in world.client.get_run(tracked.parent).data.tags.values()) <= 8000
    table = read_sweep(world.uri, "mine").table
    assert len(set(table["run"])) == 10_000 and set(table["status"]) == {"waiting"}


def test_a_long_tag_is_cut_where_it_can_be_seen(world: Any) -> None:
    tracked = open_sweep(world.client, replace(world.sweep, question="why " * 3000), world.runs, world.storage)
    question = world.client.get_run(tracked.parent).data.tags["ladder.question"]
    assert len(question) == 8000 and question.endswith("... (cut)")


def test_runs_that_nobody_started_have_no_record(world: Any) -> None:
    world.open()
    world.sync()
    assert not world.records(0) and not world.records(1)


def test_a_finished_run_is_synced_from_its_folder_alone(world: Any) -> None:
    world.open()
    world.folders[0].finish()
    for _ in range(3):
        world.sync()
        assert world.history() == world.folders[0].spool and world.history().total() == 23
    record = world.record()
    assert record.info.status == "FINISHED" and record.data.tags["ladder.status"] == "finished"
    assert record.info.end_time == 1_700_000_900_000 and record.info.start_time == 1_700_000_001_000
    assert record.data.tags["mlflow.parentRunId"] == world.tracked.parent
    assert record.data.params["precision"] == "fp32"
    assert record.data.params["params_total"] == str(world.runs[0].size.params_total)
    row = read_sweep(world.uri, "mine").table.filter(run=world.runs[0].key).row(0, named=True)
    assert row["status"] == "finished" and row["heldout/loss"] == 2.5


def test_the_missing_last_points_are_added_and_nothing_is_doubled(world: Any) -> None:
    """Was 18 points: the whole curve was sent again with a new time."""
    world.open()
    world.folders[0].finish()
    log(world, [world.point(step) for step in range(1, 9)])
    world.sync()
    assert world.history() == world.folders[0].spool


def test_points_missing_in_the_middle_are_added(world: Any) -> None:
    """Was 7 of 10: only the last point was looked at."""
    world.open()
    world.folders[0].attempt(range(1, 7), None)
    world.folders[0].finish(range(5, 11))
    log(world, [world.point(step) for step in (1, 2, 3, 7, 8, 9, 10)])
    world.sync()
    assert world.history() == world.folders[0].spool and world.history().total() == 23


def test_a_failed_run_has_its_curve_and_its_reason(world: Any) -> None:
    """Was 0 points of 10."""
    world.open()
    world.folders[0].attempt(range(1, 11), "failed", "the loss is not finite at step 11")
    world.sync()
    assert world.history() == world.folders[0].spool and world.history().total() == 20
    record = world.record()
    assert record.info.status == "FAILED" and record.data.tags["ladder.status"] == "failed"
    assert record.data.tags["ladder.reason"] == "the loss is not finite at step 11"


def test_a_failed_run_that_is_retried_loses_its_reason(world: Any) -> None:
    world.open()
    world.folders[0].attempt(range(1, 6), "failed", "out of memory")
    world.sync()
    world.folders[0].finish(range(6, 11))
    world.sync()
    assert world.history() == world.folders[0].spool
    assert world.record().info.status == "FINISHED" and world.record().data.tags["ladder.reason"] == ""


def test_an_interrupted_run_has_its_curve_and_waits(world: Any) -> None:
    world.open()
    world.folders[0].attempt(range(1, 5), "released")
    world.folders[1].attempt(range(1, 4), None)
    world.sync()
    for number in (0, 1):
        assert world.history(number) == world.folders[number].spool
        assert world.record(number).data.tags["ladder.status"] == "waiting"
        assert world.record(number).info.status == "SCHEDULED"
    world.folders[1].attempt(range(4, 7), None)
    world.sync()
    assert world.history(1) == world.folders[1].spool and world.history(1).total() == 12


def test_a_run_that_somebody_works_on_is_left_to_its_sender(world: Any) -> None:
    world.open()
    _, curve = world.folders[0].take_up()
    curve.add(world.point(1))
    curve.publish()
    world.sync()
    assert not world.records()


def test_one_more_benchmark_adds_its_score_and_repeats_none(world: Any) -> None:
    world.open()
    world.folders[0].finish()
    world.sync()
    before = world.history()
    scores = [world.score("heldout", 2.5), world.score("lambada", float("inf"))]
    world.folders[0].finish(range(0), *scores)
    world.sync()
    added = Counter([("lambada/loss", 10, 1_700_000_900_000, sys.float_info.max)])
    assert world.history() == before + added
    world.folders[0].finish(range(0), *scores)
    world.sync()
    assert world.history() == before + added


def test_a_score_that_took_anothers_place_is_the_last_one_and_the_others_are_there_once(world: Any) -> None:
    world.open()
    world.folders[0].finish(range(1, 11), world.score("heldout", 2.5), world.score("mine", 9.0))
    world.sync()
    before = world.history()
    later = {"time_ms": 1_700_000_999_000}
    world.folders[0].finish(range(0), world.score("heldout", 2.5), world.score("mine", 4.0) | later)
    world.sync()
    assert world.history() == before + Counter([("mine/loss", 10, 1_700_000_999_000, 4.0)])
    assert world.record().data.metrics["mine/loss"] == 4.0, "though it is smaller than the one before"


def test_a_sync_that_dies_anywhere_is_made_good_by_the_next(world: Any) -> None:
    world.open()
    world.folders[0].finish()

    class Dying(Counted):
        """A client whose process ends after some calls."""

        def __init__(self, client: Any, calls: int) -> None:
            super().__init__(client)
            self.left = calls

        def __getattr__(self, name: str) -> Any:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().__getattr__(name)

    deaths = 0
    for calls in range(100):
        try:
            world.sync(Dying(world.client, calls))
            break
        except KeyboardInterrupt:
            deaths += 1
            if [record.data.tags.get("ladder.status") for record in world.records()] == ["finished"]:
                assert world.history() == world.folders[0].spool
    assert deaths >= 4
    world.sync()
    assert world.history() == world.folders[0].spool and world.record().info.status == "FINISHED"


@pytest.mark.parametrize("first_sweep", ["this one", "another one"])
def test_a_new_and_empty_database_gets_everything_again(world: Any, database: Path, first_sweep: str) -> None:
    """Its first experiment, whichever that is, gets the id that this sweep's had."""
    first = world.open()
    world.folders[0].finish()
    world.folders[1].attempt(range(1, 4), "failed", "no")
    world.sync()
    fresh = world.storage / "fresh.db"
    Path(fresh.path).write_bytes(database.read_bytes())
    world.uri = f"sqlite:///{fresh}"
    world.client = open_tracking(world.uri)
    if first_sweep == "another one":
        world.client.create_experiment(first_sweep)
    with pytest.raises(StoreReplaced, match="is new"):
        world.sync()
    assert world.open().store != first.store
    world.sync()
    assert [world.history(n) for n in (0, 1)] == [world.folders[n].spool for n in (0, 1)]


def test_ten_thousand_synced_runs_cost_one_call(world: Any) -> None:
    tracked = world.open()
    names = {"claims/000001.json", "curve/000001.jsonl", "result.json", f"tracking/{tracked.store}.000001.finished"}
    runs = [replace(world.runs[0], recipe=replace(world.runs[0].recipe, seed=seed)) for seed in range(10_000)]
    files = {run.key: names for run in runs}
    client = Counted(world.client)
    started = time.perf_counter()
    sync_runs(client, tracked, world.sweep, runs, world.storage, files)
    print(f"{time.perf_counter() - started:.3f} s for 10,000 marked runs", file=sys.stderr)
    assert client.calls == {"get_experiment": 1}


def test_a_run_costs_three_calls_and_those_of_one_sync_two_more_in_all(world: Any) -> None:
    """Was eight calls for each run, which made up most of a driver's time in a sweep of short runs."""
    world.open()
    for folder in world.folders:
        folder.finish()
    client = Counted(world.client)
    world.sync(client)
    each = {"create_run": 2, "log_batch": 2, "set_terminated": 2}
    assert client.calls == each | {"get_experiment": 1, "search_runs": 1}
    assert [world.history(n) for n in (0, 1)] == [world.folders[n].spool for n in (0, 1)]


def test_the_mark_of_one_attempt_does_not_cover_the_next(world: Any) -> None:
    world.open()
    folder = world.folders[0]
    folder.attempt(range(1, 3), "released")
    world.sync()
    client = Counted(world.client)
    world.sync(client)
    assert client.calls == {"get_experiment": 1}
    folder.attempt(range(3, 5), "crashed")
    world.sync()
    assert world.history() == folder.spool and world.history().total() == 8


def test_a_run_that_was_killed_costs_calls_only_where_it_has_new_points(world: Any) -> None:
    world.open()
    folder = world.folders[0]
    lease = folder.attempt(range(1, 3), None)
    world.sync()
    client = Counted(world.client)
    world.sync(client)
    assert client.calls == {"get_experiment": 1}
    lease.end("failed", "it was not dead, only stopped")
    world.sync()
    assert world.record().data.tags["ladder.reason"] == "it was not dead, only stopped"


def test_a_record_of_a_folder_that_was_removed_is_not_mixed_with_the_new_one(world: Any) -> None:
    world.open()
    world.folders[0].finish()
    world.sync()
    old = world.record().info.run_id
    world.folders[0].path.rename(world.storage / "removed")
    lease, curve = world.folders[0].take_up()
    curve.add(world.point(1, time_ms=1_800_000_000_000))
    curve.publish()
    lease.end("released")
    world.sync()
    (new,) = [record for record in world.records() if record.info.run_id != old]
    assert len(world.client.get_metric_history(new.info.run_id, "train/loss")) == 1


def test_a_record_that_was_made_but_not_noted_is_adopted(world: Any) -> None:
    tracked = world.open()
    tags = {"ladder.run": world.runs[0].key, "mlflow.parentRunId": tracked.parent, **NEW}
    lost = [world.client.create_run(tracked.experiment, tags=tags).info.run_id for _ in range(3)]
    world.folders[0].finish()
    world.sync()
    assert world.record().info.run_id in lost and world.history() == world.folders[0].spool


def test_who_makes_a_record_a_moment_too_late_takes_the_first(world: Any) -> None:
    tracked, run, folder = world.open(), world.runs[0], world.folders[0].path
    first = []

    class Overtaken(Counted):
        """A client of a process that stops just after it has seen that there is no record."""

        def create_run(self, *arguments: Any, **named: Any) -> Any:
            first.append(open_record(self.client, tracked, run, folder).info.run_id)
            return self.client.create_run(*arguments, **named)

    second = open_record(Overtaken(world.client), tracked, run, folder).info.run_id
    assert [second] == first and world.record().info.run_id == second


def test_a_record_that_the_user_deleted_does_not_keep_others_from_being_synced(
    world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    world.open()
    world.folders[0].attempt(range(1, 3), "released")
    world.sync()
    world.client.delete_run(world.record().info.run_id)
    for folder in world.folders:
        folder.finish()
    world.sync()
    assert world.history(1) == world.folders[1].spool
    assert world.runs[0].key in caplog.text and "active" in caplog.text


def test_a_deleted_experiment_or_parent_is_named_with_the_remedy(world: Any) -> None:
    tracked = world.open()
    world.client.delete_run(tracked.parent)
    with pytest.raises(InputError, match="mlflow runs restore"):
        world.open()
    world.client.delete_experiment(tracked.experiment)
    with pytest.raises(InputError, match="mlflow experiments restore"):
        world.open()


SYNC = """
import pickle, sys
from upath import UPath
from ladder.platform.tracking.database import open_tracking
from ladder.platform.tracking.records import open_sweep
from ladder.platform.tracking.sync import sync_runs

storage, uri = UPath(sys.argv[1]), sys.argv[2]
sweep, runs = pickle.load(open(sys.argv[3], "rb"))
print("ready", flush=True)
sys.stdin.readline()
client = open_tracking(uri)
sync_runs(client, open_sweep(client, sweep, runs, storage), sweep, runs, storage)
"""


def test_drivers_that_open_and_sync_at_once_make_one_record(world: Any, tmp_path: Path) -> None:
    """Two processes, in a database whose tables none has made yet."""
    for folder in world.folders:
        folder.finish()
    (tmp_path / "sweep").write_bytes(pickle.dumps((world.sweep, world.runs)))
    world.uri = f"sqlite:///{tmp_path}/fresh.db"
    command = [sys.executable, "-c", SYNC, str(world.storage), world.uri, str(tmp_path / "sweep")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    drivers = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    for driver in drivers:
        assert driver.stdout.readline() == "ready\n", driver.stderr.read()
    for driver in drivers:
        driver.stdin.write("go\n")
        driver.stdin.flush()
    for driver in drivers:
        errors = driver.communicate()[1]
        assert driver.returncode == 0, errors
    world.client = open_tracking(world.uri)
    assert len(world.parents()) == 1
    assert [world.history(n) for n in (0, 1)] == [world.folders[n].spool for n in (0, 1)]


def test_mlflow_is_told_to_report_nothing_to_its_makers(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for said in (None, "false"):
        monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
        if said is not None:
            monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", said)
        open_tracking(world.uri)
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == (said or "true")


def test_tracking_beside_a_remote_storage_must_be_named() -> None:
    with pytest.raises(InputError, match="--tracking"):
        tracking_uri(None, UPath("memory://bucket"))
    assert tracking_uri("http://host:5000", UPath("memory://bucket")) == "http://host:5000"


def test_a_tracking_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match="http://127.0.0.1:9 cannot be reached"):
        open_tracking("http://127.0.0.1:9")


def test_the_user_is_known_without_any_variable_of_the_environment(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    tracked = world.open()
    name = pwd.getpwuid(os.getuid()).pw_name
    assert world.client.get_run(tracked.parent).data.tags["mlflow.user"] == name
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    assert provenance.user() == f"uid-{os.getuid()}"


def test_the_parent_says_what_was_asked_how_far_it_is_and_what_it_took(world: Any) -> None:
    tracked = world.open()
    first, second = world.runs
    statuses = [RunStatus(run=first, status="running"), RunStatus(run=second, status="waiting")]
    describe_sweep(world.client, tracked, world.sweep, statuses)
    parent = world.client.get_run(tracked.parent)
    assert parent.data.tags["ladder.state"] == "0 of 2 runs finished, 1 running, 1 waiting"
    assert "sweep/lowest_heldout_loss" not in parent.data.metrics
    assert VIEW_TAG in world.client.get_experiment(tracked.experiment).tags, "whoever opens the page now finds it"
    world.folders[0].finish()
    world.sync()
    statuses = [RunStatus(run=first, status="finished"), RunStatus(run=second, status="failed")]
    describe_sweep(world.client, tracked, world.sweep, statuses, Usage(gpu_hours=3.0, core_hours=12.0))
    parent = world.client.get_run(tracked.parent)
    assert parent.data.metrics == {
        "sweep/runs_finished": 1.0,
        "sweep/runs_failed": 1.0,
        "sweep/lowest_heldout_loss": 2.5,
        "sweep/gpu_hours": 3.0,
        "sweep/core_hours": 12.0,
    }
    note = parent.data.tags["mlflow.note.content"]
    assert note.startswith("What is asked.") and "State: 1 of 2 runs finished, 1 failed" in note
    assert f"2.5000 nats per token, {first.key}" in note and "viewStateShareKey=ladder" in note
    assert "scaling/loss_over_params" not in read_sweep(world.uri, "mine").table.columns, "it is no score"
