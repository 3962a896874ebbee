"""Several workers of one run: their scoring is done elsewhere, and an error on one ends all, its cause named once."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from upath import UPath

from ladder.models.sizes import parse_size
from ladder.platform.corpus.store import open_corpus
from ladder.platform.launching.cluster import connected
from ladder.platform.launching.lanes import make_trainer
from ladder.platform.launching.nodes import Shape
from ladder.platform.runs.lease import newest_claim
from ladder.platform.tracking.database import open_tracking, tracking_uri
from ladder.platform.tracking.records import open_sweep
from ladder.platform.training.job import Job
from ladder.sweeps.words import Execution, Recipe, Run, Sweep, grid
from tests.platform.launching.harness import Sweep as SweepOnDisk
from tests.platform.launching.harness import processes_of_ray, undisturbed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
SHAPE = Shape(workers=2, cpus=1, gpus=0, accelerator=None)


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp2", marks=pytest.mark.endurance)])
def test_a_sweep_of_two_workers_a_run_is_trained_by_gangs_and_scored_by_tasks(
    tmp_path: Path, storage: UPath, strategy: str
) -> None:
    sweep = SweepOnDisk(tmp_path, storage, tokens=(102_400,))
    driver = sweep.start("--workers", 2, "--strategy", strategy, "--activation-checkpointing")
    assert driver.wait(300) == 0, sweep.said()
    assert len(sweep.results()) == 2
    assert [claim.epoch for claim in sweep.claims().values()] == [2, 2], "one attempt trained, another one scored"
    twin = undisturbed(sweep, tmp_path)
    for key, curve in twin.losses().items():  # bf16 sums of halves round differently, the more the longer it trains
        assert [loss for _, loss in sweep.losses()[key]][:4] == pytest.approx([loss for _, loss in curve][:4], rel=1e-3)
        assert sweep.results()[key] == pytest.approx(twin.results()[key], rel=5e-2)
    sweep.assert_tracked_exactly()


@pytest.fixture
def job(storage: UPath) -> Job:
    recipe = Recipe(tokens=400 * 256, batch_tokens=256, lr_peak=1e-3, precision="fp32")
    corpus = open_corpus(storage, "small")
    run = Run(
        size=parse_size("1x32", context=32, vocabulary=257),
        recipe=recipe,
        corpus="small",
        corpus_fingerprint=corpus.fingerprint,
    )
    sweep = Sweep(name="s", corpus="small", points=grid(sizes=("1x32",), tokens=(1,)), recipe=lambda *_: recipe)
    return Job(
        run=run,
        execution=Execution(workers=2, log_every_steps=1, checkpoint_seconds=0.2, max_failures=1),
        sweep="s",
        storage=str(storage),
        tracking=open_sweep(open_tracking(tracking_uri(None, storage)), sweep, [run], storage),
        benchmarks=(),
        heldout_tokens=256,
    )


@ray.remote(num_cpus=0)
class Listener:
    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []

    def post(self, key: str, lane: str, progress: dict[str, Any]) -> None:
        self.heard.append(progress)

    def all(self) -> list[dict[str, Any]]:
        return self.heard

    def halted(self) -> bool:
        return False


@pytest.fixture(scope="module")
def _connection() -> Iterator[None]:
    with connected(None):
        yield


@pytest.fixture
def run_lane(_connection: None, job: Job, tmp_path: Path) -> Callable[[str], None]:
    """Runs the job in a lane of two workers, whose rank 1 breaks the training at a step."""
    listener = Listener.remote()  # type: ignore[attr-defined]

    def run(breaks: str) -> None:
        def train(config: dict[str, Any]) -> None:
            import os

            from ladder.models.errors import InputError
            from ladder.platform.launching.lanes import lane_worker
            from ladder.platform.training.feed import BatchFeed

            take, rank = BatchFeed.take, ray.train.get_context().get_world_rank()

            def broken(feed: BatchFeed, step: int) -> Any:
                if rank == 1 and step == 50:
                    if breaks == "a user's mistake":
                        raise InputError("the corpus is upside down")
                    if breaks == "an error":
                        raise RuntimeError("the kernel failed")
                    if breaks == "a death":
                        os._exit(1)
                return take(feed, step)

            BatchFeed.take = broken  # type: ignore[method-assign]
            lane_worker(config)

        make_trainer("a", SHAPE, [job], UPath(tmp_path / "ray"), host=listener, train=train).fit()

    return run


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        ("a user's mistake", "the corpus is upside down"),
        pytest.param("an error", "RuntimeError: the kernel failed", marks=pytest.mark.endurance),
        ("a death", "died without a word"),
    ],
)
def test_what_breaks_on_one_rank_ends_all_with_its_cause(
    run_lane: Callable[[str], None], job: Job, breaks: str, reason: str
) -> None:
    lane = threading.Thread(target=run_lane, args=(breaks,))
    lane.start()
    while not (claim := newest_claim(job.folder)):
        time.sleep(0.2)
    group = {process.pid for process in processes_of_ray("RayTrainWorker")}
    assert len(group) == 2
    error = job.folder / "claims" / f"{claim.epoch:06d}.error.json"
    while not error.exists() and all(psutil.pid_exists(pid) for pid in group):
        time.sleep(0.05)
    broke = time.monotonic()
    while any(psutil.pid_exists(pid) for pid in group):
        assert time.monotonic() - broke < 10, "the others wait for a worker that is gone"
        time.sleep(0.1)
    lane.join(120)
    newest = newest_claim(job.folder)
    assert newest is not None and newest.outcome == "failed"
    assert str(newest.reason).count(reason) == 1
    assert newest.epoch <= 2 if breaks == "a user's mistake" else newest.epoch >= 3, "a mistake is not tried again"
