"""What a search tries: learning rates around the recipe's, whole runs at each budget, trunks shared."""

from dataclasses import replace

import pytest

from ladder.models.errors import InputError
from ladder.models.sizes import Size
from ladder.sweeps.expand import CorpusFacts
from ladder.sweeps.rules import small_recipe
from ladder.sweeps.search import SearchSpace, SizeSearch, plan_search, with_batch
from ladder.sweeps.trunks import find_relatives
from ladder.sweeps.words import Recipe, Sweep, grid

CORPUS = CorpusFacts(name="small", vocabulary=257, fingerprint="f")


def make_sweep(**changes: object) -> Sweep:
    made = Sweep(
        name="mine",
        corpus="small",
        context=32,
        points=grid(sizes=("1x16", "1x32"), tokens=(50_000, 1_843_200)),
        recipe=small_recipe,
    )
    return replace(made, **changes)


def plan(space: SearchSpace, **changes: object) -> tuple[SizeSearch, ...]:
    return plan_search(make_sweep(**changes), CORPUS, space, precision="fp32")


def test_learning_rates_surround_the_recipes_own_the_nearest_first() -> None:
    (wide, narrow) = plan(SearchSpace(lr_steps=5))
    assert (wide.size.name, narrow.size.name) == ("1x32", "1x16"), "the largest first"
    assert [trial.lr_peak for trial in wide.trials] == [6e-3, 1.2e-2, 3e-3, 2.4e-2, 1.5e-3]
    assert [trial.lr_step for trial in wide.trials] == [0, 1, -1, 2, -2] and wide.edges == (-2, 2)
    assert len(SearchSpace(lr_steps=4).offsets) == 4 and min(SearchSpace(lr_steps=4).offsets) == -2


def test_budgets_end_at_the_sweeps_largest_and_share_a_trunk() -> None:
    (search, _) = plan(SearchSpace())
    runs = search.trials[0].runs
    assert [run.recipe.tokens for run in runs] == [204_800, 614_400, 1_843_200]
    relatives = find_relatives(runs)
    assert all(len(relatives[run.key]) == 2 for run in runs)
    assert all(run.recipe.decay_tokens for run in runs), "each is a whole run with its own decay"


def test_the_last_budget_can_be_named_and_one_rung_is_a_grid() -> None:
    (search, _) = plan(SearchSpace(rungs=1, tokens=100_000))
    assert [[run.recipe.tokens for run in trial.runs] for trial in search.trials] == [[100_352]] * 7


def test_half_and_twice_the_batch_are_tried_in_whole_sequences() -> None:
    (search, _) = plan(SearchSpace(batch=True, lr_steps=3))
    assert [trial.batch_tokens for trial in search.trials[::3]] == [2048, 1024, 4096]
    one_sequence = plan(SearchSpace(batch=True, lr_steps=3), context=2048)[0]
    assert {trial.batch_tokens for trial in one_sequence.trials} == {2048, 4096}


def test_another_batch_keeps_whole_batches() -> None:
    recipe = with_batch(small_recipe(plan(SearchSpace())[0].size, 100_000, seed=0), 4096)
    assert recipe.batch_tokens == 4096 and recipe.tokens == 102_400
    assert recipe.warmup_tokens % 4096 == recipe.decay_tokens % 4096 == 0
    same = Recipe(tokens=8192, batch_tokens=1024, lr_peak=1e-3)
    assert with_batch(same, 1024) == same


def test_a_cosine_is_searched_in_runs_of_their_own() -> None:
    def cosine(size: Size, tokens: int, seed: int) -> Recipe:
        return replace(small_recipe(size, tokens, seed), schedule="cosine", decay_tokens=0)

    (search, _) = plan(SearchSpace(), recipe=cosine)
    assert find_relatives(search.trials[0].runs) == {}


def test_a_budget_too_small_for_its_rungs_is_refused() -> None:
    with pytest.raises(InputError, match="two rungs of size 1x.. are the same run"):
        plan(SearchSpace(tokens=4096, rungs=4))


@pytest.mark.parametrize(
    "wrong", [{"lr_steps": 0}, {"rungs": 0}, {"reduction": 1}, {"lr_factor": 1.0}, {"tokens": 0}], ids=str
)
def test_a_search_that_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))}: got"):
        SearchSpace(**wrong)  # type: ignore[arg-type]
