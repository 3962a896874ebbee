"""What to train next: the compute-optimal runs at larger budgets, with what the bootstrap says of each."""

from dataclasses import dataclass

import numpy as np

from ladder.analysis.fitting.fits import Fit
from ladder.analysis.fitting.health import Status
from ladder.analysis.fitting.intervals import UNKNOWN, Draws, Interval, known
from ladder.analysis.laws.curves import Allocation, Floats
from ladder.analysis.laws.surfaces import Surface

NEXT_COMPUTE = (1.0, 10.0, 100.0)
"""Budgets of the suggested runs, as multiples of the compute of the largest run."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NextRun:
    """The compute-optimal run at a multiple of the largest run's compute."""

    factor: float
    """The multiple."""
    allocation: Allocation
    params: Interval
    """Optimal N over the refits, parameters."""
    tokens: Interval
    """Optimal D over the refits, tokens."""
    loss: Interval
    """The curve at the allocation, nats per token."""
    new_run: Interval
    """The loss of one run there, its own noise included, nats per token."""


def suggest(fit: Fit, flops: float) -> list[NextRun]:
    """The compute-optimal runs at multiples of a compute; none unless a law with an optimum converged."""
    if not isinstance(fit.law, Surface) or fit.status is not Status.CONVERGED or not flops > 0:
        return []
    return [next_run(fit, fit.law, flops * factor, factor) for factor in NEXT_COMPUTE]


def next_run(fit: Fit, law: Surface, flops: float, factor: float) -> NextRun:
    """The optimum at a budget with its intervals."""
    best = law.optimum(flops)
    params = UNKNOWN if fit.draws is None else percentiles(draw_optima(fit, fit.draws, flops), fit.draws)
    inputs = {"N": np.array([best.params]), "D": np.array([best.tokens])}
    product = best.params * best.tokens
    ends = (params.high, params.low)  # the larger the best size, the fewer its tokens
    tokens = [None if end is None or end == 0 else product / end for end in ends]
    return NextRun(
        factor=factor,
        allocation=best,
        params=params,
        tokens=Interval(low=tokens[0], high=tokens[1]),
        loss=first_of(fit.band(inputs)),
        new_run=first_of(fit.band(inputs, new_run=True)),
    )


def draw_optima(fit: Fit, draws: Draws, flops: float) -> Floats:
    """The best N at a budget under every refit [R]; nan where a refit has no optimum (an exponent of 0)."""
    law = type(fit.law)
    assert issubclass(law, Surface)
    constants = {name: float(value[0]) for name, value in fit.law.constants.items()}
    optima = np.full(len(next(iter(draws.values.values()))), np.nan)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for index, values in enumerate(zip(*draws.values.values(), strict=True)):
            # numpy's numbers overflow to infinity, where Python's raise.
            drawn = law(**dict(zip(draws.values, values, strict=True)), **constants)
            if drawn.decay > 0:
                optima[index] = drawn.optimum(flops).params
    return optima


def percentiles(values: Floats, draws: Draws) -> Interval:
    """The interval of drawn values; an end among values that are not finite is unknown."""
    if not np.isfinite(values).all():
        return UNKNOWN
    low, high = np.quantile(values, [draws.tail, 1 - draws.tail])
    return Interval(low=known(low), high=known(high))


def first_of(band: tuple[Floats, Floats] | None) -> Interval:
    """A band at one place as an interval."""
    return UNKNOWN if band is None else Interval(low=known(band[0][0]), high=known(band[1][0]))
