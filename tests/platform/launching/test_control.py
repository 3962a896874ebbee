"""A budget and an order end the work of drivers, and nothing is lost by it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.command.retry import command as retry
from ladder.platform.command.status import command as status
from ladder.platform.command.stop import command as stop
from ladder.platform.identity import mark_schema
from ladder.platform.launching.control import Control, SweepStopped
from ladder.platform.launching.dispatch import Dispatcher
from ladder.platform.runs.lease import acquire
from ladder.platform.runs.orders import OrdersSeen, give_order
from ladder.platform.runs.status import RunStatus, list_run_files
from ladder.platform.storage import run_folder
from tests.platform.launching.harness import Sweep, undisturbed, wait_for
from tests.platform.runs.test_usage import RUN, spend


def test_an_order_is_for_those_who_are_at_work(tmp_path: Path) -> None:
    before = OrdersSeen(UPath(tmp_path), "s")
    assert before.is_new("stop") is None
    give_order(UPath(tmp_path), "s", "stop")
    after = OrdersSeen(UPath(tmp_path), "s")
    assert before.is_new("stop") and before.is_new("stop") is None, "it is followed once"
    assert after.is_new("stop") is None, "whoever begins after a stop goes on"
    assert before.is_new("retry") is None
    give_order(UPath(tmp_path), "s", "retry")
    assert before.is_new("retry") and after.is_new("retry")


def make_control(root: UPath, hours: float | None) -> Control:
    return Control(root, "s", list_run_files(root, "s"), budget_gpu_hours=hours)


def test_a_budget_counts_what_was_spent_before_and_what_is_spent_now(tmp_path: Path) -> None:
    root = UPath(tmp_path)
    spend(run_folder(root, "s", "one"), "released", hours=1.0)
    assert make_control(root, 2.0).budget_is_spent and not make_control(root, None).budget_is_spent
    control = make_control(root, 3.0)
    assert control.gpu_hours == pytest.approx(2.0) and not control.budget_is_spent
    spend(run_folder(root, "s", "two"), None, hours=0.5)
    control.read_usage_of(["two"])
    assert control.budget_is_spent


@pytest.mark.parametrize("hours", [0.0, -1.0, float("nan")])
def test_a_budget_of_nothing_is_refused(tmp_path: Path, hours: float) -> None:
    with pytest.raises(InputError, match="wanted GPU-hours above 0"):
        make_control(UPath(tmp_path), hours)


@pytest.fixture
def driver(tmp_path: Path) -> Callable[[float | None, Any], Dispatcher]:
    """A driver with one run and without a cluster."""

    def make(hours: float | None, word: Any) -> Dispatcher:
        made: Any = Dispatcher.__new__(Dispatcher)
        made.storage, made.sweep = UPath(tmp_path), SimpleNamespace(name="s", benchmarks=())
        made.control = make_control(UPath(tmp_path), hours)
        made.statuses, made.jobs = (
            {RUN.key: RunStatus(run=RUN, status=word)},
            {RUN.key: SimpleNamespace(definitions={})},
        )
        made.lanes, made.scoring, made._worked_on = [], {}, set()
        made._halted, made._next_control, made.calls = False, 0.0, []
        made.host = SimpleNamespace(halt=SimpleNamespace(remote=lambda: made.calls.append("halt")))
        return made  # type: ignore[no-any-return]

    return make


def test_a_driver_halts_its_lanes_once_the_budget_is_spent_and_waits_for_what_goes_on(
    driver: Any, tmp_path: Path
) -> None:
    made = driver(1.0, "running")
    made.lanes = ["a lane"]
    made._follow_control()
    assert not made._halted and not made._is_done()
    spend(run_folder(UPath(tmp_path), "s", RUN.key), None, hours=0.5)
    made._next_control = 0.0
    made._follow_control()
    assert made._halted and made.calls == ["halt"] and not made._is_done(), "the run goes on"
    made.lanes = []
    assert made._is_done()


def test_a_driver_ends_where_it_is_told_to(driver: Any, tmp_path: Path) -> None:
    made = driver(None, "running")
    give_order(UPath(tmp_path), "s", "stop")
    with pytest.raises(SweepStopped, match="stopped by .*@"):
        made._follow_control()


def test_a_driver_takes_a_failed_run_up_again_that_was_opened(driver: Any, tmp_path: Path) -> None:
    made = driver(None, "failed")
    lease = acquire(run_folder(UPath(tmp_path), "s", RUN.key), "a")
    assert lease is not None
    lease.end("released")
    made._follow_control()
    assert made.statuses[RUN.key].status == "failed" and made._is_done()
    give_order(UPath(tmp_path), "s", "retry")
    made._next_control = 0.0
    made._follow_control()
    assert made.statuses[RUN.key].status == "waiting" and not made._is_done()


def call(command: click.Command, sweep: Sweep, *options: str) -> str:
    """What a command on a sweep prints, in this process."""
    arguments = [str(sweep.file), *options, "--storage", str(sweep.storage)]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_sweep_whose_budget_is_spent_launches_nothing(tmp_path: Path, storage: UPath) -> None:
    mark_schema(storage)
    sweep = Sweep(tmp_path, storage, tokens=(1024,))
    before = json.loads(call(status, sweep, "--json", "--price-per-gpu-hour", "2"))
    key = before["runs"][0]["run"]
    assert before["gpu_hours_spent"] == 0 and before["gpu_hours_to_come"] is None
    spend(run_folder(storage, "path", key), "released", hours=5.0, gpus=2.0)
    done = sweep.start("--budget-gpu-hours", 10)
    assert done.wait(120) == 3, sweep.said()
    assert "the budget of 10 GPU-hours is spent (10 were taken)" in sweep.said()
    assert [claim.epoch for claim in sweep.claims().values()] == [1], "nothing was launched"
    after = json.loads(call(status, sweep, "--json", "--price-per-gpu-hour", "2"))
    assert after["gpu_hours_spent"] == pytest.approx(10) and after["cost_spent"] == pytest.approx(20)
    assert {row["run"]: row["gpu_hours"] for row in after["runs"]}[key] == pytest.approx(10)


@pytest.mark.endurance
def test_a_stopped_sweep_ends_at_once_and_goes_on_bit_for_bit(tmp_path: Path, storage: UPath) -> None:
    sweep = Sweep(tmp_path, storage, tokens=(409_600,))
    driver = sweep.start()
    wait_for("a checkpoint", 120, lambda: list(storage.glob("sweeps/path/*/step-*/training.json")))
    began = time.monotonic()
    assert "have stopped; `ladder run` takes them up again" in call(stop, sweep)
    assert driver.wait(30) == 3 and "stopped by" in sweep.said()
    print(f"stopped in {time.monotonic() - began:.1f} s")
    assert not any(claim.live for claim in sweep.claims().values())
    assert "released" in {claim.outcome for claim in sweep.claims().values()}
    assert sweep.start().wait(240) == 0, sweep.said()
    twin = undisturbed(sweep, tmp_path)
    assert sweep.results() == twin.results() and sweep.losses() == twin.losses(), "bit for bit"


BUDGETED = """
import sys
from ladder.platform.command.main import main
from ladder.platform.launching import dispatch, lanes

class Host(lanes.LaneHost):
    def run_lane(self, name, shape, jobs, ray_folder):
        make = lanes.make_trainer
        def counted(*arguments, **options):
            trainer = make(*arguments, **options)
            trainer.train_loop_config["holds"] = {"gpus": 1.0, "cores": 1.0}
            return trainer
        lanes.make_trainer = counted
        try:
            return super().run_lane(name, shape, jobs, ray_folder)
        finally:
            lanes.make_trainer = make

dispatch.LaneHost = Host
sys.argv = ["ladder", *sys.argv[1:]]
main()
"""


@pytest.mark.endurance
@pytest.mark.timeout(600)
def test_a_budget_reached_in_mid_run_launches_no_further_one_and_a_larger_one_goes_on(
    tmp_path: Path, storage: UPath
) -> None:
    """Real processes of Ray that train; a core counts as a GPU, since there is none here."""
    sweep = Sweep(tmp_path, storage, tokens=(307_200,))
    command = [sys.executable, "-c", BUDGETED, "run", str(sweep.file), "--storage", str(storage)]
    one = [*command, "--concurrent-runs", "1", "--budget-gpu-hours"]
    done = subprocess.run([*one, "0.0003"], capture_output=True, text=True, timeout=200)  # a second
    assert done.returncode == 3 and "the budget of 0.0003 GPU-hours is spent" in done.stderr, done.stderr
    assert "the runs hold no GPUs, so a budget of GPU-hours is never reached" in done.stderr, "cores alone"
    (first,) = sweep.claims().values()
    assert first.outcome == "finished" and first.step == 0, "what went on came to its end, and nothing else began"
    shown = json.loads(call(status, sweep, "--json"))
    assert [row["status"] for row in shown["runs"]].count("waiting") == 1
    assert 0.0003 <= shown["gpu_hours_spent"] == pytest.approx(first.progress["held_seconds"] / 3600)
    again = subprocess.run([*one, "0.0003"], capture_output=True, text=True, timeout=60)
    assert again.returncode == 3 and len(sweep.claims()) == 1, "spent is spent"
    more = subprocess.run([*one, "1"], capture_output=True, text=True, timeout=200)
    assert more.returncode == 0 and len(sweep.results()) == 2, more.stderr


@pytest.mark.parametrize("command", [status, stop, retry])
def test_a_sweep_that_has_not_begun_is_said_to_and_nothing_is_built(tmp_path: Path, command: click.Command) -> None:
    """Was a corpus of 8 MB, built to say that all runs wait."""
    with pytest.raises(InputError, match="sweep demo has not begun in storage .*no corpus pydocs.*--storage"):
        CliRunner().invoke(command, ["demo", "--storage", str(tmp_path)], catch_exceptions=False)
    assert not list(tmp_path.iterdir())


def test_a_watch_ends_at_ctrl_c(tmp_path: Path, storage: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    mark_schema(storage)
    sweep = Sweep(tmp_path, storage, tokens=(1024,))

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ladder.platform.command.status.time", SimpleNamespace(sleep=interrupted))
    shown = call(status, sweep, "--watch")
    assert shown.count("\n") == 1 and "0 of 2 runs finished, 2 waiting" in shown


def test_a_run_that_failed_is_opened_again_by_its_key(tmp_path: Path, storage: UPath) -> None:
    mark_schema(storage)
    sweep = Sweep(tmp_path, storage, tokens=(1024,))
    keys = [row["run"] for row in json.loads(call(status, sweep, "--json"))["runs"]]
    with pytest.raises(InputError, match="1x99 is no run of it.*None of its runs failed"):
        call(retry, sweep, "1x99")
    for key in keys:
        lease = acquire(run_folder(storage, "path", key), "a")
        assert lease is not None
        lease.end("failed", "the loss is not finite")
    assert "0 of 2 runs finished, 2 failed" in call(status, sweep, "--watch"), "it ends with the runs"
    assert "it had failed: the loss is not finite" in call(retry, sweep, keys[0])
    assert "0 of 2 runs finished, 1 waiting, 1 failed" in call(status, sweep)
    assert "1 runs are open again" in call(retry, sweep)
    assert "2 waiting" in call(status, sweep)
