"""How long fits take, beside a loop of scipy calls on the same points: `make bench-fit`.

The points are 245 runs of a planted Hoffmann law with 0.5 % noise, and there are 4,500 starts: as many as Besiroglu et
al. 2024 have. scipy gets the same objective with the same analytic gradient, one L-BFGS-B call per start and per
resample; some calls are run and their time multiplied, since all of them would take minutes. Last comes a table of
100,000 runs with 1,000 refits, as `ladder fit` fits it, which says how far it is; it is to take less than a minute on
two cores.
"""

import time
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from ladder.analysis.fitting.fits import FitOptions, fit_law
from ladder.analysis.fitting.forms import Form
from ladder.analysis.fitting.formulation import make_form
from ladder.analysis.fitting.points import Points, draw_points, find_groups, make_points
from ladder.analysis.fitting.solver import Objective, Sample, refit, solve
from ladder.analysis.laws.law import Floats
from ladder.analysis.laws.surfaces import Hoffmann

LAW = Hoffmann(E=1.82, A=480.0, B=2090.0, alpha=0.348, beta=0.366)
STARTS, REFITS = 4500, 4000
SCIPY_CALLS = 40
"""Calls of the loop that are timed."""
ROWS, ROW_REFITS = 100_000, 1000
"""Runs of a large table, and its refits."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one task, ours and the loop's, and how many of the loop's calls reached our objective."""

    task: str
    ours: float
    processor: float
    """Ours over all threads, which other processes' load changes less."""
    loop: float
    reached: float


def planted_points(count: int = 245) -> Points:
    """Runs over three decades of N and D."""
    generator = np.random.default_rng(0)
    N, D = 10 ** generator.uniform(7, 10, count), 10 ** generator.uniform(8.5, 11.5, count)
    return make_points(LAW.score(N=N, D=D) * np.exp(0.005 * generator.standard_normal(count)), params=N, tokens=D)


def loop_once(form: Form, objective: Objective, start: Floats, weights: Floats) -> float:
    """The objective where scipy's L-BFGS-B ends."""
    rho = objective.stages()[-1]

    def value_and_gradient(theta: Floats) -> tuple[float, Floats]:
        state = form.evaluate(theta[None])
        residuals = form.target - state.prediction[0]
        gradient = -form.jacobian(theta[None], state)[0] @ (weights * rho.slope(residuals))
        return float((weights * rho.value(residuals)).sum()), gradient

    bounds = list(zip(form.lower, form.upper, strict=True))
    return float(minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds).fun)


def measure(points: Points, objective: Objective) -> list[Timing]:
    """Times of the fit from many starts and of the refits."""
    form = make_form(Hoffmann, points, FitOptions())
    starts = form.starts(np.random.default_rng(0), STARTS)
    begun, busy = time.perf_counter(), time.process_time()
    solutions = solve(form, objective, starts)
    fitted, fitted_busy = time.perf_counter() - begun, time.process_time() - busy
    best = int(np.argmin(solutions.objective))
    weights = draw_points(find_groups(points), REFITS, np.random.default_rng(1), len(Hoffmann.fitted))
    begun, busy = time.perf_counter(), time.process_time()
    sample = Sample(weights=weights, targets=np.broadcast_to(form.target, weights.shape))
    refits = refit(form, objective, solutions.theta[best], sample)
    refitted, refitted_busy = time.perf_counter() - begun, time.process_time() - busy
    own = sample.objective(objective.stages()[-1], form.evaluate(refits))
    begun = time.perf_counter()
    ends = [loop_once(form, objective, start, np.ones(len(points))) for start in starts[:SCIPY_CALLS]]
    from_starts = (time.perf_counter() - begun) / SCIPY_CALLS * STARTS
    begun = time.perf_counter()
    again = [loop_once(form, objective, solutions.theta[best], row) for row in weights[:SCIPY_CALLS]]
    from_best = (time.perf_counter() - begun) / SCIPY_CALLS * REFITS
    arrived = np.mean(np.array(ends) <= solutions.objective[best] * (1 + 1e-6))
    rearrived = np.mean(np.array(again) <= own[:SCIPY_CALLS] * (1 + 1e-6))
    return [
        Timing(
            task=f"fit from {STARTS} starts",
            ours=fitted,
            processor=fitted_busy,
            loop=from_starts,
            reached=float(arrived),
        ),
        Timing(
            task=f"{REFITS} refits", ours=refitted, processor=refitted_busy, loop=from_best, reached=float(rearrived)
        ),
    ]


def main() -> None:
    """Prints the table."""
    print(f"{'task':22} {'ours, s':>8} {'processor, s':>13} {'scipy loop, s':>14} {'ratio':>7}  loop at the optimum")
    for timing in measure(planted_points(), Objective()):
        ratio = timing.loop / timing.ours
        ours = f"{timing.task:22} {timing.ours:8.2f} {timing.processor:13.2f}"
        print(f"{ours} {timing.loop:14.1f} {ratio:7.0f}  {timing.reached:.0%}")
    points, begun = planted_points(ROWS), time.perf_counter()

    def tell(done: int, count: int) -> None:
        print(f"{done:6} of {count} refits of {ROWS:,} rows after {time.perf_counter() - begun:5.1f} s", flush=True)

    fit = fit_law("hoffmann", points, FitOptions(bootstrap=ROW_REFITS, progress=tell))
    seconds = time.perf_counter() - begun
    print(f"{ROWS:,} rows with {ROW_REFITS:,} refits: {seconds:.1f} s, alpha {fit.intervals['alpha'].as_list()}")


if __name__ == "__main__":
    main()
