"""The Ray that a sweep runs on: one started here, or a cluster that is there already."""

import logging
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
import torch
from ray._private.state import state as ray_state
from ray.exceptions import AuthenticationError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.launching.nodes import NodeType, count_lasting, declared_types, present_types, read_autoscaler
from ladder.platform.processes import WAIT_POLICY, count_cores, set_wait_policy
from ladder.platform.storage import exists, is_local
from ladder.sweeps.words import Execution

ENVIRONMENT = {
    # Ray Train's controller looks at its workers this often: an error on one rank ends the others within two looks, and
    # looking more often takes processor time from the training beside it.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    # A GPU node of a cloud takes minutes to come up; the default gives up after one and asks again.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1800",
    # Workers stay in their own folder; nothing of ours depends on it.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # An actor without GPUs keeps CUDA_VISIBLE_DEVICES as it is, which Ray will make its default and warns about.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

NODES_SECONDS = 40.0
"""How long to wait for machines of one's own, whose size nobody declared: `ray up` starts one after another."""
UP = "Start one with `ray up cluster.yaml`."
"""What a message says where no cluster is up."""
MAX_LANES = 64
"""Ray Train runs that one driver has at one time: each costs the head node about 1.5 GB."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What the runs can have."""

    local: bool
    """Whether it was started here, for this sweep."""
    types: tuple[NodeType, ...]
    """The nodes that it has, or can grow to."""
    hosts: frozenset[str] = field(default_factory=frozenset)
    """Addresses of its nodes now."""
    grows: bool = False
    """Whether an autoscaler adds nodes when they are asked for."""

    @property
    def cpus(self) -> float:
        """Processor cores that it has, or can grow to."""
        return sum(kind.cpus * kind.count for kind in self.types)

    @property
    def gpus(self) -> float:
        """GPUs that it has, or can grow to."""
        return sum(kind.gpus * kind.count for kind in self.types)

    def describe(self) -> str:
        """What it has, or can grow to, as a message says it."""
        if self.local:
            return f"this machine has {self.cpus:g} cores and {self.gpus:g} GPUs"
        able = [kind for kind in self.types if kind.cpus]  # the head may have none for tasks
        return f"the cluster has, at most, {'; '.join(map(str, able)) or 'no node for it'}"


@contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """A Ray on this machine for the time of the block, or the cluster at `address` (`auto`: the one that this machine
    is part of). A SIGTERM in the block is a Ctrl-C, as schedulers stop a job.

    Raises InputError where no cluster answers.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    set_wait_policy()  # for the workers, which import torch later
    before = signal.getsignal(signal.SIGTERM)
    cluster = _start_local() if address is None else _connect(address)
    signal.signal(signal.SIGTERM, _interrupt)  # Ray has just put its own handler there
    try:
        yield cluster
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)


def on_this_node() -> NodeAffinitySchedulingStrategy:
    """Keeps an actor on the node of the driver, which is the head and never a spot node."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def node_is_lost(node: str) -> bool:
    """Whether a node has left the cluster, is being drained, or was never part of it."""
    alive = {known["NodeID"] for known in ray.nodes() if known["Alive"]}  # type: ignore[no-untyped-call]
    return node not in alive or node in ray_state.get_draining_nodes()


def gpus_per_worker(execution: Execution, cluster: Cluster) -> float:
    """GPUs of one worker: as asked for, or one where a GPU is named, or the cluster has any or can start some."""
    if execution.gpus_per_worker is not None:
        return execution.gpus_per_worker
    return 1 if cluster.gpus or execution.accelerator_type else 0


def refuse_what_cannot_be_shared(cluster: Cluster, storage: UPath, tracking: str) -> None:
    """Raises InputError where nodes on other machines could not see the storage, or would share an SQLite file."""
    here = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    others = sorted(cluster.hosts - {here})
    if not others and not cluster.grows:
        return
    which = ", ".join(others[:3]) if others else "the nodes that its autoscaler starts"
    if tracking.startswith("sqlite:"):
        raise InputError(
            f"tracking {tracking} is an SQLite file, which several machines cannot write, and the cluster has {which}: "
            "start `mlflow server` on the head and name its address with --tracking."
        )
    blind = [host for host in others if is_local(storage) and not _sees(host, storage)]
    if blind:
        raise InputError(
            f"storage {storage} is a folder of this machine that {', '.join(blind[:3])} of the cluster cannot see: "
            "name one that all nodes share, or a bucket (s3://, gs://), with --storage."
        )


def _sees(host: str, storage: UPath) -> bool:
    """Whether a node sees what this process writes into the storage just now."""
    probe = storage / f".probe-{uuid.uuid4().hex}"
    probe.write_bytes(b"")
    try:
        look = ray.remote(exists).options(num_cpus=0, resources={f"node:{host}": 0.001}, max_retries=0)
        return bool(ray.get(look.remote(probe), timeout=120))
    finally:
        probe.unlink()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _environment() -> dict[str, str]:
    """What workers on other machines are to find in their environment."""
    return {name: os.environ[name] for name in (*ENVIRONMENT, *WAIT_POLICY) if name in os.environ}


def _refuse_where_nobody_listens(address: str) -> None:
    """Raises InputError at once where Ray would knock for minutes, and where the job server's address was given."""
    if address.startswith("http"):
        raise InputError(
            f"{address} is the address of a job server, which `ladder submit` takes. Wanted a cluster's, such as "
            "10.0.0.5:6379, or `auto` on one of its machines."
        )
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # `auto`, or for Ray to say what is wrong
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise InputError(f"no Ray cluster answers at {address}: {error}. {UP}") from error


def _connect(address: str) -> Cluster:
    _refuse_where_nobody_listens(address)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": _environment()},
        )
    except (ConnectionError, ValueError, RuntimeError, AuthenticationError) as error:
        raise InputError(f"no Ray cluster answers at {address}: {str(error).rstrip('.')}. {UP}") from error
    port = int(ray.get_runtime_context().gcs_address.rpartition(":")[2])
    autoscaler = read_autoscaler(port)
    nodes = _wait_for_nodes(0 if autoscaler is None else count_lasting(autoscaler))
    return Cluster(
        local=False,
        types=declared_types(autoscaler or {}) or present_types(node["Resources"] for node in nodes),
        hosts=frozenset(node["NodeManagerAddress"] for node in nodes),
        grows=autoscaler is not None and autoscaler.get("max_workers", 0) > 0,
    )


def _wait_for_nodes(number: int) -> list[dict[str, Any]]:
    """The nodes that are up, once there are so many or `NODES_SECONDS` are over."""
    deadline = time.monotonic() + NODES_SECONDS
    while True:
        nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        if len(nodes) >= number or time.monotonic() > deadline:
            return nodes
        time.sleep(1)


def _start_local() -> Cluster:
    cpus, gpus = count_cores(), torch.cuda.device_count()
    # Nothing on one machine is preempted: the watcher would be one more process for each lane.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    ray.init(
        address="local",
        num_cpus=cpus,
        num_gpus=gpus,
        object_store_memory=200 * 1024**2,
        include_dashboard=True,  # without it Ray never frees the placement groups of lanes that were stopped
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    return Cluster(local=True, types=(NodeType(name="this machine", cpus=cpus, gpus=gpus),))
