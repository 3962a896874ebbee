"""A trial's run in one process: trained once, gone on with at the next rung, failed where it diverges, waited for."""

import math
import threading
import time
from dataclasses import replace

import pytest
import torch
from upath import UPath

from ladder.platform.corpus.store import open_corpus
from ladder.platform.launching.lanes import take_job
from ladder.platform.launching.sweep import make_job
from ladder.platform.runs.lease import newest_claim
from ladder.platform.tracking.database import open_tracking, tracking_uri
from ladder.platform.tracking.records import open_sweep
from ladder.platform.training.job import Job
from ladder.platform.training.worker import Worker
from ladder.platform.tuning import tuner
from ladder.platform.tuning.tuner import finish_run
from ladder.sweeps.expand import CorpusFacts
from ladder.sweeps.rules import small_recipe
from ladder.sweeps.search import SearchSpace, plan_search
from ladder.sweeps.trunks import find_relatives
from ladder.sweeps.words import Execution, Sweep, grid

WORKER = Worker(device=torch.device("cpu"))


@pytest.fixture
def jobs(storage: UPath) -> list[Job]:
    """The runs of one trial, at 92,160 and 276,480 tokens."""
    sweep = Sweep(
        name="path",
        corpus="small",
        context=32,
        points=grid(sizes=("1x16",), tokens=(276_480,)),
        recipe=small_recipe,
        heldout_tokens=256,
        execution=Execution(log_every_steps=5),
    )
    facts = CorpusFacts(name="small", vocabulary=257, fingerprint=open_corpus(storage, "small").fingerprint)
    (search,) = plan_search(sweep, facts, SearchSpace(lr_steps=1, rungs=2), precision="fp32")
    runs = search.trials[0].runs
    tracked = open_sweep(open_tracking(tracking_uri(None, storage)), sweep, runs, storage)
    relatives = find_relatives(runs)
    return [make_job(sweep, run, storage, tracked, relatives[run.key]) for run in runs]


def test_a_run_is_trained_once_and_the_next_rung_goes_on_from_its_trunk(jobs: list[Job]) -> None:
    first, second = (finish_run(job, WORKER, "a") for job in jobs)
    short, long = (job.run.recipe for job in jobs)
    assert first.trained_tokens == short.tokens
    assert second.trained_tokens == long.tokens - (short.tokens - short.decay_tokens)
    assert second.loss < first.loss < 6 and first.reason is None
    assert finish_run(jobs[0], WORKER, "b") == first, "read, and not trained again"
    claim = newest_claim(jobs[0].folder)
    assert claim is not None and claim.epoch == 1 and claim.owner == "a"


def test_a_run_that_diverges_is_the_worst_of_all(jobs: list[Job]) -> None:
    recipe = replace(jobs[0].run.recipe, lr_peak=1e30, warmup_tokens=0)
    wild = replace(jobs[0], run=replace(jobs[0].run, recipe=recipe), relatives=())
    result = finish_run(wild, WORKER, "a")
    assert result.loss == math.inf and result.reason is not None and "is not finite at step" in result.reason
    assert finish_run(wild, WORKER, "b") == result, "it is not tried again"


def test_a_run_that_somebody_else_works_on_is_waited_for(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuner, "LOOK_SECONDS", 0.05)
    other = take_job(jobs[0], "other", node_is_lost=lambda node: False)
    assert other is not None
    found = []
    waiting = threading.Thread(target=lambda: found.append(finish_run(jobs[0], WORKER, "a")))
    waiting.start()
    time.sleep(0.3)
    assert not found
    other.end("released")
    waiting.join(60)
    assert found and found[0].reason is None
