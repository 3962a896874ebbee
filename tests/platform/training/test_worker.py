"""A worker carries a run out from wherever it stands, and leaves a result or a reason."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from upath import UPath

from ladder.models.sizes import parse_size
from ladder.platform.corpus.store import Corpus, open_corpus
from ladder.platform.tracking.database import open_tracking, tracking_uri
from ladder.platform.tracking.records import open_records
from ladder.platform.tracking.runlog import read_curve
from ladder.platform.training.kept import fetch, find_latest, keep, step_name
from ladder.platform.training.place import Place
from ladder.platform.training.worker import Job, carry_out
from ladder.sweeps.words import Execution, Recipe, Run, Sweep, grid

PLACE = Place(device=torch.device("cpu"))
RECIPE = Recipe(tokens=12 * 128, batch_tokens=128, lr_peak=1e-2, precision="fp32")


def make_job(storage: UPath, corpus: Corpus, recipe: Recipe = RECIPE, **execution: object) -> Job:
    run = Run(
        size=parse_size("1x32", context=32, vocabulary=257),
        recipe=recipe,
        corpus="small",
        corpus_fingerprint=corpus.fingerprint,
    )
    sweep = Sweep(name="s", corpus="small", points=grid(sizes=("1x32",), tokens=(1,)), recipe=lambda *_: recipe)
    tracking = tracking_uri(None, storage)
    records = open_records(open_tracking(tracking), sweep, [run], storage)
    return Job(
        run=run,
        execution=Execution(**{"log_every_steps": 2, "checkpoint_seconds": 1e-6, **execution}),  # type: ignore[arg-type]
        sweep="s",
        storage=str(storage),
        tracking=tracking,
        run_id=records[run.key],
        benchmarks=(),
        heldout_tokens=256,
    )


@pytest.fixture
def job(storage: UPath) -> Job:
    return make_job(storage, open_corpus(storage, "small"))


def steps_of(job: Job) -> list[float]:
    return [point["step"] for point in read_curve(job.folder / "metrics.jsonl")]


def checkpoints(job: Job) -> list[str]:
    return sorted(path.name for path in job.folder.glob("step-*"))


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the worker die after it has kept the checkpoint of a step."""

    def keep_and_stop(folder: Path, run_folder: UPath, name: str) -> None:
        keep(folder, run_folder, name)
        if name == step_name(step):
            raise KeyboardInterrupt

    monkeypatch.setattr("ladder.platform.training.worker.keep", keep_and_stop)


def test_a_run_is_trained_scored_and_leaves_a_result(job: Job) -> None:
    assert carry_out(job, PLACE) is None
    assert checkpoints(job) == ["step-00000012"], "the newest checkpoint only"
    result = json.loads((job.folder / "result.json").read_text())
    scores = {m["metric"]: m["value"] for m in result["measurements"] if m["benchmark"] == "heldout"}
    assert 0 < scores["loss"] < 5.6 and result["seconds_training"] > 0
    assert steps_of(job) == [2, 4, 6, 8, 10, 12]


def test_time_spent_scoring_is_not_counted_as_training(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = time.perf_counter

    def score_for_long(*_: object, **__: object) -> list[object]:
        monkeypatch.setattr(time, "perf_counter", lambda: clock() + 1000)
        return []

    monkeypatch.setattr("ladder.platform.training.worker.evaluate", score_for_long)
    carry_out(job, PLACE)
    result = json.loads((job.folder / "result.json").read_text())
    assert result["seconds_training"] < 1000 <= result["seconds_scoring"]


def test_a_run_that_was_stopped_goes_on_to_the_same_curve(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out(job, PLACE)
    unbroken = read_curve(job.folder / "metrics.jsonl")
    shutil.rmtree(str(job.folder))

    with monkeypatch.context() as patch:
        stop_after(6, patch)
        with pytest.raises(KeyboardInterrupt):
            carry_out(job, PLACE)
    assert checkpoints(job) == ["step-00000006"]
    carry_out(job, PLACE)
    resumed = read_curve(job.folder / "metrics.jsonl")
    assert [(p["step"], p["train/loss"]) for p in resumed] == [(p["step"], p["train/loss"]) for p in unbroken]


def test_a_run_at_its_end_trains_nothing_and_keeps_its_scores(job: Job) -> None:
    carry_out(job, PLACE)
    before = json.loads((job.folder / "result.json").read_text())
    carry_out(job, PLACE)
    after = json.loads((job.folder / "result.json").read_text())
    assert after["measurements"] == before["measurements"] and steps_of(job) == [2, 4, 6, 8, 10, 12]
    assert after["seconds_training"] == before["seconds_training"]


def test_a_run_that_diverges_fails_with_step_and_last_good_checkpoint(storage: UPath) -> None:
    recipe = replace(RECIPE, tokens=128 * 300, lr_peak=1e30, warmup_tokens=0)
    wild = make_job(storage, open_corpus(storage, "small"), recipe)
    reason = carry_out(wild, PLACE)
    last = checkpoints(wild)[-1] if checkpoints(wild) else "none"
    assert reason is not None and "is not finite at step" in reason
    assert reason.endswith(f"last good checkpoint: {last}")
    assert json.loads((wild.folder / "progress.json").read_text())["status"] == "failed"
    assert not (wild.folder / "result.json").exists()


def test_a_corpus_that_changed_since_fails_the_run(job: Job) -> None:
    reason = carry_out(replace(job, run=replace(job.run, corpus_fingerprint="another")), PLACE)
    assert reason is not None and "no longer the one" in reason


def test_checkpoints_are_kept_on_an_object_store_and_half_of_one_is_none(tmp_path: Path) -> None:
    run_folder = UPath("memory://bucket/run")
    for step in (3, 6):
        made = tmp_path / "made" / str(step)
        (made / "training").mkdir(parents=True)
        (made / "training" / "moments.safetensors").write_bytes(bytes([step]))
        (made / "training.json").write_text("{}")
        keep(made, run_folder, step_name(step))
    (run_folder / step_name(9)).mkdir(parents=True)
    (run_folder / step_name(9) / "model.safetensors").write_bytes(b"half")
    latest = find_latest(run_folder)
    assert latest is not None and latest.name == step_name(6)
    local = fetch(latest, tmp_path / "scratch")
    assert (local / "training" / "moments.safetensors").read_bytes() == bytes([6])
    assert not (run_folder / step_name(3)).exists(), "the older one is removed"
