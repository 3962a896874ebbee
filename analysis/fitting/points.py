"""The points a law is fitted to: validated once, so that every fit can trust them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ladder.analysis.laws.law import FLOPS_PER_PARAMETER_TOKEN, Law, Variable
from ladder.analysis.laws.units import format_count
from ladder.models.errors import InputError

Floats = NDArray[np.float64]

DISTINCT = 0.01
"""Relative difference below which two sizes (or two token counts) are the same rung: batches round token counts."""
VALUES_OF: dict[Variable, str] = {"params": "params", "tokens": "tokens", "flops": "flops", "loss": "losses"}
"""Plurals for messages."""
ONE_RATIO = 0.05
"""Relative spread of D / N (or of D around a power of N) below which size and data were not varied apart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """Scores of runs with the quantities that laws are functions of; an absent quantity is None."""

    score: Floats
    """[n] loss in nats per token, or any other score."""
    params: Floats | None = None
    """[n] N, parameters under whichever convention the caller chose."""
    tokens: Floats | None = None
    """[n] D, tokens seen."""
    flops: Floats | None = None
    """[n] C, training FLOPs."""
    loss: Floats | None = None
    """[n] L, for scores that are functions of a loss, nats."""
    variable: Variable = "params"
    """Which quantity a law in one variable reads."""
    clusters: NDArray[np.int64] | None = None
    """[n] group of each point; the bootstrap draws whole groups (checkpoints of one run). None: each its own."""

    def __len__(self) -> int:
        return len(self.score)

    def quantity(self, variable: Variable) -> Floats:
        """One of N, D, C, L; of N, D and C two give the third by C = 6 N D."""
        given = self.quantities[variable]
        if given is not None:
            return given
        n, d, c = self.params, self.tokens, self.flops
        if variable == "params" and c is not None and d is not None:
            return c / (FLOPS_PER_PARAMETER_TOKEN * d)
        if variable == "tokens" and c is not None and n is not None:
            return c / (FLOPS_PER_PARAMETER_TOKEN * n)
        if variable == "flops" and n is not None and d is not None:
            return FLOPS_PER_PARAMETER_TOKEN * n * d
        raise InputError(f"the law needs {variable} and only {self.given() or 'none of these'} given; add the column")

    @property
    def quantities(self) -> dict[Variable, Floats | None]:
        """N, D, C, L as they were given."""
        return {"params": self.params, "tokens": self.tokens, "flops": self.flops, "loss": self.loss}

    def given(self) -> str:
        """Names of the quantities that were given."""
        return " and ".join(name for name, value in self.quantities.items() if value is not None)

    def variable_of(self, law: type[Law]) -> Variable:
        """Which quantity is the law's "x"."""
        return law.reads or self.variable

    def inputs(self, law: type[Law]) -> dict[str, Floats]:
        """What the law's formula reads, by its letters."""
        if law.inputs == ("x",):
            return {"x": self.quantity(self.variable_of(law))}
        return {"N": self.quantity("params"), "D": self.quantity("tokens")}

    def subset(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "Points":
        """Some of the points."""
        parts = {name: getattr(self, name) for name in ("params", "tokens", "flops", "loss", "clusters")}
        kept = {name: None if value is None else value[rows] for name, value in parts.items()}
        return Points(score=self.score[rows], variable=self.variable, **kept)


def make_points(
    score: ArrayLike,
    *,
    params: ArrayLike | None = None,
    tokens: ArrayLike | None = None,
    flops: ArrayLike | None = None,
    loss: ArrayLike | None = None,
    variable: Variable | None = None,
    clusters: ArrayLike | None = None,
) -> Points:
    """Points from anything array-like, checked: one length, finite numbers, positive N, D, C and L.

    `variable` defaults to the first given of params, tokens, flops, loss.
    """
    scores = as_numbers("score", score)
    given = {
        name: None if value is None else as_numbers(name, value, positive=True)
        for name, value in (("params", params), ("tokens", tokens), ("flops", flops), ("loss", loss))
    }
    for name, value in given.items():
        if value is not None and len(value) != len(scores):
            raise InputError(f"{name} has {len(value)} values and score {len(scores)}; give one of each per point")
    labels = None if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1].astype(np.int64)
    order: tuple[Variable, ...] = ("params", "tokens", "flops", "loss")
    first: Variable = next((name for name in order if given[name] is not None), "params")
    return Points(score=scores, variable=variable or first, clusters=labels, **given)


def as_numbers(name: str, values: ArrayLike, *, positive: bool = False) -> Floats:
    """A float64 vector, or an InputError that names the first bad row (counted from 1)."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} holds something that is not a number ({error}); give numbers only") from error
    if array.ndim != 1 or len(array) == 0:
        raise InputError(f"{name} has shape {array.shape}; give a list of at least one number")
    bad = ~np.isfinite(array)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{name} is {array[row]} in row {row + 1}; every value must be finite: drop or mend that row")
    bad = array <= 0
    if positive and bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{name} is {array[row]:g} in row {row + 1}; it must be above 0: drop or mend that row")
    return array


def count_distinct(values: Floats, tolerance: float = DISTINCT) -> int:
    """How many values differ by more than a tolerance: by default a rounding of the batch."""
    logs = np.sort(np.log(values))
    return 1 + int((np.diff(logs) > tolerance).sum())


def is_one_ratio(points: Points) -> bool:
    """True where every point has one and the same number of tokens per parameter."""
    ratio = np.log(points.quantity("tokens") / points.quantity("params"))
    return bool(np.ptp(ratio) < ONE_RATIO)


def design_problem(law: type[Law], points: Points) -> str | None:
    """Why no data at these N and D could determine the law, with the runs to add; None where it could.

    This judges the design alone: a law with E, alpha and beta needs three levels of N to bend a curve in N, three of D
    likewise, and D that is not itself a power of N.
    """
    if law.inputs == ("x",):
        variable, needed = points.variable_of(law), len(law.fitted)
        # A loss is measured, not chosen: the smallest difference is one.
        n_levels = count_distinct(points.quantity(variable), 0.0 if variable == "loss" else DISTINCT)
        if n_levels >= needed:
            return None
        return (
            f"{n_levels} distinct {VALUES_OF[variable]} cannot determine the {needed} parameters of {law.name}; "
            f"add runs at {needed - n_levels} more"
        )
    params, tokens = points.quantity("params"), points.quantity("tokens")
    needed = 3 if "E" in law.fitted and law.name != "gadre" else 2
    sizes, budgets = count_distinct(params), count_distinct(tokens)
    along = np.log(tokens) - np.log(tokens).mean()
    across = np.log(params) - np.log(params).mean()
    exponent = float(along @ across / (across @ across)) if sizes > 1 else 0.0
    curve = bool(np.max(np.abs(along - exponent * across)) < ONE_RATIO)
    if sizes > 1 and budgets > 1 and curve:
        return one_curve_reason(points, exponent)
    if sizes < needed:
        return f"{sizes} distinct sizes; {law.name} needs {needed}: add runs at {needed - sizes} more sizes"
    if budgets < needed:
        return (
            f"{budgets} distinct token counts; {law.name} needs {needed}: "
            f"add runs at {needed - budgets} more token counts"
        )
    return None


def one_curve_reason(points: Points, exponent: float) -> str:
    """Says that D follows N, and names runs that would part them."""
    params, tokens = points.quantity("params"), points.quantity("tokens")
    ratio = float(np.median(tokens / params))
    what = (
        f"every run has the same {ratio:.3g} tokens per parameter"
        if is_one_ratio(points)
        else f"the tokens of every run follow its size as N^{exponent:.2f}"
    )
    small = np.sort(params)[: max(2, len(params) // 4)]
    runs = ", ".join(
        f"N {format_count(n)} with D {format_count(d)}"
        for n in np.unique(small)
        for d in (n * ratio * 4, n * ratio * 16)
    )
    return (
        f"{what}, so that the terms in N and in D cannot be told apart (exchanging them fits as well); "
        f"add runs at other ratios, the cheapest being {runs}"
    )
