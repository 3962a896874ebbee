"""A worker does one job after another, each as if it were the only one, and what goes wrong stays with its run."""

import gc
import itertools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.sizes import parse_size
from ladder.platform.corpus.store import open_corpus
from ladder.platform.launching import lanes
from ladder.platform.launching.lanes import take_job, work_through
from ladder.platform.runs.attempt import Attempt
from ladder.platform.runs.lease import acquire, newest_claim
from ladder.platform.storage import write_json
from ladder.platform.tracking.database import open_tracking, tracking_uri
from ladder.platform.tracking.records import TrackedSweep, open_sweep
from ladder.platform.training.job import Job, run_job
from ladder.platform.training.worker import Worker
from ladder.sweeps.words import Execution, Recipe, Run, Sweep, grid

WORKER = Worker(device=torch.device("cpu"))
NOWHERE = TrackedSweep(uri="none", experiment="0", parent="none", store="none")


def make_jobs(
    storage: UPath, shapes: Sequence[str], *, tracking: TrackedSweep = NOWHERE, **execution: Any
) -> list[Job]:
    recipe = Recipe(tokens=4 * 256, batch_tokens=256, lr_peak=1e-3, precision="fp32")
    fingerprint = open_corpus(storage, "small").fingerprint
    return [
        Job(
            run=Run(
                size=parse_size(shape, context=32, vocabulary=257),
                recipe=recipe,
                corpus="small",
                corpus_fingerprint=fingerprint,
            ),
            execution=Execution(**{"max_failures": 1, **execution}),
            sweep="s",
            storage=str(storage),
            tracking=tracking,
            benchmarks=(),
            heldout_tokens=128,
        )
        for shape in shapes
    ]


def outcomes(jobs: Sequence[Job]) -> list[tuple[str | None, str | None]]:
    claims = [newest_claim(job.folder) for job in jobs]
    return [(None, None) if claim is None else (claim.outcome, claim.reason) for claim in claims]


def take(owner: str = "a") -> Callable[[Job], Attempt | None]:
    return lambda job: take_job(job, owner, node_is_lost=lambda node: False)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sizes of the jobs that were run, which takes no time; what is called 2x16 is a mistake, 3x16 a crash."""
    ran: list[str] = []

    def run(job: Job, worker: Worker, attempt: Attempt | None) -> None:
        assert attempt is not None
        ran.append(job.run.size.name)
        if job.run.size.n_layer == 2:
            raise InputError("no such benchmark")
        if job.run.size.n_layer == 3:
            raise RuntimeError("the kernel failed")
        write_json(job.folder / "result.json", {"measurements": [{"benchmark": "heldout"}]})
        attempt.end("finished")

    monkeypatch.setattr(lanes, "run_job", run)
    return ran


def test_jobs_are_done_in_their_order_and_a_mistake_stops_no_other(storage: UPath, done: list[str]) -> None:
    jobs = make_jobs(storage, ("4x16", "2x16", "1x16"))
    work_through(jobs, WORKER, take())
    assert done == ["4x16", "2x16", "1x16"]
    assert outcomes(jobs) == [("finished", None), ("failed", "no such benchmark"), ("finished", None)]


def test_what_somebody_else_holds_or_has_ended_is_left_alone(storage: UPath, done: list[str]) -> None:
    jobs = make_jobs(storage, ("4x16", "2x16", "1x16"))
    assert acquire(jobs[0].folder, "another") is not None
    failed = acquire(jobs[1].folder, "another")
    assert failed is not None
    failed.end("failed", "why")
    work_through(jobs, WORKER, take())
    assert done == ["1x16"]


def test_a_crash_ends_the_process_and_is_counted_by_the_next(storage: UPath, done: list[str]) -> None:
    jobs = make_jobs(storage, ("3x16", "1x16"))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the kernel failed"):
            work_through(jobs, WORKER, take())
    work_through(jobs, WORKER, take())
    assert done == ["3x16", "3x16", "1x16"]
    assert outcomes(jobs)[0] == ("failed", "failed 2 times at step 0: RuntimeError: the kernel failed")


def test_a_lane_ends_after_so_many_runs_or_so_long(
    storage: UPath, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = make_jobs(storage, ("4x16", "5x16", "6x16", "7x16"))
    monkeypatch.setattr(lanes, "LANE_RUNS", 2)
    work_through(jobs, WORKER, take())
    assert done == ["4x16", "5x16"]
    monkeypatch.setattr(lanes, "LANE_SECONDS", -1.0)
    work_through(jobs, WORKER, take())
    assert done == ["4x16", "5x16", "6x16"], "one run at least"


def test_a_run_that_was_taken_over_is_left_and_the_next_taken(
    storage: UPath, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = make_jobs(storage, ("1x16", "1x32"), tracking=open_tracked(storage), checkpoint_seconds=1e-6)

    def overtaken(job: Job, worker: Worker, attempt: Attempt | None) -> None:
        if job is jobs[0]:
            assert acquire(job.folder, "a") is not None
        run_job(job, worker, attempt)

    monkeypatch.setattr(lanes, "run_job", overtaken)
    with caplog.at_level(logging.WARNING):
        work_through(jobs, WORKER, take())
    assert "was taken over by another worker" in caplog.text
    assert outcomes(jobs) == [(None, None), ("finished", None)]
    assert not (jobs[0].folder / "result.json").exists() and not list(jobs[0].folder.glob("step-*"))


def open_tracked(storage: UPath) -> TrackedSweep:
    sweep = Sweep(name="s", corpus="small", points=grid(sizes=("1x32",), tokens=(1,)), recipe=lambda *_: None)  # type: ignore[arg-type,return-value]
    return open_sweep(open_tracking(tracking_uri(None, storage)), sweep, [], storage)


@pytest.mark.endurance
@pytest.mark.timeout(1500)
def test_twenty_shapes_compile_in_one_process_whose_memory_stays_flat(
    storage: UPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The usual folder may hold half a library of a process that was killed while it compiled.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    shapes = [f"{layers}x{width}h1" for layers, width in itertools.product((1, 2), range(16, 96, 8))]
    jobs = make_jobs(storage, shapes, tracking=open_tracked(storage), compile=True)
    compiled, resident = [], []

    def count(job: Job) -> Attempt | None:
        compiled.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        gc.collect()
        resident.append(psutil.Process().memory_info().rss)
        return take()(job)

    work_through(jobs, WORKER, count)
    compiled.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert [outcome for outcome, _ in outcomes(jobs)] == ["finished"] * 20
    assert all(b > a for a, b in itertools.pairwise(compiled)), f"graphs compiled before each run: {compiled}"
    settled = resident[5:]  # inductor's own pools and thread stacks are there by then
    assert max(settled) < 1.1 * min(settled), [f"{rss / 2**20:.0f} MiB" for rss in resident]


def test_a_lane_that_is_halted_takes_up_no_further_run(storage: UPath, done: list[str]) -> None:
    work_through(make_jobs(storage, ["1x16", "1x32"]), WORKER, take(), halted=lambda: len(done) == 1)
    assert done == ["1x16"]
