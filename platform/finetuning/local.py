"""Fine-tuning runs one after another in this process; others at the same storage may do some of them meanwhile."""

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from ladder.models.errors import InputError
from ladder.platform.finetuning.job import FineTuneJob, fine_tune
from ladder.platform.runs.attempt import begin, report_error
from ladder.platform.runs.lease import LeaseLost, newest_claim
from ladder.platform.training.worker import Worker, reset_process

logger = logging.getLogger(__name__)

State = Literal["finished", "failed"]

LOOK_SECONDS = 2.0
"""Between looks at runs that somebody else works on."""


@dataclass(frozen=True, kw_only=True)
class JobState:
    """What became of a run."""

    job: FineTuneJob
    """The run."""
    state: State
    """finished or failed."""
    worked_on: bool = False
    """Whether it was worked on here."""
    reason: str | None = None
    """Why it failed."""


def run_here(
    jobs: Sequence[FineTuneJob],
    device: torch.device,
    *,
    show: Callable[[JobState, int, int], None],
) -> list[JobState]:
    """Do the runs that are not done, each once however often it is listed; what became of each, in order.

    `show` is told each outcome, how many are known and how many there are. A run that fails does not stop the others;
    InputError, which is the user's to mend, does.
    """
    waiting = {job.run.key: job for job in jobs}
    total = len(waiting)
    states: dict[str, JobState] = {}
    owner = f"{socket.gethostname()}/{os.getpid()}"
    while waiting:
        for key, job in list(waiting.items()):
            state = _do(job, device, owner)
            if state is None:
                continue
            del waiting[key]
            states[key] = state
            show(state, len(states), total)
        if waiting:
            time.sleep(LOOK_SECONDS)
    return list(states.values())


def find_state(job: FineTuneJob) -> JobState | None:
    """What became of a run whoever did it; None where it has not ended."""
    if job.result() is not None:
        return JobState(job=job, state="finished")
    claim = newest_claim(job.folder)
    if claim is not None and claim.outcome == "failed":
        return JobState(job=job, state="failed", reason=claim.reason)
    return None


def _do(job: FineTuneJob, device: torch.device, owner: str) -> JobState | None:
    """What became of a run, which is worked on here if it has not ended; None where somebody else works on it."""
    ended = find_state(job)
    if ended is not None:
        return ended
    attempt = begin(job.folder, owner, trains=True, scores=True, max_failures=job.execution.max_failures)
    if attempt is None:
        return find_state(job)
    try:
        fine_tune(job, Worker(device=device), attempt)
    except LeaseLost:
        return None
    except (InputError, KeyboardInterrupt):
        attempt.end("released")
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        logger.error("%s failed", job.run.key, exc_info=error)
        report_error(job.folder, attempt.lease.epoch, reason, final=True)
        attempt.end("failed", reason)
    finally:
        reset_process(device)
    ended = find_state(job)
    return None if ended is None else replace(ended, worked_on=True)
