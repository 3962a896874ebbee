"""`ladder overlap`, from arguments to tables and JSON."""

import json
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.weights import save_weights
from ladder.platform.command.evaluate import command as evaluate_command
from ladder.platform.command.main import main
from ladder.platform.command.overlap import command


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def run(storage: Path, *arguments: str) -> tuple[str, str]:
    """What the command writes to standard output and to standard error."""
    result = CliRunner().invoke(command, [*arguments, "--storage", str(storage)], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("checkpoint")
    save_weights(GPT2(parse_size("1x16h1", context=128, vocabulary=257), seed=1), folder, tokenizer="bytes")
    return str(folder)


def test_the_plan_is_said_before_and_the_table_after(storage: Path) -> None:
    stdout, stderr = run(storage, "pages", "lambada", "heldout")
    assert "at most" in stderr and "16 hash functions" in stderr and "false positives at most 1e-08" in stderr
    assert "Memory: 256 MiB more at most = filter 0 MiB + 1 process of 256 MiB" in stderr
    rows = [line.split() for line in stdout.splitlines()]
    assert [row[0] for row in rows[:3]] == ["benchmark", "lambada", "heldout"]
    assert rows[1][1] == "60" and "GPT-2 paper: 1.20%" in " ".join(rows[1])
    assert "expected among those looked up" in stdout


def test_json_holds_the_numbers_and_nothing_else_is_written(storage: Path) -> None:
    stdout, _ = run(storage, "pages", "lambada,heldout", "--json", "--threshold", "0.3")
    result = json.loads(stdout)
    assert result["corpus"] == "pages" and result["ngram"] == 8
    assert result["filter"]["false_positive_rate"] <= result["filter"]["false_positive_bound"] == 1e-8
    lambada, heldout = result["overlaps"]
    assert (lambada["benchmark"], heldout["benchmark"]) == ("lambada", "heldout")
    assert lambada["items"] == 60 and lambada["share"] == lambada["found"] / lambada["ngrams"]
    assert 0 < lambada["items_above_threshold"] <= lambada["items_with_any"] <= 30  # 30 are of other sentences
    assert heldout["share"] > lambada["share"] > 0
    assert result["comparisons"] == [] and result["absent"] == {}


def test_a_benchmark_that_is_not_at_hand_is_a_row_that_says_what_to_fetch(storage: Path) -> None:
    stdout, _ = run(storage, "pages", "heldout", "wikitext2")
    assert "wikitext2" in stdout and "absent" in stdout and "ladder fetch wikitext2" in stdout
    stdout, _ = run(storage, "pages", "all", "--json")
    result = json.loads(stdout)
    assert {overlap["benchmark"] for overlap in result["overlaps"]} == {"heldout", "lambada"}
    assert "ladder fetch ptb" in result["absent"]["ptb"]
    with pytest.raises(InputError, match="ladder fetch wikitext2"):
        run(storage, "pages", "wikitext2")


def test_scores_are_compared_with_and_without_what_overlaps(storage: Path, checkpoint: str) -> None:
    asked = ["--checkpoint", checkpoint, "--precision", "fp32", "--heldout-tokens", "3000"]
    result = json.loads(run(storage, "pages", "lambada", "heldout", *asked, "--json")[0])
    lambada, heldout = result["overlaps"]
    evaluated = CliRunner().invoke(
        evaluate_command,
        [checkpoint, "--benchmarks", "lambada,heldout", "--heldout-corpus", "pages", *asked[2:], "--json"]
        + ["--storage", str(storage)],
        standalone_mode=False,
    )
    values = {(m["benchmark"], m["metric"]): m["value"] for m in json.loads(evaluated.stdout)}
    comparisons = result["comparisons"]
    assert {(c["benchmark"], c["metric"]) for c in comparisons} == set(values)
    assert {c["left_out_above"] for c in comparisons} == {0, 0.15}
    for comparison in comparisons:
        assert comparison["on_all"] == pytest.approx(values[comparison["benchmark"], comparison["metric"]])
        if comparison["on_kept"] is not None:
            assert comparison["difference"] == pytest.approx(comparison["on_kept"] - comparison["on_all"])
        overlap = lambada if comparison["benchmark"] == "lambada" else heldout
        if comparison["left_out_above"] == 0 and comparison["items"] == overlap["items"]:
            assert comparison["kept"] == overlap["items"] - overlap["items_with_any"]
    assert any(c["difference"] for c in comparisons if c["benchmark"] == "lambada" and c["metric"] == "perplexity")


def test_the_first_items_alone_are_compared_where_asked(storage: Path, checkpoint: str) -> None:
    table, stderr = run(storage, "pages", "lambada", "--checkpoint", checkpoint, "--limit", "20")
    rows = [line.split() for line in table.splitlines() if "any overlap" in line]
    assert rows and {row[5] for row in rows} == {"20"}
    assert "above 15%" in table and "difference" in table and "scoring lambada" in stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", "lambada"], "no corpus 'nothing'"),
        (["pages", "nothing"], "unknown benchmark nothing"),
        (["pages", "pages-words"], "no text of its own"),
        (["pages", "lambada", "--ngram", "0"], "n-grams of 0 words"),
        (["pages", "lambada", "--processes", "0"], "got 0 processes"),
        (["pages", "lambada", "--checkpoint", "/nowhere/at/all"], "/nowhere/at/all"),
        (["pages", "lambada", "--limit", "3", "--device", "cpu"], "--device, --limit would be ignored here"),
        (["pages"], "BENCHMARK"),
        (["pages", "lambada", "--threshold", "2"], "threshold"),
    ],
)
def test_what_a_user_got_wrong_ends_in_exit_code_2_and_a_message(
    storage: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["ladder", "overlap", *arguments, "--storage", str(storage)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""
