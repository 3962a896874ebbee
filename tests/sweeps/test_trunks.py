"""Which runs share the beginning of their training, and which of them waits for which."""

from dataclasses import replace
from typing import Any

import pytest

from ladder.models.sizes import parse_size
from ladder.sweeps.trunks import find_relatives, planned_shared_steps, stable_steps, waits
from ladder.sweeps.words import Recipe, Run


def make_run(budget: int, *, size: str = "1x32", **recipe: Any) -> Run:
    """A run of `budget` steps, the last fifth of them the decay."""
    decay = budget // 5 * 64
    recipe = {"schedule": "wsd", "decay_tokens": decay, "warmup_tokens": 128, "lr_peak": 1e-3, **recipe}
    return Run(
        size=parse_size(size, context=32, vocabulary=257),
        recipe=Recipe(tokens=budget * 64, batch_tokens=64, precision="fp32", **recipe),
        corpus="small",
        corpus_fingerprint="f",
    )


SHORT, MIDDLE, LONG = make_run(10), make_run(20), make_run(40)


def test_budgets_of_one_size_share_all_up_to_the_decay_of_the_shorter() -> None:
    relatives = find_relatives([SHORT, MIDDLE, LONG])
    assert stable_steps(LONG.recipe) == 32
    assert {(r.run, r.shared_steps, r.ahead) for r in relatives[MIDDLE.key]} == {
        (SHORT.key, 8, False),
        (LONG.key, 16, True),
    }
    assert planned_shared_steps([SHORT, MIDDLE, LONG]) == {SHORT.key: 8, MIDDLE.key: 16, LONG.key: 0}


@pytest.mark.parametrize(
    "other",
    [
        make_run(40, seed=1),
        make_run(40, size="2x32"),
        make_run(40, lr_peak=2e-3),
        make_run(40, warmup_tokens=256),
        make_run(40, schedule="cosine", decay_tokens=0),
        replace(LONG, corpus_fingerprint="g"),
    ],
)
def test_runs_that_differ_before_the_decay_share_nothing(other: Run) -> None:
    assert find_relatives([SHORT, other]) == {}


def test_what_acts_in_the_decay_alone_does_not_part_runs() -> None:
    other = make_run(10, lr_final_fraction=0.0)
    relatives = find_relatives([SHORT, other])
    assert [r.shared_steps for r in relatives[SHORT.key]] == [8] and len(relatives) == 2
    assert sum(r.ahead for rs in relatives.values() for r in rs) == 1, "one of the two goes first"


@pytest.mark.parametrize(
    ("standing", "waiting"),
    [
        ({}, True),
        ({LONG.key: (12, False)}, True),
        ({LONG.key: (16, False)}, False),
        ({LONG.key: (30, False)}, False),
        ({LONG.key: (0, True)}, False),
        ({LONG.key: (8, True)}, False),
        ({SHORT.key: (8, True)}, True),
    ],
)
def test_a_run_waits_until_the_trunk_is_at_its_branch_or_has_ended(
    standing: dict[str, tuple[int, bool]], waiting: bool
) -> None:
    relatives = find_relatives([SHORT, MIDDLE, LONG])
    assert waits(relatives[MIDDLE.key], lambda key: standing.get(key, (0, False))) is waiting


def test_the_trunk_waits_for_nobody_and_neither_does_a_run_of_its_own() -> None:
    relatives = find_relatives([SHORT, MIDDLE, LONG])
    assert not waits(relatives[LONG.key], lambda key: (0, False))
    assert not waits((), lambda key: (0, False))


def test_after_the_trunk_failed_the_next_longest_is_the_trunk() -> None:
    relatives = find_relatives([SHORT, MIDDLE, LONG])
    standing = {LONG.key: (0, True)}
    assert not waits(relatives[MIDDLE.key], lambda key: standing.get(key, (0, False)))
    assert waits(relatives[SHORT.key], lambda key: standing.get(key, (0, False)))
