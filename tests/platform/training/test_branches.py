"""Several budgets from one trunk are, bit for bit, the runs that they would be one by one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from upath import UPath

from ladder.models.sizes import parse_size
from ladder.models.weights import load_weights
from ladder.platform.corpus.store import open_corpus
from ladder.platform.launching.lanes import take_job, work_through
from ladder.platform.runs.checkpoints import list_checkpoints, read_mark
from ladder.platform.runs.curve import read_curve
from ladder.platform.storage import read_json
from ladder.platform.tracking.database import open_tracking, tracking_uri
from ladder.platform.tracking.records import TrackedSweep, open_sweep
from ladder.platform.training.checkpoint import Snapshot
from ladder.platform.training.job import CheckpointSaver, Job
from ladder.platform.training.step import TrainingStep
from ladder.platform.training.worker import Worker
from ladder.sweeps.trunks import find_relatives
from ladder.sweeps.words import Execution, Recipe, Run, Sweep, grid

WORKER = Worker(device=torch.device("cpu"))
BUDGETS = (10, 17, 30)
"""Steps of three runs, the last fifth of each its decay: they branch at 8, 14 and 24, between points of the curve."""


def make_jobs(storage: UPath, *, sweep: str = "s", shared: bool = True) -> list[Job]:
    """The runs, the longest first as a lane has them."""
    runs = [
        Run(
            size=parse_size("1x32", context=32, vocabulary=257),
            recipe=Recipe(
                tokens=steps * 128,
                batch_tokens=128,
                lr_peak=1e-2,
                warmup_tokens=256,
                schedule="wsd",
                decay_tokens=steps // 5 * 128,
                precision="fp32",
            ),
            corpus="small",
            corpus_fingerprint=open_corpus(storage, "small").fingerprint,
        )
        for steps in sorted(BUDGETS, reverse=True)
    ]
    words = Sweep(
        name=sweep, corpus="small", points=grid(sizes=("1x32",), tokens=(1,)), recipe=lambda *_: runs[0].recipe
    )
    tracking: TrackedSweep = open_sweep(open_tracking(tracking_uri(None, storage)), words, runs, storage)
    relatives = find_relatives(runs) if shared else {}
    return [
        Job(
            run=run,
            execution=Execution(log_every_steps=5, checkpoint_seconds=1e-6),
            sweep=sweep,
            storage=str(storage),
            tracking=tracking,
            benchmarks=(),
            heldout_tokens=256,
            relatives=relatives.get(run.key, ()),
        )
        for run in runs
    ]


def work(jobs: list[Job]) -> None:
    work_through(jobs, WORKER, lambda job: take_job(job, "a", node_is_lost=lambda node: False))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of every optimizer step, the budget of its run."""
    budgets: list[int] = []
    update = TrainingStep.update

    def count(engine: TrainingStep, lr: float) -> torch.Tensor:
        budgets.append(engine.run.recipe.steps)
        return update(engine, lr)

    monkeypatch.setattr(TrainingStep, "update", count)
    return budgets


def left_by(job: Job) -> tuple[list[tuple[float, float]], dict[str, torch.Tensor], list[object]]:
    """Curve, weights and scores."""
    curve = [(point["step"], point["train/loss"]) for point in read_curve(job.folder)]
    result = read_json(job.folder / "result.json")
    assert result is not None, f"{job.run.key} is not finished"
    return curve, load_weights(Path(list_checkpoints(job.folder)[0].path)).state_dict(), result["measurements"]


def assert_equal_to_separate(storage: UPath, jobs: list[Job]) -> None:
    alone = make_jobs(storage, sweep="alone", shared=False)
    for job in reversed(alone):
        work([job])
    for job, reference in zip(jobs, alone, strict=True):
        (curve, weights, scores), (wanted_curve, wanted_weights, wanted_scores) = left_by(job), left_by(reference)
        assert job.run.key == reference.run.key
        assert curve == wanted_curve and scores == wanted_scores
        assert weights.keys() == wanted_weights.keys()
        assert all(torch.equal(weights[name], wanted_weights[name]) for name in weights)


@contextmanager
def killed_at(budget: int, step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process ends without another word when the run of a budget has kept its checkpoint of a step."""
    save = CheckpointSaver.save

    def save_and_die(saver: CheckpointSaver, snapshot: Snapshot) -> None:
        save(saver, snapshot)
        if (saver.trainer.run.recipe.steps, saver.trainer.step) == (budget, step):
            saver.wait()
            saver.attempt._stop.set()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CheckpointSaver, "save", save_and_die)
        yield


def test_three_budgets_from_one_trunk_equal_three_runs_and_cost_trunk_and_decays(
    storage: UPath, trained: list[int]
) -> None:
    jobs = make_jobs(storage)
    work(jobs)
    assert trained == [30] * 30 + [17] * 3 + [10] * 2
    shared = [read_mark(list_checkpoints(job.folder)[0])["shared_steps"] for job in jobs]
    assert shared == [0, 14, 8]
    assert_equal_to_separate(storage, jobs)


@pytest.mark.parametrize(
    ("budget", "step"),
    [
        (30, 14),
        (17, 15),
        *(pytest.param(*place, marks=pytest.mark.slow) for place in [(30, 5), (30, 8), (30, 24), (30, 30), (10, 10)]),
    ],
)
def test_killed_in_trunk_or_branch_it_goes_on(
    budget: int, step: int, storage: UPath, monkeypatch: pytest.MonkeyPatch, trained: list[int]
) -> None:
    jobs = make_jobs(storage)
    with killed_at(budget, step, monkeypatch):
        work(jobs)
    work(make_jobs(storage))
    assert len(trained) == 30 + 3 + 2, "no step is trained twice"
    assert_equal_to_separate(storage, jobs)


def test_a_longer_budget_that_is_added_later_goes_on_from_the_branch(storage: UPath, trained: list[int]) -> None:
    longest, *others = make_jobs(storage)
    ours = {job.run.key for job in others}
    work([replace(job, relatives=tuple(r for r in job.relatives if r.run in ours)) for job in others])
    trained.clear()
    work([longest])
    assert trained == [30] * 16
    assert_equal_to_separate(storage, [longest, *others])
