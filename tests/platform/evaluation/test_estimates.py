"""Standard errors against formulas known from elsewhere and against simulation."""

import math

import numpy as np
import pytest

from ladder.platform.evaluation.estimates import estimate_mean, estimate_ratio
from ladder.platform.evaluation.measurement import Measurement


def test_a_share_has_the_binomial_standard_error() -> None:
    share = estimate_mean([1, 0, 0, 1, 0, 0, 0, 0])
    assert share.value == 0.25
    assert share.standard_error == pytest.approx(math.sqrt(0.25 * 0.75 / 7))


def test_one_item_has_no_standard_error() -> None:
    assert estimate_ratio([3.0], [2.0]).standard_error is None
    assert estimate_ratio([3.0], [2.0]).exponential().standard_error is None


def test_standard_errors_of_ratio_and_perplexity_are_those_of_repeated_sampling() -> None:
    draw = np.random.default_rng(0)
    ratios, perplexities, errors = [], [], []
    for _ in range(800):
        words = draw.integers(5, 50, size=60)
        nats = words * draw.normal(3.0, 0.4, size=60)
        estimate = estimate_ratio(nats, words)
        ratios.append(estimate.value)
        perplexities.append(estimate.exponential().value)
        errors.append((estimate.standard_error, estimate.exponential().standard_error))
    # The spread of 800 draws is itself known to 2.5 %; three times that and a little for the small sample's bias.
    assert np.mean([error for error, _ in errors]) == pytest.approx(np.std(ratios), rel=0.1)
    assert np.mean([error for _, error in errors]) == pytest.approx(np.std(perplexities), rel=0.1)


def test_a_measurement_survives_json_and_keys_of_later_versions() -> None:
    measurement = Measurement(
        benchmark="lambada", protocol="p", metric="accuracy", value=0.5, unit="share", direction="higher", count=4
    )
    assert measurement.name == "lambada/accuracy"
    assert measurement.standard_error is None
    assert Measurement.from_json({**measurement.to_json(), "later": 1}) == measurement
