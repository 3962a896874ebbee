"""`ladder run`: train and score a sweep."""

from typing import TYPE_CHECKING, Any

import click
from upath import UPath

from ladder.platform.command.chosen import Chosen, begin, budget_option, corpus_option, execution_options
from ladder.platform.command.completion import complete_sweeps
from ladder.platform.command.options import address_option, echo_json, json_option, storage_option, tracking_option
from ladder.platform.identity import local_precision

if TYPE_CHECKING:
    from ladder.platform.launching.sweep import SweepOutcome

HALTED = 3
"""Exit code of a sweep whose work ended before its runs did, as asked: nothing failed, and it can be resumed."""


@click.command("run")
@click.argument("sweep", shell_complete=complete_sweeps)
@corpus_option
@storage_option
@tracking_option
@address_option
@click.option("--retry-failed", is_flag=True, help="Take failed runs up again too, from their last checkpoint.")
@budget_option
@execution_options
@json_option
def command(
    sweep: str,
    corpus: str | None,
    storage: UPath,
    tracking: str | None,
    address: str | None,
    retry_failed: bool,
    budget_gpu_hours: float | None,
    as_json: bool,
    **execution: Any,
) -> None:
    """Train and score the runs of SWEEP that are not finished: the name of a sweep that comes with ladder, or a file.

    Ctrl-C stops it, and `ladder stop` does from elsewhere; the same command goes on from the last checkpoints. The
    exit code is 1 where a run failed, 3 where the work was stopped or the budget is spent.

    \b
    Examples:
      ladder run demo
      ladder run gpt2 --budget-gpu-hours 500 --address auto
      ladder run cpu --corpus web --concurrent-runs 2
      ladder run my_sweep.py --address auto --storage s3://bucket/ladder \\
          --tracking http://mlflow:5000
    """
    from ladder.platform.launching.control import SweepStopped
    from ladder.platform.launching.display import Display
    from ladder.platform.launching.sweep import run_sweep
    from ladder.platform.tracking.database import tracking_uri

    chosen = begin(sweep, storage, corpus, execution)
    if address is None:
        warn_of_slow_precision(chosen)
    assert chosen.corpus is not None, "only a dry run goes without a corpus"
    try:
        outcome = run_sweep(
            chosen.sweep,
            chosen.runs,
            corpus=chosen.corpus,
            storage=storage,
            tracking=tracking_uri(tracking, storage),
            address=address,
            retry_failed=retry_failed,
            budget_gpu_hours=budget_gpu_hours,
            display=Display(),
        )
    except SweepStopped as stopped:
        click.echo(f"sweep {chosen.sweep.name}: {stopped}; `ladder run` goes on from the last checkpoints.", err=True)
        raise SystemExit(HALTED) from None
    _tell(chosen, outcome)
    if as_json:
        echo_json(_summary(chosen, outcome))
    if any(status.status == "failed" for status in outcome.statuses):
        raise SystemExit(1)
    if any(status.status != "finished" for status in outcome.statuses):
        raise SystemExit(HALTED if outcome.budget.budget_is_spent else 1)


def warn_of_slow_precision(chosen: Chosen) -> None:
    """Says that this machine is slow in the sweep's precision, which stays, since its runs are compared."""
    if any(execution.asks_for_gpus for execution in chosen.executions):
        return
    here, reason = local_precision(chosen.executions)
    if here == "fp32" and any(run.recipe.precision == "bf16" for run in chosen.runs):
        click.echo(
            f"Warning: sweep {chosen.sweep.name} is in bf16, and {reason}: it stays in bf16, which is slow here.",
            err=True,
        )


def _tell(chosen: Chosen, outcome: "SweepOutcome") -> None:
    from ladder.platform.launching.display import duration

    def echo(text: str) -> None:
        click.echo(text, err=True)

    finished = sum(status.status == "finished" for status in outcome.statuses)
    if outcome.budget.budget_is_spent and finished < len(outcome.statuses):
        echo(
            f"sweep {chosen.sweep.name}: the budget of {outcome.budget.budget_gpu_hours:g} GPU-hours is spent "
            f"({outcome.budget.gpu_hours:.4g} were taken), so no further run was launched; the same command with a "
            "larger one goes on."
        )
    if not outcome.worked_on and all(status.ended for status in outcome.statuses):
        echo(f"sweep {chosen.sweep.name}: all {len(outcome.statuses)} runs had ended before, nothing to train.")
    elif outcome.overhead_seconds is not None:
        echo(
            f"sweep {chosen.sweep.name}: {finished} of {len(outcome.statuses)} runs finished; {outcome.worked_on} "
            f"were worked on in {duration(outcome.wall_seconds)}, {outcome.slots} at a time, "
            f"{outcome.overhead_seconds:.1f} s a run and slot of it neither training nor scoring."
        )
    for status in outcome.statuses:
        if status.status == "failed" or not (status.ended or outcome.budget.budget_is_spent):
            echo(f"  {status.run.key} {status.status}: {status.reason or 'no result'}")
    if finished:
        echo(f"Next: ladder report {chosen.sweep.name}")


def _summary(chosen: Chosen, outcome: "SweepOutcome") -> dict[str, Any]:
    return {
        "sweep": chosen.sweep.name,
        "runs": [status.to_json() for status in outcome.statuses],
        "carried_out": outcome.worked_on,
        "wall_seconds": outcome.wall_seconds,
        "busy_seconds": outcome.busy_seconds,
        "slots": outcome.slots,
        "overhead_seconds_per_run": outcome.overhead_seconds,
    }
