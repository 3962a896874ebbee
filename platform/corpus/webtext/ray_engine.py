"""Parts made by Ray Data: names go in, our own reader runs in the task, and only names come out.

Ray's readers are not used: they hold whole files and change texts (`docs/webtext.md`). A task is a part; in it the
page work runs in a child process that may die, as without Ray, so a poisoned page is found within its task and Ray's
own retries are for machines that go away. What a user got wrong comes back as a row and is raised once, here.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext.engine import Execution, make_part_in_child
from ladder.platform.corpus.webtext.stages import Task, is_done, write_summary
from ladder.platform.corpus.webtext.workers import TRIES, ChildWorker, PartFunction, Watch

OBJECT_STORE_BYTES = 256 * 1024**2
"""Only names pass through it."""
ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}

_child: ChildWorker | None = None
"""The child of this Ray worker, kept between tasks."""


def make_parts_on_ray(
    function: PartFunction,
    tasks: Sequence[Task],
    execution: Execution,
    advance: Callable[[int], None],
    *,
    isolated: bool,
) -> None:
    """Makes the parts as tasks of Ray Data, at most `execution.workers` at once; `isolated` as in `make_parts`.

    InputError with the message of the first part, in their order, that raised one; the others are made all the same.
    """
    import ray.data
    import ray.exceptions

    troubles: dict[int, str] = {}
    with _ray(execution):
        rows = ray.data.from_items([{"index": index} for index in range(len(tasks))], override_num_blocks=len(tasks))
        # Plain tasks: a pool of actors as large as the machine starves the task that feeds it (ray#44687). Without
        # max_retries a task whose worker dies is tried for ever.
        made = rows.map_batches(
            _Maker(function, list(tasks), isolated),
            batch_size=1,
            num_cpus=1,
            concurrency=execution.workers,
            max_retries=TRIES - 1,
        )
        try:
            for row in made.iter_rows():
                advance(1)
                if row["error"]:
                    troubles[row["index"]] = row["error"]
        except ray.exceptions.WorkerCrashedError as error:  # which names no input
            waiting = [str(task.index) for task in tasks if not is_done(task)]
            raise InputError(
                f"Ray's workers died {TRIES} times at one of the parts {', '.join(waiting[:10])} of {tasks[0].folder}, "
                "perhaps for lack of memory: use fewer --processes, and cut large inputs into files"
            ) from error
    if troubles:
        raise InputError(troubles[min(troubles)])


class _Maker:
    """Makes the part of a row; a callable whose state is sent to each worker."""

    def __init__(self, function: PartFunction, tasks: list[Task], isolated: bool) -> None:
        self._function = function
        self._isolated = isolated
        self._tasks = tasks

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        index = int(batch["index"][0])
        try:
            self._make(self._tasks[index])
        except InputError as error:
            return {"index": [index], "error": [str(error)]}
        return {"index": [index], "error": [""]}

    def _make(self, task: Task) -> None:
        global _child
        if not self._isolated:
            write_summary(task, self._function(task, Watch()))
            return
        _child = _child or ChildWorker()
        make_part_in_child(_child, self._function, task)


@contextlib.contextmanager
def _ray(execution: Execution) -> Iterator[None]:
    """Ray at the address, or one started here and ended again; InputError where none answers."""
    import ray

    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield
        return
    here = execution.address == "local"
    options: dict[str, Any] = (
        {"num_cpus": execution.n_workers, "object_store_memory": OBJECT_STORE_BYTES} if here else {}
    )
    try:
        ray.init(
            address=execution.address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **options,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"no Ray cluster answers at {execution.address} ({error}); start one with `ray up cluster.yaml`, or leave "
            "--address out to work on this machine alone"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
