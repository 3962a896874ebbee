"""What a design can resolve, before it is paid for.

The runs of a sweep are put under a reference law and a run-to-run noise of the loss. `resolve` says whether any data at
those runs could determine the law; `simulate` refits noisy copies with the solver that `ladder fit` uses. A fit does
not know the noise but judges it from its residuals, so the noise of each simulation is the planned one times what chi^2
allows: percentiles over simulations then are the t-like intervals that a fit of such runs reports, not the narrower
spread of its estimates. Runs of one trunk get a part of their noise together, and a fit judges that part by trunks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ladder.analysis.fitting.fits import FitOptions, find_optimum
from ladder.analysis.fitting.forms import Form, KaplanForm, SumOfPowers, jacobian_at
from ladder.analysis.fitting.formulation import default_objective, make_form
from ladder.analysis.fitting.health import SINGULAR, Status
from ladder.analysis.fitting.intervals import (
    LEAST_FREEDOM,
    UNKNOWN,
    Draws,
    Interval,
    Labels,
    draw_kind,
    draw_levels,
    known,
)
from ladder.analysis.fitting.points import (
    Level,
    Points,
    count_distinct,
    design_problem,
    find_groups,
    find_levels,
    find_trunks,
    make_points,
    part_of,
)
from ladder.analysis.fitting.solver import Objective, refit
from ladder.analysis.laws.law import Floats, format_count
from ladder.analysis.laws.surfaces import BESIROGLU, HOFFMANN, KAPLAN, Surface
from ladder.models.errors import InputError

SEED_NOISE = 0.005
"""Standard deviation of ln loss between runs that differ in the seed alone, until it is measured. Kaplan et al. 2020,
section 4.2, estimate a variation of 0.02 nats at losses of 2 to 4, so 0.005 to 0.01 of the loss; the points of Hoffmann
et al. 2022 scatter about their law by as much (the median absolute residual times 1.48; a test measures it). Runs of
minutes differ by far more: 0.040 (0.030 to 0.059) was measured on three sizes of the sweep `demo`, 0.04M to 0.4M
parameters, at three budgets with three seeds each."""
SEED_NOISE_SOURCE = (
    "assumed: as the points of Hoffmann et al. 2022 scatter; Kaplan et al. 2020, section 4.2, say 0.02 nats"
)

SHARED_NOISE = 0.5
"""Share of that variance which runs of one trunk have in common: what two budgets of one size miss by was correlated by
.28 to .78 in the three seeds of the sweep `demo`."""

MOST_CHECKED = 200
"""Runs up to which a design is fitted without noise; with more the rank of its gradients is enough."""
RECOVERED = 1e-3
"""Relative error of a parameter up to which a fit without noise has found the law."""
SCATTER = 0.5
"""Standard deviation, in the solver's logarithms and of the logarithm of exponents, of the points where the refits of a
simulation start: a fit does not know the truth, and from it a design that determines nothing looks sound."""
OUTSIDE = 2.0
"""How far, as a factor, a design may leave the sizes that the reference was fitted to without a word."""
TARGET_COMPUTE = 10.0
"""Compute at which a plan asks for the extrapolated loss, as a multiple of the largest run's."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The law that a plan takes for the truth."""

    law: Surface
    source: str
    """Where its constants are from."""
    sizes: tuple[float, float] | None = None
    """Least and largest N of the runs it was fitted to; None where that is not known."""
    params: Literal["params_total", "params_non_embedding"] = "params_total"
    """How it counts N."""


REFERENCES: Mapping[str, Reference] = {
    # Sizes: the points of Hoffmann et al. 2022's figure 4; of Kaplan et al. 2020, section 3.
    "besiroglu": Reference(law=BESIROGLU, source="Besiroglu et al. 2024, table 1", sizes=(5.7e7, 1.6e10)),
    "hoffmann": Reference(law=HOFFMANN, source="Hoffmann et al. 2022, approach 3", sizes=(5.7e7, 1.6e10)),
    "kaplan": Reference(
        law=KAPLAN, source="Kaplan et al. 2020, eq. 1.5", sizes=(768, 1.5e9), params="params_non_embedding"
    ),
}
"""Published laws by the name that `ladder plan --reference` knows them by."""


def leaves_reference(reference: Reference, params: Floats) -> str | None:
    """Says that a design's sizes are not those that the reference was measured on; None where they are."""
    if reference.sizes is None:
        return None
    low, high = reference.sizes
    if params.min() * OUTSIDE >= low and params.max() <= high * OUTSIDE:
        return None
    return (
        f"the truth taken here was measured on {format_count(low)} to {format_count(high)} parameters, these runs have "
        f"{format_count(float(params.min()))} to {format_count(float(params.max()))}: law and noise are stand-ins, and "
        "small models differ more from seed to seed. Once runs of this kind exist, plan with --reference SWEEP"
    )


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the law is to be extrapolated to: the reference's optimum at a budget."""

    flops: float
    """The budget C, training FLOPs."""
    params: float
    """The reference's optimal N there."""
    tokens: float
    """The reference's optimal D there."""
    loss: float
    """The reference's loss there, nats per token."""


def place_target(law: Surface, params: ArrayLike, tokens: ArrayLike, flops: float | None) -> Target:
    """The target at `flops`, by default ten times the compute of the largest run."""
    largest = float((6.0 * np.asarray(params, dtype=np.float64) * np.asarray(tokens, dtype=np.float64)).max())
    best = law.optimum(TARGET_COMPUTE * largest if flops is None else flops)
    return Target(flops=best.flops, params=best.params, tokens=best.tokens, loss=best.loss)


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Whether a fit of the reference law to the planned runs could tell its parameters."""

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
    problem: str | None
    """Why the law cannot be told from these runs, and what to add; None where it can."""

    def to_json(self) -> dict[str, Any]:
        """JSON's own types."""
        return vars(self) | {"ratios": list(self.ratios)}


def resolve(params: ArrayLike, tokens: ArrayLike, *, law: Surface = BESIROGLU, noise: float = SEED_NOISE) -> Resolution:
    """The resolution of runs with N = params and D = tokens, arrays of one length."""
    N, D = np.asarray(params, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    assert N.shape == D.shape and N.ndim == 1, "one N and one D for each run"
    if not noise > 0:
        raise InputError(f"the noise of ln loss is {noise}; give a standard deviation above 0, such as {SEED_NOISE}")
    problem = undetermined(law, N, D)
    return Resolution(
        law=law.name,
        noise=noise,
        runs=len(N),
        sizes=count_distinct(N),
        budgets=count_distinct(D),
        ratios=(float((D / N).min()), float((D / N).max())),
        status="not identifiable" if problem else "identifiable",
        problem=problem,
    )


def undetermined(law: Surface, N: Floats, D: Floats) -> str | None:
    """Why runs at N and D cannot determine the law, with what to add; None where they can.

    The rank of the law's gradients is what counts, not how many levels N and D have; and what `ladder fit` would make
    of the same runs without noise, from starts scattered over everything they could mean.
    """
    kind = type(law)
    settings = np.unique(np.round(np.log([N, D]), 9), axis=1)
    n, d = np.exp(settings)
    points = make_points(law.score(N=n, D=d), params=n, tokens=d)
    problem = design_problem(kind, points)
    if problem is not None:
        return problem
    gradients = log_gradients(law, n, d)
    lengths = np.maximum(np.linalg.norm(gradients, axis=0), 1e-300)
    rank = int(np.linalg.matrix_rank(gradients / lengths, tol=1 / SINGULAR))
    if rank < len(law.fitted):
        what = f"{len(n)} runs" if len(n) == len(N) else f"{len(N)} runs at {len(n)} settings"
        return (
            f"{what} are fewer than the {len(law.fitted)} parameters of {law.name}; add runs"
            if len(n) < len(law.fitted)
            else f"{what} tell only {rank} of the {len(law.fitted)} parameters of {law.name} apart; add runs at other "
            "sizes and token counts"
        )
    if len(N) > MOST_CHECKED:
        return None
    whole = make_points(law.score(N=N, D=D), params=N, tokens=D)
    found = find_optimum(kind, whole, FitOptions(bootstrap=0))
    if found.status is not Status.CONVERGED:
        return f"without any noise the fit would be {found.status}: {found.reason}"
    fitted = found.form.values(found.theta[None])
    wrong = [name for name, value in law.parameters.items() if abs(fitted[name][0] / value - 1) > RECOVERED]
    return f"without any noise the fit would miss {', '.join(wrong)}; add runs at other ratios" if wrong else None


def is_exponent(name: str) -> bool:
    """True for alpha, beta and their kind, False for amplitudes, which are fitted as logarithms."""
    return name.startswith(("alpha", "beta"))


def log_gradients(law: Surface, N: Floats, D: Floats) -> Floats:
    """Gradient of ln L at each run, [runs, P], by exponents and by the logarithms of the other parameters.

    By a complex step: Im ln L(p + i h) / h has no rounding error of differences.
    """
    step = 1e-20
    columns = []
    for name, value in law.parameters.items():
        moved = value + 1j * step if is_exponent(name) else value * (1 + 1j * step)
        # The formulas broadcast complex numbers as they do real ones.
        values: dict[str, Any] = {**law.values, name: moved}
        loss = law.formula({"N": N, "D": D}, values)
        columns.append(np.imag(np.log(loss)) / step)
    return np.stack(columns, axis=1)


def plan_levels(jacobian: Floats, points: Points, noise: float) -> list[Level]:
    """The levels at which a fit would judge its noise, with the sum of squares that it would find at each on average.

    Without trunks there is one level. `jacobian` [P, n] holds the law's gradients.
    """
    together = find_trunks(points, settings := find_groups(points))
    levels, n = find_levels(jacobian, np.zeros(len(points)), together, settings), len(points)
    planned, n_above, shared = [], 0, SHARED_NOISE if together is not None else 0.0
    trunks = np.arange(n) if points.trunks is None else points.trunks
    member = (trunks == np.unique(trunks)[:, None]).astype(np.float64)  # [trunks, n]
    for level in levels:
        own = int(level.labels.max()) + 1 - n_above
        in_common = float((part_of(member, level.labels, level.above) ** 2).sum()) / own
        variance = noise**2 * (shared * in_common + 1 - shared)
        planned.append(replace(level, square=variance * level.freedom))
        n_above += own
    return planned


SIMULATIONS = 2000
"""An end of a 95 % interval then has a standard error of about 4 % of the half width."""

BLOCK_VALUES = 2_000_000
"""Losses simulated at once, so that a sweep of tens of thousands of runs fits in memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulation:
    """What fits of a simulated sweep come to."""

    count: int
    """Simulations; 0 where a fit could not judge its noise."""
    problem: str | None
    """Why it could not."""
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

    def to_json(self) -> dict[str, Any]:
        """The intervals; what is unknown is null."""
        return {
            "intervals": {name: interval.as_list() for name, interval in self.intervals.items()},
            "loss": self.loss.as_list(),
            "optimal_params": self.params.as_list(),
            "a": self.a.as_list(),
            "at_bound": self.at_bound,
        }


def simulate(
    law: Surface,
    params: ArrayLike,
    tokens: ArrayLike,
    *,
    noise: float,
    target: Target,
    trunks: Labels | None = None,
    count: int = SIMULATIONS,
    seed: int = 0,
) -> Simulation:
    """Fits of runs with N = params and D = tokens under a law and a standard deviation of ln loss.

    Runs of one label of `trunks` [n] have SHARED_NOISE of its square in common.
    """
    N, D = np.asarray(params, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    kind = type(law)
    points = make_points(law.score(N=N, D=D), params=N, tokens=D, trunks=trunks)
    form = make_form(kind, points, FitOptions())
    theta = coordinates(form, law)
    levels = plan_levels(jacobian_at(form, theta), points, noise)
    problem = noise_problem(points, levels, len(theta))
    if problem is not None:
        unknown = dict.fromkeys(kind.fitted, UNKNOWN)
        return Simulation(
            count=0, problem=problem, draws={}, intervals=unknown, loss=UNKNOWN, params=UNKNOWN, a=UNKNOWN, at_bound=0.0
        )
    refits = refit_noisy(form, theta, levels, default_objective(kind), count, np.random.default_rng([seed, 2]))
    bound = ((refits <= form.lower) | (refits >= form.upper)).any(axis=1)
    values = form.values(refits)
    drawn = values | extrapolate(kind, values, target)
    draws = Draws(values=drawn, tail=0.025, kind="noise", pinned=form.pinned(refits))
    return Simulation(
        count=count,
        problem=None,
        draws=values,
        intervals={name: draws.interval(name) for name in kind.fitted},
        loss=draws.interval("loss"),
        params=draws.interval("params"),
        a=draws.interval("a"),
        at_bound=float(bound.mean()),
    )


def noise_problem(points: Points, levels: list[Level], n_parameters: int) -> str | None:
    """Why a fit of the points could not judge its noise; None where it could."""
    groups = find_groups(points)
    if draw_kind(points, groups, n_parameters, find_trunks(points, groups)) is None:
        what = f"{len(points)} runs at {int(groups.max()) + 1} settings"
        return f"{what} for {n_parameters} parameters leave too few to judge the noise by"
    if min(level.freedom for level in levels) < LEAST_FREEDOM:
        sizes = f"{int(levels[0].labels.max()) + 1} sizes"
        return f"the budgets of a size share a trunk and with it noise, and {sizes} are too few to judge that by"
    return None


def refit_noisy(
    form: Form,
    theta: Floats,
    levels: list[Level],
    objective: Objective,
    count: int,
    generator: np.random.Generator,
) -> Floats:
    """[count, P] refits of the law's own losses with new noise, of a deviation as uncertain as a fit's judgement."""
    block, refits = max(1, BLOCK_VALUES // len(form.target)), []
    for begin in range(0, count, block):
        size = min(block, count - begin)
        sample, _ = draw_levels(form, theta, levels, size, generator)
        starts = np.clip(scatter(form, theta, size, generator), form.lower, form.upper)
        refits.append(refit(form, objective, starts, sample))
    return np.concatenate(refits)


def scatter(form: Form, theta: Floats, count: int, generator: np.random.Generator) -> Floats:
    """[count, P] points around theta [P] to start from: amplitudes as logarithms, exponents by a factor."""
    moved = SCATTER * generator.standard_normal((count, len(theta)))
    exponent = np.array([is_exponent(name) for name in form.names])
    return np.where(exponent, theta * np.exp(moved), theta + moved)


def extrapolate(kind: type[Surface], values: dict[str, Floats], target: Target) -> dict[str, Floats]:
    """[count] loss at the target's N and D, optimal N at its budget and its exponent in C, by name."""
    place = {"N": np.array(target.params), "D": np.array(target.tokens)}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        loss = kind.formula(place, values)
    best = kind.optima(values, target.flops)
    return {"loss": loss, "params": best["params"], "a": best["a"]}


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
