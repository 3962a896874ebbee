"""The commands `evaluate`, `fetch` and `generate`."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.weights import save_weights
from ladder.platform.command.evaluate import command as evaluate_command
from ladder.platform.command.fetch import command as fetch_command
from ladder.platform.command.generate import command as generate_command
from ladder.platform.corpus.store import Corpus


def run(command: click.Command, *arguments: str) -> tuple[str, str]:
    """What a command writes to standard output and to standard error."""
    result = CliRunner().invoke(command, list(arguments), standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout, result.stderr


@pytest.fixture
def checkpoint(byte_gpt2: GPT2, tmp_path: Path) -> str:
    save_weights(byte_gpt2, tmp_path / "checkpoint", tokenizer="bytes")
    return str(tmp_path / "checkpoint")


def test_evaluate_writes_measurements_as_json_and_nothing_else(checkpoint: str, small_corpus: Corpus) -> None:
    storage = str(small_corpus.folder.parent.parent)
    asked = ["--corpus", "pages", "--storage", storage, "--heldout-tokens", "600", "--precision", "fp32"]
    stdout, _ = run(evaluate_command, checkpoint, *asked, "--benchmarks", "heldout,pages-bytes", "--json")
    measurements = json.loads(stdout)
    assert {m["benchmark"] for m in measurements} == {"heldout", "pages-bytes"}
    wanted = {"benchmark", "protocol", "metric", "value", "standard_error", "count", "seconds"}
    assert all(wanted <= set(m) for m in measurements)
    assert all(m["seconds"] >= 0 and m["value"] > 0 for m in measurements)


def test_evaluate_all_shows_absent_data_as_a_row_and_by_name_refuses(checkpoint: str, small_corpus: Corpus) -> None:
    storage = ["--storage", str(small_corpus.folder.parent.parent), "--corpus", "pages"]
    stdout, _ = run(evaluate_command, checkpoint, *storage, "--heldout-tokens", "600", "--benchmarks", "all")
    assert "ladder fetch" in " ".join(stdout.split())
    assert "pages-cloze" in stdout
    with pytest.raises(InputError, match="ladder fetch lambada"):
        run(evaluate_command, checkpoint, *storage, "--benchmarks", "heldout", "lambada")
    with pytest.raises(InputError, match="unexpected lambada"):
        run(evaluate_command, checkpoint, "lambada")
    with pytest.raises(InputError, match="unknown benchmark nothing"):
        run(evaluate_command, checkpoint, *storage, "--benchmarks", "nothing")


def test_generate_continues_the_prompt_the_same_way_twice(checkpoint: str) -> None:
    first, _ = run(generate_command, checkpoint, "--prompt", "Ab", "--tokens", "9", "--device", "cpu")
    assert first.startswith("Ab")
    assert run(generate_command, checkpoint, "--prompt", "Ab", "--tokens", "9", "--device", "cpu")[0] == first


def test_fetch_writes_where_the_files_are(shared: Path, tmp_path: Path) -> None:
    stdout, _ = run(fetch_command, "lambada", "--from", str(shared / "benchmarks"), "--storage", str(tmp_path))
    assert Path(stdout.strip()).is_file()


@pytest.mark.parametrize("command", [evaluate_command, fetch_command, generate_command])
def test_help_shows_an_example(command: click.Command) -> None:
    assert "Example" in CliRunner().invoke(command, ["--help"]).stdout
