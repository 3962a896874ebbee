"""A cluster that grows from nothing and back: Ray's own autoscaler over a cloud of processes on this machine."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE
from upath import UPath

from ladder.platform.launching.nodes import read_autoscaler
from tests.platform.launching.harness import Sweep, kill_family, ladder, wait_for
from tests.platform.tracking.conftest import Server, free_port

ROOT = Path(__file__).parents[3]
IDLE_SECONDS = 12

# Two ways to carry out a run: one worker, and two of them that go to one node.
SWEEP = '''"""Does a cluster grow to what a sweep asks for, and shrink again? Prediction: it does."""

from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Execution, Sweep, grid

SWEEP = Sweep(
    name="path",
    corpus="small",
    context=32,
    points=grid(sizes=("1x32", "2x32", "2x64"), tokens=(40_960,)),
    recipe=small_recipe,
    heldout_tokens=1024,
    execution=lambda size: Execution(workers=2 if size.d_model == 64 else 1, checkpoint_seconds=2.0),
)
'''


class Cloud:
    """A head with an autoscaler, and what its cloud wrote down."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.file = folder / "cluster.yaml"
        self.file.write_text(yaml.safe_dump(self.config()))
        environment = os.environ | {
            "RAY_AUTH_MODE": "disabled",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",  # the one that `ray up` starts
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
            "RAY_NODE_TYPE_NAME": FAKE_HEAD_NODE_TYPE,
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "PYTHONPATH": str(ROOT),
        }
        # A short name: the sockets of Ray have room for 107 characters.
        self.ray = tempfile.mkdtemp(prefix="ladder-ray-")
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=0"),
            *(
                f"--port={self.port}",
                "--temp-dir",
                self.ray,
                "--include-dashboard=false",
                "--node-ip-address=127.0.0.1",
            ),
            *(f"--ray-client-server-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}"),
            *(f"--autoscaling-config={self.file}", "--object-store-memory=100000000"),
        ]
        with (folder / "head.log").open("w") as log:
            self.head = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def config(self) -> dict[str, object]:
        def kind(name: str, cpus: int, count: int) -> dict[str, object]:
            return {
                "resources": {"CPU": cpus, "object_store_memory": 100_000_000},
                "labels": {"ray.io/node-group": name},
                "node_config": {},
                "min_workers": 0,
                "max_workers": count,
            }

        commands = ("setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray", "initialization")
        return {
            **{f"{name}_commands": [] for name in commands},
            "file_mounts": {},
            "cluster_synced_files": [],
            "cluster_name": "fake",
            "max_workers": 4,
            "idle_timeout_minutes": IDLE_SECONDS / 60,
            "provider": {
                "type": "external",
                "module": "tests.platform.launching.fake_cloud.FakeCloud",
                "folder": str(self.folder),
                "gcs_address": f"127.0.0.1:{self.port}",
                "head_node_id": FAKE_HEAD_NODE_ID,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
            },
            "head_node_type": FAKE_HEAD_NODE_TYPE,
            "available_node_types": {
                FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "min_workers": 0, "max_workers": 0},
                "single": kind("single", 1, 2),
                "pair": kind("pair", 2, 1),
            },
        }

    def notes(self, name: str) -> list[dict[str, str]]:
        path = self.folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def stop(self) -> None:
        kill_family(self.head.pid)
        shutil.rmtree(self.ray, ignore_errors=True)  # its processes may still be writing


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    folder = tmp_path / "cloud"
    folder.mkdir()
    made = Cloud(folder)
    yield made
    made.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "mlflow"
    folder.mkdir()
    made = Server(folder, f"sqlite:///{folder}/mlflow.db")
    made.start()
    yield made
    made.kill()


@pytest.mark.endurance
@pytest.mark.timeout(400)
def test_from_nothing_to_what_runs_need_and_back(
    cloud: Cloud, server: Server, tmp_path: Path, storage: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(tmp_path, storage)
    sweep.file.write_text(SWEEP)
    options = ("--address", f"127.0.0.1:{cloud.port}", "--tracking", server.uri)
    wait_for("autoscaler", 60, lambda: read_autoscaler(cloud.port))

    began = time.monotonic()
    command = ladder("run", sweep.file, "--storage", storage, *options, "--workers", "5")
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and time.monotonic() - began < 60, refused.stderr
    assert "wants 5 workers with 1 core each" in refused.stderr and "2 x single with 1 core" in refused.stderr
    assert "1 x pair with 2 cores" in refused.stderr and "Traceback" not in refused.stderr
    assert not cloud.notes("refused"), "nothing was asked of the cloud for a run that it can never serve"

    # No capacity for longer than every limit: Ray Train gives up after 10 s here, again and again.
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "10")
    driver = sweep.start(*options)
    wait_for("refusal of the cloud", 60, lambda: cloud.notes("refused"))
    time.sleep(30)
    assert driver.poll() is None, sweep.said()
    (cloud.folder / "capacity").touch()
    assert driver.wait(200) == 0, sweep.said()
    ended = time.monotonic()

    launched = {note["node"]: note["kind"] for note in cloud.notes("launched")}
    assert Counter(launched.values()) <= Counter(single=2, pair=1)
    first = {folder.name: json.loads((folder / "claims" / "000001.json").read_text()) for folder in sweep.folders}
    assert {claim["outcome"] for claim in first.values()} == {"finished", "trained"}, "waiting is no failure"
    went = {(claim["outcome"], launched[claim["node"]]) for claim in first.values()}
    assert went == {("finished", "single"), ("trained", "pair")}, "the gang of two, whose run another task scores"
    wait_for("end of all nodes", 60, lambda: len(cloud.notes("ended")) == len(launched))
    assert time.monotonic() - ended < IDLE_SECONDS + 30
