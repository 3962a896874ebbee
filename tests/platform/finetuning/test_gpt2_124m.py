"""GPT-2 124M, fine-tuned, scores what models of its size are known to; wants a GPU and a local copy (LADDER_GPT2)."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from ladder.platform.command.finetune import command


@pytest.fixture
def gpt2() -> str:
    folder = os.environ.get("LADDER_GPT2")
    if folder is None:
        pytest.skip("no local copy of GPT-2 124M: set LADDER_GPT2 to its folder")
    return folder


def score(gpt2: str, task: str, seeds: int, data: Path, storage: Path) -> float:
    words = (
        gpt2,
        "--tasks",
        task,
        "--seeds",
        seeds,
        "--data",
        data,
        "--storage",
        storage,
        "--tokenizer",
        "gpt2",
        "--json",
    )
    done = CliRunner().invoke(command, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return float(next(row["value"] for row in json.loads(done.stdout) if row["layers"] == "all"))


@pytest.mark.gpu
@pytest.mark.timeout(3600)
def test_it_has_nine_sentences_of_ten_of_sst2_right(
    gpt2: str, shared: Path, gpt2_vocabulary: None, tmp_path: Path
) -> None:
    assert score(gpt2, "sst2", 1, shared / "finetuning", tmp_path) >= 0.90


@pytest.mark.gpu
@pytest.mark.timeout(3600)
def test_its_coefficient_on_cola_is_at_least_35_over_five_seeds(
    gpt2: str, shared: Path, gpt2_vocabulary: None, tmp_path: Path
) -> None:
    assert score(gpt2, "cola", 5, shared / "benchmarks", tmp_path) >= 0.35
