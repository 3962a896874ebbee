"""A storage fixes the schema of its keys and each sweep's precision, once, for every command on every machine."""

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.command.chosen import begin
from ladder.platform.command.main import main
from ladder.platform.identity import check_schema, choose_precision, mark_schema, read_precision, record_precision
from ladder.sweeps.words import SCHEMA, Execution

SWEEP = '''"""A question."""

from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Execution, Sweep, grid

SWEEP = Sweep(
    name="mine", corpus="small", context=32, points=grid(sizes=("1x16", "2x32"), tokens=(1024,)), recipe=small_recipe,
)
'''


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(SWEEP)
    return tmp_path / "mine.py"


@pytest.fixture
def ladder(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Calls the command as a shell would, in this process: its exit code and what it wrote."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ladder", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """Moves this process to a machine without a GPU whose processor has fast bf16 instructions, or none."""

    def move(has_bf16: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr("ladder.platform.hardware.has_bf16", lambda device: has_bf16)
        monkeypatch.setattr("ladder.platform.hardware._bf16_gain", lambda: 4.0)

    yield move


def keys(ladder: Callable[..., tuple[int, str, str]], command: str, sweep: Path, storage: UPath) -> list[str]:
    code, out, err = ladder(command, sweep, "--storage", storage, "--json")
    assert code == 0, err
    return [run["run"] for run in json.loads(out)["runs"]]


@pytest.mark.parametrize(
    ("executions", "precision", "why"),
    [
        ([Execution(gpus_per_worker=1)], "bf16", "ask for GPUs"),
        ([Execution(accelerator_type="H100")], "bf16", "ask for GPUs"),
        ([Execution(gpus_per_worker=0), Execution(gpus_per_worker=0.25)], "bf16", "ask for GPUs"),
        ([Execution(gpus_per_worker=1, accelerator_type="T4")], "fp32", "T4 has no bf16"),
        ([Execution(accelerator_type="H100"), Execution(accelerator_type="V100")], "fp32", "V100 has no bf16"),
        ([Execution()], "fp32", "this machine's processor has no bf16"),
    ],
)
def test_before_it_is_recorded_the_precision_follows_what_the_runs_ask_for(
    processor: Callable[[bool], None], executions: list[Execution], precision: str, why: str
) -> None:
    processor(False)
    found, reason = choose_precision(executions)
    assert found == precision and why in reason


def test_a_processor_with_bf16_instructions_gives_bf16(processor: Callable[[bool], None]) -> None:
    processor(True)
    assert choose_precision([Execution()])[0] == "bf16"


def test_the_first_word_on_the_precision_stays(storage: UPath) -> None:
    assert read_precision(storage, "s") is None
    with ThreadPoolExecutor(8) as threads:
        words = list(threads.map(lambda i: record_precision(storage, "s", "bf16" if i % 2 else "fp32"), range(32)))
    assert set(words) == {read_precision(storage, "s")}
    assert [path.name for path in (storage / "sweeps" / "s").iterdir()] == ["sweep.json"]


def test_an_object_store_keeps_the_first_word_too() -> None:
    storage = UPath("memory://first-word")
    mark_schema(storage)
    assert record_precision(storage, "s", "bf16") == "bf16" == record_precision(storage, "s", "fp32")
    check_schema(storage)


def test_every_command_comes_to_the_same_keys_on_every_machine_once_a_run_began(
    ladder: Callable[..., tuple[int, str, str]],
    processor: Callable[[bool], None],
    sweep: Path,
    storage: UPath,
    capsys: pytest.CaptureFixture[str],
) -> None:
    processor(True)
    before = keys(ladder, "status", sweep, storage)
    assert not (storage / "sweeps").exists(), "looking records nothing"
    begun = [run.key for run in begin(str(sweep), storage, None, {}).runs]
    said = capsys.readouterr().err
    assert "the precision `auto` is bf16 from now on, since this machine's processor multiplies bf16" in said
    processor(False)
    again = [run.key for run in begin(str(sweep), storage, None, {}).runs]
    assert capsys.readouterr().err == ""
    assert before == begun == again == keys(ladder, "status", sweep, storage) == keys(ladder, "plan", sweep, storage)


def test_a_sweep_in_bf16_goes_on_in_it_where_that_is_slow_with_one_warning(
    ladder: Callable[..., tuple[int, str, str]],
    processor: Callable[[bool], None],
    sweep: Path,
    storage: UPath,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record_precision(UPath(storage), "mine", "bf16")
    mark = UPath(storage) / "ladder.json"
    mark.write_text(json.dumps({"schema": SCHEMA}))
    processor(False)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ladder.platform.launching.sweep.run_sweep", stop)
    code, _, err = ladder("run", sweep, "--storage", storage)
    assert code == 130 and err.count("Warning") == 1 and "it stays in bf16, which is slow here" in err
    assert "Warning" not in ladder("run", sweep, "--storage", storage, "--gpus-per-worker", 1)[2]


@pytest.mark.parametrize(
    ("mark", "what"), [(None, "without a schema version"), ('{"schema": 2}', "of schema 2"), ("{}", "of schema None")]
)
@pytest.mark.parametrize(
    "command",
    [
        ("run", "mine.py"),
        ("status", "mine.py"),
        ("plan", "mine.py"),
        ("plan", "mine", "--budget", "1e18"),
        ("report", "mine"),
        ("evaluate", "--sweep", "mine", "--benchmarks", "lambada"),
    ],
    ids=" ".join,
)
def test_a_storage_of_another_schema_is_refused_by_every_command_that_reads_sweeps(
    ladder: Callable[..., tuple[int, str, str]],
    sweep: Path,
    storage: UPath,
    command: tuple[str, ...],
    mark: str | None,
    what: str,
) -> None:
    (storage / "sweeps").mkdir()
    if mark is not None:
        (storage / "ladder.json").write_text(mark)
    code, out, err = ladder(*(str(sweep) if word == "mine.py" else word for word in command), "--storage", storage)
    assert code == 2 and out == "", (out, err)
    assert what in err and f"wanted schema {SCHEMA}" in err and "--storage" in err and "Traceback" not in err


def test_a_mark_that_is_no_json_is_refused(storage: UPath) -> None:
    (storage / "ladder.json").write_text("{")
    with pytest.raises(InputError, match="ladder.json is not JSON"):
        check_schema(storage)
    (storage / "ladder.json").write_text("[1]")
    with pytest.raises(InputError, match="wanted a JSON object"):
        check_schema(storage)


def test_a_storage_without_sweeps_is_marked_once_and_then_accepted(storage: UPath) -> None:
    check_schema(storage)
    assert not (storage / "ladder.json").exists(), "looking writes nothing"
    mark_schema(storage)
    mark_schema(storage)
    assert json.loads((storage / "ladder.json").read_text()) == {"schema": SCHEMA}
    (storage / "sweeps").mkdir()
    check_schema(storage)


def test_a_storage_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="sweep.json cannot be written: .*--storage"):
        record_precision(UPath(tmp_path / "file"), "s", "fp32")


def test_a_precision_on_record_that_is_none_is_refused(storage: UPath) -> None:
    (storage / "sweeps" / "s").mkdir(parents=True)
    (storage / "sweeps" / "s" / "sweep.json").write_text('{"precision": "fp8"}')
    with pytest.raises(InputError, match="has the precision 'fp8', wanted bf16 or fp32"):
        read_precision(storage, "s")
