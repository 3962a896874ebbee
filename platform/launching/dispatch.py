"""The driver of a sweep on Ray: starts lanes where there are runs for them, and shows how far they are.

It hands nothing out: a lane takes what it can get the lease of. What the driver does is to have as many lanes of each
shape as there are runs that wait and room for them, the largest run first, and to start another when one ends.
"""

import contextlib
import logging
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.exceptions import RayError
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.launching.cluster import MAX_LANES, Cluster, on_this_node
from ladder.platform.launching.control import Control, SweepStopped
from ladder.platform.launching.display import Display
from ladder.platform.launching.lanes import LaneHost, score_worker, scoring_shape, shape_of
from ladder.platform.launching.leftovers import Leftovers
from ladder.platform.launching.nodes import Shape, have_room
from ladder.platform.runs.lease import void
from ladder.platform.runs.status import RunStatus, Status, read_status
from ladder.platform.storage import is_local, is_refusal, remove_folder, run_folder
from ladder.platform.training.job import Job
from ladder.sweeps.trunks import waits
from ladder.sweeps.words import Run, Sweep

logger = logging.getLogger(__name__)

LANE_BYTES = 1.5e9
"""Memory of the processes that Ray keeps on the driver's node for a lane (measured)."""
LANE_JOBS = 2000
"""Runs that a lane gets to choose from, the largest first."""
BARREN_LANES = 3
"""Lanes of a shape that may end in an error, one after another, without having taken up a run."""


@dataclass
class Lane:
    """A lane as its driver sees it."""

    name: str
    shape: Shape
    host: Any
    """The actor that holds it."""
    ended: Any
    """Ray's reference to why it ended."""
    running: str | None = None
    """Key of the run that it is at, as its workers said."""
    took_any: bool = False
    """Whether it has ever taken up a run."""


class Dispatcher:
    """Lanes and scoring tasks of one driver, and what it knows of the runs."""

    def __init__(
        self,
        cluster: Cluster,
        sweep: Sweep,
        jobs: Sequence[Job],
        statuses: Sequence[RunStatus],
        *,
        storage: UPath,
        control: Control,
        display: Display | None,
    ) -> None:
        self.cluster, self.sweep, self.storage, self.display = cluster, sweep, storage, display
        self.control = control
        self.statuses = {status.run.key: status for status in statuses}
        largest_first = sorted(jobs, key=lambda job: job.run.size.flops_exact(job.run.recipe.tokens), reverse=True)
        self.jobs = {job.run.key: job for job in largest_first}
        self.shapes = {key: shape_of(job, cluster) for key, job in self.jobs.items()}
        for key in self.jobs:
            self._refuse_what_never_fits(key)
        if control.budget_gpu_hours is not None and not any(shape.gpus for shape in self.shapes.values()):
            logger.warning("the runs hold no GPUs, so a budget of GPU-hours is never reached")
        self.name = uuid.uuid4().hex[:8]
        limits = [job.execution.concurrent_runs for job in self.jobs.values() if job.execution.concurrent_runs]
        self.lanes_allowed = min([MAX_LANES, *limits])
        self.lanes: list[Lane] = []
        self.most_lanes = 0
        """Lanes that went on at one time, at most."""
        self.ended_here: list[Run] = []
        """Runs that workers of this driver finished, or failed."""
        self.scoring: dict[Any, str] = {}
        self.barren: Counter[Shape | str] = Counter()
        self.leftovers: Leftovers | None = None
        """What lanes that died may have left; None until one has."""
        # Train's own, of no use afterwards; all nodes must see it.
        shared = storage / "sweeps" / sweep.name / f".ray-{self.name}"
        self.ray_folder = UPath(tempfile.mkdtemp(prefix="ladder-ray-")) if cluster.local else shared
        self._started = 0
        self._next_look = self._next_control = 0.0
        self._halted = False
        self._worked_on: set[str] = set()
        """Runs that somebody here worked on since the last look at what was spent."""
        self.look_seconds = 5.0 if is_local(storage) else 60.0

    def run(self, *, ended: Callable[[Run, list[RunStatus]], object]) -> list[RunStatus]:
        """Work until every run has ended, here or at another driver, or the budget is spent and what was going on then
        has ended; `ended` is told of each that does, and where all stand then.

        Raises InputError where lanes cannot be started at all, SweepStopped where somebody asked for the end.
        """
        if self.display is not None:
            self.display.begin(self.sweep.name, len(self.jobs), self.cluster.describe())
        self._start_host()
        told = {key for key, status in self.statuses.items() if status.ended}
        try:
            with self.display or contextlib.nullcontext():
                while not self._is_done():
                    if not self._halted:
                        self._start_what_fits()
                    time.sleep(0.2 if not self.lanes else 1.0)
                    self._hear()
                    self._collect()
                    self._follow_control()
                    told = {key for key in told if self.statuses[key].ended}  # not one that is tried again
                    for key in [k for k, s in self.statuses.items() if s.ended and k not in told]:
                        told.add(key)
                        ended(self.statuses[key].run, list(self.statuses.values()))
                    if self.display is not None:
                        self.display.show(list(self.statuses.values()))
        except BaseException:  # Ctrl-C above all
            self._release_leases()
            raise
        finally:
            with contextlib.suppress(Exception):  # it is a leftover then, of no use to anybody
                remove_folder(self.ray_folder)
        return list(self.statuses.values())

    def _is_done(self) -> bool:
        if self._halted and not self.lanes and not self.scoring:
            return True
        return all(status.ended for status in self.statuses.values())

    def _follow_control(self) -> None:
        """Follow orders that were given since the last look, and launch nothing more once the budget is spent."""
        if time.monotonic() < self._next_control:
            return
        self._next_control = time.monotonic() + self.control.look_seconds
        by = self.control.new_order("stop")
        if by is not None:
            raise SweepStopped(f"stopped by {by}")
        if self.control.new_order("retry") is not None:
            for key in self.jobs:
                if self.statuses[key].status == "failed":
                    self._look(key)
        running = {key for key, status in self.statuses.items() if status.status == "running"}
        self.control.read_usage_of(running | self._worked_on)
        self._worked_on.clear()
        if self.control.budget_is_spent and not self._halted:
            self._halted = True
            self.host.halt.remote()

    def _start_what_fits(self) -> None:
        """Start lanes while there are more open runs of a shape than lanes that may take one, and room."""
        for shape, open_jobs in self._open_jobs().items():
            free = sum(lane.shape == shape and lane.running is None for lane in self.lanes)
            ready = sum(not waits(job.relatives, self._standing) for job in open_jobs)
            for _ in range(free, ready):
                if not self._has_room(shape):
                    break
                self._start_lane(shape, open_jobs[:LANE_JOBS])
        for key, job in self.jobs.items():
            if self._only_to_be_scored(key) and key not in self.scoring.values():
                self._start_scoring(key, job)

    def _open_jobs(self) -> dict[Shape, list[Job]]:
        """The jobs that a lane may take up, by shape; the shape of the largest first, and the largest first in each."""
        found: dict[Shape, list[Job]] = {}
        for key, job in self.jobs.items():
            if self.statuses[key].status == "waiting" and not self._only_to_be_scored(key):
                found.setdefault(self.shapes[key], []).append(job)
        return found

    def _standing(self, key: str) -> tuple[int, bool]:
        """The step of a run's newest checkpoint, and whether it trains no more."""
        status = self.statuses[key]
        return status.progress.get("saved", 0), status.ended or status.trained

    def _only_to_be_scored(self, key: str) -> bool:
        """Whether a run waits for a scoring task: one worker scores what it trained itself."""
        status = self.statuses[key]
        return status.status == "waiting" and status.trained and self.shapes[key].workers > 1

    def _has_room(self, shape: Shape) -> bool:
        if len(self.lanes) >= self.lanes_allowed:
            return False
        if self.lanes and psutil.virtual_memory().available < LANE_BYTES:
            return False
        return have_room([*(lane.shape for lane in self.lanes), shape], self.cluster.types)

    def _start_lane(self, shape: Shape, jobs: Sequence[Job]) -> None:
        name = self._new_name()
        ended = self.host.run_lane.remote(name, shape, jobs, self.ray_folder)
        self.lanes.append(Lane(name=name, shape=shape, host=self.host, ended=ended))
        self.most_lanes = max(self.most_lanes, len(self.lanes))

    def _start_scoring(self, key: str, job: Job) -> None:
        shape = scoring_shape(job, self.cluster)
        task = ray.remote(score_worker).options(
            num_cpus=shape.cpus,
            num_gpus=shape.gpus,
            accelerator_type=shape.accelerator,
            label_selector=shape.labels or None,
            max_retries=0,
        )
        self.scoring[task.remote(job, self._new_name(), self.host)] = key

    def _new_name(self) -> str:
        self._started += 1
        return f"{self.name}-{self._started}"

    def _hear(self) -> None:
        """Take what the workers said, and look into the storage for the runs that nobody here works on."""
        for key, news in self._news().items():
            self._worked_on.add(key)
            lane = next((lane for lane in self.lanes if lane.name == news["lane"]), None)
            if lane is not None:
                lane.took_any, lane.running = True, key if news["outcome"] is None else None
            self.statuses[key] = self._status_of_news(self.statuses[key].run, news)
            if self.statuses[key].ended:
                self.ended_here.append(self.statuses[key].run)
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self.look_seconds
        if self.leftovers is not None and any(lane.running is None for lane in self.lanes):
            self.leftovers.remove()
        mine = {lane.running for lane in self.lanes}
        for key, status in self.statuses.items():
            if status.status == "running" and key not in mine and key not in self.scoring.values():
                self._look(key)

    def _status_of_news(self, run: Run, news: dict[str, Any]) -> RunStatus:
        outcome, reason = news["outcome"], news["reason"]
        statuses: dict[str | None, Status] = {None: "running", "finished": "finished", "failed": "failed"}
        trained = outcome == "trained" or (outcome != "failed" and news.get("phase") == "scoring")
        return RunStatus(
            run=run,
            status=statuses.get(outcome, "waiting"),
            reason=reason,
            progress=news,
            trained=trained,
            owner=news["lane"],
        )

    def _collect(self) -> None:
        """Put away lanes and scoring tasks that ended, and look at what they left."""
        for lane in self._ended_lanes():
            self.lanes.remove(lane)
            if lane.running is not None:
                void(run_folder(self.storage, self.sweep.name, lane.running), owner=lane.name, outcome=None)
                self._look(lane.running)
            error = self._error_of(lane)
            if error is not None:
                self.leftovers = self.leftovers or Leftovers()
                self._note_error(lane, error)
            elif not lane.took_any:  # what it could not get is with somebody else, or has ended
                for job in self._open_jobs().get(lane.shape, []):
                    self._look(job.run.key)
        done, _ = ray.wait(list(self.scoring), num_returns=len(self.scoring), timeout=0) if self.scoring else ([], [])
        for task in done:
            key = self.scoring.pop(task)
            try:
                ray.get(task)
            except RayError as error:
                text = str(error).strip().splitlines()[-1]
                logger.warning("scoring %s: %s", key, text)
                self.barren[key] += 1
                if self.barren[key] > BARREN_LANES + self.jobs[key].execution.max_failures:
                    raise InputError(f"run {key} cannot be scored: {text}") from error
            self._look(key)

    def _ended_lanes(self) -> list[Lane]:
        if not self.lanes:
            return []
        ended, _ = ray.wait([lane.ended for lane in self.lanes], num_returns=len(self.lanes), timeout=0)
        return [lane for lane in self.lanes if lane.ended in ended]

    def _error_of(self, lane: Lane) -> str | None:
        try:
            error: str | None = ray.get(lane.ended)
        except RayError as died:
            if lane.host is self.host:
                self._start_host()  # all its lanes ended with it
            return f"{type(died).__name__}: {died}"
        return error

    def _start_host(self) -> None:
        options = {"num_cpus": 0, "max_concurrency": 2 * MAX_LANES, "scheduling_strategy": on_this_node()}
        self.host: Any = ray.remote(LaneHost).options(**options).remote(halted=self._halted)

    def _news(self) -> dict[str, dict[str, Any]]:
        try:
            news: dict[str, dict[str, Any]] = ray.get(self.host.take.remote())
        except RayError:  # it died; whoever collects its lanes starts another
            return {}
        return news

    def _note_error(self, lane: Lane, error: str) -> None:
        """Say why a lane ended; raises InputError where lanes of its shape come to nothing one after another."""
        waited = "WorkerGroupStartupTimeoutError" in error
        text = error.splitlines()[-1].split(". ")[0]  # Ray's texts go on for a page
        if lane.took_any or waited:
            self.barren[lane.shape] = 0
            logger.warning("a lane of the sweep ended and another is started: %s", text)
            return
        self.barren[lane.shape] += 1
        if self.barren[lane.shape] >= BARREN_LANES:
            raise InputError(f"the workers of {lane.shape} end before they take up a run: {text}")

    def _look(self, key: str) -> None:
        """Read from the storage how a run stands; what cannot be read now is as it was, and read again later."""
        run = self.statuses[key].run
        try:
            wanted = self.jobs[key].definitions
            self.statuses[key] = read_status(self.storage, self.sweep.name, run, benchmarks=wanted)
        except Exception as error:
            if not is_refusal(error):
                raise
            logger.warning("%s cannot be read now: %s", key, error)

    def _release_leases(self) -> None:
        """Give back what the lanes of this driver held, once Ray has ended them: nobody has to wait for expiry."""
        ray.shutdown()
        for key, status in self.statuses.items():
            if status.status == "running" and (status.owner or "").startswith(self.name):
                folder = run_folder(self.storage, self.sweep.name, key)
                void(folder, owner=status.owner or "", outcome="released")

    def _refuse_what_never_fits(self, key: str) -> None:
        shape = self.shapes[key]
        if not have_room([shape], self.cluster.types):
            raise InputError(
                f"run {key} wants {shape}, and {self.cluster.describe()}. Ask for less with --workers, "
                "--cpus-per-worker or --gpus-per-worker, for another --accelerator-type, or use a larger cluster "
                "(--address)."
            )
