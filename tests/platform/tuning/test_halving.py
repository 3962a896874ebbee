"""Successive halving: how many trials go on, whoever ends first, and whatever fails."""

import math
import random

import pytest

from ladder.platform.tuning.halving import Halving


def run(halving: Halving, losses: list[float], *, slots: int = 1, seed: int = 0) -> list[tuple[int, int]]:
    """All that is run, in the order in which it was begun; of those that run at one time a random one ends first."""
    order, running, random_state = [], list[tuple[int, int]](), random.Random(seed)
    while True:
        while len(running) < slots and (found := halving.next()) is not None:
            order.append(found)
            running.append(found)
        if not running:
            assert not halving.running
            return order
        trial, rung = running.pop(random_state.randrange(len(running)))
        halving.record(trial, rung, losses[trial] - 0.1 * rung)


def at(order: list[tuple[int, int]], rung: int) -> list[int]:
    return [trial for trial, where in order if where == rung]


def test_one_after_another_a_third_rounded_up_goes_on() -> None:
    halving = Halving(trials=7, rungs=3, reduction=3)
    order = run(halving, [3.0, 2.9, 3.1, 2.7, 3.3, 2.8, 9.0])
    assert at(order, 0) == list(range(7))
    assert sorted(at(order, 1)) == [1, 3, 5] and at(order, 2) == [3]
    assert halving.best == (3, 2)


@pytest.mark.parametrize("slots", [2, 3, 5, 9])
@pytest.mark.parametrize("seed", range(20))
def test_with_several_at_a_time_the_best_still_wins_and_few_more_go_on(slots: int, seed: int) -> None:
    losses = [3.0 + 0.1 * abs(step - 4) + 0.001 * step for step in range(9)]
    halving = Halving(trials=9, rungs=3, reduction=3)
    order = run(halving, losses, slots=slots, seed=seed)
    assert halving.best == (4, 2)
    assert at(order, 0) == list(range(9)), "each trial is run at the first rung, once"
    assert 3 <= len(at(order, 1)) <= 5 and 1 <= len(at(order, 2)) <= 2
    assert len(order) == len(set(order))


def test_one_rung_is_a_grid() -> None:
    halving = Halving(trials=4, rungs=1, reduction=3)
    assert run(halving, [2.0, 1.0, 3.0, 4.0]) == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert halving.best == (1, 0)


def test_a_trial_that_failed_never_goes_on() -> None:
    halving = Halving(trials=4, rungs=2, reduction=2)
    order = run(halving, [math.inf, math.nan, 3.0, math.inf])
    assert at(order, 1) == [2] and halving.best == (2, 1)


def test_there_is_no_best_where_all_failed() -> None:
    halving = Halving(trials=3, rungs=2, reduction=3)
    assert at(run(halving, [math.inf] * 3), 1) == []
    assert halving.best is None


def test_where_all_fail_at_the_last_rung_the_one_before_decides() -> None:
    halving = Halving(trials=2, rungs=2, reduction=2)
    for loss in (2.0, 1.0):
        trial, rung = halving.next() or (-1, -1)
        halving.record(trial, rung, loss)
    assert halving.next() == (1, 1)
    halving.record(1, 1, math.inf)
    assert halving.next() is None and halving.best == (1, 0)
