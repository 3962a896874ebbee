"""`ladder tune`: search the learning rate of a sweep's sizes."""

import time
from typing import TYPE_CHECKING, Any

import click
from upath import UPath

from ladder.platform.command.chosen import Chosen, begin, corpus_option, execution_options
from ladder.platform.command.completion import complete_sweeps
from ladder.platform.command.options import (
    address_option,
    console,
    echo_json,
    json_option,
    storage_option,
    tracking_option,
)
from ladder.platform.command.run import warn_of_slow_precision
from ladder.sweeps.expand import CorpusFacts
from ladder.sweeps.search import SearchSpace, plan_search

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ladder.platform.tuning.outcome import Row, SearchOutcome
    from ladder.platform.tuning.progress import Place
    from ladder.platform.tuning.results import RunResult
    from ladder.platform.tuning.search import SearchRequest


@click.command("tune")
@click.argument("sweep", shell_complete=complete_sweeps)
@click.option("--lr-steps", default=SearchSpace.lr_steps, show_default=True, help="Learning rates to try for a size.")
@click.option(
    "--lr-factor", default=SearchSpace.lr_factor, show_default=True, help="Each learning rate over the one before."
)
@click.option("--search-batch", is_flag=True, help="Try half and twice the recipe's batch too: three times the trials.")
@click.option(
    "--rungs", default=SearchSpace.rungs, show_default=True, help="Budgets; 1 trains all to the end (a grid)."
)
@click.option(
    "--reduction",
    default=SearchSpace.reduction,
    show_default=True,
    help="A budget is so many times the one before.",
)
@click.option(
    "--budget-tokens",
    type=int,
    help="Last budget of every size, in tokens.  [default: the sweep's largest of the size]",
)
@click.option("--retry-failed", is_flag=True, help="Try runs again that failed.")
@corpus_option
@storage_option
@tracking_option
@address_option
@execution_options
@json_option
def command(
    sweep: str,
    lr_steps: int,
    lr_factor: float,
    search_batch: bool,
    rungs: int,
    reduction: int,
    budget_tokens: int | None,
    retry_failed: bool,
    corpus: str | None,
    storage: UPath,
    tracking: str | None,
    address: str | None,
    as_json: bool,
    **execution: Any,
) -> None:
    """Search the peak learning rate, and with --search-batch the batch, of each size of SWEEP by held-out loss.

    Each size tries --lr-steps learning rates around its recipe's own. All are trained on the smallest budget, the
    better third on three times as much, and so on to the sweep's largest (asynchronous successive halving, Li et al.
    2020), which takes about a third of the tokens of a grid. Every budget is a whole run with its own decay, so losses
    of a budget compare; under the schedule wsd a longer run goes on from the trunk of the shorter one.

    The winners go to sweeps/SWEEP/tuned.json in the storage, with a table of all trials and a plot. A sweep takes them
    by its recipe:

    \b
      from ladder.sweeps.tuned import tuned
      SWEEP = Sweep(..., recipe=tuned("demo", small_recipe))

    Sizes that were not searched get the power law through the winners. Where the best learning rate is the lowest or
    the highest tried, widen the search: what is trained is not trained again. Ctrl-C stops, the same call goes on.

    \b
    Examples:
      ladder tune demo
      ladder tune demo --lr-steps 11 --json
      ladder tune gpt2 --budget-tokens 500000000 --search-batch --address auto \\
          --storage s3://bucket/ladder --tracking http://mlflow:5000
      ladder fit storage/sweeps/demo/trials.csv --search lr --where rung=1 \\
          --score loss --params params_non_embedding --law power-rule
    """
    from ladder.platform.tracking.database import tracking_uri
    from ladder.platform.tuning.search import tune

    bounds = {"lr_steps": lr_steps, "lr_factor": lr_factor, "rungs": rungs, "reduction": reduction}
    space = SearchSpace(batch=search_batch, tokens=budget_tokens, **bounds)  # type: ignore[arg-type]
    chosen = begin(sweep, storage, corpus, execution, untuned=True)
    if address is None:
        warn_of_slow_precision(chosen)
    where = {"storage": storage, "tracking": tracking_uri(tracking, storage), "address": address}
    request = _make_request(chosen, space, retry_failed=retry_failed, **where)
    _tell_plan(request)
    outcome = tune(request, listener=Told(request))
    if as_json:
        echo_json(outcome.to_json())
        return
    screen = console()
    screen.print(trials_table(outcome))
    _tell(screen, request, outcome)


def _make_request(chosen: Chosen, space: SearchSpace, **how: Any) -> "SearchRequest":
    """The search of a sweep's sizes; `how` are the other fields of the request."""
    from ladder.platform.tuning.search import SearchRequest

    corpus = chosen.corpus
    assert corpus is not None, "only a dry run goes without a corpus"
    facts = CorpusFacts(name=corpus.name, vocabulary=corpus.vocabulary, fingerprint=corpus.fingerprint)
    searches = plan_search(chosen.sweep, facts, space, precision=chosen.precision)
    return SearchRequest(sweep=chosen.sweep, searches=searches, space=space, corpus=corpus, **how)


class Told:
    """Says on standard error how each run of a search ended."""

    def __init__(self, request: "SearchRequest") -> None:
        self.request, self.started = request, time.perf_counter()

    def __call__(self, place: "Place", result: "RunResult") -> None:
        run = self.request.searches[place.search].trials[place.trial].runs[place.rung]
        recipe = run.recipe
        ended = f"held-out loss {result.loss:.4f}" if result.reason is None else f"failed: {result.reason}"
        click.echo(
            f"[{time.perf_counter() - self.started:5.0f} s] {run.size.name} lr {recipe.lr_peak:.3g}, batch "
            f"{recipe.batch_tokens:,}, {recipe.tokens:,} tokens: {ended}",
            err=True,
        )


def trials_table(outcome: "SearchOutcome") -> "Table":
    """Sizes and learning rates by budget, the held-out loss in the cells, the winner's starred."""
    from rich.table import Table

    rungs = range(1, outcome.space.rungs + 1)
    table = Table(title="Held-out loss, nats per token", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("size", "lr", "batch", *(f"budget {rung}" for rung in rungs)):
        table.add_column(name, justify="left" if name == "size" else "right", no_wrap=True)
    winners = {winner.run for winner in outcome.found.winners}
    trials: dict[tuple[str, float, int], dict[int, Row]] = {}
    for row in outcome.rows:
        trials.setdefault((row.size, row.lr, row.batch_tokens), {})[row.rung] = row
    for (size, lr, batch), rows in trials.items():
        cells = [_cell(rows[rung], winners) if rung in rows else "" for rung in rungs]
        table.add_row(size, f"{lr:.3g}", f"{batch:,}", *cells)
    return table


def _cell(row: "Row", winners: set[str]) -> str:
    if row.loss is None:
        return "failed"
    return f"{row.loss:.4f}" + (" *" if row.run in winners else "")


def _tell_plan(request: "SearchRequest") -> None:
    for search in request.searches:
        runs = search.trials[0].runs
        rates = [trial.lr_peak for trial in search.trials]
        budgets = ", ".join(f"{run.recipe.tokens:,}" for run in runs)
        steps = ", ".join(f"{run.recipe.steps:,}" for run in runs)
        click.echo(
            f"{search.size.name}: {len(search.trials)} trials, learning rates {min(rates):.3g} to {max(rates):.3g}, "
            f"budgets of {budgets} tokens ({steps} steps)",
            err=True,
        )


def _tell(screen: "Console", request: "SearchRequest", outcome: "SearchOutcome") -> None:
    from ladder.platform.tuning.found import TUNED

    for winner in outcome.found.winners:
        screen.print(
            f"{winner.size}: lr {winner.lr:.3g}, batch {winner.batch_tokens:,}, held-out loss {winner.loss:.4f}",
            highlight=False,
        )
    law = outcome.found.lr_law
    if law is not None:
        screen.print(f"Through the winners: lr = {law}, N without embeddings.", highlight=False)
    share = outcome.trained_tokens / outcome.grid_tokens
    screen.print(
        f"{outcome.trained_tokens:,} tokens trained, {share:.0%} of a grid's {outcome.grid_tokens:,}.",
        highlight=False,
    )
    for warning in outcome.warnings:
        screen.print(f"Note: {warning[0].upper()}{warning[1:]}.", highlight=False, soft_wrap=True)
    name = request.sweep.name
    folder = request.storage / "sweeps" / name
    screen.print(
        f'{folder / TUNED}: a sweep takes it with recipe=tuned("{name}", ...)', highlight=False, soft_wrap=True
    )
    screen.print(f"{folder / 'tuned.png'}: loss over learning rate", highlight=False, soft_wrap=True)
