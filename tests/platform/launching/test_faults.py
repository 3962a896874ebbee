"""Whatever is killed, stopped or started twice on one machine: each run is trained once, and exactly."""

import signal
import time
from pathlib import Path

import psutil
import pytest
from upath import UPath

from ladder.platform.runs.curve import read_curve
from ladder.platform.storage import read_json
from tests.platform.launching.harness import Sweep, kill_family, processes_of_ray, undisturbed, wait_for

pytestmark = pytest.mark.timeout(900)


def holder(sweep: Sweep, name: str) -> psutil.Process | None:
    """The process that trains the run whose key begins with a name, once it has a checkpoint."""
    for key, claim in sweep.claims().items():
        if key.startswith(name) and claim.live and list((sweep.storage / "sweeps" / "path" / key).glob("step-*")):
            return psutil.Process(claim.pid)
    return None


def assert_as_undisturbed(sweep: Sweep, twin: Sweep) -> None:
    assert sweep.results() == twin.results() and len(sweep.results()) == 2 * len(sweep.seeds) * len(sweep.tokens)
    assert sweep.losses() == twin.losses(), "bit for bit"
    sweep.assert_tracked_exactly()


@pytest.mark.slow
def test_two_drivers_share_a_sweep_and_a_worker_that_slept_harms_nothing(tmp_path: Path, storage: UPath) -> None:
    sweep = Sweep(tmp_path, storage)
    drivers = [sweep.start("--concurrent-runs", 1) for _ in range(2)]
    asleep: psutil.Process = wait_for("checkpoint of the first run", 180, lambda: holder(sweep, "2x32"))
    key = next(key for key, claim in sweep.claims().items() if claim.pid == asleep.pid and claim.live)
    asleep.suspend()
    wait_for("takeover", 240, lambda: sweep.claims()[key].epoch > 1)
    asleep.resume()
    assert [driver.wait(400) for driver in drivers] == [0, 0], sweep.said()
    assert {name: claim.epoch for name, claim in sweep.claims().items()} == {
        name: 2 if name == key else 1 for name in sweep.claims()
    }, "one holder of each run, but for the one that was taken over"
    assert "was taken over by another worker" in sweep.said() or not asleep.is_running()
    assert_as_undisturbed(sweep, undisturbed(sweep, tmp_path))


@pytest.mark.slow
def test_a_killed_controller_driver_or_host_costs_nobody_a_run(tmp_path: Path, storage: UPath) -> None:
    sweep = Sweep(tmp_path, storage, tokens=(1_024_000, 2_048_000))
    first = sweep.start()
    wait_for("checkpoint", 180, lambda: holder(sweep, "2x32"))
    (controller, *_) = processes_of_ray("TrainController")
    controller.kill()
    wait_for("another attempt", 120, lambda: max(claim.epoch for claim in sweep.claims().values()) == 2)
    wait_for("checkpoint of it", 120, lambda: holder(sweep, "2x32"))
    kill_family(first.pid)

    kept = {(folder.name, p["step"]): p["time_ms"] for folder in sweep.folders for p in read_curve(folder)}
    second = sweep.start()
    wait_for("work of the second driver", 180, lambda: [c for c in sweep.claims().values() if c.live])
    for host in processes_of_ray("LaneHost"):
        host.kill()
    assert second.wait(400) == 0, sweep.said()
    now = {(folder.name, p["step"]): p["time_ms"] for folder in sweep.folders for p in read_curve(folder)}
    assert {where: now[where] for where in kept} == kept, "no step was recorded twice"
    assert_as_undisturbed(sweep, undisturbed(sweep, tmp_path))  # where each budget is trained by itself
    executions = [read_json(folder / "result.json")["execution"] for folder in sweep.folders]  # type: ignore[index]
    assert sorted(int(execution["shared_steps"]) for execution in executions) == [0, 0, 400, 400]

    claims = sweep.claims()
    third = sweep.start()
    assert third.wait(120) == 0 and "nothing to train" in sweep.said()
    assert sweep.claims() == claims, "nothing was taken up again"


@pytest.mark.endurance
def test_a_worker_killed_again_and_again_fails_its_run_and_no_other(tmp_path: Path, storage: UPath) -> None:
    sweep = Sweep(tmp_path, storage, tokens=(4_096_000,))
    sweep.file.write_text(sweep.file.read_text().replace("checkpoint_seconds=0.5", "checkpoint_seconds=600.0"))
    driver = sweep.start("--concurrent-runs", 1)
    end = time.monotonic() + 400
    killed = 0
    while driver.poll() is None and time.monotonic() < end:
        for key, claim in sweep.claims().items():
            if key.startswith("2x32") and claim.live and claim.progress.get("step", 0) > 0:
                psutil.Process(claim.pid).send_signal(signal.SIGKILL)
                killed += 1
        time.sleep(0.2)
    assert driver.wait(10) == 1 and killed == 4, sweep.said()
    claims = {key[:4]: claim for key, claim in sweep.claims().items()}
    assert claims["1x32"].outcome == "finished"
    assert str(claims["2x32"].reason).startswith("failed 4 times at step 0: its worker died without a word")


@pytest.mark.endurance
def test_a_killed_worker_is_at_its_next_step_within_25_seconds(tmp_path: Path, storage: UPath) -> None:
    """From SIGKILL to the first step that the worker after it has trained, on two cores."""
    sweep = Sweep(tmp_path, storage, tokens=(8_192_000,))
    driver = sweep.start("--concurrent-runs", 1)
    seconds = []
    try:
        for epoch in (1, 2, 3):
            victim: psutil.Process = wait_for("checkpoint", 180, lambda: holder(sweep, "2x32"))
            key = next(key for key, claim in sweep.claims().items() if claim.pid == victim.pid and claim.live)
            killed = time.monotonic()
            victim.kill()

            def goes_on(key: str = key, epoch: int = epoch) -> bool:
                claim = sweep.claims()[key]
                return claim.epoch == epoch + 1 and claim.progress.get("step", 0) > claim.step > 0

            wait_for("step after the checkpoint", 120, goes_on)
            seconds.append(time.monotonic() - killed)
        print(f"from SIGKILL to the next training step: {', '.join(f'{took:.1f}' for took in seconds)} s")
        assert sorted(seconds)[1] <= 25, seconds
    finally:
        kill_family(driver.pid)
