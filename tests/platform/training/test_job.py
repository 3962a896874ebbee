"""A worker does a run from wherever it stands, and leaves a result or a reason."""

import errno
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.sizes import parse_size
from ladder.platform.corpus.store import Corpus, open_corpus
from ladder.platform.evaluation.own.file import OwnFile, read_own_file
from ladder.platform.runs.attempt import Attempt, begin, newest_step
from ladder.platform.runs.checkpoints import list_checkpoints
from ladder.platform.runs.curve import read_curve
from ladder.platform.runs.lease import LeaseLost, acquire, newest_claim
from ladder.platform.runs.status import missing_benchmarks
from ladder.platform.tracking.database import open_tracking, tracking_uri
from ladder.platform.tracking.records import open_sweep
from ladder.platform.training.checkpoint import Snapshot
from ladder.platform.training.job import CheckpointSaver, Job, run_job
from ladder.platform.training.worker import Worker
from ladder.sweeps.words import Execution, Recipe, Run, Sweep, grid

WORKER = Worker(device=torch.device("cpu"))
RECIPE = Recipe(tokens=12 * 128, batch_tokens=128, lr_peak=1e-2, precision="fp32")


def make_job(storage: UPath, corpus: Corpus, recipe: Recipe = RECIPE, **execution: object) -> Job:
    run = Run(
        size=parse_size("1x32", context=32, vocabulary=257),
        recipe=recipe,
        corpus="small",
        corpus_fingerprint=corpus.fingerprint,
    )
    sweep = Sweep(name="s", corpus="small", points=grid(sizes=("1x32",), tokens=(1,)), recipe=lambda *_: recipe)
    return Job(
        run=run,
        execution=Execution(**{"log_every_steps": 2, "checkpoint_seconds": 1e-6, **execution}),  # type: ignore[arg-type]
        sweep="s",
        storage=str(storage),
        tracking=open_sweep(open_tracking(tracking_uri(None, storage)), sweep, [run], storage),
        benchmarks=(),
        heldout_tokens=256,
    )


@pytest.fixture
def job(storage: UPath) -> Job:
    return make_job(storage, open_corpus(storage, "small"))


def take_up(job: Job) -> Attempt:
    attempt = begin(job.folder, "a", trains=True, scores=True, max_failures=3)
    assert attempt is not None
    return attempt


def do(job: Job) -> None:
    run_job(job, WORKER, take_up(job))


def steps_of(job: Job) -> list[float]:
    return [point["step"] for point in read_curve(job.folder)]


def losses_of(job: Job) -> list[tuple[float, float]]:
    return [(point["step"], point["train/loss"]) for point in read_curve(job.folder)]


def checkpoints(job: Job) -> list[str]:
    return [path.name for path in list_checkpoints(job.folder)]


def result_of(job: Job) -> dict[str, object]:
    result: dict[str, object] = json.loads((job.folder / "result.json").read_text())
    return result


@contextmanager
def killed_after(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The worker dies when it has kept the checkpoint of a step, without another word."""
    save = CheckpointSaver.save

    def save_and_die(saver: CheckpointSaver, snapshot: Snapshot) -> None:
        save(saver, snapshot)
        if saver.trainer.step == step:
            saver.wait()
            saver.attempt._stop.set()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CheckpointSaver, "save", save_and_die)
        yield


def test_a_run_is_trained_scored_and_leaves_a_result(job: Job) -> None:
    do(job)
    assert checkpoints(job) == ["step-00000012.0001", "step-00000010.0001"], "the last two"
    result = result_of(job)
    scores = {m["metric"]: m["value"] for m in result["measurements"] if m["benchmark"] == "heldout"}  # type: ignore[attr-defined]
    assert 0 < scores["loss"] < 5.6 and result["seconds_training"] > 0  # type: ignore[operator]
    assert result["execution"]["precision"] == "fp32"  # type: ignore[index]
    assert steps_of(job) == [2, 4, 6, 8, 10, 12]
    newest = newest_claim(job.folder)
    assert newest is not None and newest.outcome == "finished"


def test_time_spent_scoring_is_not_counted_as_training(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = time.perf_counter

    def score_for_long(*_: object) -> Iterator[object]:
        monkeypatch.setattr(time, "perf_counter", lambda: clock() + 1000)
        return iter(())

    monkeypatch.setattr("ladder.platform.training.job.score_checkpoint", score_for_long)
    do(job)
    result = result_of(job)
    assert result["seconds_training"] < 1000 <= result["seconds_scoring"]  # type: ignore[operator]


def test_a_run_that_was_killed_goes_on_to_the_same_curve(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    do(job)
    unbroken = losses_of(job)
    shutil.rmtree(str(job.folder))

    with killed_after(6, monkeypatch):
        do(job)
    assert checkpoints(job)[0] == "step-00000006.0001"
    do(job)
    assert losses_of(job) == unbroken


def test_a_refused_look_at_the_checkpoints_does_not_end_an_attempt(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def refused_at_first(folder: UPath) -> int:
        looks.append(folder)
        if len(looks) == 1:
            raise OSError(errno.EIO, "SlowDown")
        return newest_step(folder)

    monkeypatch.setattr("ladder.platform.training.job.newest_step", refused_at_first)
    do(job)
    assert len(looks) == 2 and result_of(job)["step"] == 12


def test_a_checkpoint_damaged_since_is_made_good_from_the_one_before(
    job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    do(job)
    unbroken = losses_of(job)
    shutil.rmtree(str(job.folder))
    with killed_after(6, monkeypatch):
        do(job)
    times = {point["step"]: point["time_ms"] for point in read_curve(job.folder)}
    weights = list_checkpoints(job.folder)[0] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    do(job)
    assert "step-00000006.0001" in caplog.text and "damaged" in caplog.text
    assert losses_of(job) == unbroken
    assert {p["step"]: p["time_ms"] for p in read_curve(job.folder) if p["step"] <= 6} == times, "each point once"


def test_a_run_whose_trained_checkpoint_is_damaged_is_trained_to_its_end_again(job: Job) -> None:
    do(job)
    before = result_of(job)
    (job.folder / "result.json").unlink()
    weights = list_checkpoints(job.folder)[0] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    do(job)
    after = result_of(job)
    assert checkpoints(job)[0] == "step-00000012.0002"
    assert [m["value"] for m in after["measurements"]] == [m["value"] for m in before["measurements"]]  # type: ignore[attr-defined]


def test_a_run_at_its_end_trains_nothing_and_keeps_its_scores(job: Job) -> None:
    do(job)
    before = result_of(job)
    do(replace(job, benchmarks=("pages-bytes",)))
    after = result_of(job)
    count = len(before["measurements"])  # type: ignore[arg-type]
    assert after["measurements"][:count] == before["measurements"] and len(after["measurements"]) > count  # type: ignore[index,arg-type]
    assert after["seconds_training"] == before["seconds_training"] and steps_of(job) == [2, 4, 6, 8, 10, 12]
    assert after["time_ms"] == before["time_ms"]


def test_a_benchmark_of_ones_own_is_scored_again_where_its_file_has_changed(job: Job) -> None:
    def own(answer: int) -> tuple[OwnFile, ...]:
        row = {"prompt": "a", "choices": ["b", "c"], "answer": answer}
        return (OwnFile(path="mine.jsonl", content=f'{{"name": "mine"}}\n{json.dumps(row)}\n'),)

    asked = [replace(job, benchmarks=("mine",), own=own(answer)) for answer in (0, 0, 1)]
    values, times = [], []
    for one in asked:
        if missing_benchmarks(one.folder, one.definitions):
            do(one)
        measurements = result_of(one)["measurements"]
        (mine,) = [m for m in measurements if m["benchmark"] == "mine"]  # type: ignore[attr-defined]
        values.append(mine["value"])
        times.append(mine.get("time_ms"))
    assert values[0] == values[1] == 1 - values[2], "the other answer is right in the changed file"
    assert times[:2] == [None, None] and times[2] > result_of(job)["time_ms"], "MLflow has the new score last"


def test_a_run_that_diverges_fails_with_step_and_last_good_checkpoint(storage: UPath) -> None:
    recipe = replace(RECIPE, tokens=128 * 300, lr_peak=1e30, warmup_tokens=0)
    wild = make_job(storage, open_corpus(storage, "small"), recipe)
    do(wild)
    newest = newest_claim(wild.folder)
    assert newest is not None and newest.outcome == "failed" and "is not finite at step" in str(newest.reason)
    last = checkpoints(wild)[0] if checkpoints(wild) else "none"
    assert str(newest.reason).endswith(f"last good checkpoint: {last}")
    assert not (wild.folder / "result.json").exists()


def test_a_corpus_that_changed_since_is_the_users_to_mend(job: Job) -> None:
    with pytest.raises(InputError, match="no longer the one"):
        do(replace(job, run=replace(job.run, corpus_fingerprint="another")))


def test_a_worker_that_was_taken_over_publishes_nothing_more(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    save = CheckpointSaver.save

    def taken_over_at_six(saver: CheckpointSaver, snapshot: Snapshot) -> None:
        if saver.trainer.step == 6:
            saver.wait()
            assert acquire(job.folder, "a") is not None
        save(saver, snapshot)

    monkeypatch.setattr(CheckpointSaver, "save", taken_over_at_six)
    with pytest.raises(LeaseLost):
        do(job)
    assert checkpoints(job)[0] == "step-00000004.0001" and not (job.folder / "result.json").exists()


def test_the_micro_batch_is_found_once_and_kept(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with killed_after(6, monkeypatch):
        do(job)
    monkeypatch.setattr("ladder.platform.training.strategy.CPU_TOKENS", 32)  # as if less memory were free now
    do(job)
    assert result_of(job)["execution"]["micro_batch_sequences"] == "4"  # type: ignore[index]


def test_saving_goes_on_while_training_does(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is the state at the time of the call, though later steps have changed the model since."""
    from ladder.platform.training import job as module

    write = module.write_checkpoint

    def slowly(*arguments: object, **options: object) -> object:
        time.sleep(0.2)
        return write(*arguments, **options)  # type: ignore[arg-type]

    do(job)
    unbroken = losses_of(job)
    shutil.rmtree(str(job.folder))
    monkeypatch.setattr(module, "write_checkpoint", slowly)
    with killed_after(6, monkeypatch):
        do(job)
    do(job)
    assert losses_of(job) == unbroken


def test_a_task_of_the_harness_is_scored_with_the_run_and_leaves_nothing_to_be_done(job: Job, tmp_path: Path) -> None:
    (tmp_path / "said.json").write_text('{"prompt": "a", "choices": ["b", "c"], "answer": 0}\n' * 3)
    task = tmp_path / "said.yaml"
    task.write_text(
        f"task: said\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path / 'said.json'}}}}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{prompt}}'\ndoc_to_choice: choices\n"
        "doc_to_target: answer\nmetric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    job = replace(job, benchmarks=("harness-said",), own=(read_own_file(str(task)),))
    do(job)
    result = json.loads((job.folder / "result.json").read_text())
    assert ("harness-said", "acc", 3) in {(m["benchmark"], m["metric"], m["count"]) for m in result["measurements"]}
    assert missing_benchmarks(job.folder, job.definitions) == []
