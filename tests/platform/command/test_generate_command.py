"""`ladder generate`: one text as it is written, many at once, JSON, and what it refuses."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.weights import save_weights
from ladder.platform.command.generate import command


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("generate") / "checkpoint"
    save_weights(GPT2(parse_size("2x32h2", context=48, vocabulary=257), seed=1), folder, tokenizer="bytes")
    return str(folder)


def run(*arguments: str) -> str:
    """What the command writes to standard output."""
    result = CliRunner().invoke(command, [*arguments, "--device", "cpu"], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_one_text_is_the_same_alone_and_among_many(checkpoint: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a first one\n\nthird \u00e9\n", encoding="utf-8")
    asked = ["--max-new-tokens", "60", "--seed", "5"]  # more than the context holds
    written = json.loads(
        run(checkpoint, "--prompt", "Ab", "--prompt-file", str(file), "--continuations", "2", "--json", *asked)
    )
    assert [row["prompt"] for row in written[::2]] == ["Ab", "a first one", "", "third \u00e9"]
    assert [row["seed"] for row in written[:4]] == [5, 6, 5, 6]
    assert written[0]["text"] != written[1]["text"]
    assert all(len(row["token_ids"]) == 60 for row in written)
    assert bytes(written[0]["token_ids"]).decode(errors="replace") == written[0]["text"]
    for row in written[:2]:
        alone = run(checkpoint, "--prompt", "Ab", "--max-new-tokens", "60", "--seed", str(row["seed"]))
        assert alone.startswith("Ab" + row["text"][:50])


def test_many_texts_follow_each_other(checkpoint: str) -> None:
    texts = run(checkpoint, "--prompt", "Ab", "--prompt", "Cd", "--max-new-tokens", "3", "--temperature", "0")
    assert texts.startswith("Ab")
    assert "\n\nCd" in texts


def test_characters_are_written_whole(checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[str] = []
    monkeypatch.setattr(click, "echo", lambda text="", nl=True: pieces.append(text))
    run(checkpoint, "--prompt", "\u00e9", "--max-new-tokens", "30")
    assert pieces[0] == "\u00e9"
    assert len(pieces) == 32  # the prompt, each token and the end of the line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--prompt", "a", "--top-k", "0"], "top_k is 0; wanted 1 or more"),
        (["--prompt", "a", "--top-p", "2"], "top_p is 2.0"),
        (["--prompt", "a", "--temperature", "-1"], "temperature is -1.0"),
    ],
)
def test_wrong_values_are_refused(checkpoint: str, options: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(checkpoint, *options)


def test_no_prompt_and_a_file_that_is_not_text_are_refused(checkpoint: str, tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="nothing to continue"):
        run(checkpoint)
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"good\nb\xff\n")
    with pytest.raises(InputError, match="prompts.txt, line 2: not UTF-8 at byte 2"):
        run(checkpoint, "--prompt-file", str(file))
