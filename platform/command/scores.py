"""Scores for people: how far scoring is, on standard error, and the table of what came of it."""

import os
import time
from collections.abc import Sequence
from pathlib import PurePosixPath
from types import TracebackType
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ladder.models.sizes import PAPER_SIZES
from ladder.platform.evaluation.checkpoints.score import Outcome
from ladder.platform.evaluation.measurement import Measurement

WIDE = 120
"""Columns of a terminal that shows the whole table."""
COLUMNS = (
    *("benchmark", "metric", "value", "std. error", "chance", "unit", "better", "items", "cut", "seconds"),
    "GPT-2 paper",
)
NARROW_COLUMNS = ("benchmark", "metric", "value", "std. error", "chance", "GPT-2 paper")
NUMBERS = ("value", "std. error", "chance", "items", "cut", "seconds")

SAY_SECONDS = 30.0
"""Between lines about a benchmark that goes on, where there is no terminal."""


class ScoresDisplay:
    """A bar over all benchmarks of all checkpoints and one inside the benchmark; where there is no terminal, a line for
    each benchmark done and every SAY_SECONDS one about the benchmark that goes on."""

    def __init__(self, checkpoints: Sequence[str], benchmarks: Sequence[str]) -> None:
        self.console = Console(stderr=True)
        self.labels = short_names(checkpoints)
        self.benchmarks = list(benchmarks)
        self.done: dict[str, int] = dict.fromkeys(checkpoints, 0)
        self.started = time.perf_counter()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        quiet = not self.console.is_terminal
        self.bar = Progress(*columns, TimeElapsedColumn(), console=self.console, transient=True, disable=quiet)
        self.task = self.bar.add_task(self._doing(), total=len(checkpoints) * len(benchmarks))
        self.inside = self.bar.add_task("", total=None, visible=False)
        self.begun = self.said = self.started
        self.expected = self.answered = self.tokens = 0

    def __enter__(self) -> "ScoresDisplay":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def advance(self, *, expected: int = 0, answered: int = 0, tokens: int = 0) -> None:
        """How far the benchmark is that is scored in this process."""
        now = time.perf_counter()
        if not self.expected:
            self.begun = now  # the model is loaded
        self.expected, self.answered = self.expected + expected, self.answered + answered
        self.tokens += tokens
        rate = f"{self.tokens / max(now - self.begun, 1e-9):,.0f} tokens/s"
        self.bar.update(
            self.inside, total=self.expected, completed=self.answered, description=f"  requests, {rate}", visible=True
        )
        if self.bar.disable and now - self.said > SAY_SECONDS:
            self.said = now
            self._say(f"{self._doing()}: {self.answered:,} of {self.expected:,} requests, {rate}")

    def show(self, outcome: Outcome) -> None:
        """One benchmark, or a whole checkpoint, is through."""
        before = self.done[outcome.checkpoint]
        self.done[outcome.checkpoint] = len(self.benchmarks) if outcome.benchmark is None else before + 1
        self.bar.update(self.task, completed=sum(self.done.values()), description=self._doing())
        self._begin()
        if self.bar.disable:
            self._say(self._line(outcome))

    def _begin(self) -> None:
        """Another benchmark."""
        self.bar.reset(self.inside, total=None, visible=False)
        self.begun = self.said = time.perf_counter()
        self.expected = self.answered = self.tokens = 0

    def _say(self, text: str) -> None:
        seconds = time.perf_counter() - self.started
        self.console.print(f"[{seconds:5.0f} s] {text}", highlight=False, markup=False, soft_wrap=True)

    def _doing(self) -> str:
        """What is being scored: the benchmark of one checkpoint, how many checkpoints of many."""
        ended = sum(done == len(self.benchmarks) for done in self.done.values())
        if len(self.done) > 1:
            return f"{ended} of {len(self.done)} checkpoints scored"
        position = next(iter(self.done.values()))
        return f"scoring {self.benchmarks[position]}" if position < len(self.benchmarks) else "scored"

    def _line(self, outcome: Outcome) -> str:
        where = f"{self.labels[outcome.checkpoint]}: " if len(self.done) > 1 else ""
        if outcome.problem is not None:
            return f"{where}{outcome.benchmark or 'checkpoint'} failed: {outcome.problem}"
        done = f"{self.done[outcome.checkpoint]} of {len(self.benchmarks)}"
        how = "from cache" if outcome.cached else f"{sum(m.seconds for m in outcome.measurements[:1]):.1f} s"
        return f"{where}{outcome.benchmark} ({done}), {how}"


def short_names(checkpoints: Sequence[str]) -> dict[str, str]:
    """A short name for each checkpoint: the end of its path, as long as it must be to tell it from the others."""
    parts = {checkpoint: PurePosixPath(checkpoint.rstrip("/")).parts or (checkpoint,) for checkpoint in checkpoints}
    runs = {name: path[:-1] if len(path) > 1 and path[-1].startswith("step-") else path for name, path in parts.items()}
    if len(set(runs.values())) == len(parts):
        parts = runs  # of each run one checkpoint: the step says nothing
    for length in range(1, max(map(len, parts.values())) + 1):
        names = {checkpoint: os.sep.join(path[-length:]) for checkpoint, path in parts.items()}
        if len(set(names.values())) == len(parts):
            return names
    return {checkpoint: checkpoint for checkpoint in checkpoints}


def scores_table(
    outcomes: Sequence[Outcome], absent: dict[str, str], checkpoints: Sequence[str], *, width: int = WIDE
) -> Table:
    """One row a measurement, grouped by checkpoint, beside it the GPT-2 paper's scores of the nearest sizes; what was
    not scored is a row as well.

    `chance` is the score of guessing, `cut` how many items lost text, since they did not fit the model's context. A
    terminal of less than WIDE columns gets those alone that fit, so that no number is cut.
    """
    labels = short_names(checkpoints)
    shown = [*(["checkpoint"] if len(checkpoints) > 1 else []), *(COLUMNS if width >= WIDE else NARROW_COLUMNS)]
    table = Table(box=None, padding=(0, 2 if width >= WIDE else 1, 0, 0))
    if width < WIDE:
        left_out = ", ".join(title for title in COLUMNS if title not in NARROW_COLUMNS)
        table.caption = f"{left_out}: in a terminal of {WIDE} columns, or with --json"
        table.caption_justify = "left"
    longest = max((len(m.metric) for outcome in outcomes for m in outcome.measurements), default=0)
    for title in shown:
        is_metric = title == "metric"  # or a remedy, which may take several lines
        justify: Literal["left", "right"] = "right" if title in NUMBERS else "left"
        table.add_column(title, justify=justify, no_wrap=not is_metric, min_width=longest if is_metric else None)
    for checkpoint in checkpoints:
        first = labels[checkpoint]
        for outcome in outcomes:
            for row in _rows(outcome) if outcome.checkpoint == checkpoint else []:
                cells = {"checkpoint": first, **row}
                if width < WIDE:
                    cells["GPT-2 paper"] = row.get("GPT-2 paper", "").replace("  ", "\n")
                style = "red" if outcome.problem is not None else ""
                table.add_row(*(cells.get(title, "") for title in shown), style=style)
                first = ""
    for name, remedy in absent.items():
        cells = {"benchmark": name, "metric": remedy}
        table.add_row(*(cells.get(title, "") for title in shown), style="dim")
    return table


def _rows(outcome: Outcome) -> list[dict[str, str]]:
    """The cells of an outcome by column."""
    if outcome.problem is not None:
        return [{"benchmark": outcome.benchmark or "", "metric": "failed, see below"}]
    assert outcome.params_total is not None
    return [_row(measurement, outcome.params_total, outcome.cached) for measurement in outcome.measurements]


def _row(m: Measurement, params_total: int, cached: bool) -> dict[str, str]:
    cut = m.totals.get("items_cut", 0)
    return {
        "benchmark": m.benchmark,
        "metric": m.metric,
        "value": f"{m.value:.5g}",
        "std. error": "" if m.standard_error is None else f"{m.standard_error:.3g}",
        "chance": "" if m.chance is None else f"{m.chance:.3g}",
        "unit": m.unit,
        "better": m.direction,
        "items": f"{m.count:,}",
        "cut": f"{cut:,.0f}" if cut else "",
        "seconds": "from cache" if cached else f"{m.seconds:.1f}",
        "GPT-2 paper": "  ".join(f"{size} {value:g}" for size, value in paper_scores(m, params_total)),
    }


def paper_scores(measurement: Measurement, params_total: int) -> list[tuple[str, float]]:
    """The paper's scores of the size below and of the size above in parameters, or of the two at an end; sizes that are
    not the paper's four come last."""
    scores = measurement.paper_scores
    sizes = sorted((PAPER_SIZES[name].params_total, name) for name in scores if name in PAPER_SIZES)
    below = sum(params <= params_total for params, _ in sizes)
    start = max(0, min(below - 1, len(sizes) - 2))
    near = [(name, scores[name]) for _, name in sizes[start : start + 2]]
    return near + [(name, value) for name, value in scores.items() if name not in PAPER_SIZES]
