"""`ray up` to a report and `ray down`, for real: the files of this repository on a machine that is reached by ssh.

The machine is this one, behind an ssh server of our own on the loopback address, with its own home and its own process
numbers: `ray up` and `ray down` call `ray stop`, which ends every Ray that it sees. Nothing of the user's ssh is read
or written.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from upath import UPath

from ladder.platform.command.status import command as status
from tests.platform.launching.harness import Sweep, kill_family, ladder, wait_for
from tests.platform.tracking.conftest import free_port

ROOT = Path(__file__).parents[3]
RAY = (sys.executable, "-m", "ray.scripts.scripts")


def skip_reason() -> str | None:
    """Why there can be no such machine here."""
    if not sys.platform.startswith("linux") or os.getuid() != 0:
        return "wants Linux and root, for process numbers of its own"
    missing = [name for name in ("sshd", "ssh", "ssh-keygen", "rsync", "unshare", "curl") if _program(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode:
        return "this container may not make process numbers of their own (unshare)"
    return None


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


class Machine:
    """A machine with an ssh server, and the home from which it is reached."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.laptop = folder, folder / "home", folder / "laptop"
        self.ssh_port, self.ray_port, self.dashboard, self.mlflow = (free_port() for _ in range(4))
        for path in (self.home, self.laptop / ".ssh", folder / "bin", Path("/run/sshd")):
            path.mkdir(parents=True, exist_ok=True)
        self.key = self.laptop / ".ssh" / "key"
        for key in (self.key, folder / "host"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        # The port, and no look at anybody's settings, for Ray's ssh and rsync alike.
        ssh = folder / "bin" / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {_program("ssh")} -F none -p {self.ssh_port} "$@"\n')
        ssh.chmod(0o755)
        (folder / "sshd.conf").write_text(
            f"Port {self.ssh_port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.key}.pub\nPasswordAuthentication no\nStrictModes no\nPrintMotd no\n"
            f"SetEnv HOME={self.home} RAY_TMPDIR={folder}\n"
        )
        with (folder / "sshd.log").open("w") as log:
            self.server = subprocess.Popen(
                ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", str(_program("sshd"))]
                + ["-D", "-e", "-f", str(folder / "sshd.conf")],
                stdout=log,
                stderr=log,
            )

    @property
    def environment(self) -> dict[str, str]:
        """For commands of the laptop."""
        path = f"{self.folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return os.environ | {
            "HOME": str(self.laptop),
            "PATH": path,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_TMPDIR": str(self.folder),
            "PIP_NO_BUILD_ISOLATION": "0",  # pip's way to say that it is not isolated: no package index is asked
        }

    def call(self, *command: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            list(map(str, command)),
            env=self.environment,
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=170,
        )

    def make_environment(self) -> None:
        """What an image has: this Python's packages in a virtual environment and the pins' stamp, without ladder."""
        venv = self.home / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        packages = next(venv.glob("lib/python*/site-packages"))
        elsewhere = [path for path in sys.path if path and Path(path).resolve() != ROOT]
        (packages / "image.pth").write_text("\n".join(elsewhere) + "\n")
        for name, module in {"ray": "ray.scripts.scripts", "mlflow": "mlflow.cli"}.items():
            words = "main" if name == "ray" else "cli"
            program = venv / "bin" / name
            program.write_text(f"#!{venv}/bin/python\nfrom {module} import {words}\n{words}()\n")
            program.chmod(0o755)
        pins = (ROOT / "constraints" / "gpu.txt").read_text()
        (venv / "installed.txt").write_text(f"# tracker\n{pins}")

    def cluster_file(self, storage: UPath) -> Path:
        """platform/cluster/local.yaml with what it says is yours to change, and ports of our own."""
        text = (ROOT / "platform" / "cluster" / "local.yaml").read_text()
        for word, value in {
            "cluster_name: ladder-local": f"cluster_name: ladder-{os.getpid()}",
            "HEAD-ADDRESS": "127.0.0.1",
            "[WORKER-ADDRESS, WORKER-ADDRESS-2]": "[]",
            "YOUR-USER": "root",
            "~/.ssh/id_ed25519": str(self.key),
            "build/cluster": f"{self.folder}/pack",
            "LADDER_TRACKER_ARTIFACTS=/shared/ladder/mlflow": f"LADDER_TRACKER_ARTIFACTS={storage}/mlflow "
            f"LADDER_TRACKER_PORT={self.mlflow} LADDER_TRACKER_HOST=127.0.0.1",
            "http://$(hostname -I | cut -d' ' -f1):5000": f"http://127.0.0.1:{self.mlflow}",
            "--port=6379 --dashboard-host": f"--port={self.ray_port} --dashboard-port={self.dashboard} --num-cpus=2 "
            f"--ray-client-server-port={free_port()} --dashboard-agent-listen-port={free_port()} --dashboard-host",
        }.items():
            assert word in text, word
            text = text.replace(word, value)
        file = self.folder / "cluster.yaml"
        file.write_text(text)
        return file

    def processes(self, name: str) -> list[psutil.Process]:
        """The machine's processes with a word in their command line."""
        family = psutil.Process(self.server.pid).children(recursive=True)
        return [process for process in family if name in " ".join(process.cmdline())]


@pytest.fixture
def machine() -> Iterator[Machine]:
    reason = skip_reason()
    if reason is not None:
        pytest.skip(reason)
    pytest.importorskip("flask_wtf", reason="MLflow's passwords (mlflow[auth]) are not installed")
    folder = Path(tempfile.mkdtemp(prefix="ladder-ssh-"))
    made = Machine(folder)
    yield made
    kill_family(made.server.pid)
    shutil.rmtree(folder)


def answer_of(url: str) -> int:
    """The HTTP status of a request without a password or a token."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_from_ray_up_to_a_report_and_down(machine: Machine, tmp_path: Path, storage: UPath) -> None:
    made = machine.call("bash", ROOT / "platform" / "cluster" / "pack.sh", sys.executable, machine.folder / "pack")
    assert made.returncode == 0, made.stderr
    assert (machine.laptop / ".ray" / "auth_token").stat().st_mode & 0o77 == 0
    assert (machine.laptop / ".mlflow" / "credentials").stat().st_mode & 0o77 == 0
    machine.make_environment()
    file = machine.cluster_file(storage)

    up = machine.call(*RAY, "up", file, "--yes", "--no-config-cache")
    assert up.returncode == 0, up.stdout + up.stderr
    monitor = machine.processes("autoscaler/v2/monitor.py")
    assert len(monitor) == 1, "Ray's autoscaler, by labels"

    dashboard = f"http://127.0.0.1:{free_port()}"
    tunnel = subprocess.Popen(
        [*RAY, "dashboard", str(file), "--port", dashboard.rpartition(":")[2], "--remote-port", str(machine.dashboard)],
        env=machine.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    try:
        run_a_sweep(machine, dashboard, tmp_path, storage)
    finally:
        kill_family(tunnel.pid)

    again = machine.call(*RAY, "up", file, "--yes", "--no-config-cache", "--no-restart")
    assert again.returncode == 0 and "Configuration already up to date" in again.stdout, again.stdout + again.stderr
    assert machine.processes("autoscaler/v2/monitor.py") == monitor, "what was up was left alone"

    down = machine.call(*RAY, "down", file, "--yes")
    assert down.returncode == 0, down.stdout + down.stderr
    wait_for("end of Ray", 30, lambda: not machine.processes("raylet"))


def run_a_sweep(machine: Machine, dashboard: str, tmp_path: Path, storage: UPath) -> None:
    """Submit, look, and report, from the laptop; strangers, without a token or a password, are turned away."""
    sweep = Sweep(tmp_path, storage, tokens=(40_960,))
    wait_for("the job server", 60, lambda: _status(dashboard) == 401)
    assert answer_of(f"http://127.0.0.1:{machine.mlflow}/api/2.0/mlflow/experiments/search?max_results=1") == 401

    # A run that no machine of this cluster can hold is told here, at once.
    started = time.monotonic()
    command = ladder("submit", sweep.file, "--address", dashboard, "--storage", storage)
    too_large = machine.call(*command, "--workers", 9)
    assert too_large.returncode == 2 and time.monotonic() - started < 60, too_large.stderr
    assert "wants 9 workers with 1 core each" in too_large.stderr and "1 x node with 2 cores" in too_large.stderr

    job = machine.call(*command, "--concurrent-runs", 1)  # one start of Ray Train for both
    assert job.returncode == 0, job.stderr
    wait_for("end of the sweep", 150, lambda: len(sweep.results()) == 2)
    shown = CliRunner().invoke(status, [str(sweep.file), "--storage", str(storage), "--json"], catch_exceptions=False)
    assert [run["status"] for run in json.loads(shown.stdout)["runs"]] == ["finished"] * 2
    logs = machine.call(*RAY, "job", "logs", "--address", dashboard, job.stdout.strip())
    assert "2 runs are to be done" in logs.stdout, logs.stdout + logs.stderr

    tracking = f"http://127.0.0.1:{machine.mlflow}"  # `ray exec ... --port-forward` elsewhere than on one machine
    report = machine.call(*ladder("report", sweep.file, "--storage", storage, "--tracking", tracking))
    assert report.returncode == 0, report.stderr
    assert "2x32" in Path(report.stdout.strip().splitlines()[-1]).read_text()


def _status(url: str) -> int | None:
    try:
        return answer_of(f"{url}/api/jobs/")
    except OSError:
        return None
