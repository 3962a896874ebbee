"""`ladder plan --nodes` shows which node each run gets, as the scheduler of `ladder run` would ask for it."""

import json
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ladder.platform.command.main import main
from ladder.platform.launching import cluster
from ladder.platform.launching.nodes import NodeType, Shape, nodes_for

ROOT = Path(__file__).parents[3]
QUICK = ("--simulations", "100", "--added-runs", "0", "--gpu", "H100")


@dataclass(frozen=True)
class Shown:
    """How a call ended."""

    code: int
    out: str
    err: str


Plan = Callable[..., Shown]


@pytest.fixture
def plan(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Calls `ladder plan gpt2` as a shell would, in this process."""

    def call(*options: object) -> Shown:
        arguments = ["ladder", "plan", "gpt2", *QUICK, "--storage", str(tmp_path / "storage"), *map(str, options)]
        monkeypatch.setattr(sys, "argv", arguments)
        monkeypatch.setenv("COLUMNS", "300")
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Shown(int(ended.value.code or 0), captured.out, " ".join(captured.err.split()))

    return call


def nodes_by_size(plan: Plan, *options: object) -> dict[str, str]:
    done = plan(*options, "--json")
    assert done.code == 0, done.err
    shown: dict[str, Any] = json.loads(done.out)
    return {run["size"]: run["nodes"] for run in shown["runs"]}


def test_each_run_of_a_plan_names_the_node_that_it_gets(plan: Plan) -> None:
    found = nodes_by_size(plan, "--nodes", ROOT / "cluster.yaml")
    assert found["117M"] == "a10g or a10g_on_demand"
    assert found["345M"] == found["762M"] == "l40s_4 or l40s_4_on_demand"
    assert found["1542M"] == "h100_8 or h100_8_on_demand"
    text = plan("--nodes", ROOT / "cluster.yaml").out
    (line,) = [line for line in text.splitlines() if line.startswith("1542M-7.79B")]
    assert line.split()[-1] == "h100_8"
    assert "l40s_4 or l40s_4_on_demand; h100_8 or h100_8_on_demand; the table has the first." in " ".join(text.split())


def test_kubernetes_and_google_name_their_own(plan: Plan) -> None:
    for file in ("kuberay.yaml", "gcp.yaml"):
        found = nodes_by_size(plan, "--nodes", ROOT / "platform" / "cluster" / file)
        assert set(found) >= {"117M", "1542M"} and "none" not in found.values(), file


def test_a_run_that_no_node_holds_is_said_to_be_refused(plan: Plan, tmp_path: Path) -> None:
    small = tmp_path / "small.yaml"
    small.write_text(
        "max_workers: 1\nhead_node_type: head\navailable_node_types:\n"
        "  head: {resources: {CPU: 2}}\n"
        "  small: {resources: {CPU: 8, GPU: 1, 'accelerator_type:A10G': 1}, max_workers: 1}\n"
    )
    found = nodes_by_size(plan, "--nodes", small)
    assert found["117M"] == "small" and found["1542M"] == "none"
    assert "`ladder run` would refuse them" in " ".join(plan("--nodes", small).out.split())


def test_the_nodes_of_a_cluster_that_is_up_are_those_that_ray_knows(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"CPU": 8.0, "memory": 3e10, "object_store_memory": 1e10, "node:10.0.0.5": 1.0}
    gpus = {"GPU": 4.0, "accelerator_type:A100": 1.0, "accelerator_type:A100-80G": 1.0}
    nodes = [
        {"NodeID": "1", "Alive": True, "NodeManagerAddress": "10.0.0.5", "Resources": found},
        {"NodeID": "2", "Alive": True, "NodeManagerAddress": "10.0.0.6", "Resources": found | gpus},
        {"NodeID": "3", "Alive": False, "NodeManagerAddress": "10.0.0.7", "Resources": {}},
    ]
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        monkeypatch.setattr(cluster.ray, "init", lambda address, **options: None)
        monkeypatch.setattr(cluster.ray, "nodes", lambda: nodes)
        monkeypatch.setattr(cluster.ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address=address))
        found_nodes = nodes_by_size(plan, "--nodes", address)
    assert found_nodes["117M"] == "node" and found_nodes["1542M"] == "none", "eight workers, and four GPUs"


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (ROOT / "platform" / "cluster" / "local.yaml", "does not say what its nodes have"),
        ("nowhere.yaml", "there is no file nowhere.yaml"),
        ("127.0.0.1:9", "no Ray cluster answers at 127.0.0.1:9"),
        (ROOT / "README.md", "cannot be read|does not describe a cluster"),
    ],
)
def test_what_describes_no_nodes_is_one_message(plan: Plan, where: object, said: str) -> None:
    done = plan("--nodes", where)
    assert done.code == 2 and re.search(said, done.err), done.err


def test_a_gang_over_several_nodes_says_how_many() -> None:
    types = (NodeType(name="eight", cpus=96, gpus=8, accelerator="H100", count=2),)
    wide = Shape(workers=16, cpus=1, gpus=1, accelerator=None, one_node=False)
    assert nodes_for(wide, types) == "2 x eight"
    assert nodes_for(Shape(workers=9, cpus=1, gpus=1, accelerator=None), types) == "none"
