"""A worker carries a run out from wherever it stands, and leaves a result or a reason."""

import json
import shutil
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
from ladder.platform.training.place import Place
from ladder.platform.training.worker import Job, carry_out
from ladder.sweeps.words import Execution, Recipe, Run, Sweep, grid

PLACE = Place(device=torch.device("cpu"))
RECIPE = Recipe(tokens=12 * 128, batch_tokens=128, lr_peak=1e-2, precision="fp32")


class Kept:
    """Keeps checkpoints in a folder, as Ray would, and can stop the worker after one of them."""

    def __init__(self, folder: Path, stop_after: str | None = None) -> None:
        self.folder, self.stop_after = folder, stop_after
        self.names: list[str] = []

    def __call__(self, folder: Path | None, name: str) -> None:
        assert folder is not None
        shutil.copytree(folder, self.folder / name)
        self.names.append(name)
        if name == self.stop_after:
            raise KeyboardInterrupt


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


def scratch(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder


def test_a_run_is_trained_scored_and_leaves_a_result(job: Job, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    outcome = carry_out(job, PLACE, resume=None, scratch=scratch(tmp_path, "a"), keep=kept)
    assert outcome == {"status": "finished", "reason": None}
    assert kept.names[-1] == "step-00000012"
    result = json.loads((job.folder / "result.json").read_text())
    scores = {m["metric"]: m["value"] for m in result["measurements"] if m["benchmark"] == "heldout"}
    assert 0 < scores["loss"] < 5.6 and result["seconds_training"] > 0
    assert [point["step"] for point in read_curve(job.folder / "metrics.jsonl")] == [2, 4, 6, 8, 10, 12]


def test_a_run_that_was_stopped_goes_on_to_the_same_curve(job: Job, storage: UPath, tmp_path: Path) -> None:
    whole = Kept(tmp_path / "whole")
    carry_out(job, PLACE, resume=None, scratch=scratch(tmp_path, "a"), keep=whole)
    unbroken = read_curve(job.folder / "metrics.jsonl")
    shutil.rmtree(str(job.folder))

    broken = Kept(tmp_path / "broken", stop_after="step-00000006")
    with pytest.raises(KeyboardInterrupt):
        carry_out(job, PLACE, resume=None, scratch=scratch(tmp_path, "b"), keep=broken)
    rest = Kept(tmp_path / "rest")
    carry_out(job, PLACE, resume=tmp_path / "broken" / "step-00000006", scratch=scratch(tmp_path, "c"), keep=rest)
    resumed = read_curve(job.folder / "metrics.jsonl")
    assert [(p["step"], p["train/loss"]) for p in resumed] == [(p["step"], p["train/loss"]) for p in unbroken]
    assert rest.names[0] == "step-00000008"


def test_a_run_at_its_end_trains_nothing_and_keeps_its_scores(job: Job, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    carry_out(job, PLACE, resume=None, scratch=scratch(tmp_path, "a"), keep=kept)
    before = json.loads((job.folder / "result.json").read_text())
    again = Kept(tmp_path / "again")
    carry_out(job, PLACE, resume=tmp_path / "kept" / "step-00000012", scratch=scratch(tmp_path, "b"), keep=again)
    after = json.loads((job.folder / "result.json").read_text())
    assert again.names == [] and after["measurements"] == before["measurements"]
    assert after["seconds_training"] == before["seconds_training"]


def test_a_run_that_diverges_fails_with_step_and_last_good_checkpoint(job: Job, storage: UPath, tmp_path: Path) -> None:
    recipe = replace(RECIPE, tokens=128 * 300, lr_peak=1e30, warmup_fraction=0.0)
    wild = make_job(storage, open_corpus(storage, "small"), recipe)
    kept = Kept(tmp_path / "kept")
    outcome = carry_out(wild, PLACE, resume=None, scratch=scratch(tmp_path, "a"), keep=kept)
    assert outcome["status"] == "failed"
    last = kept.names[-1] if kept.names else "none"
    assert "is not finite at step" in outcome["reason"] and outcome["reason"].endswith(f"last good checkpoint: {last}")
    assert json.loads((wild.folder / "progress.json").read_text())["status"] == "failed"
    assert not (wild.folder / "result.json").exists()


def test_a_corpus_that_changed_since_fails_the_run(job: Job, tmp_path: Path) -> None:
    other = replace(job, run=replace(job.run, corpus_fingerprint="another"))
    outcome = carry_out(other, PLACE, resume=None, scratch=scratch(tmp_path, "a"), keep=Kept(tmp_path / "k"))
    assert outcome["status"] == "failed" and "no longer the one" in outcome["reason"]
