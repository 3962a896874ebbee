"""What the parent of a sweep says in MLflow: the question, how far it is, the best of it, and what it took."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ladder.platform.runs.status import RunStatus, summarise
from ladder.platform.runs.usage import Usage
from ladder.platform.tracking.records import TrackedSweep
from ladder.platform.tracking.view import LOSS, VIEW_TAG, prepare_view, view_address
from ladder.sweeps.words import Sweep

if TYPE_CHECKING:
    from mlflow.entities import Run as Record
    from mlflow.tracking import MlflowClient

LONGEST_NOTE = 8000
"""Characters of a tag's value that MLflow keeps."""


def describe_sweep(
    client: "MlflowClient",
    tracked: TrackedSweep,
    sweep: Sweep,
    statuses: Sequence[RunStatus],
    usage: Usage | None = None,
) -> None:
    """Write the parent's state, its description and its metrics, and the prepared view where it is not there yet.

    With `usage`, what the sweep has taken, it is the end of the work, and the view gets the scores that there are now.
    """
    from mlflow.entities import Metric, RunTag

    state, best = summarise(statuses), _best(client, tracked.experiment)
    counts = Counter(status.status for status in statuses)
    values = {f"sweep/runs_{word}": float(counts[word]) for word in ("finished", "failed")}
    if best is not None:
        values["sweep/lowest_heldout_loss"] = best.data.metrics[LOSS]
    if usage is not None:
        values |= {"sweep/gpu_hours": usage.gpu_hours, "sweep/core_hours": usage.core_hours}
    now, step = int(time.time() * 1000), counts["finished"]
    tags = {"ladder.state": state, "mlflow.note.content": _note(tracked, sweep, state, best)}
    client.log_batch(
        tracked.parent,
        metrics=[Metric(name, value, now, step) for name, value in values.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
        synchronous=True,
    )
    if usage is not None or VIEW_TAG not in client.get_experiment(tracked.experiment).tags:
        prepare_view(client, tracked.experiment)


def _best(client: "MlflowClient", experiment: str) -> "Record | None":
    """The run with the lowest held-out loss, or None before there is one."""
    where = f"tags.`ladder.kind` = 'run' and metrics.`{LOSS}` > 0"
    found = client.search_runs([experiment], where, max_results=1, order_by=[f"metrics.`{LOSS}` ASC"])
    return found[0] if found else None


def _note(tracked: TrackedSweep, sweep: Sweep, state: str, best: "Record | None") -> str:
    """The description that MLflow's page of the parent begins with, in Markdown."""
    lines = [f"- State: {state}"]
    if best is not None:
        loss = best.data.metrics[LOSS]
        lines.append(f"- Lowest held-out loss: {loss:.4f} nats per token, {best.data.tags['ladder.run']}")
    lines.append(f"- [All runs, with charts]({view_address('', tracked.experiment).removeprefix('/')})")
    lines.append(f"- Report: the artifact `report/index.html`, written by `ladder report {sweep.name}`")
    rest = "\n\n" + "\n".join(lines)
    return sweep.question[: LONGEST_NOTE - len(rest)] + rest
