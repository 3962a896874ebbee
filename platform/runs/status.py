"""How far the runs of a sweep are, read from their folders: it works from anywhere that sees the storage."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from upath import UPath

from ladder.platform.evaluation.measurement import HELDOUT
from ladder.platform.runs.attempt import RESULT, is_trained
from ladder.platform.runs.lease import CLAIMS, Claim, claim_epoch, read_claim
from ladder.platform.storage import list_files, read_json, run_folder
from ladder.sweeps.words import Run

Status = Literal["waiting", "running", "finished", "failed"]

READERS = 32
"""Files read at one time: a look at an object store is mostly waiting."""


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """Where one run stands."""

    run: Run
    """The run."""
    status: Status
    """waiting, running, finished or failed."""
    reason: str | None = None
    """Why it failed, or what it waits for where that is known."""
    progress: Mapping[str, Any] = field(default_factory=dict)
    """What its first worker last said: phase, step, steps, tokens, loss, tokens_per_second, seconds_left."""
    trained: bool = False
    """Whether what is left is to score it."""
    owner: str | None = None
    """Who holds its lease, or held it last; None before it was taken up."""

    @property
    def tokens(self) -> int:
        """Tokens trained on."""
        if self.status == "finished":
            return self.run.recipe.tokens
        return int(self.progress.get("tokens", 0))

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.status in ("finished", "failed")

    def to_json(self) -> dict[str, Any]:
        """The row of `ladder status --json`."""
        return {"run": self.run.key, "status": self.status, "tokens": self.tokens, "reason": self.reason}


def summarise(statuses: Sequence[RunStatus]) -> str:
    """How many runs stand where: 3 of 24 runs finished, 2 running, 18 waiting, 1 failed."""
    counts = Counter(status.status for status in statuses)
    words: tuple[Status, ...] = ("running", "waiting", "failed")
    others = [f"{counts[word]} {word}" for word in words if counts[word]]
    return ", ".join([f"{counts['finished']} of {len(statuses)} runs finished", *others])


def read_statuses(
    storage: UPath,
    sweep: str,
    runs: Sequence[Run],
    *,
    benchmarks: Mapping[str, str] | None = None,
    files: Mapping[str, Collection[str]] | None = None,
) -> list[RunStatus]:
    """Where all runs of a sweep stand: one listing (`files`, where it is at hand), and one look at each run that was
    taken up and has no result.

    With `benchmarks`, a run that has no score of one of them is not finished: each result is read. They are given by
    name, with the hash of what defines each, empty for those of ladder.
    """
    found = list_run_files(storage, sweep) if files is None else files
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda run: _status(storage, sweep, run, found.get(run.key, ()), benchmarks), runs))


def read_status(storage: UPath, sweep: str, run: Run, *, benchmarks: Mapping[str, str] | None = None) -> RunStatus:
    """Where one run stands; `benchmarks` as in `read_statuses`."""
    return _status(storage, sweep, run, list_files(run_folder(storage, sweep, run.key)), benchmarks)


def list_run_files(storage: UPath, sweep: str) -> dict[str, set[str]]:
    """The names of the files in each run's folder, by run, from one listing of the sweep's folder."""
    found: dict[str, set[str]] = {}
    for path in list_files(storage / "sweeps" / sweep):
        key, _, name = path.partition("/")
        found.setdefault(key, set()).add(name)
    return found


def missing_benchmarks(folder: UPath, benchmarks: Mapping[str, str]) -> list[str]:
    """Of the held-out loss and `benchmarks`, those that the run in a folder has no score of.

    A score under another definition, as of a user's file that has changed since, is none.
    """
    result = read_json(folder / RESULT) or {"measurements": []}
    scored = {(m["benchmark"], m.get("scored_with", {}).get("definition", "")) for m in result["measurements"]}
    return [name for name, definition in {HELDOUT: "", **benchmarks}.items() if (name, definition) not in scored]


def status_of(run: Run, claim: Claim | None) -> RunStatus:
    """Where a run that has no result, or not every score, stands by its newest claim."""
    if claim is None:
        return RunStatus(run=run, status="waiting")
    known: dict[str, Any] = {"progress": claim.progress, "trained": is_trained(claim), "owner": claim.owner}
    if claim.live:
        return RunStatus(run=run, status="running", **known)
    if claim.outcome == "failed":
        return RunStatus(run=run, status="failed", reason=claim.reason, **known)
    step = f"at step {claim.progress.get('step', claim.step)} of {run.recipe.steps}"
    if claim.outcome == "crashed":
        reason = f"a worker failed {step} and it is tried again: {claim.reason}"
    elif is_trained(claim):
        reason = "trained, to be scored"
    else:
        reason = f"interrupted {step}; `ladder run` takes it up again"
    return RunStatus(run=run, status="waiting", reason=reason, **known)


def _status(
    storage: UPath, sweep: str, run: Run, files: Collection[str], benchmarks: Mapping[str, str] | None
) -> RunStatus:
    folder = run_folder(storage, sweep, run.key)
    if RESULT in files and (benchmarks is None or not missing_benchmarks(folder, benchmarks)):
        return RunStatus(run=run, status="finished")
    epochs = [claim_epoch(name.removeprefix(f"{CLAIMS}/")) for name in files if name.startswith(f"{CLAIMS}/")]
    return status_of(run, read_claim(folder, max(epochs)) if epochs else None)
