"""Runs go to nodes that hold them: asked of Ray's own scheduler, with the node types of the files for clusters."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import ClusterResourceConstraint, GangResourceRequest, ResourceRequestByCount
from ray.core.generated.common_pb2 import LabelSelectorOperator
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.sizes import parse_size
from ladder.platform.launching.cluster import Cluster
from ladder.platform.launching.control import Control
from ladder.platform.launching.dispatch import Dispatcher
from ladder.platform.launching.lanes import scoring_shape, shape_of
from ladder.platform.launching.nodes import (
    NodeType,
    Shape,
    declared_types,
    have_room,
    place,
    present_types,
    read_autoscaler,
)
from ladder.platform.launching.sweep import make_job
from ladder.platform.runs.status import RunStatus
from ladder.platform.tracking.records import TrackedSweep
from ladder.platform.training.job import Job
from ladder.sweeps.expand import CorpusFacts, expand
from ladder.sweeps.gpt2 import SWEEP
from ladder.sweeps.load import load_sweep
from ladder.sweeps.words import Execution, Recipe, Run, Sweep
from tests.platform.launching.harness import wait_for

ROOT = Path(__file__).parents[3]
TRACKED = TrackedSweep(uri="", experiment="1", parent="p", store="s")

# What Ray's AWS provider adds to the file's resources after a look at EC2: 70 % of a node's memory.
MEMORY_GIB = {"cpu": 64, "a10g": 32, "a10g_on_demand": 32, "l40s_4": 384, "l40s_4_on_demand": 384,
              "h100_8": 2048, "h100_8_on_demand": 2048}  # fmt: skip


def read_cluster(*, memory: bool) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    for name, words in config["available_node_types"].items():
        if memory and name in MEMORY_GIB:
            words["resources"] = {**words["resources"], "memory": int(0.7 * MEMORY_GIB[name] * 2**30)}
    return config


def paper_jobs() -> dict[str, Job]:
    """A job of each size of the sweep `gpt2`."""
    facts = CorpusFacts(name="webtext", vocabulary=50_257, fingerprint=None)
    runs = expand(SWEEP, facts, precision="bf16")
    return {run.size.name: make_job(SWEEP, run, UPath("memory://s"), TRACKED, ()) for run in runs}


def as_labels(selector: Mapping[str, str]) -> list[list[tuple[str, int, list[str]]]] | None:
    """A label selector as Ray's scheduler gets it."""
    constraints = []
    for label, words in selector.items():
        assert words.startswith("!in(")
        values = words.removeprefix("!in(").removesuffix(")").split(",")
        constraints.append((label, LabelSelectorOperator.LABEL_OPERATOR_NOT_IN, values))
    return [constraints] if constraints else None


def launched(config: Mapping[str, Any], *shapes: Shape, failed: tuple[str, ...] = ()) -> dict[str, int]:
    """Nodes that Ray's autoscaler starts from zero for lanes of these shapes, by type.

    Each lane asks twice, as Ray Train does: for a placement group, and through `request_resources`, which knows nothing
    of gangs. `failed` names types that the cloud had none of just now.
    """
    types = AutoscalingConfig(dict(config), skip_content_hash=True)
    kinds = ResourceRequestUtil.PlacementConstraintType
    gangs, loose = [], []
    for number, shape in enumerate(shapes):
        packed = [(kinds.AFFINITY, "_PG", str(number))] if shape.one_node else None
        one = ResourceRequestUtil.make(shape.resources, packed, as_labels(shape.labels))
        gangs.append(GangResourceRequest(requests=[one] * shape.workers))
        plain = ResourceRequestUtil.make(shape.resources, None, as_labels(shape.labels))
        loose.append(ResourceRequestByCount(request=plain, count=shape.workers))
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs={
                name: words for name, words in types.get_node_type_configs().items() if name != config["head_node_type"]
            },
            max_num_nodes=types.get_max_num_nodes(),
            gang_resource_requests=gangs,
            cluster_resource_constraints=[ClusterResourceConstraint(resource_requests=loose)],
            recoverable_resource_availabilities=dict.fromkeys(failed, 0.0),
        )
    )
    assert not reply.infeasible_gang_resource_requests and not reply.infeasible_cluster_resource_constraints
    return {request.instance_type: request.count for request in reply.to_launch}


def shape_in(config: Mapping[str, Any], job: Job) -> Shape:
    return shape_of(job, Cluster(local=False, types=declared_types(config), grows=True))


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize(
    ("size", "nodes"),
    [
        ("6x384", {"a10g": 1}),
        ("117M", {"a10g": 1}),
        ("345M", {"l40s_4": 1}),
        ("762M", {"l40s_4": 1}),
        ("1542M", {"h100_8": 1}),
    ],
)
def test_each_size_gets_the_smallest_nodes_that_hold_it(size: str, nodes: dict[str, int], memory: bool) -> None:
    config = read_cluster(memory=memory)
    assert launched(config, shape_in(config, paper_jobs()[size])) == nodes


def test_by_count_alone_eight_nodes_of_one_gpu_are_chosen_for_a_gang_of_eight() -> None:
    """Why shapes say what they avoid: this is what was found, with types of cores and GPUs alone."""
    config = read_cluster(memory=False)
    shape = shape_in(config, paper_jobs()["1542M"])
    types = config["available_node_types"]
    for name in ("l40s_4", "l40s_4_on_demand"):
        del types[name]
    for words in types.values():
        words["resources"] = {name: n for name, n in words["resources"].items() if name in ("CPU", "GPU")}
    by_count = replace(shape, avoided=(), avoided_groups=(), one_node=False)
    assert launched(config, by_count) == {"a10g": 8}
    assert launched(config, shape) == {"h100_8": 1}


@pytest.mark.parametrize("memory", [False, True])
def test_all_sizes_at_once_go_where_they_belong(memory: bool) -> None:
    config = read_cluster(memory=memory)
    shapes = [shape_in(config, job) for size, job in paper_jobs().items() if size in ("117M", "345M", "1542M")]
    assert launched(config, *shapes) == {"a10g": 1, "l40s_4": 1, "h100_8": 1}


@pytest.mark.parametrize("memory", [False, True])
def test_a_core_alone_never_starts_a_gpu_node(memory: bool) -> None:
    config = read_cluster(memory=memory)
    shape = Shape(workers=1, cpus=1, gpus=0, accelerator=None)
    assert launched(config, shape) == {"cpu": 1}
    assert launched(config, place(shape, declared_types(config), lambda name: False, grows=True)) == {"cpu": 1}


def test_without_spot_capacity_the_same_node_is_taken_at_the_full_price() -> None:
    config = read_cluster(memory=False)
    shape = shape_in(config, paper_jobs()["117M"])
    assert launched(config, shape, failed=("a10g",)) == {"a10g_on_demand": 1}


def test_a_run_keeps_off_gpus_that_it_does_not_fit() -> None:
    """One worker of 1542M takes more than 24 GB even with activation checkpointing, and 48 GB hold it."""
    config = read_cluster(memory=False)
    job = paper_jobs()["1542M"]
    shape = shape_in(config, replace(job, execution=Execution(gpus_per_worker=1)))
    assert shape.avoided == ("A10G", "H100")
    assert launched(config, shape) == {"l40s_4": 1}


def test_what_eight_gpus_trained_is_scored_on_any_one() -> None:
    config = read_cluster(memory=False)
    cluster = Cluster(local=False, types=declared_types(config), grows=True)
    shape = scoring_shape(paper_jobs()["1542M"], cluster)
    assert (shape.workers, shape.labels) == (1, {})


def test_nodes_of_the_same_gpu_are_told_apart_by_their_type() -> None:
    config = read_cluster(memory=False)
    types = config["available_node_types"]
    types["a10g_8"] = {
        **types["a10g"],
        "resources": {"CPU": 192, "GPU": 8, "accelerator_type:A10G": 1},
        "labels": {"ray.io/accelerator-type": "A10G", "ray.io/node-group": "a10g_8"},
    }
    shape = place(
        Shape(workers=8, cpus=1, gpus=1, accelerator="A10G"),
        declared_types(config),
        too_small=lambda name: False,
        grows=True,
    )
    assert shape.avoided_groups == ("a10g", "a10g_on_demand")
    assert launched(config, shape) == {"a10g_8": 1}


SMALL = NodeType(name="small", cpus=8, gpus=1, accelerator="A10G", count=8)
LARGE = NodeType(name="large", cpus=96, gpus=8, accelerator="H100", count=2)
CORES = NodeType(name="cores", cpus=16, count=2)


def shape(workers: int = 1, cpus: int = 1, gpus: float = 1, accelerator: str | None = None) -> Shape:
    return Shape(workers=workers, cpus=cpus, gpus=gpus, accelerator=accelerator)


def test_a_gang_that_no_node_holds_goes_to_few_nodes_of_one_gpu() -> None:
    placed = place(shape(workers=16), (SMALL, LARGE), lambda name: False, grows=False)
    assert (placed.one_node, placed.avoided) == (False, ("A10G",))
    assert have_room([placed], (SMALL, LARGE)) and not have_room([placed, shape()], (LARGE,))


def test_cores_are_taken_of_gpu_nodes_only_where_there_are_no_others() -> None:
    assert place(shape(gpus=0), (SMALL, CORES), lambda name: False, grows=False).avoided == ("A10G",)
    assert place(shape(gpus=0), (SMALL,), lambda name: False, grows=False).avoided == ()
    assert place(shape(gpus=0, cpus=24), (LARGE, CORES), lambda name: False, grows=False).avoided == ()


def test_what_has_no_room_beside_the_others_waits() -> None:
    types = (SMALL, LARGE)
    assert have_room([shape(workers=8)] * 2 + [shape()] * 8, types), "large gangs first, then the small ones"
    assert not have_room([shape(workers=8)] * 3, types), "eight small nodes are not one of eight GPUs"
    assert have_room([shape(gpus=0.25)] * 32, (SMALL,)) and not have_room([shape(gpus=0.25)] * 33, (SMALL,))
    assert not have_room([shape(accelerator="L40S")], types)


def test_labels_leave_nodes_alone_whose_gpu_nobody_named() -> None:
    unknown = NodeType(name="unknown", cpus=8, gpus=1)
    placed = place(shape(), (SMALL, unknown), lambda name: True, grows=False)
    assert placed.labels == {"ray.io/accelerator-type": "!in(A10G)"} and unknown.room(placed) == 1


def test_a_run_that_nothing_serves_is_refused_with_what_it_asked_for_and_what_there_is() -> None:
    run = Run(
        size=parse_size("2x64", context=64, vocabulary=257),
        recipe=Recipe(tokens=4096, batch_tokens=2048, lr_peak=1e-3, precision="fp32"),
        corpus="small",
        corpus_fingerprint="f",
    )
    sweep = Sweep(
        name="s", corpus="small", points=load_sweep("demo").points, recipe=load_sweep("demo").recipe,
        execution=Execution(workers=9, gpus_per_worker=1, accelerator_type="H100"),
    )  # fmt: skip
    job = make_job(sweep, run, UPath("memory://s"), TRACKED, ())
    wanted = (
        r"wants 9 workers with 1 core and 1 H100 each, and the cluster has, at most, "
        r"8 x small with 8 cores and 1 A10G; 1 x one with 96 cores and 8 H100\. Ask for less with --workers"
    )
    one = NodeType(name="one", cpus=96, gpus=8, accelerator="H100")
    with pytest.raises(InputError, match=wanted):
        Dispatcher(
            Cluster(local=False, types=(SMALL, one)),
            sweep,
            [job],
            [RunStatus(run=run, status="waiting")],
            storage=UPath("memory://s"),
            control=Control(UPath("memory://s"), "s", {}),
            display=None,
        )


def test_nodes_that_are_there_are_all_welcome() -> None:
    """Only a node that has to be started for a run, and paid for, is the smallest that holds it."""
    assert place(shape(), (SMALL, LARGE), lambda name: False, grows=False).avoided == ()
    assert place(shape(), (SMALL, LARGE), lambda name: False, grows=True).avoided == ("H100",)


def test_nodes_that_are_up_are_known_by_what_ray_found_in_them() -> None:
    gpus = {"CPU": 96.0, "GPU": 8.0, "accelerator_type:A100": 1.0, "accelerator_type:A100-80G": 1.0, "memory": 1e12}
    large = NodeType(name="node", cpus=96, gpus=8, accelerator="A100-80G", count=2)
    assert present_types([gpus, {"CPU": 4.0}, gpus]) == (large, NodeType(name="node", cpus=4))


def test_the_autoscaler_of_a_cluster_is_found_by_its_port(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("max_workers: 3\n")
    words = ["ray/autoscaler/v2/monitor.py", "--gcs-address=10.0.0.5:26399", f"--autoscaling-config={file}"]
    monitor = subprocess.Popen([sys.executable, "-c", "input()", *words], stdin=subprocess.PIPE)
    try:
        wait_for("process", 10, lambda: read_autoscaler(26399) == {"max_workers": 3})
        assert read_autoscaler(6399) is None, "another cluster's"
        file.unlink()
        with pytest.raises(InputError, match="the autoscaler's file .*cluster.yaml cannot be read"):
            read_autoscaler(26399)
    finally:
        monitor.communicate(b"\n")
