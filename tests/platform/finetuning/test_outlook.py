"""`ladder plan --tasks` prices fine-tuning by the examples at hand."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ladder.models.sizes import parse_size
from ladder.platform.command.plan import command
from ladder.platform.finetuning.data import load_task
from ladder.platform.finetuning.outlook import foresee_finetuning
from ladder.platform.finetuning.registry import TASKS
from ladder.sweeps.finetuning import FineTuning


def test_tokens_flops_and_errors_follow_from_the_examples(data: Path) -> None:
    load_task.cache_clear()
    size = parse_size("2x32h2", context=48, vocabulary=257)
    recipe = FineTuning(lr_peak=1.0, epochs=2)
    (one,) = foresee_finetuning([size], [TASKS["sst2"]], recipe=recipe, seeds=4, tokenizer="bytes", data=str(data))
    read = load_task("sst2", str(data), tokenizer="bytes", context=48)
    tokens = 2 * sum(sum(example.lengths) for example in read.train)
    scored = sum(sum(example.lengths) for example in read.scored["dev"])
    assert (one.n_runs, one.tokens) == (8, tokens)
    assert one.flops == 8 * (size.params_total + 3 * 32) * (6 * tokens + 2 * scored)
    assert one.standard_error_items == pytest.approx(0.5 / 40**0.5)
    assert one.standard_error_seeds == pytest.approx(0.015)


def test_the_command_tells_it_and_refuses_what_it_would_ignore(data: Path, tmp_path: Path) -> None:
    load_task.cache_clear()
    words = ["demo", "--tasks", "sst2", "--seeds", "3", "--data", str(data), "--storage", str(tmp_path / "s")]
    done = CliRunner().invoke(command, [*words, "--gpu", "H100", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [row["size"] for row in told["tasks"]][:2] == ["2x16", "2x24"]
    assert told["worker_hours"] == pytest.approx(sum(row["worker_hours"] for row in told["tasks"]))
    shown = CliRunner().invoke(command, [*words, "--gpu", "H100", "--price-per-gpu-hour", "2"])
    assert "36 runs" in shown.output and "H100-hours" in shown.output and "se seeds" in shown.output
    stray = CliRunner().invoke(command, ["demo", "--seeds", "3"])
    assert "would be ignored here" in str(stray.exception)
