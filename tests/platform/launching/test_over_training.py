"""Scores over training: every checkpoint that is kept and step 0, raw and between chance and a named reference."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from upath import UPath

from ladder.analysis.api import read_sweep
from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.weights import load_weights, save_weights
from ladder.platform.command.evaluate import command
from ladder.platform.identity import mark_schema
from ladder.platform.launching.over_training import keep_rows, points_of, reach
from ladder.platform.tracking.database import open_tracking, tracking_uri

SIZE = parse_size("1x16h1", context=64, vocabulary=257)


@pytest.fixture
def swept(tmp_path: Path) -> UPath:
    """A storage with a finished run of seed 5 that keeps two checkpoints, and SST-2 of four sentences."""
    storage = tmp_path / "storage"
    mark_schema(UPath(storage))
    run = storage / "sweeps" / "mine" / "run"
    for step, seed in ((10, 8), (20, 9)):
        folder = run / f"step-{step:08d}.0001"
        save_weights(GPT2(SIZE, seed=seed), folder, tokenizer="bytes")
        mark = {"run": "run", "step": step, "recipe": {"seed": 5, "batch_tokens": 1024, "base_width": None}}
        (folder / "training.json").write_text(json.dumps(mark))
    (run / "result.json").write_text("{}")
    sst2 = storage / "benchmarks" / "sst2"
    sst2.mkdir(parents=True)
    (sst2 / "stsa.binary.dev").write_text("1 good .\n0 bad .\n1 fine .\n0 dull .\n")
    return UPath(storage)


def test_the_points_go_from_the_untrained_network_to_the_last_checkpoint(swept: UPath) -> None:
    points = points_of(swept, "mine")
    assert [(point.run, point.tokens) for point in points] == [("run", 0), ("run", 10_240), ("run", 20_480)]
    drawn, wanted = load_weights(points[0].checkpoint).state_dict(), GPT2(SIZE, seed=5).state_dict()
    assert all(torch.equal(drawn[name], wanted[name]) for name in wanted)
    assert points_of(swept, "mine") == points, "the untrained network is no checkpoint of the run"


def test_scores_are_told_raw_and_normalised_with_the_reference(swept: UPath) -> None:
    words = ["--sweep", "mine", "--over-training", "--benchmarks", "sst2", "--storage", str(swept), "--device", "cpu"]
    done = CliRunner().invoke(command, [*words, "--concurrent-checkpoints", "1", "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["tokens"] for row in rows] == [0, 10_240, 20_480]
    for row in rows:
        assert row["normalised"] == pytest.approx((row["value"] - 0.5) / (0.932 - 0.5))
        assert row["normalised_error"] == pytest.approx(row["standard_error"] / (0.932 - 0.5))
        assert row["reference"] == "0.932, sparse byte mLSTM (table 4)"
    assert "MLflow has no sweep mine" in done.stderr
    shown = CliRunner().invoke(command, [*words, "--concurrent-checkpoints", "1"])
    assert "normalised" in shown.stdout and "sst2/accuracy" in shown.stdout


def test_the_report_reads_what_is_kept_and_a_benchmark_scored_again_takes_its_own_place(tmp_path: Path) -> None:
    uri = tracking_uri(None, UPath(tmp_path))
    client = open_tracking(uri)
    row = {"run": "a", "tokens": 0, "benchmark": "sst2", "metric": "accuracy", "unit": "share of items", "count": 872,
           "value": 0.5, "standard_error": 0.017, "chance": 0.5, "normalised": 0.0, "normalised_error": 0.04,
           "reference": "0.932, mLSTM"}  # fmt: skip
    assert not keep_rows(client, "mine", [row]), "a sweep that MLflow does not know has no place for them"
    experiment = client.create_experiment("mine", artifact_location=f"{tmp_path}/mlflow")
    client.create_run(experiment, tags={"ladder.kind": "sweep"})
    dprd = row | {"benchmark": "dprd", "normalised": None, "normalised_error": None, "reference": None}
    for rows in ([row, dprd], [row | {"tokens": 1024, "value": 0.6}]):
        assert keep_rows(client, "mine", rows)
    kept = read_sweep(uri, "mine").over_training
    assert kept.select("benchmark", "tokens", "value").rows() == [("dprd", 0, 0.5), ("sst2", 1024, 0.6)]


def test_a_score_without_a_reference_stays_raw() -> None:
    assert reach("dprd", "accuracy", 0.5) is None
    assert reach("sst2", "accuracy", None) is None
    assert reach("cola", "mcc", 0.0) == 0.35


def test_it_wants_a_sweep(swept: UPath) -> None:
    done = CliRunner().invoke(command, ["somewhere", "--over-training", "--storage", str(swept)])
    assert isinstance(done.exception, InputError) and "name it with --sweep" in str(done.exception)
