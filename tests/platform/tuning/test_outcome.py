"""What a search says in the end: rows, winners, warnings; and that results that are there are not asked for again."""

import math

import pytest

from ladder.models.errors import InputError
from ladder.platform.tuning.outcome import SearchOutcome, summarise
from ladder.platform.tuning.progress import Place, Progress
from ladder.platform.tuning.results import RunResult
from ladder.sweeps.expand import CorpusFacts
from ladder.sweeps.rules import small_recipe
from ladder.sweeps.search import SearchSpace, plan_search
from ladder.sweeps.words import Run, Sweep, grid

SWEEP = Sweep(
    name="mine", corpus="small", context=32, points=grid(sizes=("1x16", "1x32"), tokens=(184_320,)), recipe=small_recipe
)  # fmt: skip


def search(space: SearchSpace, best: float, *, fails: float = math.inf) -> tuple[SearchOutcome, list[Run]]:
    """A search to its end where the loss is a parabola around `best` and rates above `fails` fail."""
    asked: list[Run] = []

    def result(run: Run) -> RunResult:
        asked.append(run)
        if run.recipe.lr_peak > fails:
            return RunResult(loss=math.inf, trained_tokens=1024, reason="the loss is not finite at step 3")
        return RunResult(loss=3 + math.log(run.recipe.lr_peak / best) ** 2, trained_tokens=run.recipe.tokens)

    corpus = CorpusFacts(name="small", vocabulary=257, fingerprint="f")
    progress = Progress(plan_search(SWEEP, corpus, space, precision="fp32"), space, result)
    assert progress.next() is None, "all is there"
    return summarise(progress, space, sweep="mine", date="2026-11-21"), asked


def test_a_search_whose_results_are_there_asks_for_no_run_twice() -> None:
    outcome, asked = search(SearchSpace(), best=1e-2)
    assert len(asked) == len({run.key for run in asked}) == len(outcome.rows) == 2 * (7 + 3 + 1)


def test_the_winner_is_the_planted_rate_with_no_warning_inside_the_search() -> None:
    outcome, _ = search(SearchSpace(), best=1.1e-2)
    assert [(winner.size, winner.lr, winner.edge) for winner in outcome.found.winners] == [
        ("1x16", 1.2e-2, None),
        ("1x32", 1.2e-2, None),
    ]
    assert outcome.warnings == []
    assert outcome.grid_tokens == 14 * 184_320


@pytest.mark.parametrize(("best", "edge", "word"), [(1.0, "high", "highest"), (1e-6, "low", "lowest")])
def test_a_winner_at_the_edge_says_to_widen_the_search(best: float, edge: str, word: str) -> None:
    outcome, _ = search(SearchSpace(lr_steps=3), best=best)
    assert [winner.edge for winner in outcome.found.winners] == [edge, edge]
    assert f"is the {word} that was tried" in outcome.warnings[0] and "--lr-steps 7" in outcome.warnings[0]
    assert outcome.found.lr_law is None


def test_a_batch_at_the_edge_is_told() -> None:
    outcome, _ = search(SearchSpace(batch=True), best=1.1e-2)
    # equal losses: the first of equals wins, which has the recipe's own batch
    assert {winner.batch_tokens for winner in outcome.found.winners} == {2048} and outcome.warnings == []
    assert len({row.batch_tokens for row in outcome.rows}) == 3


def test_failed_runs_are_rows_without_a_loss_and_are_told() -> None:
    outcome, _ = search(SearchSpace(), best=1e-2, fails=2e-2)
    failed = [row for row in outcome.rows if row.loss is None]
    assert failed and {row.rung for row in failed} == {1}
    assert f"run {failed[0].run} failed: the loss is not finite at step 3" in outcome.warnings


def test_a_size_of_which_all_failed_is_refused_with_the_first_reason() -> None:
    with pytest.raises(InputError, match="every run of size 1x.. failed, the first since the loss is not finite"):
        search(SearchSpace(), best=1e-2, fails=0.0)


def test_a_run_in_progress_keeps_the_search_from_ending() -> None:
    corpus = CorpusFacts(name="small", vocabulary=257, fingerprint="f")
    space = SearchSpace(lr_steps=1, rungs=2)
    progress = Progress(plan_search(SWEEP, corpus, space, precision="fp32"), space, lambda run: None)
    first, second = progress.next(), progress.next()
    assert progress.next() is None, "the next rung waits for the first two"
    assert first == Place(search=0, trial=0, rung=0) and second == Place(search=1, trial=0, rung=0)
    progress.record(first, RunResult(loss=3.0, trained_tokens=1))
    assert progress.next() == Place(search=0, trial=0, rung=1)
