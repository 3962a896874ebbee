"""The Ray that a sweep runs on: one started here, or a cluster that is there already."""

import logging
import os
from dataclasses import dataclass

import ray
import torch

from ladder.models.errors import InputError
from ladder.sweeps.words import Execution

DRIVER_RESOURCE = "trial_driver"
"""A resource that only the head node has; the driver of each run holds one and no processor, so that drivers can never
take the processors that their own workers wait for (which deadlocks a small machine without a word)."""

ENVIRONMENT = {
    # Ray Train's controller looks at its workers this often. Nothing but the end of a lane waits for it, and looking
    # often takes processor time from the training beside it.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    # A GPU node of a cloud takes minutes to come up; the default gives up after one and asks again.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1800",
    # Workers stay in their own folder; nothing of ours depends on it.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # Tune would answer Ctrl-C by ending as if all were done; what we want is to stop now, at the last checkpoints.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # The display is ours; Tune's newer one prints even when told to be silent.
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # An actor without GPUs keeps CUDA_VISIBLE_DEVICES as it is, which Ray will make its default and warns about.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What the runs can have."""

    local: bool
    """Whether it was started here, for this sweep."""
    cpus: int
    """Processor cores, now."""
    gpus: int
    """GPUs, now; an autoscaled cluster may have none until they are asked for."""
    drivers: int
    """Runs that can be driven at one time."""


def start_cluster(address: str | None) -> Cluster:
    """Start a Ray on this machine, or connect to the cluster at `address` (`auto`: the one this machine is part of).

    Raises InputError where no cluster answers, or where its head offers no places for drivers.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address is None:
        return _start_local()
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {name: os.environ[name] for name in ENVIRONMENT}},
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"no Ray cluster answers at {address}: {error}. Start one with `ray up cluster.yaml`."
        ) from error
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if not resources.get(DRIVER_RESOURCE):
        ray.shutdown()
        raise InputError(
            f"the cluster at {address} has no resource {DRIVER_RESOURCE!r}: start its head with "
            f"`ray start --head --resources='{{\"{DRIVER_RESOURCE}\": 64}}'`, as cluster.yaml does."
        )
    return Cluster(
        local=False,
        cpus=int(resources.get("CPU", 0)),
        gpus=int(resources.get("GPU", 0)),
        drivers=int(resources[DRIVER_RESOURCE]),
    )


def _start_local() -> Cluster:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = torch.cuda.device_count()
    # Nothing on one machine is preempted: the watcher would be one more process for each run.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    ray.init(
        address="local",
        num_cpus=cpus,
        num_gpus=gpus,
        resources={DRIVER_RESOURCE: cpus},
        object_store_memory=200 * 1024**2,
        include_dashboard=True,  # without it Ray never frees the places of stopped runs
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    return Cluster(local=True, cpus=cpus, gpus=gpus, drivers=cpus)


def gpus_per_worker(execution: Execution, cluster: Cluster) -> float:
    """GPUs that one worker gets: as asked for, or one where the cluster has any."""
    if execution.gpus_per_worker is not None:
        return execution.gpus_per_worker
    return 1 if cluster.gpus or execution.asks_for_gpus else 0


def concurrent_runs(execution: Execution, cluster: Cluster) -> int:
    """Runs at one time.

    On the machine at hand as many as its cores or GPUs hold, and InputError where not even one fits; on a cluster,
    which may grow, as many as the head can drive.
    """
    gpus = gpus_per_worker(execution, cluster)
    wanted = {"cores": execution.workers * execution.cpus_per_worker, "GPUs": execution.workers * gpus}
    there = {"cores": cluster.cpus, "GPUs": cluster.gpus}
    room = cluster.drivers
    if cluster.local:
        for what, number in wanted.items():
            if number > there[what]:
                raise InputError(
                    f"a run wants {number} {what} ({execution.workers} workers), this machine has {there[what]}. "
                    "Ask for less with --workers, --cpus-per-worker or --gpus-per-worker, or use a cluster (--address)."
                )
            if number:
                room = min(room, int(there[what] / number))
    return min(room, execution.concurrent_runs or room)
