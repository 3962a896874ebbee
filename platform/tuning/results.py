"""What the runs of a search came to, read from their folders; a search keeps no other state."""

import math
from dataclasses import dataclass

from upath import UPath

from ladder.platform.evaluation.benchmarks.heldout.loss import HELDOUT
from ladder.platform.runs.attempt import RESULT
from ladder.platform.runs.lease import newest_claim
from ladder.platform.storage import read_json
from ladder.sweeps.words import Run


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run of a search ended."""

    loss: float
    """Held-out loss, nats per token; infinite where the run failed."""
    trained_tokens: int
    """Tokens that it trained itself, and not another run of its trial."""
    reason: str | None = None
    """Why it failed."""


def read_result(folder: UPath, run: Run) -> RunResult | None:
    """How the run in a folder ended, or None where it has not."""
    result = read_json(folder / RESULT)
    if result is not None:
        (loss,) = (
            m["value"] for m in result["measurements"] if (m["benchmark"], m["metric"]) == (HELDOUT.name, "loss")
        )
        own = run.recipe.steps - int(result["execution"]["shared_steps"])
        return RunResult(loss=float(loss), trained_tokens=own * run.recipe.batch_tokens)
    claim = newest_claim(folder)
    if claim is None or claim.outcome != "failed":
        return None
    return RunResult(loss=math.inf, trained_tokens=int(claim.progress.get("tokens", 0)), reason=claim.reason)
