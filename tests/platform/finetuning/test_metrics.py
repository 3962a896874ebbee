"""Metrics equal those of scikit-learn and SciPy, and their standard errors cover."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from ladder.platform.finetuning.metrics import estimate

CLASSES = {
    "accuracy": sklearn_metrics.accuracy_score,
    "mcc": sklearn_metrics.matthews_corrcoef,
    "f1": sklearn_metrics.f1_score,
}
NUMBERS = {
    "pearson": lambda x, y: stats.pearsonr(x, y).statistic,
    "spearman": lambda x, y: stats.spearmanr(x, y).statistic,
}


def classes(draw: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    labels = (draw.random(n) < 0.6).astype(float)
    return labels, np.where(draw.random(n) < 0.75, labels, draw.integers(0, 2, n).astype(float))


def numbers(draw: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.round(5 * draw.random(n), 1)  # with ties
    return labels, labels + draw.normal(0, 1.5, n)


@pytest.mark.parametrize("seed", range(5))
def test_values_are_those_of_the_libraries(seed: int) -> None:
    draw = np.random.default_rng(seed)
    for metric, wanted in CLASSES.items():
        labels, predictions = classes(draw, 200)
        assert estimate(metric, labels, predictions).value == pytest.approx(wanted(labels, predictions), abs=1e-12)
    for metric, wanted in NUMBERS.items():
        labels, predictions = numbers(draw, 200)
        assert estimate(metric, labels, predictions).value == pytest.approx(wanted(labels, predictions), abs=1e-12)


@pytest.mark.parametrize("metric", [*CLASSES, *NUMBERS])
def test_the_jackknife_is_what_it_is_without_each_item_in_turn(metric: str) -> None:
    draw = np.random.default_rng(3)
    labels, predictions = (classes if metric in CLASSES else numbers)(draw, 40)
    score = (CLASSES | NUMBERS)[metric]
    without = np.array([score(np.delete(labels, i), np.delete(predictions, i)) for i in range(40)])
    wanted = np.sqrt(39 / 40 * np.square(without - without.mean()).sum())
    assert estimate(metric, labels, predictions).standard_error == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("metric", [*CLASSES, *NUMBERS])
def test_standard_errors_cover(metric: str) -> None:
    """Over 150 samples of 150 items, 95 % intervals hold the value of a large sample; 4 binomial errors of room."""
    draw = np.random.default_rng(4)
    make = classes if metric in CLASSES else numbers
    truth = estimate_value(metric, *make(np.random.default_rng(5), 400_000))
    covered = 0
    for _ in range(150):
        found = estimate(metric, *make(draw, 150))
        assert found.standard_error is not None
        covered += abs(found.value - truth) <= 1.96 * found.standard_error
    assert 0.95 - 4 * (0.95 * 0.05 / 150) ** 0.5 <= covered / 150 < 1


def estimate_value(metric: str, labels: np.ndarray, predictions: np.ndarray) -> float:
    return float((CLASSES | NUMBERS)[metric](labels, predictions))


@pytest.mark.parametrize("metric", ["mcc", "pearson", "spearman"])
def test_a_constant_prediction_is_zero_and_no_nan(metric: str) -> None:
    labels = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    found = estimate(metric, labels, np.ones(5))
    assert found.value == 0.0 and found.standard_error == 0.0


def test_all_positive_answers_have_the_f1_that_the_share_of_positives_gives() -> None:
    labels = np.array([1.0] * 279 + [0.0] * 129)  # MRPC's dev split
    assert estimate("f1", labels, np.ones(408)).value == pytest.approx(2 * 279 / (279 + 408))
