"""Each command teaches itself, and what programs read has the promised keys."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ladder.platform.command.main import COMMANDS, main


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Calls the command in this process and returns its standard output; it must succeed."""

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["ladder", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert ended.value.code == 0, captured.err
        return captured.out

    return call


def test_the_group_lists_every_command(output: Callable[..., str]) -> None:
    text = output("--help")
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "corpus"] + ["corpus build", "corpus show"])
def test_each_command_shows_an_example(output: Callable[..., str], name: str) -> None:
    text = output(*name.split(), "--help")
    assert "Example" in text and f"ladder {name}" in text


def test_sizes_gives_the_exact_counts_of_the_paper(output: Callable[..., str]) -> None:
    rows = {row["name"]: row for row in json.loads(output("sizes", "--json"))}
    exact = {"117M": 124_439_808, "345M": 354_823_168, "762M": 774_030_080, "1542M": 1_557_611_200}
    assert {name: rows[name]["params_total"] for name in exact} == exact
    for row in rows.values():
        assert {"name", "n_layer", "d_model", "n_head", "params_total", "params_non_embedding", "params"} <= row.keys()
        assert sum(row["params"].values()) == row["params_total"]


def test_plan_counts_flops_and_says_what_can_be_resolved(output: Callable[..., str], tmp_path: Path) -> None:
    plan = json.loads(
        output("plan", "gpt2", "--gpu", "H100", "--price-per-gpu-hour", "2", "--json", "--storage", tmp_path)
    )
    assert plan["sweep"] == "gpt2" and plan["resolution"]["status"] == "identifiable"
    for run in plan["runs"]:
        assert run["flops_6nd"] == 6 * run["params_total"] * run["tokens"]
        assert run["tokens"] == run["steps"] * run["batch_tokens"]
        assert (
            run["gpu_hours"]
            == run["worker_hours"]
            == pytest.approx(run["workers"] * run["gpus_per_worker"] * run["seconds"] / 3600)
        )
        assert run["flops_exact"] > 0 and run["cost"] == pytest.approx(2 * run["worker_hours"])


def test_status_of_a_sweep_that_never_ran_is_waiting(output: Callable[..., str], tmp_path: Path) -> None:
    sweep = tmp_path / "one.py"
    sweep.write_text(
        "from ladder.sweeps.rules import small_recipe\nfrom ladder.sweeps.words import Sweep, grid\n"
        "SWEEP = Sweep(name='one', corpus='c', context=32, recipe=small_recipe,\n"
        "    points=grid(sizes=('2x32',), tokens=(1024,)))\n"
    )
    (tmp_path / "t.txt").write_text("a b c " * 400)
    (tmp_path / "u.txt").write_text("d e f " * 400)
    (tmp_path / "v.txt").write_text("g h i " * 400)
    inputs = [part for name in "tuv" for part in ("--input", tmp_path / f"{name}.txt")]
    output("corpus", "build", "c", *inputs, "--tokenizer", "bytes", "--heldout", "0.5", "--storage", tmp_path)
    status = json.loads(output("status", sweep, "--json", "--storage", tmp_path))
    (run,) = status["runs"]
    assert run == {"run": run["run"], "status": "waiting", "tokens": 0, "reason": None, "gpu_hours": 0.0}
    assert status["counts"]["waiting"] == 1 and status["gpu_hours_spent"] == 0 == status["core_hours_spent"]


def test_bench_measures_a_size(output: Callable[..., str]) -> None:
    (speed,) = json.loads(output("bench", "1x32", "--context", "32", "--vocabulary", "64", "--steps", "2", "--json"))
    assert speed["size"] == "1x32" and speed["tokens_per_second"] > 0 and 0 < speed["mfu"] < 2
    assert {"device", "precision", "attention", "peak_memory_bytes"} <= speed.keys()
