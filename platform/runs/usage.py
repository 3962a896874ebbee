"""What the attempts at runs have held of a cluster, and for how long: GPU-hours and core-hours.

Each attempt says in its claim which GPUs and cores it holds and since when, at every heartbeat. So what is counted is
what was spent, by attempts that were killed too, up to their last heartbeat; the seconds in which Ray starts a run's
processes, before they take it up, are not.
"""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from upath import UPath

from ladder.platform.runs.lease import CLAIMS, Claim, claim_epoch, read_claim
from ladder.platform.storage import list_names

READERS = 32
"""Claims read at one time: a look at an object store is mostly waiting."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What was held by some attempts."""

    gpu_hours: float = 0.0
    """GPUs, a share of one as that share, times hours."""
    core_hours: float = 0.0
    """Processor cores times hours, also of attempts that held GPUs."""
    uncounted: int = 0
    """Attempts that did not note what they held: those of an older ladder."""

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            gpu_hours=self.gpu_hours + other.gpu_hours,
            core_hours=self.core_hours + other.core_hours,
            uncounted=self.uncounted + other.uncounted,
        )


def usage_of(claim: Claim) -> Usage:
    """What an attempt held, as its claim has it; nothing where it only noted that a run failed, or is open again."""
    said = claim.progress
    if "held_seconds" not in said:
        return Usage(uncounted=int(bool(said)))
    hours = said["held_seconds"] / 3600
    return Usage(gpu_hours=said["gpus"] * hours, core_hours=said["cores"] * hours)


def read_usage(folder: UPath) -> Usage:
    """What all attempts at the run in a folder have held."""
    return _sum(folder, list_names(folder / CLAIMS))


def read_usages(storage: UPath, sweep: str, files: Mapping[str, Collection[str]]) -> dict[str, Usage]:
    """What all attempts at each run of a sweep have held, for the runs that were taken up; `files` as from
    `list_run_files`."""
    claims = {
        key: [name.removeprefix(f"{CLAIMS}/") for name in names if name.startswith(f"{CLAIMS}/")]
        for key, names in files.items()
    }
    taken_up = [key for key, names in claims.items() if names]
    with ThreadPoolExecutor(READERS) as pool:
        usages = pool.map(lambda key: _sum(storage / "sweeps" / sweep / key, claims[key]), taken_up)
        return dict(zip(taken_up, usages, strict=True))


def _sum(folder: UPath, names: Collection[str]) -> Usage:
    claims = [read_claim(folder, epoch) for epoch in map(claim_epoch, names) if epoch]
    return sum((usage_of(claim) for claim in claims if claim is not None), Usage())
