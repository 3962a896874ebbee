"""A sweep that has not been run, fitted a thousand times: the intervals its fit would report.

Every simulation gives each run the reference law's loss times exp(noise) and is refitted by the solver that `ladder
fit` uses, with its objective. A fit does not know the noise but judges it from what residuals it has left, so the noise
of each simulation is the planned one times what chi^2 allows: percentiles over simulations then are the t-like
intervals that a fit of such runs reports, not the narrower spread of its estimates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ladder.analysis.fitting.fits import FitOptions, default_objective, make_form
from ladder.analysis.fitting.forms import Form, KaplanForm, SumOfPowers
from ladder.analysis.fitting.intervals import UNKNOWN, Draws, Interval, known
from ladder.analysis.fitting.points import make_points
from ladder.analysis.fitting.solver import Sample, refit
from ladder.analysis.laws.curves import Floats
from ladder.analysis.laws.law import FLOPS_PER_PARAMETER_TOKEN
from ladder.analysis.laws.surfaces import Surface
from ladder.analysis.planning.design import Target

SIMULATIONS = 2000
"""An end of a 95 % interval then has a standard error of about 4 % of the half width."""

BLOCK_VALUES = 2_000_000
"""Losses simulated at once, so that a sweep of tens of thousands of runs fits in memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulation:
    """What fits of a simulated sweep come to."""

    count: int
    """Simulations; 0 where no run is spare and a fit could not judge its noise."""
    draws: dict[str, Floats]
    """[count] refitted value of each parameter."""
    intervals: dict[str, Interval]
    """95 % interval of each parameter."""
    loss: Interval
    """... of the loss at the target, nats per token."""
    params: Interval
    """... of the optimal N at the target's budget."""
    a: Interval
    """... of the exponent of the optimal N in C."""
    at_bound: float
    """Share of refits that ended at a bound: where it is not small the runs do not determine every term."""


def simulate(
    law: Surface,
    params: ArrayLike,
    tokens: ArrayLike,
    *,
    noise: float,
    target: Target,
    count: int = SIMULATIONS,
    seed: int = 0,
) -> Simulation:
    """Fits of runs with N = params and D = tokens under a law and a standard deviation of ln loss."""
    N, D = np.asarray(params, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    kind = type(law)
    form = make_form(kind, make_points(law.score(N=N, D=D), params=N, tokens=D), FitOptions())
    if len(N) <= len(kind.fitted):
        unknown = dict.fromkeys(kind.fitted, UNKNOWN)
        return Simulation(count=0, draws={}, intervals=unknown, loss=UNKNOWN, params=UNKNOWN, a=UNKNOWN, at_bound=0.0)
    refits = refit_noisy(form, law, noise, count, np.random.default_rng([seed, 2]))
    bound = ((refits <= form.lower) | (refits >= form.upper)).any(axis=1)
    values = form.values(refits)
    draws = Draws(values=values | extrapolate(kind, values, target), tail=0.025, kind="noise")
    return Simulation(
        count=count,
        draws=values,
        intervals={name: draws.interval(name) for name in kind.fitted},
        loss=draws.interval("loss"),
        params=span(draws.values["params"], draws.tail),
        a=span(draws.values["a"], draws.tail),
        at_bound=float(bound.mean()),
    )


def refit_noisy(form: Form, law: Surface, noise: float, count: int, generator: np.random.Generator) -> Floats:
    """[count, P] refits of the law's own losses with new noise, of a deviation as uncertain as a fit's judgement."""
    theta, n = coordinates(form, law), len(form.target)
    block, refits = max(1, BLOCK_VALUES // n), []
    for begin in range(0, count, block):
        size = min(block, count - begin)
        sigma = noise * np.sqrt((n - len(theta)) / generator.chisquare(n - len(theta), size=(size, 1)))
        targets = form.target + sigma * generator.standard_normal((size, n))
        sample = Sample(weights=np.ones_like(targets), targets=targets)
        refits.append(refit(form, default_objective(type(law)), theta, sample))
    return np.concatenate(refits)


def extrapolate(kind: type[Surface], values: dict[str, Floats], target: Target) -> dict[str, Floats]:
    """[count] loss at the target's N and D, optimal N at its budget and its exponent in C, by name."""
    place = {"N": np.array(target.params), "D": np.array(target.tokens)}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        loss = kind.formula(place, values)
    return {"loss": loss} | optima(kind, values, target.flops)


def optima(kind: type[Surface], values: dict[str, Floats], flops: float) -> dict[str, Floats]:
    """[count] optimal N at a budget and its exponent; not finite for a draw without an optimum (an exponent of 0)."""
    laws = [kind(**dict(zip(values, drawn, strict=True))) for drawn in zip(*values.values(), strict=True)]
    # numpy's numbers overflow to infinity, where Python's raise.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        exponents = np.array([law.a for law in laws])
        scales = np.array([law.G for law in laws])
        return {"params": scales * (flops / FLOPS_PER_PARAMETER_TOKEN) ** exponents, "a": exponents}


def span(values: Floats, tail: float) -> Interval:
    """The interval of drawn optima; a draw without any (nan) counts against both ends, and an end may be unknown."""
    with np.errstate(invalid="ignore"):
        low = np.quantile(np.where(np.isnan(values), 0.0, values), tail, method="weibull")
        high = np.quantile(np.where(np.isnan(values), np.inf, values), 1 - tail, method="weibull")
    return Interval(low=known(low), high=known(high))


def coordinates(form: Form, law: Surface) -> Floats:
    """[P] the solver's coordinates of a law: the inverse of `form.values`."""
    values = law.parameters
    if isinstance(form, KaplanForm):
        alpha_n, alpha_d = values["alpha_N"], values["alpha_D"]
        c = alpha_n * (np.log(values["Nc"]) - form.centres["N"])
        d = alpha_d * (np.log(values["Dc"]) - form.centres["D"])
        return np.array([c, d, alpha_n, alpha_d])
    assert isinstance(form, SumOfPowers), "the surfaces have these two forms"
    theta = np.array([values[name] for name in form.names])
    for term in form.terms:
        shift = 0.0 if term.exponent is None else theta[term.exponent] * form.centres[term.variable]
        theta[term.amplitude] = np.log(theta[term.amplitude]) - shift
    return theta


def width(interval: Interval) -> float | None:
    """high - low; None where an end is unknown."""
    return None if interval.low is None or interval.high is None else known(interval.high - interval.low)
