"""The nodes that a cluster has or can grow to, and which of them a run's workers may go to.

Ray's autoscaler packs requests by count alone: asked for eight GPUs it may start eight nodes of one A10G each, for a
core a node of eight H100s, and for small runs beside a large one a second of these. So a request names what it must not
get: GPUs whose memory the run does not fit, GPUs at all where it needs none, nodes that do not hold all workers where
others do, and of nodes that are yet to be started and paid for all but the smallest.
"""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from ladder.models.errors import InputError
from ladder.platform.gpus import gpu_named

ACCELERATOR = "accelerator_type:"
"""What Ray's resource of a GPU's name begins with."""
ACCELERATOR_LABEL = "ray.io/accelerator-type"
"""Ray's label of a node with a GPU: the GPU's name."""
GROUP_LABEL = "ray.io/node-group"
"""Ray's label of a node that its autoscaler started: the node type."""
UNKNOWN_FLOPS = 1e14
"""FLOP/s taken for a GPU without a data sheet here."""
MONITORS = ("ray/autoscaler/v2/monitor.py", "ray/autoscaler/_private/monitor.py")
"""The programs of Ray's autoscaler, on the head."""


@dataclass(frozen=True, kw_only=True)
class NodeType:
    """Nodes of one kind."""

    name: str
    """As the cluster's file calls it, or `node`."""
    cpus: float
    """Processor cores of a node."""
    gpus: float = 0
    """GPUs of a node."""
    accelerator: str | None = None
    """Ray's name of its GPU; None: it has none, or nobody said."""
    count: int = 1
    """Nodes of this kind, at most."""
    labelled: bool = False
    """Whether its nodes, and the autoscaler, have its name in the label `ray.io/node-group`."""

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} {self.accelerator or 'GPU'}" if self.gpus else ""
        return f"{self.count} x {self.name} with {_cores(self.cpus)}{gpus}"

    @property
    def size(self) -> tuple[float, float]:
        """What a node is ordered by, as its price is not known: FLOP/s of its GPUs by their data sheet, then cores."""
        gpu = None if self.accelerator is None else gpu_named(self.accelerator)
        return self.gpus * (UNKNOWN_FLOPS if gpu is None else gpu.flops), self.cpus

    def room(self, shape: "Shape") -> int:
        """Workers of a shape that fit an empty node; 0 where they do not go there."""
        if shape.accelerator not in (None, self.accelerator):
            return 0
        if self.accelerator in shape.avoided or (self.labelled and self.name in shape.avoided_groups):
            return 0
        rooms = [self.cpus / shape.cpus, *([self.gpus / shape.gpus] if shape.gpus else [])]
        return math.floor(min(rooms) + 1e-6)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the workers of a lane ask for, in a placement group of their own; the runs of one lane share it."""

    workers: int
    cpus: int
    """Processor cores of one worker."""
    gpus: float
    """GPUs of one worker."""
    accelerator: str | None
    """Ray's name of the GPU; None: any."""
    avoided: tuple[str, ...] = ()
    """GPUs, by Ray's names, whose nodes the workers do not go to."""
    avoided_groups: tuple[str, ...] = ()
    """Node types that the workers do not go to."""
    one_node: bool = True
    """Whether all workers go to one node."""

    @property
    def strategy(self) -> str:
        """Ray's name of how the placement group is laid out."""
        return "STRICT_PACK" if self.one_node else "PACK"

    @property
    def labels(self) -> dict[str, str]:
        """Ray's label selector for each worker; nodes without the label pass."""
        avoided = {ACCELERATOR_LABEL: self.avoided, GROUP_LABEL: self.avoided_groups}
        return {label: f"!in({','.join(names)})" for label, names in avoided.items() if names}

    @property
    def resources(self) -> dict[str, float]:
        """Ray's resources of one worker."""
        resources = {"CPU": float(self.cpus), **({"GPU": self.gpus} if self.gpus else {})}
        if self.accelerator is not None:
            resources[ACCELERATOR + self.accelerator] = 0.001  # Ray's own way to ask for it
        return resources

    def __str__(self) -> str:
        each = _cores(self.cpus)
        if self.gpus:
            each += f" and {self.gpus:g} {self.accelerator or 'GPU'}"
        text = each if self.workers == 1 else f"{self.workers} workers with {each} each"
        return text + (", on one node" if self.one_node and self.workers > 1 else "")


def _cores(number: float) -> str:
    return f"{number:g} core{'' if number == 1 else 's'}"


def place(shape: Shape, types: Sequence[NodeType], too_small: Callable[[str], bool], *, grows: bool) -> Shape:
    """The shape with what it avoids, and whether one node holds it; nothing may be able to serve it all the same.

    `too_small` says of a GPU, by Ray's name, that the run does not fit its memory. A shape without GPUs avoids them
    where other nodes hold it. Where the cluster `grows` by nodes of these types, only the smallest that hold the shape
    are wanted; nodes that are there anyway are all welcome. Where no node holds all workers they go to nodes of one
    kind of GPU, of which the fewest nodes do.
    """
    fitting = [kind for kind in types if not (shape.gpus and kind.accelerator and too_small(kind.accelerator))]
    if not shape.gpus and any(kind.room(shape) >= shape.workers for kind in types if not kind.gpus):
        fitting = [kind for kind in fitting if not kind.gpus]
    whole = [kind for kind in fitting if kind.room(shape) >= shape.workers]
    if whole:
        least = min(kind.size for kind in whole)
        return _avoiding(shape, [kind for kind in whole if not grows or kind.size == least], types)
    shape = replace(shape, one_node=False)
    able = [kind for kind in fitting if kind.room(shape) * kind.count >= shape.workers]
    if shape.gpus and able:
        most = max(kind.room(shape) for kind in able)
        first = min((kind for kind in able if kind.room(shape) == most), key=lambda kind: kind.name)
        able = [kind for kind in able if kind.room(shape) == most and kind.accelerator == first.accelerator]
    return _avoiding(shape, able or fitting, types)


def _avoiding(shape: Shape, wanted: Sequence[NodeType], types: Sequence[NodeType]) -> Shape:
    """The shape that avoids all types that would take a worker of it but those wanted."""
    others = [kind for kind in types if kind not in wanted and kind.room(shape)]
    kept = {kind.accelerator for kind in wanted}
    accelerators = {kind.accelerator for kind in others if kind.accelerator is not None} - kept
    groups = {kind.name for kind in others if kind.labelled and kind.accelerator not in accelerators}
    return replace(shape, avoided=tuple(sorted(accelerators)), avoided_groups=tuple(sorted(groups)))


def have_room(shapes: Iterable[Shape], types: Sequence[NodeType]) -> bool:
    """Whether nodes of these types can hold all shapes at one time.

    What can go to the fewest kinds is placed first, on the smallest node that holds it. A yes is sure.
    """
    nodes = [_Node(kind) for kind in types for _ in range(kind.count)]
    nodes.sort(key=lambda node: node.kind.size)
    order = sorted(shapes, key=lambda s: (sum(kind.room(s) > 0 for kind in types), -s.workers * s.gpus))
    return all(_put(shape, nodes) for shape in order)


def nodes_for(shape: Shape, types: Sequence[NodeType]) -> str:
    """The node types that the workers of a shape may go to, in words, with how many nodes where one does not hold them
    all; `none` where they find no room."""
    if not have_room([shape], types):
        return "none"
    words = []
    for kind in types:
        number = math.ceil(shape.workers / kind.room(shape)) if kind.room(shape) else 0
        if number == 1:
            words.append(kind.name)
        elif number and not shape.one_node:
            words.append(f"{number} x {kind.name}")
    return " or ".join(dict.fromkeys(words))


class _Node:
    """A node, with what is free of it."""

    def __init__(self, kind: NodeType) -> None:
        self.kind, self.free = kind, kind

    def take(self, shape: Shape, workers: int) -> int:
        """Give up to so many workers what they ask for; how many got it."""
        taken = min(workers, self.free.room(shape))
        cpus, gpus = self.free.cpus - taken * shape.cpus, self.free.gpus - taken * shape.gpus
        self.free = replace(self.free, cpus=cpus, gpus=gpus)
        return taken


def _put(shape: Shape, nodes: Sequence[_Node]) -> bool:
    left = shape.workers
    for node in nodes:
        if not shape.one_node or node.free.room(shape) >= left:
            left -= node.take(shape, left)
        if not left:
            return True
    return False


def declared_types(config: Mapping[str, Any]) -> tuple[NodeType, ...]:
    """The node types of a file for Ray's autoscaler; none where the file leaves resources to the machines (`local`)."""
    found = []
    for name, words in config.get("available_node_types", {}).items():
        count = words.get("max_workers", 0) + (name == config.get("head_node_type"))
        if words.get("resources") and count:
            labelled = words.get("labels", {}).get(GROUP_LABEL) == name
            found.append(replace(type_of(name, words["resources"], count=count), labelled=labelled))
    return tuple(found)


def count_lasting(config: Mapping[str, Any]) -> int:
    """Nodes that such a file keeps up, whatever is asked for: the head and each type's least."""
    return 1 + sum(int(words.get("min_workers", 0)) for words in config.get("available_node_types", {}).values())


def present_types(nodes: Iterable[Mapping[str, float]]) -> tuple[NodeType, ...]:
    """Node types from Ray's resources of the nodes that are up; those that have the same are of one type."""
    alike = Counter(type_of("node", resources) for resources in nodes)
    return tuple(replace(kind, count=count) for kind, count in alike.items())


def type_of(name: str, resources: Mapping[str, float], *, count: int = 1) -> NodeType:
    """A node type from Ray's resources of a node."""
    accelerators = [key.removeprefix(ACCELERATOR) for key in resources if key.startswith(ACCELERATOR)]
    return NodeType(
        name=name,
        cpus=resources.get("CPU", 0),
        gpus=resources.get("GPU", 0),
        # A100 and A100-80G may both be there: the longer one says more.
        accelerator=max(accelerators, key=len, default=None),
        count=count,
    )


def read_autoscaler(gcs_port: int) -> dict[str, Any] | None:
    """What the autoscaler of the cluster at a port of this machine, its head, works by; None where there is none.

    The file that its process was started with, or the one in LADDER_CLUSTER, as KubeRay has it in another container.
    Ray's own record of it (`get_max_resources_from_cluster_config`) is filled by none of the open source's autoscalers.
    """
    named = os.environ.get("LADDER_CLUSTER")
    if named:
        return read_config(Path(named))
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        options = dict(word.split("=", 1) for word in words if "=" in word)
        ours = options.get("--gcs-address", "").endswith(f":{gcs_port}")
        if ours and any(word.endswith(MONITORS) for word in words) and options.get("--autoscaling-config"):
            return read_config(Path(options["--autoscaling-config"]).expanduser())
    return None


def read_config(path: Path) -> dict[str, Any]:
    """What a file for Ray's autoscaler says, or one for KubeRay, put in the autoscaler's words; InputError where it
    cannot be read."""
    try:
        read = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"the autoscaler's file {path} cannot be read: {error}") from error
    if not isinstance(read, dict):
        raise InputError(f"{path} does not describe a cluster; wanted a file such as cluster.yaml")
    if read.get("kind") == "RayCluster":
        read["metadata"].setdefault("namespace", "default")
        return dict(_derive_autoscaling_config_from_ray_cr(read))
    return read
