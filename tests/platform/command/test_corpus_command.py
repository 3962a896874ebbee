import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ladder.models.errors import InputError
from ladder.platform.command.corpus import command


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if isinstance(result.exception, InputError):
        raise result.exception
    return result


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for n in range(40):
        (folder / f"{n:02d}.txt").write_text(f"This is page {n}.\n")
    return folder


def test_a_corpus_is_built_listed_and_shown(tmp_path: Path, texts: Path) -> None:
    storage = ("--storage", tmp_path / "storage")
    build = run("build", "web", "--input", texts, "--tokenizer", "bytes", "--heldout", 0.2, *storage)
    assert build.exit_code == 0, build.output
    assert "tokens/s" in build.stdout
    shown = json.loads(run("show", "web", "--verify", "--json", *storage).stdout)
    assert shown["splits"]["train"]["documents"] + shown["splits"]["heldout"]["documents"] == 40
    [listed] = json.loads(run("list", "--json", *storage).stdout)
    assert listed["fingerprint"] == shown["fingerprint"]
    assert listed["fingerprint"] in run("show", "web", *storage).stdout
    assert "web" in run("list", *storage).stdout


def test_files_may_follow_the_option_as_a_shell_expands_them(tmp_path: Path, texts: Path) -> None:
    files = sorted(texts.iterdir())
    arguments = ("--tokenizer", "bytes", "--heldout", 0.2, "--json", "--storage", tmp_path / "storage")
    result = run("build", "web", "--input", *files, *arguments)
    assert result.exit_code == 0, result.output
    built = json.loads(result.stdout)
    assert built["splits"]["train"]["documents"] + built["splits"]["heldout"]["documents"] == 40
    assert built["source"].endswith("02.txt and 37 more")


def test_a_damaged_corpus_is_listed_as_such(tmp_path: Path, texts: Path) -> None:
    storage = ("--storage", tmp_path / "storage")
    run("build", "web", "--input", texts, "--tokenizer", "bytes", "--heldout", 0.2, *storage)
    (tmp_path / "storage" / "corpora" / "web" / "train-00000.bin").unlink()
    [listed] = json.loads(run("list", "--json", *storage).stdout)
    assert "is missing" in listed["problem"]
    assert "damaged" in run("list", *storage).stdout


def test_no_input_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no input for corpus 'web'; give --input FILES"):
        run("build", "web", "--storage", tmp_path)


def test_empty_storage_says_how_to_build(tmp_path: Path) -> None:
    assert "ladder corpus build" in run("list", "--storage", tmp_path).stdout


@pytest.mark.parametrize("arguments", [(), ("build",), ("list",), ("show",)])
def test_help_shows_an_example(arguments: tuple[str, ...]) -> None:
    assert re.search(r"Examples?:\n    ladder corpus", run(*arguments, "--help").stdout)
