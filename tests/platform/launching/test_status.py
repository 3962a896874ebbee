"""Where a run stands is read from its folder, and shown one line a run."""

import io
import time
from typing import Any

import pytest
from rich.console import Console
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.sizes import parse_size
from ladder.platform.launching.cluster import Cluster, concurrent_runs
from ladder.platform.launching.display import Display, duration
from ladder.platform.launching.status import read_status
from ladder.platform.storage import read_json, run_folder, write_json
from ladder.sweeps.words import Execution, Recipe, Run

RUN = Run(
    size=parse_size("2x32", context=32, vocabulary=257),
    recipe=Recipe(tokens=1024, batch_tokens=256, lr_peak=1e-3, precision="fp32"),
    corpus="c",
    corpus_fingerprint="f",
)


def with_progress(storage: UPath, **progress: Any) -> None:
    write_json(run_folder(storage, "s", RUN.key) / "progress.json", progress)


@pytest.fixture
def root(tmp_path: Any) -> UPath:
    return UPath(tmp_path)


def test_a_run_without_a_folder_waits(root: UPath) -> None:
    assert read_status(root, "s", RUN).to_json() == {"run": RUN.key, "status": "waiting", "tokens": 0, "reason": None}


def test_a_run_that_speaks_is_running(root: UPath) -> None:
    with_progress(root, status="running", tokens=512, updated=time.time())
    status = read_status(root, "s", RUN)
    assert status.status == "running" and status.tokens == 512


def test_a_run_that_fell_silent_waits_and_says_where_it_stopped(root: UPath) -> None:
    with_progress(root, status="running", step=2, tokens=512, updated=time.time() - 60)
    status = read_status(root, "s", RUN)
    assert status.status == "waiting" and status.reason == "interrupted at step 2 of 4; `ladder run` takes it up again"


def test_a_failed_run_gives_its_reason(root: UPath) -> None:
    with_progress(root, status="failed", reason="the loss is not finite at step 3", updated=0)
    status = read_status(root, "s", RUN)
    assert status.status == "failed" and status.reason == "the loss is not finite at step 3"


def test_a_run_with_a_result_is_finished(root: UPath) -> None:
    write_json(run_folder(root, "s", RUN.key) / "result.json", {"measurements": []})
    assert read_status(root, "s", RUN).tokens == 1024


def test_a_result_that_is_no_json_is_named(root: UPath) -> None:
    path = run_folder(root, "s", RUN.key) / "progress.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(InputError, match="progress.json is not JSON"):
        read_json(path)


def test_the_terminal_shows_one_line_a_run(root: UPath) -> None:
    screen = io.StringIO()
    with_progress(
        root, status="running", phase="training", tokens=512, loss=3.21, tokens_per_second=1000.0, seconds_left=0.5,
        updated=time.time(),
    )  # fmt: skip
    with Display(Console(file=screen, force_terminal=True, width=120)) as display:
        display.show([read_status(root, "s", RUN)])
    text = screen.getvalue()
    assert all(word in text for word in (RUN.key, "training", "3.210", "1,000", "50%"))


def test_without_a_terminal_a_line_is_printed_when_something_changes(root: UPath) -> None:
    screen = io.StringIO()
    display = Display(Console(file=screen, width=200))
    with_progress(root, status="running", updated=time.time())
    for _ in range(3):
        display.show([read_status(root, "s", RUN)])
    with_progress(root, status="failed", reason="why", updated=time.time())
    display.show([read_status(root, "s", RUN)])
    lines = screen.getvalue().strip().splitlines()
    assert len(lines) == 2 and lines[1].endswith(f"{RUN.key} failed: why")


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (600, "10 min"), (7200, "2.0 h"), (400_000, "4.6 d")])
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("execution", "cluster", "room"),
    [
        (Execution(), Cluster(local=True, cpus=2, gpus=0, drivers=2), 2),
        (Execution(concurrent_runs=1), Cluster(local=True, cpus=8, gpus=0, drivers=8), 1),
        (Execution(workers=2), Cluster(local=True, cpus=4, gpus=0, drivers=4), 2),
        (Execution(cpus_per_worker=4), Cluster(local=True, cpus=16, gpus=2, drivers=16), 2),
        (Execution(workers=8, gpus_per_worker=1), Cluster(local=False, cpus=0, gpus=0, drivers=32), 32),
    ],
)
def test_as_many_runs_go_on_at_once_as_there_is_room_for(execution: Execution, cluster: Cluster, room: int) -> None:
    assert concurrent_runs(execution, cluster) == room


@pytest.mark.parametrize(
    ("execution", "what"), [(Execution(workers=4), "4 cores"), (Execution(gpus_per_worker=1), "1 GPUs")]
)
def test_a_run_that_never_fits_this_machine_is_refused(execution: Execution, what: str) -> None:
    with pytest.raises(InputError, match=what):
        concurrent_runs(execution, Cluster(local=True, cpus=2, gpus=0, drivers=2))
