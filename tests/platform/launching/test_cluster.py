"""A cluster whose nodes come and go: nothing is lost, no loss is a failure, and what cannot be shared is refused."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster as Nodes
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.launching import cluster as module
from ladder.platform.launching.cluster import Cluster, gpus_per_worker, refuse_what_cannot_be_shared
from ladder.platform.launching.nodes import NodeType
from ladder.sweeps.words import Execution
from tests.platform.launching.harness import Sweep, kill_family, undisturbed, wait_for


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """A head that trains nothing, on this machine."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    made = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100 * 2**20})
    yield made
    made.shutdown()


@pytest.mark.endurance
@pytest.mark.timeout(1200)
def test_ten_lost_nodes_of_four_cost_nothing_but_time(nodes: Nodes, tmp_path: Path, storage: UPath) -> None:
    sweep = Sweep(tmp_path, storage, tokens=(4_096_000,), seeds=(0, 1))
    workers = [nodes.add_node(num_cpus=1, object_store_memory=100 * 2**20) for _ in range(4)]
    driver = sweep.start("--address", nodes.address)
    removed = 0
    end = time.monotonic() + 900
    while driver.poll() is None and time.monotonic() < end:
        busy = {claim.node for claim in sweep.claims().values() if claim.live and claim.progress.get("step", 0) > 20}
        victim = next((node for node in workers if node.node_id in busy), None)
        if removed < 10 and victim is not None:
            nodes.remove_node(victim, allow_graceful=False)
            workers.remove(victim)
            workers.append(nodes.add_node(num_cpus=1, object_store_memory=100 * 2**20))
            removed += 1
        time.sleep(1)
    assert driver.wait(10) == 0, sweep.said()
    assert removed == 10, f"the sweep ended after {removed} losses: make it longer"
    assert sum(claim.epoch for claim in sweep.claims().values()) >= 10
    twin = undisturbed(sweep, tmp_path)
    assert sweep.results() == twin.results() and sweep.losses() == twin.losses(), "bit for bit"
    sweep.assert_tracked_exactly()


def start_head(port: int, folder: Path) -> "subprocess.Popen[bytes]":
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"),
        *("--num-cpus=2", "--temp-dir", str(folder), "--include-dashboard=false"),
        *("--ray-client-server-port=20011", "--dashboard-agent-listen-port=52476"),
    ]
    head = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(10)
    return head


@pytest.mark.endurance
@pytest.mark.timeout(900)
def test_a_head_that_is_killed_and_started_again_goes_on(
    tmp_path: Path, storage: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    sweep = Sweep(tmp_path, storage, tokens=(4_096_000,))
    head = start_head(26479, Path(f"/tmp/ladder-head-{os.getpid()}"))
    first = sweep.start("--address", "127.0.0.1:26479")
    wait_for(
        "two runs with a checkpoint", 240, lambda: len(list(storage.glob("sweeps/path/*/step-*/training.json"))) > 1
    )
    kill_family(head.pid)
    assert first.wait(300) not in (0, None), "without a head nothing goes on"
    steps = {key: claim.progress.get("step", 0) for key, claim in sweep.claims().items()}

    head = start_head(26479, Path(f"/tmp/ladder-head-{os.getpid()}-2"))
    second = sweep.start("--address", "127.0.0.1:26479")
    assert second.wait(500) == 0, sweep.said()
    kill_family(head.pid)
    assert any(steps.values()), "some of it was done before"
    twin = undisturbed(sweep, tmp_path)
    assert sweep.results() == twin.results() and sweep.losses() == twin.losses()
    sweep.assert_tracked_exactly()


HERE, OTHER = "10.0.0.1", "10.0.0.2"
NODE = NodeType(name="node", cpus=8)


@pytest.fixture
def on_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: HERE)


@pytest.mark.parametrize(
    "cluster",
    [
        Cluster(local=False, types=(NODE,), hosts=frozenset({HERE, OTHER})),
        Cluster(local=False, types=(NODE,), hosts=frozenset({HERE}), grows=True),
    ],
)
def test_an_sqlite_file_is_no_tracking_for_several_machines(on_here: None, cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="several machines cannot write.*mlflow server"):
        refuse_what_cannot_be_shared(cluster, UPath(tmp_path), f"sqlite:///{tmp_path}/mlflow.db")


def test_a_folder_that_other_machines_do_not_see_is_no_storage(
    on_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(local=False, types=(NODE,), hosts=frozenset({HERE, OTHER}))
    monkeypatch.setattr(module, "_sees", lambda host, storage: False)
    with pytest.raises(InputError, match=r"10\.0\.0\.2 of the cluster cannot see: name one that all nodes share"):
        refuse_what_cannot_be_shared(cluster, UPath(tmp_path), "http://mlflow:5000")
    refuse_what_cannot_be_shared(cluster, UPath("memory://bucket"), "http://mlflow:5000")
    monkeypatch.setattr(module, "_sees", lambda host, storage: True)  # a network file system
    refuse_what_cannot_be_shared(cluster, UPath(tmp_path), "http://mlflow:5000")


def test_one_machine_may_use_its_own_folder_and_file(on_here: None, tmp_path: Path) -> None:
    cluster = Cluster(local=False, types=(NODE,), hosts=frozenset({HERE}))
    refuse_what_cannot_be_shared(cluster, UPath(tmp_path), f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_second_machine_is_refused_with_what_to_do(nodes: Nodes, tmp_path: Path, storage: UPath) -> None:
    nodes.add_node(num_cpus=1, node_ip_address="127.0.0.2", object_store_memory=100 * 2**20)
    sweep = Sweep(tmp_path, storage)
    assert sweep.start("--address", nodes.address).wait(200) == 2, sweep.said()
    assert "several machines cannot write" in sweep.said() and "--tracking" in sweep.said()
    assert "Traceback" not in sweep.said()


@pytest.mark.parametrize(
    ("execution", "gpus", "expected"),
    [
        (Execution(), 0, 0),
        (Execution(), 8, 1),
        (Execution(gpus_per_worker=0), 8, 0),
        (Execution(gpus_per_worker=0.25), 0, 0.25),
        (Execution(accelerator_type="H100"), 0, 1),
    ],
)
def test_a_worker_gets_a_gpu_where_the_cluster_has_or_can_start_one(
    execution: Execution, gpus: float, expected: float
) -> None:
    cluster = Cluster(local=False, types=(NodeType(name="node", cpus=8, gpus=gpus),))
    assert gpus_per_worker(execution, cluster) == expected
