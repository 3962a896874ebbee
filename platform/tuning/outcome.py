"""What a search found, as rows, as the table of winners that a recipe rule reads, and in words."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ladder.models.errors import InputError
from ladder.platform.tuning.progress import Progress
from ladder.sweeps.search import SearchSpace
from ladder.sweeps.tuned import Edge, Found, Winner


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run of a search: a row of trials.csv, whose columns `ladder fit --search lr` reads."""

    size: str
    """Name of the shape."""
    params_non_embedding: int
    """Parameters without embeddings."""
    params_total: int
    """All parameters."""
    rung: int
    """The budget, from 1."""
    tokens: int
    """Tokens of the run."""
    lr: float
    """Peak learning rate."""
    lr_step: int
    """Steps of the search from the recipe's own learning rate."""
    batch_tokens: int
    """Batch."""
    loss: float | None
    """Held-out loss, nats per token; None where the run failed."""
    trained_tokens: int
    """Tokens that it trained itself, and not an earlier rung of its trial."""
    run: str
    """Its key."""
    reason: str | None
    """Why it failed."""


@dataclass(frozen=True, kw_only=True)
class SearchOutcome:
    """A search that has ended."""

    found: Found
    """What the recipe rule reads."""
    rows: tuple[Row, ...]
    """Every run, by size, learning rate, batch and rung."""
    space: SearchSpace
    """What was tried."""
    grid_tokens: int
    """Tokens of a grid search over the same trials: each trained to the last budget."""

    @property
    def trained_tokens(self) -> int:
        """Tokens that all the runs trained."""
        return sum(row.trained_tokens for row in self.rows)

    @property
    def warnings(self) -> list[str]:
        """What to mistrust, in words."""
        return [
            *(line for winner in self.found.winners for line in _warn_of_winner(winner, self)),
            *(f"run {row.run} failed: {row.reason}" for row in self.rows if row.loss is None),
        ]

    def to_json(self) -> dict[str, Any]:
        """The content of tuned.json."""
        law, batch_law = self.found.lr_law, self.found.batch_law
        return {
            **asdict(self.found),
            "lr_law": None if law is None else asdict(law),
            "batch_law": None if batch_law is None else asdict(batch_law),
            "space": asdict(self.space),
            "trained_tokens": self.trained_tokens,
            "grid_tokens": self.grid_tokens,
            "warnings": self.warnings,
            "trials": [asdict(row) for row in self.rows],
        }


def summarise(progress: Progress, space: SearchSpace, *, sweep: str, date: str) -> SearchOutcome:
    """What a search that has ended found; InputError where every run of a size failed."""
    run = progress.searches[0].trials[0].runs[0]
    winners = [_winner(progress, search) for search in range(len(progress.searches))]
    found = Found(
        sweep=sweep,
        corpus=run.corpus,
        corpus_fingerprint=str(run.corpus_fingerprint),
        date=date,
        searched_batch=space.batch,
        winners=tuple(sorted(winners, key=lambda winner: winner.params_non_embedding)),
    )
    trials = [trial for search in progress.searches for trial in search.trials]
    grid = sum(trial.runs[-1].recipe.tokens for trial in trials)
    return SearchOutcome(found=found, rows=tuple(_rows(progress)), space=space, grid_tokens=grid)


def _winner(progress: Progress, index: int) -> Winner:
    search, place = progress.searches[index], progress.best(index)
    if place is None:
        reasons = [result.reason for where, result in progress.results.items() if where.search == index]
        raise InputError(
            f"every run of size {search.size.name} failed, the first since {reasons[0]}. Search lower learning rates, "
            "or mend what is wrong and start again with --retry-failed."
        )
    trial, run = progress.trial_at(place), progress.run_at(place)
    lowest, highest = search.edges
    edge: Edge | None = "low" if trial.lr_step == lowest else "high" if trial.lr_step == highest else None
    return Winner(
        size=run.size.shape_name,
        params_non_embedding=run.size.params_non_embedding,
        tokens=run.recipe.tokens,
        lr=trial.lr_peak,
        batch_tokens=trial.batch_tokens,
        loss=progress.results[place].loss,
        run=run.key,
        edge=edge,
    )


def _rows(progress: Progress) -> Sequence[Row]:
    rows = []
    for place, result in progress.results.items():
        trial, run = progress.trial_at(place), progress.run_at(place)
        rows.append(
            Row(
                size=run.size.shape_name,
                params_non_embedding=run.size.params_non_embedding,
                params_total=run.size.params_total,
                rung=place.rung + 1,
                tokens=run.recipe.tokens,
                lr=trial.lr_peak,
                lr_step=trial.lr_step,
                batch_tokens=trial.batch_tokens,
                loss=result.loss if math.isfinite(result.loss) else None,
                trained_tokens=result.trained_tokens,
                run=run.key,
                reason=result.reason,
            )
        )
    return sorted(rows, key=lambda row: (row.params_non_embedding, row.size, row.batch_tokens, row.lr, row.rung))


def _warn_of_winner(winner: Winner, outcome: SearchOutcome) -> list[str]:
    lines = []
    if winner.edge is not None:
        which = "highest" if winner.edge == "high" else "lowest"
        lines.append(
            f"the best learning rate of {winner.size}, {winner.lr:.3g}, is the {which} that was tried, so the best may "
            f"lie beyond: widen the search, such as with --lr-steps {outcome.space.lr_steps + 4}; what is trained stays"
        )
    batches = {row.batch_tokens for row in outcome.rows if row.size == winner.size}
    if len(batches) > 1 and winner.batch_tokens in (min(batches), max(batches)):
        which = "largest" if winner.batch_tokens == max(batches) else "smallest"
        lines.append(
            f"the best batch of {winner.size}, {winner.batch_tokens:,} tokens, is the {which} that was tried: begin "
            "from a recipe with this batch to see beyond"
        )
    return lines
