"""GLUE's metrics, each with its standard error over items, from scikit-learn and SciPy.

The standard error is the jackknife's (Efron and Tibshirani 1993, section 11.5): the metric is computed without each
item in turn. Of labels and predictions that are classes only as many of these differ as there are pairs of them.

A constant prediction has no correlation with anything: the coefficients are then 0, and it is said that the run has
collapsed, so that neither a mean over seeds breaks nor the run goes missing.
"""

from collections.abc import Callable

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
    return METRICS[metric](np.asarray(labels, np.float64), np.asarray(predictions, np.float64))


def is_constant(values: Numbers) -> bool:
    """Whether all are the same."""
    return bool((values == values[0]).all())


def _of_classes(score: Callable[..., float]) -> Callable[[Numbers, Numbers], Estimate]:
    """A metric of classes that depends on how often each pair of label and prediction occurs."""

    def estimate_classes(labels: Numbers, predictions: Numbers) -> Estimate:
        pairs, counts = np.unique(np.stack([labels, predictions]).astype(np.int64), axis=1, return_counts=True)
        value = float(score(*pairs, sample_weight=counts))
        n = int(counts.sum())
        if n < 2:
            return Estimate(value=value, standard_error=None)
        without = [float(score(*pairs, sample_weight=counts - one)) for one in np.eye(len(counts), dtype=int)]
        return Estimate(value=value, standard_error=_jackknife(np.repeat(without, counts)))

    return estimate_classes


def _jackknife(without: Numbers) -> float:
    """Standard error from the values without each of n items."""
    n = len(without)
    return float(np.sqrt((n - 1) / n * np.square(without - without.mean()).sum()))


def _pearson(labels: Numbers, predictions: Numbers) -> Estimate:
    if len(labels) < 3 or is_constant(labels) or is_constant(predictions):
        return Estimate(value=0.0, standard_error=None if len(labels) < 3 else 0.0)
    value = float(stats.pearsonr(labels, predictions).statistic)
    n = len(labels)
    x, y = labels - labels.mean(), predictions - predictions.mean()
    factor = n / (n - 1)  # of what one item adds to a sum of squares around the mean
    xx, yy, xy = ((a * b).sum() - factor * a * b for a, b in ((x, x), (y, y), (x, y)))
    return Estimate(value=value, standard_error=_jackknife(_ratios(xy, xx, yy)))


def _spearman(labels: Numbers, predictions: Numbers) -> Estimate:
    if len(labels) < 3 or is_constant(labels) or is_constant(predictions):
        return Estimate(value=0.0, standard_error=None if len(labels) < 3 else 0.0)
    value = float(stats.spearmanr(labels, predictions).statistic)
    without = []
    for first in range(0, len(labels), ROWS_AT_ONCE):
        rows = np.arange(first, min(first + ROWS_AT_ONCE, len(labels)))
        x, y = _centred_ranks_without(labels, rows), _centred_ranks_without(predictions, rows)
        without.append(_ratios((x * y).sum(1), (x * x).sum(1), (y * y).sum(1)))
    return Estimate(value=value, standard_error=_jackknife(np.concatenate(without)))


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


METRICS: dict[str, Callable[[Numbers, Numbers], Estimate]] = {
    "accuracy": _of_classes(accuracy_score),
    "mcc": _of_classes(matthews_corrcoef),
    "f1": _of_classes(_f1),
    "pearson": _pearson,
    "spearman": _spearman,
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
