"""How far the runs of a sweep are, read from their folders: it works from anywhere that sees the storage."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from upath import UPath

from ladder.platform.storage import is_local, read_json, run_folder
from ladder.sweeps.words import Run, Sweep

Status = Literal["waiting", "running", "finished", "failed"]


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """Where one run stands."""

    run: Run
    """The run."""
    status: Status
    """waiting, running, finished or failed."""
    reason: str | None
    """Why it failed, or what it waits for where that is known."""
    progress: dict[str, Any]
    """What its first worker last said: phase, step, steps, tokens, loss, tokens_per_second, seconds_left."""

    @property
    def tokens(self) -> int:
        """Tokens trained on."""
        if self.status == "finished":
            return self.run.recipe.tokens
        return int(self.progress.get("tokens", 0))

    def to_json(self) -> dict[str, Any]:
        """The row of `ladder status --json`."""
        return {"run": self.run.key, "status": self.status, "tokens": self.tokens, "reason": self.reason}


def read_status(storage: UPath, sweep: str, run: Run) -> RunStatus:
    """Where a run stands, by its folder."""
    folder = run_folder(storage, sweep, run.key)
    progress = read_json(folder / "progress.json") or {}
    if (folder / "result.json").exists():
        return RunStatus(run=run, status="finished", reason=None, progress=progress)
    if progress.get("status") == "failed":
        return RunStatus(run=run, status="failed", reason=progress.get("reason"), progress=progress)
    if not progress:
        return RunStatus(run=run, status="waiting", reason=None, progress={})
    silent = time.time() - progress["updated"]
    if silent > (30 if is_local(storage) else 180):
        reason = f"interrupted at step {progress.get('step', 0)} of {run.recipe.steps}; `ladder run` takes it up again"
        return RunStatus(run=run, status="waiting", reason=reason, progress=progress)
    return RunStatus(run=run, status="running", reason=None, progress=progress)


def unscored(storage: UPath, sweep: Sweep, run: Run) -> set[str]:
    """Benchmarks of the sweep that a finished run has no score of; the sweep may have gained some since."""
    result = read_json(run_folder(storage, sweep.name, run.key) / "result.json") or {"measurements": []}
    return set(sweep.benchmarks) - {measurement["benchmark"] for measurement in result["measurements"]}


def read_statuses(storage: UPath, sweep: str, runs: Sequence[Run]) -> list[RunStatus]:
    """Where all runs of a sweep stand."""
    return [read_status(storage, sweep, run) for run in runs]
