"""Progress is shown one line a run, and of very many runs those that tell most."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from ladder.models.sizes import parse_size
from ladder.platform.launching.display import Display, duration, table
from ladder.platform.runs.status import RunStatus
from ladder.sweeps.words import Recipe, Run

RUN = Run(
    size=parse_size("2x32", context=32, vocabulary=257),
    recipe=Recipe(tokens=1024, batch_tokens=256, lr_peak=1e-3, precision="fp32"),
    corpus="c",
    corpus_fingerprint="f",
)


def status(word: Any, seed: int = 0, **rest: Any) -> RunStatus:
    return RunStatus(run=replace(RUN, recipe=replace(RUN.recipe, seed=seed)), status=word, **rest)


def test_the_terminal_shows_one_line_a_run() -> None:
    screen = io.StringIO()
    progress = {"phase": "training", "tokens": 512, "loss": 3.21, "tokens_per_second": 1000.0, "seconds_left": 0.5}
    with Display(Console(file=screen, force_terminal=True, width=120)) as display:
        display.show([status("running", progress=progress)])
    text = screen.getvalue()
    assert all(word in text for word in (RUN.key, "training", "3.210", "1,000", "50%"))


def test_without_a_terminal_a_line_is_printed_when_something_changes() -> None:
    screen = io.StringIO()
    display = Display(Console(file=screen, width=200))
    for _ in range(3):
        display.show([status("running")])
    display.show([status("failed", reason="why")])
    lines = screen.getvalue().strip().splitlines()
    assert len(lines) == 2 and lines[1].endswith(f"{RUN.key} failed: why")


def test_of_many_runs_those_that_go_on_or_failed_are_shown() -> None:
    words = ["finished"] * 50 + ["running", "waiting", "failed"] + ["waiting"] * 50
    statuses = [status(word, seed) for seed, word in enumerate(words)]
    shown = table(statuses, rows=4)
    assert shown.row_count == 4 and str(shown.title) == "51 of 103 runs ended, 99 not shown"
    keys = list(shown.columns[0].cells)
    assert {statuses[50].run.key, statuses[52].run.key} <= set(keys)
    assert table(statuses).row_count == 103


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (600, "10 min"), (7200, "2.0 h"), (400_000, "4.6 d")])
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
