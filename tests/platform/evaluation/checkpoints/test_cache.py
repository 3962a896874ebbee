"""Scores are kept under everything that they depend on, and under nothing else."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.models.weights import save_weights
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Benchmark, Setting
from ladder.platform.evaluation.checkpoints import score as checkpoint_scores
from ladder.platform.evaluation.checkpoints.cache import checkpoint_sha256, make_key
from ladder.platform.evaluation.checkpoints.score import Outcome, ScoringTask, find_cached, score_checkpoint
from ladder.platform.evaluation.code_fingerprint import code_fingerprint, syntax
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.item_scores import ItemScores, mean_of
from ladder.platform.evaluation.protocol import Limits, Protocol
from ladder.platform.evaluation.registry import BENCHMARKS


@pytest.fixture
def checkpoint(byte_gpt2: GPT2, tmp_path: Path) -> Path:
    save_weights(byte_gpt2, tmp_path / "checkpoint", tokenizer="bytes")
    return tmp_path / "checkpoint"


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Setting]:
    """The settings that the made-up benchmark `counted` was scored with; its file is in the storage tmp_path."""
    settings: list[Setting] = []

    def score(setting: Setting) -> list[ItemScores]:
        settings.append(setting)
        hits = np.array([1.0, 0.0, 1.0, 1.0])[: setting.protocol.limit]
        scores = ItemScores(
            benchmark="counted",
            protocol="made up",
            metric="accuracy",
            unit="share of items",
            direction="higher",
            description="",
            estimate=mean_of(hits),
            counted=np.ones(len(hits)),
            totals={"hits": hits},
        )
        return [scores]

    file = BenchmarkFile(name="a.txt", sha256=None, address="http://127.0.0.1:9/a.txt")
    made = Benchmark(
        name="counted",
        source="made up",
        score=score,
        reads=frozenset({"limit", "shots", "seed", "window"}),
        samples=True,
        citation="none",
        files=(file,),
    )
    monkeypatch.setitem(BENCHMARKS, "counted", made)
    (tmp_path / "benchmarks/counted").mkdir(parents=True)
    (tmp_path / "benchmarks/counted/a.txt").write_text("data")
    return settings


@pytest.fixture
def task(checkpoint: Path, tmp_path: Path) -> ScoringTask:
    return ScoringTask(
        checkpoint=str(checkpoint), benchmarks=("counted",), storage=str(tmp_path), device="cpu", precision="fp32"
    )


def only(task: ScoringTask) -> Outcome:
    outcomes = list(score_checkpoint(task))
    assert len(outcomes) == 1
    return outcomes[0]


def test_a_second_call_scores_nothing_and_gives_the_same(scored: list[Setting], task: ScoringTask) -> None:
    first, second = only(task), only(task)
    assert len(scored) == 1
    assert (first.cached, second.cached) == (False, True)
    assert second.measurements == first.measurements
    assert second.params_total == parse_size("2x32h2", context=64, vocabulary=257).params_total
    assert find_cached(task) == [second]
    assert not only(replace(task, use_cache=False)).cached
    assert len(scored) == 2
    assert find_cached(replace(task, use_cache=False)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "bf16"},
        {"protocol": Protocol(limit=3)},
        {"protocol": Protocol(shots=1)},
        {"protocol": Protocol(seed=1)},
        {"protocol": Protocol(window=32)},
    ],
)
def test_what_changes_a_number_is_scored_again(
    scored: list[Setting], task: ScoringTask, change: dict[str, Any]
) -> None:
    only(task)
    assert not only(replace(task, **change)).cached
    assert len(scored) == 2


def test_a_setting_that_the_benchmark_does_not_read_does_not_matter(
    scored: list[Setting], task: ScoringTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(task)
    assert only(replace(task, protocol=Protocol(heldout_tokens=7, limits=Limits(pages=1), stride=3))).cached
    assert only(replace(task, protocol=Protocol(shots=0))).cached, "which is its own number"
    monkeypatch.setitem(BENCHMARKS, "counted", replace(BENCHMARKS["counted"], samples=False))
    only(task)
    assert only(replace(task, protocol=Protocol(seed=5))).cached, "without examples nothing is drawn"
    assert not only(replace(task, protocol=Protocol(seed=5, shots=2))).cached


def test_other_code_is_scored_again(scored: list[Setting], task: ScoringTask, monkeypatch: pytest.MonkeyPatch) -> None:
    only(task)
    monkeypatch.setattr("ladder.platform.evaluation.checkpoints.cache.code_fingerprint", lambda: "other")
    assert not only(task).cached


def test_comments_layout_and_docstrings_are_no_other_code() -> None:
    source = 'def f(x):\n    """Doc."""\n    return x + 1\n'
    assert syntax(source) == syntax("def f( x ):  # comment\n    return (x + 1)\n")
    assert syntax(source) != syntax("def f(x):\n    return x + 2\n")
    assert syntax('"""Only this."""\n') == syntax("pass\n")


def test_the_scoring_code_and_the_network_are_hashed_and_what_brings_files_is_not() -> None:
    read: list[str] = []

    def read_text(path: Path, encoding: str) -> str:
        read.append("/".join(path.parts[-2:]))
        return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_text", read_text)
        code_fingerprint.__wrapped__()
    assert {"models/loss.py", "evaluation/scorer.py", "kinds/choice.py", "gpt2/ptb.py"} <= set(read)
    assert not {"files/fetch.py", "checkpoints/cache.py"} & set(read)


def test_measurements_say_what_made_them(scored: list[Setting], task: ScoringTask, checkpoint: Path) -> None:
    (measurement,) = only(replace(task, protocol=Protocol(limit=2))).measurements
    assert measurement.to_json()["scored_with"] == {
        "version": 1,
        "limit": 2,
        "shots": 0,
        "seed": 0,
        "window": None,
        "precision": "fp32",
        "device": "cpu",
        "tokenizer": "bytes",
        "code": code_fingerprint(),
        "checkpoint_sha256": checkpoint_sha256(checkpoint),
    }


def test_another_checkpoint_version_or_file_is_scored_again(
    scored: list[Setting],
    task: ScoringTask,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(task)
    monkeypatch.setitem(BENCHMARKS, "counted", replace(BENCHMARKS["counted"], version=2))
    assert not only(task).cached
    (tmp_path / "benchmarks/counted/a.txt").write_text("other data")
    assert not only(task).cached
    save_weights(GPT2(parse_size("2x32h2", context=64, vocabulary=257), seed=2), checkpoint, tokenizer="bytes")
    assert not only(task).cached
    assert len(scored) == 4
    assert only(task).cached


def test_a_hub_name_is_the_files_that_it_stands_for(
    scored: list[Setting], task: ScoringTask, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(task)
    monkeypatch.setattr(checkpoint_scores, "find_folder", lambda source: checkpoint)
    named = only(replace(task, checkpoint="somebody/gpt2"))
    assert named.cached
    assert named.checkpoint == "somebody/gpt2"


def test_a_checkpoint_in_a_store_is_copied_here_to_be_scored(
    scored: list[Setting], task: ScoringTask, checkpoint: Path
) -> None:
    only(task)
    there = UPath("memory://bucket-of-scores/run/step-1")
    there.mkdir(parents=True)
    for path in checkpoint.iterdir():
        (there / path.name).write_bytes(path.read_bytes())
    assert only(replace(task, checkpoint=str(there))).cached


def test_a_record_that_cannot_be_read_is_scored_again_and_replaced(
    scored: list[Setting], task: ScoringTask, tmp_path: Path
) -> None:
    only(task)
    (record,) = (tmp_path / "scores").rglob("*.json")
    assert json.loads(record.read_text())["key"]["benchmark"] == "counted"
    for damage in ("{", "[]", json.dumps({"key": json.loads(record.read_text())["key"]})):
        record.write_text(damage)
        assert not only(task).cached
        assert only(task).cached


def test_a_file_that_is_not_the_published_one_is_warned_of(
    scored: list[Setting], task: ScoringTask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    published = replace(BENCHMARKS["counted"].files[0], sha256="0" * 64)
    monkeypatch.setitem(BENCHMARKS, "counted", replace(BENCHMARKS["counted"], files=(published,)))
    with caplog.at_level(logging.WARNING):
        only(task)
    assert "a.txt is not the published file" in caplog.text


def test_tokenizer_device_precision_and_checkpoint_are_parts_of_the_key(
    scored: list[Setting], tmp_path: Path, gpt2_vocabulary: None
) -> None:
    given = {"checkpoint": "c", "tokenizer": load_tokenizer("bytes"), "precision": "fp32", "device": "cpu"}
    others = {"checkpoint": "d", "tokenizer": load_tokenizer("gpt2"), "precision": "bf16", "device": "cuda"}
    shared = {"storage": UPath(tmp_path), "corpus": None, "protocol": Protocol()}
    digests = {make_key(BENCHMARKS["counted"], **shared, **given).digest}
    for name, other in others.items():
        digests.add(make_key(BENCHMARKS["counted"], **shared, **(given | {name: other})).digest)
    assert len(digests) == 5


def test_a_corpus_is_part_of_the_key_of_what_is_made_from_it(small_corpus: Corpus) -> None:
    def digest(corpus: Corpus, protocol: Protocol) -> str:
        return make_key(
            BENCHMARKS["pages-bytes"],
            checkpoint="c",
            storage=UPath("."),
            corpus=corpus,
            tokenizer=load_tokenizer("bytes"),
            precision="fp32",
            device="cpu",
            protocol=protocol,
        ).digest

    other = replace(small_corpus, tokenizer_fingerprint="another")
    digests = {
        digest(small_corpus, Protocol()),
        digest(other, Protocol()),
        digest(small_corpus, Protocol(heldout_tokens=7)),  # not read by it
        digest(small_corpus, Protocol(limits=Limits(pages=1))),
    }
    assert len(digests) == 3


def test_an_incomplete_checkpoint_has_no_hash_and_one_problem(
    scored: list[Setting], task: ScoringTask, checkpoint: Path
) -> None:
    good = checkpoint_sha256(checkpoint)
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert checkpoint_sha256(checkpoint) != good
    damaged = only(task)
    assert damaged.benchmark is None
    assert damaged.problem is not None and "truncated or damaged" in damaged.problem
    weights.unlink()
    with pytest.raises(InputError, match="model.safetensors is missing"):
        checkpoint_sha256(checkpoint)
    missing = only(task)
    assert missing.benchmark is None and missing.problem is not None
    assert scored == []


def test_a_storage_that_takes_nothing_is_said(
    scored: list[Setting], task: ScoringTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ladder.platform.evaluation.checkpoints.cache.write_json", full)
    problem = only(task).problem
    assert problem is not None and "No space left on device" in problem and "--no-cache" in problem
