"""Intervals over seeds, over items and over both hold what they are of, and pairing makes them narrower."""

import numpy as np
import pytest

from ladder.platform.finetuning.differences import SeedScores, Uncertain, repeated
from ladder.platform.finetuning.metrics import leave_one_out, mean_without

SEEDS, ITEMS, DRAWS = 5, 60, 600
ROOM = 4 * (0.95 * 0.05 / DRAWS) ** 0.5
"""Four binomial errors of a coverage of 95 %."""


def scores(matrix: np.ndarray) -> SeedScores:
    """A mean over items [seeds, items]."""
    return SeedScores(
        values={seed: float(row.mean()) for seed, row in enumerate(matrix)},
        without={seed: mean_without(row) for seed, row in enumerate(matrix)},
    )


def drawn(draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Effects of seeds [S, 1], of items [1, n] and of both [S, n]; each has the mean 0."""
    return draw.normal(0, 0.3, (SEEDS, 1)), draw.normal(0, 1, (1, ITEMS)), draw.normal(0, 0.5, (SEEDS, ITEMS))


def t_covers(found: Uncertain, error: float | None, freedom: int, truth: float) -> bool:
    from scipy import special

    assert error is not None
    return abs(found.value - truth) <= float(special.stdtrit(freedom, 0.975)) * error


def test_errors_over_seeds_and_over_items_cover_apart_and_together() -> None:
    """Over 600 draws of five seeds and 60 items. Other seeds on these items: the error over seeds. Other items for
    these seeds: that over items. Both others: the interval."""
    draw = np.random.default_rng(0)
    held = np.zeros(3)
    for _ in range(DRAWS):
        seeds, items, both = drawn(draw)
        found = scores(seeds + items + both).mean()
        held[0] += t_covers(found, found.error_seeds, SEEDS - 1, float(items.mean()))
        held[1] += t_covers(found, found.error_items, ITEMS - 1, float(seeds.mean()))
        assert found.low is not None and found.high is not None
        held[2] += found.low <= 0 <= found.high
    coverage = held / DRAWS
    assert (coverage > 0.95 - ROOM).all() and (coverage < 0.95 + ROOM).all(), coverage


def test_paired_intervals_cover_and_are_narrower_than_unpaired() -> None:
    """Two networks share what items and seeds do and differ by .2 in the mean."""
    draw = np.random.default_rng(1)
    held, narrower = 0, []
    for _ in range(DRAWS):
        seeds, items, _ = drawn(draw)
        ours, theirs = (scores(shift + seeds + items + draw.normal(0, 0.5, (SEEDS, ITEMS))) for shift in (0.2, 0.0))
        difference = ours.less(theirs)
        assert difference is not None
        paired, alone = difference.mean(), [one.mean() for one in (ours, theirs)]
        assert paired.low is not None and paired.high is not None
        held += paired.low <= 0.2 <= paired.high
        unpaired = [np.hypot(one.error_seeds or 0, one.error_items or 0) for one in alone]
        narrower.append((paired.high - paired.low) / (2 * 1.96 * np.hypot(*unpaired)))
    assert 0.95 - ROOM < held / DRAWS < 0.95 + ROOM, held / DRAWS
    assert max(narrower) < 1 and np.median(narrower) < 0.6


@pytest.mark.parametrize("metric", ["accuracy", "mcc", "f1"])
def test_a_difference_of_any_metric_is_paired_by_item(metric: str) -> None:
    """The error of a difference is the jackknife's of the metric with and without the other, item by item."""
    draw = np.random.default_rng(2)
    labels = (draw.random(80) < 0.6).astype(float)
    ours, theirs = (np.where(draw.random(80) < 0.8, labels, 1 - labels) for _ in range(2))

    def of(answers: np.ndarray) -> SeedScores:
        return SeedScores(values={0: 0.0}, without={0: leave_one_out(metric, labels, answers)})

    difference = of(ours).less(of(theirs))
    assert difference is not None
    a, b = leave_one_out(metric, labels, ours), leave_one_out(metric, labels, theirs)
    assert a is not None and b is not None
    change = (a - b) - (a - b).mean()
    assert difference.mean().error_items == pytest.approx(np.sqrt(79 / 80 * (change**2).sum()))
    same = of(ours).less(of(ours))
    assert same is not None and same.mean().error_items == 0


def test_one_seed_has_no_interval_and_no_shared_seed_no_difference() -> None:
    one = scores(np.array([[0.0, 1.0, 1.0]]))
    found = one.mean()
    assert found.error_seeds is None and found.low is None and found.error_items is not None
    other = SeedScores(values={7: 0.5}, without={7: None})
    assert one.less(other) is None


def test_what_no_seed_changes_has_no_error_over_seeds() -> None:
    found = repeated(0.7, np.array([0.6, 0.8]), {0: 0.0, 1: 0.0}).mean()
    assert found.value == 0.7 and found.error_seeds == 0 and found.error_items == pytest.approx(0.1)
