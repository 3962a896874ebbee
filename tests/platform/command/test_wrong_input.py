"""What a user gets wrong ends in exit code 2 and one message that names it; never in a traceback."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from upath import UPath

from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.models.weights import save_weights
from ladder.platform.command.main import main
from ladder.platform.corpus.build import build_corpus

SWEEP = '''"""A question."""

from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Sweep, grid

SWEEP = Sweep(
    name="mine", corpus="tiny", context=32, points=grid(sizes=("2x32",), tokens=(1024,)),
    recipe=small_recipe, benchmarks=()
)
'''


@dataclass(frozen=True)
class Ended:
    """How a call of the command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def ladder(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Calls the command as a shell would, in this process."""

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["ladder", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage with the corpus `tiny`."""
    texts = tmp_path / "texts"
    texts.mkdir()
    for index in range(12):
        (texts / f"{index}.txt").write_text(f"Page {index} says what page {index} says, and no more. " * 20)
    build_corpus(UPath(tmp_path / "storage"), "tiny", [texts], tokenizer="bytes", heldout=0.3, progress=False)
    return tmp_path / "storage"


def sweep_of(folder: Path, text: str = SWEEP) -> Path:
    path = folder / "mine.py"
    path.write_text(text)
    return path


def assert_refused(ended: Ended, *words: str) -> None:
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err, ended.err
    assert len(ended.err.strip().splitlines()) <= 3, ended.err


def test_an_unknown_size_names_the_known_ones(ladder: Callable[..., Ended]) -> None:
    assert_refused(ladder("sizes", "118M"), "118M", "117M")


def test_an_unknown_sweep_names_the_known_ones(ladder: Callable[..., Ended], storage: Path) -> None:
    assert_refused(ladder("run", "dmeo", "--storage", storage), "dmeo", "demo")


@pytest.mark.parametrize("command", ["run", "plan", "status"])
def test_an_unknown_size_in_a_sweep_is_named(
    ladder: Callable[..., Ended], storage: Path, tmp_path: Path, command: str
) -> None:
    path = sweep_of(tmp_path, SWEEP.replace("2x32", "2y32"))
    assert_refused(ladder(command, path, "--storage", storage), "2y32")


def test_an_unknown_corpus_names_the_known_ones(ladder: Callable[..., Ended], storage: Path, tmp_path: Path) -> None:
    path = sweep_of(tmp_path, SWEEP.replace('"tiny"', '"tyni"'))
    assert_refused(ladder("run", path, "--storage", storage), "tyni", "tiny")


def test_an_unknown_benchmark_is_refused_before_training(
    ladder: Callable[..., Ended], storage: Path, tmp_path: Path
) -> None:
    path = sweep_of(tmp_path, SWEEP.replace("benchmarks=()", 'benchmarks=("lambda",)'))
    assert_refused(ladder("run", path, "--storage", storage), "lambda", "lambada")


def test_an_absent_benchmark_is_refused_before_training(
    ladder: Callable[..., Ended], storage: Path, tmp_path: Path
) -> None:
    path = sweep_of(tmp_path, SWEEP.replace("benchmarks=()", 'benchmarks=("lambada",)'))
    assert_refused(ladder("run", path, "--storage", storage), "ladder fetch lambada")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (SWEEP.replace("grid(", "grid((", 1), "line 6"),
        (SWEEP.replace("SWEEP = ", "SWEPE = "), "defines no SWEEP"),
        ('SWEEP = "demo"\n', "is a str, wanted a ladder.sweeps.words.Sweep"),
        (SWEEP.replace("1024", "-1024"), "tokens: got -1024"),
    ],
)
def test_a_wrong_sweep_file_is_refused(
    ladder: Callable[..., Ended], storage: Path, tmp_path: Path, text: str, word: str
) -> None:
    assert_refused(ladder("run", sweep_of(tmp_path, text), "--storage", storage), "mine.py", word)


def test_a_missing_shard_is_named(ladder: Callable[..., Ended], storage: Path, tmp_path: Path) -> None:
    shard = storage / "corpora" / "tiny" / "train-00000.bin"
    shard.unlink()
    assert_refused(ladder("run", sweep_of(tmp_path), "--storage", storage), "train-00000.bin")


def test_a_truncated_shard_is_named(ladder: Callable[..., Ended], storage: Path, tmp_path: Path) -> None:
    shard = storage / "corpora" / "tiny" / "train-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-7])
    assert_refused(ladder("run", sweep_of(tmp_path), "--storage", storage), "train-00000.bin")


def test_a_checkpoint_of_another_shape_is_refused(ladder: Callable[..., Ended], storage: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_weights(GPT2(parse_size("2x32", context=32, vocabulary=257)), folder, tokenizer="bytes")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_embd": 64}))
    ended = ladder("evaluate", folder, "--benchmarks", "pages-bytes", "--heldout-corpus", "tiny", "--storage", storage)
    assert_refused(ended, "checkpoint")


def test_a_checkpoint_that_is_not_there_is_named(ladder: Callable[..., Ended], storage: Path, tmp_path: Path) -> None:
    ended = ladder("generate", tmp_path / "nothing", "--prompt", "a")
    assert_refused(ended, "nothing")


def test_no_network_and_no_vocabulary_names_the_variable(
    ladder: Callable[..., Ended], storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    load_tokenizer.cache_clear()  # an earlier test of this process may have loaded it
    monkeypatch.setattr("requests.get", no_network)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    text = tmp_path / "a.txt"
    text.write_text("Some text.")
    ended = ladder("corpus", "build", "new", "--input", text, "--tokenizer", "gpt2", "--storage", storage)
    assert_refused(ended, "TIKTOKEN_CACHE_DIR")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--workers", "4"), "gpus_per_worker: got 0.25 for each of 4 workers"),
        (("--accelerator-type", "H1000"), "H1000"),
        (("--keep-checkpoints", "0"), "keep_checkpoints"),
    ],
)
def test_a_submitted_sweep_with_wrong_options_is_refused_before_it_travels(
    ladder: Callable[..., Ended], tmp_path: Path, options: tuple[str, ...], word: str
) -> None:
    ended = ladder("submit", "gpt2", "--address", "http://127.0.0.1:1", "--storage", tmp_path, *options)
    assert_refused(ended, word)


def test_a_submitted_sweep_is_run_with_the_options_that_were_given(
    ladder: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[str] = []

    def submit(file: Path, options: list[str], *, address: str) -> str:
        handed.extend(options)
        return "job"

    monkeypatch.setattr("ladder.platform.launching.submission.submit", submit)
    monkeypatch.setattr("ladder.platform.launching.submission.wait", lambda *_, **__: None)
    ended = ladder(
        *("submit", "demo", "--address", "http://127.0.0.1:1", "--storage", tmp_path),
        *("--accelerator-type", "H100", "--no-compile", "--gpus-per-worker", "1"),
    )
    assert ended.code == 0, ended.err
    assert handed[2:] == ["--accelerator-type", "H100", "--no-compile", "--gpus-per-worker", "1.0"]


def test_a_cluster_that_does_not_answer_is_named(ladder: Callable[..., Ended], tmp_path: Path) -> None:
    ended = ladder("submit", "demo", "--address", "http://127.0.0.1:1", "--storage", tmp_path)
    assert_refused(ended, "http://127.0.0.1:1")


def test_an_unknown_storage_scheme_is_refused(ladder: Callable[..., Ended]) -> None:
    assert_refused(ladder("status", "demo", "--storage", "s4://bucket"), "s4://bucket")


def test_a_wrong_option_shows_the_usage(ladder: Callable[..., Ended]) -> None:
    ended = ladder("run", "demo", "--wrokers", "2")
    assert ended.code == 2 and "--wrokers" in ended.err and "Traceback" not in ended.err


@pytest.mark.parametrize("option", ["--workers=0", "--workers=100", "--attention=flash", "--gpus-per-worker=3"])
def test_a_wrong_execution_of_a_run_is_refused(
    ladder: Callable[..., Ended], storage: Path, tmp_path: Path, option: str
) -> None:
    assert_refused(
        ladder("run", sweep_of(tmp_path), "--storage", storage, option), option.split("=")[0][2:].split("-")[0]
    )
