"""What a design can resolve, before it is paid for.

The runs of a sweep are put under a reference law L(N, D) and a run-to-run noise of the loss; the covariance that a
least-squares fit of log loss would have follows from the law's gradients at the runs. It is the expected answer, not a
simulation of fits, and says at once where a grid cannot tell the exponents apart.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ladder.analysis.laws import Hoffmann
from ladder.analysis.points import design_problem, make_points

REFERENCE = Hoffmann(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
"""Besiroglu et al. 2024, table 1: the refit of Hoffmann et al. 2022's own points."""

SEED_NOISE = 0.005
"""Standard deviation of ln loss between runs that differ in the seed alone; an assumption until seeds are repeated."""

PARAMETERS = ("ln E", "ln A", "ln B", "alpha", "beta")


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What a fit of the reference law to the planned runs could say."""

    law: str
    """Name of the reference law."""
    noise: float
    """Standard deviation of ln loss between runs, assumed."""
    runs: int
    """Planned runs."""
    sizes: int
    """Different sizes among them."""
    budgets: int
    """Different numbers of tokens among them."""
    ratios: tuple[float, float]
    """Least and largest tokens per parameter."""
    status: str
    """identifiable, or not identifiable."""
    half_widths: dict[str, float]
    """Half of the 95 % t interval of each parameter; empty where the law is not identifiable or no run is spare."""
    problem: str | None
    """Why the law cannot be told from these runs, and what to add; None where it can."""

    def to_json(self) -> dict[str, Any]:
        """JSON's own types."""
        return asdict(self)


def resolve(
    params: ArrayLike, tokens: ArrayLike, *, law: Hoffmann = REFERENCE, noise: float = SEED_NOISE
) -> Resolution:
    """The resolution of runs with N = params and D = tokens, arrays of one length."""
    N, D = np.asarray(params, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    assert N.shape == D.shape and N.ndim == 1, "one N and one D for each run"
    problem = design_problem(Hoffmann, make_points(law.score(N=N, D=D), params=N, tokens=D))
    widths = {} if problem else _half_widths(law, N, D, noise)
    return Resolution(
        law=law.name,
        noise=noise,
        runs=len(N),
        sizes=len(np.unique(N)),
        budgets=len(np.unique(D)),
        ratios=(float((D / N).min()), float((D / N).max())),
        status="not identifiable" if problem else "identifiable",
        half_widths=widths,
        problem=problem,
    )


def log_gradients(law: Hoffmann, N: NDArray[np.float64], D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gradient of ln L in (ln E, ln A, ln B, alpha, beta) at each run, [runs, 5]."""
    size_term, data_term = law.A * N**-law.alpha, law.B * D**-law.beta
    loss = law.E + size_term + data_term
    columns = [np.full_like(N, law.E), size_term, data_term, -size_term * np.log(N), -data_term * np.log(D)]
    return np.stack(columns, axis=1) / loss[:, None]


def _half_widths(law: Hoffmann, N: NDArray[np.float64], D: NDArray[np.float64], noise: float) -> dict[str, float]:
    """Half widths of the 95 % t intervals; none where no run is left over to judge the noise by."""
    freedom = len(N) - len(PARAMETERS)
    if freedom < 1:
        return {}
    gradients = log_gradients(law, N, D)
    normal = gradients.T @ gradients
    spread = noise * np.sqrt(np.diag(np.linalg.inv(normal)))
    quantile = float(stats.t.ppf(0.975, freedom))
    return {name: quantile * float(s) for name, s in zip(PARAMETERS, spread, strict=True)}
