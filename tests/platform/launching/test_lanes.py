"""The queue hands every job to one lane, gives a restarted lane its job back, and gives up on what always fails."""

from dataclasses import replace

from upath import UPath

from ladder.models.sizes import parse_size
from ladder.platform.launching.lanes import Queue
from ladder.platform.storage import read_json
from ladder.platform.training.worker import Job
from ladder.sweeps.words import Execution, Recipe, Run

RUN = Run(
    size=parse_size("1x32", context=32, vocabulary=257),
    recipe=Recipe(tokens=1024, batch_tokens=256, lr_peak=1e-3, precision="fp32"),
    corpus="c",
    corpus_fingerprint="f",
)


def jobs(storage: UPath, n: int) -> dict[str, Job]:
    made = [
        Job(
            run=replace(RUN, recipe=replace(RUN.recipe, seed=seed)),
            execution=Execution(max_failures=1),
            sweep="s",
            storage=str(storage),
            tracking="none",
            run_id="none",
            benchmarks=(),
            heldout_tokens=1,
        )
        for seed in range(n)
    ]
    return {job.run.key: job for job in made}


def test_every_job_goes_to_one_lane_in_order(storage: UPath) -> None:
    todo = jobs(storage, 3)
    queue = Queue(todo)
    first, second = queue.take(0), queue.take(1)
    assert first is not None and second is not None and [first.run.key, second.run.key] == list(todo)[:2]
    queue.end(0)
    third = queue.take(0)
    assert third is not None and third.run.key == list(todo)[2]
    queue.end(0)
    assert queue.take(0) is None


def test_a_restarted_lane_gets_its_job_back(storage: UPath) -> None:
    queue = Queue(jobs(storage, 2))
    job = queue.take(0)
    assert queue.take(0) is job


def test_a_job_at_which_workers_die_too_often_is_failed_with_the_reason(storage: UPath) -> None:
    queue = Queue(jobs(storage, 2))
    job = queue.take(0)
    assert job is not None
    queue.take(0)
    queue.explain(0, "OutOfMemoryError: too large")
    following = queue.take(0)
    assert following is not None and following.run.key != job.run.key
    progress = read_json(job.folder / "progress.json")
    assert progress is not None and progress["status"] == "failed"
    assert progress["reason"] == "failed 2 times: OutOfMemoryError: too large"


def test_a_worker_killed_without_a_word_is_told_apart(storage: UPath) -> None:
    queue = Queue(jobs(storage, 1))
    job = queue.take(0)
    assert job is not None
    queue.take(0)
    assert queue.take(0) is None
    progress = read_json(job.folder / "progress.json")
    assert progress is not None and "died without a word" in progress["reason"]
