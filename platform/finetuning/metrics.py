"""GLUE's metrics, each with its standard error over items, from scikit-learn and SciPy.

The standard error is the jackknife's (Efron and Tibshirani 1993, section 11.5): the metric is computed without each
item in turn. Of labels and predictions that are classes only as many of these differ as there are pairs of them.

A constant prediction has no correlation with anything: the coefficients are then 0, and it is said that the run has
collapsed, so that neither a mean over seeds breaks nor the run goes missing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from ladder.platform.evaluation.estimates import Estimate

Numbers = npt.NDArray[np.float64]

ROWS_AT_ONCE = 256
"""Items left out at one time where each costs a pass over all the others."""


def estimate(metric: str, labels: Numbers, predictions: Numbers) -> Estimate:
    """A metric of METRICS over n items with its standard error; of one item there is none."""
    labels, predictions = np.asarray(labels, np.float64), np.asarray(predictions, np.float64)
    value = METRICS[metric].value(labels, predictions)
    without = leave_one_out(metric, labels, predictions)
    return Estimate(value=value, standard_error=None if without is None else jackknife_error(without))


def leave_one_out(metric: str, labels: Numbers, predictions: Numbers) -> Numbers | None:
    """[n] the metric without each of n items; None where the others are too few for it."""
    if len(labels) < METRICS[metric].least:
        return None
    return METRICS[metric].without(np.asarray(labels, np.float64), np.asarray(predictions, np.float64))


def mean_without(values: Numbers) -> Numbers:
    """[n] the mean without each of n values, two or more."""
    return np.asarray((values.sum() - values) / (len(values) - 1))


def jackknife_error(without: Numbers) -> float:
    """Standard error from the values without each of n items.

    Of a difference of two metrics over the same items it is that of the differences without each: then it is paired.
    """
    n = len(without)
    return float(np.sqrt((n - 1) / n * np.square(without - without.mean()).sum()))


def is_constant(values: Numbers) -> bool:
    """Whether all are the same."""
    return bool((values == values[0]).all())


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number over labels and predictions."""

    value: Callable[[Numbers, Numbers], float]
    """The number."""
    without: Callable[[Numbers, Numbers], Numbers]
    """[n] the number without each item."""
    least: int
    """Items of which it has a standard error."""


def _of_classes(score: Callable[..., float]) -> Metric:
    """A metric of classes that depends on how often each pair of label and prediction occurs."""

    def count(labels: Numbers, predictions: Numbers) -> tuple[Any, Any, Any]:
        pairs = np.stack([labels, predictions]).astype(np.int64)
        kinds, which, counts = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
        return kinds, which.reshape(-1), counts

    def value(labels: Numbers, predictions: Numbers) -> float:
        pairs, _, counts = count(labels, predictions)
        return float(score(*pairs, sample_weight=counts))

    def without(labels: Numbers, predictions: Numbers) -> Numbers:
        pairs, which, counts = count(labels, predictions)
        found = [float(score(*pairs, sample_weight=counts - one)) for one in np.eye(len(counts), dtype=int)]
        of_each: Numbers = np.array(found)[which]
        return of_each

    return Metric(value=value, without=without, least=2)


def _pearson(labels: Numbers, predictions: Numbers) -> float:
    if _has_no_correlation(labels, predictions):
        return 0.0
    return float(stats.pearsonr(labels, predictions).statistic)


def _pearson_without(labels: Numbers, predictions: Numbers) -> Numbers:
    n = len(labels)
    if _has_no_correlation(labels, predictions):
        return np.zeros(n)
    x, y = labels - labels.mean(), predictions - predictions.mean()
    factor = n / (n - 1)  # of what one item adds to a sum of squares around the mean
    xx, yy, xy = ((a * b).sum() - factor * a * b for a, b in ((x, x), (y, y), (x, y)))
    return _ratios(xy, xx, yy)


def _spearman(labels: Numbers, predictions: Numbers) -> float:
    if _has_no_correlation(labels, predictions):
        return 0.0
    return float(stats.spearmanr(labels, predictions).statistic)


def _spearman_without(labels: Numbers, predictions: Numbers) -> Numbers:
    if _has_no_correlation(labels, predictions):
        return np.zeros(len(labels))
    without = []
    for first in range(0, len(labels), ROWS_AT_ONCE):
        rows = np.arange(first, min(first + ROWS_AT_ONCE, len(labels)))
        x, y = _centred_ranks_without(labels, rows), _centred_ranks_without(predictions, rows)
        without.append(_ratios((x * y).sum(1), (x * x).sum(1), (y * y).sum(1)))
    return np.concatenate(without)


def _has_no_correlation(labels: Numbers, predictions: Numbers) -> bool:
    return len(labels) < 3 or is_constant(labels) or is_constant(predictions)


def _centred_ranks_without(values: Numbers, rows: npt.NDArray[np.int64]) -> Numbers:
    """For each of `rows` the ranks of the n - 1 other items less their mean [rows, n], 0 for itself; ties share."""
    ranks = np.asarray(stats.rankdata(values), np.float64)
    left_out = values[rows, None]
    others: Numbers = ranks - (values > left_out) - 0.5 * (values == left_out)
    others -= len(values) / 2  # the mean of the ranks 1 to n - 1
    others[np.arange(len(rows)), rows] = 0.0
    return others


def _ratios(xy: Numbers, xx: Numbers, yy: Numbers) -> Numbers:
    """Correlations from sums of products; 0 where one side is constant."""
    product = xx * yy
    positive = product > 0
    return np.where(positive, xy / np.sqrt(np.where(positive, product, 1.0)), 0.0)


def _f1(labels: Numbers, predictions: Numbers, sample_weight: Numbers) -> float:
    return float(f1_score(labels, predictions, sample_weight=sample_weight, pos_label=1, zero_division=0.0))


METRICS: dict[str, Metric] = {
    "accuracy": _of_classes(accuracy_score),
    "mcc": _of_classes(matthews_corrcoef),
    "f1": _of_classes(_f1),
    "pearson": Metric(value=_pearson, without=_pearson_without, least=3),
    "spearman": Metric(value=_spearman, without=_spearman_without, least=3),
}
"""Accuracy; Matthews' correlation coefficient; F1 of class 1; Pearson's and Spearman's correlation."""

UNITS = {
    "accuracy": "share of items",
    "mcc": "Matthews' correlation coefficient",
    "f1": "F1 of the positive class",
    "pearson": "Pearson's correlation coefficient",
    "spearman": "Spearman's rank correlation coefficient",
}
"""What each is counted in."""
