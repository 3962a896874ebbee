"""GPU-hours are what attempts held, lost ones included, each once; what is to come follows what finished runs took."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from ladder.models.sizes import parse_size
from ladder.platform.runs.attempt import Attempt
from ladder.platform.runs.lease import acquire, newest_claim, reopen
from ladder.platform.runs.outlook import foresee_usage
from ladder.platform.runs.status import RunStatus, list_run_files, summarise
from ladder.platform.runs.usage import Usage, read_usage, read_usages
from ladder.platform.storage import run_folder
from ladder.sweeps.words import Recipe, Run

RUN = Run(
    size=parse_size("2x32", context=32, vocabulary=257),
    recipe=Recipe(tokens=1024, batch_tokens=256, lr_peak=1e-3, precision="fp32"),
    corpus="c",
    corpus_fingerprint="f",
)


def spend(folder: UPath, outcome: Any, *, hours: float, gpus: float = 2.0, cores: float = 8.0) -> None:
    """An attempt that held so much for so long; None: its worker was killed after a heartbeat."""
    lease = acquire(folder, "a")
    assert lease is not None
    lease.renew(gpus=gpus, cores=cores, held_seconds=3600 * hours)
    if outcome is not None:
        lease.end(outcome)


def test_an_attempt_notes_what_it_holds_and_since_when(tmp_path: Path) -> None:
    lease = acquire(UPath(tmp_path), "a")
    assert lease is not None
    attempt = Attempt(lease, before=None, holds={"gpus": 0.5, "cores": 3.0})
    time.sleep(0.2)
    attempt.renew()
    half = read_usage(UPath(tmp_path))
    time.sleep(0.2)
    attempt.end("released")
    whole = read_usage(UPath(tmp_path))
    assert 0.2 / 3600 * 0.5 <= half.gpu_hours < whole.gpu_hours < 60 / 3600 * 0.5
    assert whole.core_hours == pytest.approx(6 * whole.gpu_hours) and whole.uncounted == 0


def test_lost_and_finished_attempts_count_alike_and_each_once(tmp_path: Path) -> None:
    root = UPath(tmp_path)
    first, second = (run_folder(root, "s", name) for name in ("one", "two"))
    spend(first, None, hours=1.0)
    claim = newest_claim(first)
    assert claim is not None
    spend(first, "finished", hours=2.0)  # the same owner follows itself
    spend(second, "failed", hours=0.5)
    reopen(second)
    usages = read_usages(root, "s", list_run_files(root, "s"))
    assert usages == {
        "one": Usage(gpu_hours=6.0, core_hours=24.0),
        "two": Usage(gpu_hours=1.0, core_hours=4.0),
    }
    assert read_usage(second) == usages["two"], "opened again, nobody held anything for it"


def test_attempts_of_an_older_ladder_are_told_and_not_guessed(tmp_path: Path) -> None:
    lease = acquire(UPath(tmp_path), "a")
    assert lease is not None
    lease.renew(step=3)
    assert read_usage(UPath(tmp_path)) == Usage(uncounted=1)


def run_of(shape: str, seed: int = 0) -> Run:
    size = parse_size(shape, context=32, vocabulary=257)
    return replace(RUN, size=size, recipe=replace(RUN.recipe, seed=seed))


def test_what_is_to_come_follows_finished_runs_of_the_nearest_size() -> None:
    small, again, large = run_of("1x32"), run_of("1x32", 1), run_of("4x128")
    flops = {run.key: run.size.flops_exact(run.recipe.tokens) for run in (small, again, large)}
    done = RunStatus(run=small, status="finished")
    half = RunStatus(run=again, status="running", progress={"tokens": 512})
    waits = RunStatus(run=large, status="waiting")
    usages = {small.key: Usage(gpu_hours=1.0, core_hours=4.0), again.key: Usage(gpu_hours=0.3)}
    outlook = foresee_usage([done, half, waits], usages)
    assert outlook.spent == Usage(gpu_hours=1.3, core_hours=4.0)
    wanted = 0.5 + flops[large.key] / flops[small.key]
    assert outlook.gpu_hours_to_come == pytest.approx(wanted)
    assert outlook.core_hours_to_come == pytest.approx(4 * wanted)
    both = foresee_usage(
        [done, waits, RunStatus(run=run_of("4x128", 1), status="finished")],
        usages | {run_of("4x128", 1).key: Usage(gpu_hours=2.0)},
    )
    assert both.gpu_hours_to_come == pytest.approx(2.0), "its own size tells"


def test_before_a_run_has_finished_nothing_is_told_of_what_is_to_come() -> None:
    waits = RunStatus(run=RUN, status="waiting")
    outlook = foresee_usage([waits], {RUN.key: Usage(gpu_hours=1.0)})
    assert outlook.gpu_hours_to_come is None and outlook.flops_to_come == RUN.size.flops_exact(RUN.recipe.tokens)
    failed = foresee_usage([RunStatus(run=RUN, status="failed")], {})
    assert failed.gpu_hours_to_come == 0, "nobody takes it up by itself"


def test_states_are_counted_in_a_line() -> None:
    words: list[Any] = ["finished", "waiting", "waiting", "failed", "running"]
    assert summarise([RunStatus(run=RUN, status=word) for word in words]) == (
        "1 of 5 runs finished, 1 running, 2 waiting, 1 failed"
    )
