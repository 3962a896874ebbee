"""How far two runs differ that differ in the seed alone: measured from settings that were run with several seeds.

This is what no law can explain, so it is what a plan is simulated with and what the residuals of a fit are held
against. One seed a setting tells nothing of it: then it is unknown, which is not 0.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special, stats

from ladder.models.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SeedNoise:
    """The pooled spread of runs that repeat a size and a number of tokens with other seeds."""

    score: str
    """Which measurement."""
    logarithmic: bool
    """True where the spread is of ln score, so a share of the score; False where it is in the score's unit."""
    standard_deviation: float
    """sqrt(sum over settings of squared deviations from the setting's mean / degrees of freedom)."""
    degrees_of_freedom: int
    """Runs less settings."""
    low: float
    """Lower end of the chi-square interval of the standard deviation: normal noise, equal in all settings."""
    high: float
    """Upper end."""
    level: float
    """Confidence level of the interval."""
    settings: int
    """Settings with at least two seeds."""
    runs: int
    """Runs in them."""


def seed_noise(
    table: pl.DataFrame,
    score: str,
    *,
    params: str = "params_total",
    tokens: str = "tokens",
    seed: str = "seed",
    logarithmic: bool = True,
    level: float = 0.95,
) -> SeedNoise | None:
    """The noise among runs of equal size and tokens; None where no setting has two seeds.

    Of a table with a `status` only finished runs count. Runs of one setting that share a seed differ in something that
    the table does not say, so that setting is left out.
    """
    rows = usable_rows(table, (score, params, tokens, seed))
    if logarithmic and rows.filter(pl.col(score) <= 0).height:
        raise InputError(f"{score} is 0 or less somewhere and has no logarithm; ask for noise of the score itself")
    value = pl.col(score).log() if logarithmic else pl.col(score)
    counted = {"runs": pl.len(), "seeds": pl.col(seed).n_unique(), "squares": ((value - value.mean()) ** 2).sum()}
    settings = rows.group_by(params, tokens, maintain_order=True).agg(**counted)
    settings = settings.filter((pl.col("runs") > 1) & (pl.col("runs") == pl.col("seeds")))
    freedom = int((settings["runs"] - 1).sum())
    if freedom < 1:
        return None
    squares = float(settings["squares"].sum())
    low, high = (np.sqrt(squares / stats.chi2.ppf(0.5 + side * level / 2, freedom)) for side in (1, -1))
    return SeedNoise(
        score=score,
        logarithmic=logarithmic,
        standard_deviation=float(np.sqrt(squares / freedom)),
        degrees_of_freedom=freedom,
        low=float(low),
        high=float(high),
        level=level,
        settings=settings.height,
        runs=int(settings["runs"].sum()),
    )


def usable_rows(table: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    """Finished runs that have the first of the columns, a score; InputError where a column is not there."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(
            f"seed noise needs the columns {', '.join(columns)}, and the table lacks {', '.join(missing)}; "
            f"it has {', '.join(table.columns[:30])}"
        )
    rows = table.filter(pl.col("status") == "finished") if "status" in table.columns else table
    return rows.filter(pl.col(columns[0]).is_not_null() & pl.col(columns[0]).is_finite())


@dataclass(frozen=True, kw_only=True)
class PureError:
    """A least-squares fit's residuals split by settings that were run more than once.

    The classical test of lack of fit: what repeated runs differ by among themselves is noise; what their mean misses
    the law by, beyond that, is the law's.
    """

    within: float
    """Sum of squared deviations of runs from their setting's mean."""
    within_freedom: int
    """Runs less settings."""
    between: float
    """Sum of squares that is left."""
    between_freedom: int
    """Settings less parameters; 0 or less where the settings do not outnumber them."""
    repeats: float
    """Runs a setting, as they count for the variance of its mean."""

    @property
    def doubt(self) -> float:
        """Probability of so large a ratio of mean squares if the law held: small where it misses its settings."""
        if self.between_freedom < 1 or self.within <= 0:
            return 1.0
        ratio = self.between / self.between_freedom / (self.within / self.within_freedom)
        return float(special.fdtrc(self.between_freedom, self.within_freedom, ratio))


def split_residuals(residuals: Floats, settings: NDArray[np.int64], n_parameters: int) -> PureError | None:
    """The split of residuals [n] by setting labels [n], 0 to k - 1; None where no setting repeats."""
    counts = np.bincount(settings).astype(np.float64)  # [k]
    n, k = len(residuals), len(counts)
    if k == n:
        return None
    means = np.bincount(settings, weights=residuals) / counts
    within = float(((residuals - means[settings]) ** 2).sum())
    return PureError(
        within=within,
        within_freedom=n - k,
        between=max(0.0, float((residuals**2).sum()) - within),
        between_freedom=k - n_parameters,
        repeats=float((n - (counts**2).sum() / n) / (k - 1)) if k > 1 else float(n),
    )
