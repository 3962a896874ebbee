"""Noise of seeds, measured from repeated settings and never made up."""

import numpy as np
import polars as pl
import pytest

from ladder.analysis.planning.budget import seed_noise
from ladder.models.errors import InputError


def make_table(settings: int, seeds: int, noise: float, seed: int = 0) -> pl.DataFrame:
    """Runs of `settings` settings with `seeds` seeds each, ln loss noisy by `noise`."""
    generator = np.random.default_rng(seed)
    rows = [
        {"params_total": 1000 * (1 + i), "tokens": 10_000, "seed": s, "status": "finished", "loss": 3.0 - 0.1 * i}
        for i in range(settings)
        for s in range(seeds)
    ]
    table = pl.DataFrame(rows)
    return table.with_columns(loss=pl.col("loss") * np.exp(noise * generator.standard_normal(len(rows))))


def test_two_settings_pool_their_squares_over_runs_less_settings() -> None:
    table = make_table(2, 2, 0.0).with_columns(loss=pl.Series([2.0, 2.2, 3.0, 3.6]))
    noise = seed_noise(table.with_columns(pl.col("loss").exp()), "loss")
    assert noise is not None
    # (0.1^2 + 0.1^2 + 0.3^2 + 0.3^2) / (4 - 2)
    assert noise.standard_deviation == pytest.approx(np.sqrt(0.1))
    assert (noise.degrees_of_freedom, noise.settings, noise.runs) == (2, 2, 4)
    # chi-square quantiles of 2 degrees of freedom are -2 ln(1 - p).
    assert noise.low == pytest.approx(np.sqrt(0.2 / (-2 * np.log(0.025))))
    assert noise.high == pytest.approx(np.sqrt(0.2 / (-2 * np.log(0.975))))


def test_planted_noise_lies_in_its_interval_as_often_as_it_says() -> None:
    noises = [seed_noise(make_table(4, 3, 0.01, seed), "loss") for seed in range(400)]
    covered = [noise is not None and noise.low <= 0.01 <= noise.high for noise in noises]
    # 95 % of 400 has a standard error of 1.1 %.
    assert 0.92 <= np.mean(covered) <= 0.98


def test_one_seed_a_setting_is_unknown_and_not_zero() -> None:
    assert seed_noise(make_table(6, 1, 0.01), "loss") is None


def test_only_finished_runs_with_the_score_count() -> None:
    table = make_table(1, 4, 0.01).with_columns(
        status=pl.Series(["finished", "finished", "failed", "finished"]), loss=pl.Series([2.0, 2.1, 9.9, None])
    )
    noise = seed_noise(table, "loss")
    assert noise is not None and noise.runs == 2
    assert noise.standard_deviation == pytest.approx(np.log(2.1 / 2.0) / np.sqrt(2))


def test_runs_that_share_a_seed_too_differ_in_something_else_and_are_left_out() -> None:
    table = make_table(1, 3, 0.01).with_columns(seed=pl.Series([0, 0, 1]))
    assert seed_noise(table, "loss") is None


def test_a_table_without_seeds_is_refused_by_the_name_of_the_column() -> None:
    with pytest.raises(InputError, match="lacks seed"):
        seed_noise(make_table(2, 2, 0.01).drop("seed"), "loss")


def test_a_loss_of_zero_has_no_logarithm() -> None:
    with pytest.raises(InputError, match="0 or less"):
        seed_noise(make_table(1, 2, 0.0).with_columns(loss=pl.Series([0.0, 1.0])), "loss")
