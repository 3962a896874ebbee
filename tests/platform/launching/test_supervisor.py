"""A driver that is killed is started again; one that ends, or is told to, is not."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from ladder.platform.command.submit import command as submit
from ladder.platform.launching import submission, supervisor

DRIVER = """
import os, pathlib, signal, sys, time
mark = pathlib.Path(sys.argv[1])
number = len(list(mark.iterdir()))
(mark / str(number)).touch()
what = sys.argv[2].split(",")[number]
if what == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "wait":
    time.sleep(60)
sys.exit(int(what))
"""


def supervised(folder: Path, what: str) -> "subprocess.Popen[str]":
    """A supervisor, in a process of its own, of a driver that does one thing after another at each start."""
    folder.mkdir()
    command = [sys.executable, "-c", DRIVER, str(folder), what]
    code = "import sys; from ladder.platform.launching.supervisor import supervise; "
    code += f"sys.exit(supervise({command!r}, pause=0))"
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("what", "code", "starts"),
    [
        ("0", 0, 1),
        ("1", 1, 1),  # runs failed
        ("2", 2, 1),  # the user's mistake
        ("3", 3, 1),  # told to stop, or the budget is spent
        ("kill,kill,3", 3, 3),
        (",".join(["kill"] * 20), 137, supervisor.RESTARTS + 1),
    ],
)
def test_only_a_driver_that_was_killed_is_started_again(tmp_path: Path, what: str, code: int, starts: int) -> None:
    process = supervised(tmp_path / "starts", what)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code and len(list((tmp_path / "starts").iterdir())) == starts
    assert said.count("was killed by signal 9 and is started again") == starts - 1


def test_a_supervisor_that_is_told_to_end_ends_its_driver(tmp_path: Path) -> None:
    process = supervised(tmp_path / "starts", "wait,0")
    while not list((tmp_path / "starts").iterdir()):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    assert len(list((tmp_path / "starts").iterdir())) == 1


def test_a_job_is_a_supervised_driver_with_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted: list[str] = []

    class Client:
        def submit_job(self, *, entrypoint: str, runtime_env: dict[str, str]) -> str:
            assert (Path(runtime_env["working_dir"]) / "ladder" / "platform" / "launching" / "supervisor.py").is_file()
            submitted.append(entrypoint)
            return "job-1"

    monkeypatch.setattr(submission, "_client", lambda address: Client())
    monkeypatch.setattr(submission, "wait", lambda *_, **__: None)
    options = ["demo", "--address", "http://127.0.0.1:1", "--storage", str(tmp_path), "--budget-gpu-hours", "7.5"]
    done = CliRunner().invoke(submit, options, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (entrypoint,) = submitted
    assert entrypoint.startswith("python -m ladder.platform.launching.supervisor run submitted/demo.py --address auto")
    assert "--budget-gpu-hours 7.5" in entrypoint
