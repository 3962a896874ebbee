"""`ladder status`: how far a sweep is, what it took, and what is to come."""

import contextlib
import time
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.command.chosen import Chosen, choose, corpus_option
from ladder.platform.command.completion import complete_sweeps
from ladder.platform.command.options import console, echo_json, json_option, price_option, storage_option
from ladder.platform.gpus import ASSUMED_UTILISATION
from ladder.platform.launching.display import table
from ladder.platform.runs.outlook import Outlook, foresee_usage
from ladder.platform.runs.status import RunStatus, list_run_files, read_statuses, summarise
from ladder.platform.runs.usage import Usage, read_usages
from ladder.platform.storage import is_local


@click.command("status")
@click.argument("sweep", shell_complete=complete_sweeps)
@corpus_option
@storage_option
@click.option("--watch", is_flag=True, help="Show it again and again, until every run has ended or Ctrl-C.")
@price_option
@json_option
def command(sweep: str, corpus: str | None, storage: UPath, watch: bool, price: float | None, as_json: bool) -> None:
    """Show how far the runs of SWEEP are: waiting, running, finished or failed, and why.

    Below stands what they took of GPUs and cores, attempts that were lost included, and what is to come, by what
    finished runs took; with a price, in money. It is read from the storage alone: any machine that sees it will do.

    \b
    Examples:
      ladder status demo --watch
      ladder status gpt2 --storage s3://bucket/ladder \\
          --price-per-gpu-hour 2.50
      ladder status gpt2 --storage s3://bucket/ladder --json
    """
    if watch and as_json:
        raise InputError("--watch shows a sweep again and again, --json writes it once: give one of the two")
    chosen = choose(sweep, storage, corpus, begun=True)
    if watch:
        with contextlib.suppress(KeyboardInterrupt):  # that is how it ends
            _watch(chosen, storage, price)
        return
    standing = read_standing(chosen, storage)
    if as_json:
        echo_json({"sweep": chosen.sweep.name, **standing.to_json(price)})
        return
    console().print(table(standing.statuses))
    for status in standing.statuses:
        if status.reason:
            click.echo(f"{status.run.key}: {status.reason}")
    click.echo(standing.text(price))


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a sweep stands."""

    statuses: list[RunStatus]
    """Its runs."""
    usages: dict[str, Usage]
    """What each run has taken, of those that were taken up."""
    outlook: Outlook
    """What they have taken, and what is to come."""
    gpu_hours_to_come: float | None
    """The outlook's, or before a run has finished by the data sheet of the GPU asked for; None: unknown."""
    basis: str
    """What the GPU-hours to come are reckoned by."""

    def text(self, price: float | None) -> str:
        """Counts, hours and money, in a line or two."""
        spent, outlook = self.outlook.spent, self.outlook
        parts = [summarise(self.statuses)]
        if spent.gpu_hours or self.gpu_hours_to_come:
            parts.append(_hours("GPU-hours", spent.gpu_hours, self.gpu_hours_to_come, price) + f" ({self.basis})")
        else:
            parts.append(_hours("core-hours", spent.core_hours, outlook.core_hours_to_come, None))
        if spent.uncounted:
            parts.append(f"{spent.uncounted} attempts of an older ladder, which did not note their hours, not counted")
        return "; ".join(parts)

    def to_json(self, price: float | None) -> dict[str, Any]:
        """For programs."""
        spent, to_come = self.outlook.spent, self.gpu_hours_to_come
        return {
            "runs": [
                status.to_json() | {"gpu_hours": self.usages.get(status.run.key, Usage()).gpu_hours}
                for status in self.statuses
            ],
            "counts": {word: sum(s.status == word for s in self.statuses) for word in _WORDS},
            "gpu_hours_spent": spent.gpu_hours,
            "gpu_hours_to_come": to_come,
            "gpu_hours_to_come_by": self.basis,
            "core_hours_spent": spent.core_hours,
            "core_hours_to_come": self.outlook.core_hours_to_come,
            "uncounted_attempts": spent.uncounted,
            "cost_spent": None if price is None else price * spent.gpu_hours,
            "cost_to_come": None if price is None or to_come is None else price * to_come,
        }


_WORDS = ("finished", "running", "waiting", "failed")


def read_standing(chosen: Chosen, storage: UPath) -> Standing:
    """Where a sweep stands now: one listing, and a look at the claims of each run that was taken up."""
    from ladder.platform.costs import asked_gpu, gpu_rate

    name = chosen.sweep.name
    files = list_run_files(storage, name)
    statuses = read_statuses(storage, name, chosen.runs, files=files)
    keys = {run.key for run in chosen.runs}
    usages = read_usages(storage, name, {key: names for key, names in files.items() if key in keys})
    outlook = foresee_usage(statuses, usages)
    gpu_hours, basis = outlook.gpu_hours_to_come, "to come by what finished runs took"
    if gpu_hours is None:
        gpu, basis = asked_gpu(name, chosen.executions), "what is to come is unknown until a run has finished"
        if gpu is not None:
            gpu_hours = gpu_rate(gpu, ASSUMED_UTILISATION).hours(outlook.flops_to_come)
            basis = f"to come by {gpu}'s data sheet at an assumed {ASSUMED_UTILISATION:.0%} of its rate"
    return Standing(statuses=statuses, usages=usages, outlook=outlook, gpu_hours_to_come=gpu_hours, basis=basis)


def _watch(chosen: Chosen, storage: UPath, price: float | None) -> None:
    """Show where the sweep stands until every run has ended: redrawn in a terminal, otherwise a line each time that
    something changed."""
    screen, said = Console(), ""
    live = Live(console=screen, auto_refresh=False) if screen.is_terminal else None
    with live or contextlib.nullcontext():
        while True:
            standing = read_standing(chosen, storage)
            text = standing.text(price)
            if live is not None:
                rows = max(5, screen.height - 6)
                live.update(table(standing.statuses, rows=rows, caption=text), refresh=True)
            elif text != said:
                click.echo(text)
            said = text
            if all(status.ended for status in standing.statuses):
                return
            time.sleep(3.0 if is_local(storage) else 30.0)


def _hours(unit: str, spent: float, to_come: float | None, price: float | None) -> str:
    """Hours, and money, spent and to come."""
    rest = "unknown" if to_come is None else f"about {to_come:.3g}"
    text = f"{spent:.3g} {unit} spent, {rest} to come"
    if price is None:
        return text
    money = "unknown" if to_come is None else f"about {price * to_come:,.2f}"
    return f"{text}; {price * spent:,.2f} spent, {money} to come at {price:g} an hour"
