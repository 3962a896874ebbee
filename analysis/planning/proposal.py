"""Which runs to add to a design, and what the design can say with and without them.

To first order the variance of what a least-squares fit says at the target is g' M^-1 g, with g the gradient of ln L
there and M the sum of x x' / noise^2 over the runs' gradients x. Where runs branched off one trunk share noise, which
the fit does not weigh by, it is g' M^-1 S M^-1 g, with S the variance of the sum of the gradients times their noise.
One more run is a rank-one update, so that hundreds of candidates are judged at once: by the drop of the target's
variance (c-optimality), or, where the design cannot determine the law at all, by the growth of det M (D-optimality),
since then every direction must first be seen.
Choosing greedily is not choosing the best set, but each step says what it buys; the chosen set is then simulated, by
`assess_design`.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ladder.analysis.fitting.fits import FitOptions
from ladder.analysis.fitting.forms import jacobian_at
from ladder.analysis.fitting.formulation import make_form
from ladder.analysis.fitting.intervals import Labels
from ladder.analysis.fitting.points import DISTINCT, make_points
from ladder.analysis.laws.law import FLOPS_PER_PARAMETER_TOKEN, Floats
from ladder.analysis.laws.surfaces import Surface
from ladder.analysis.planning.design import (
    SHARED_NOISE,
    SIMULATIONS,
    Reference,
    Resolution,
    Simulation,
    Target,
    coordinates,
    is_exponent,
    place_target,
    resolve,
    simulate,
    undetermined,
    width,
)

OVERHEAD = 0.01
"""What any added run costs on top of its FLOPs, as a share of the sweep's: without it, ever smaller runs would buy ever
more per FLOP, while each must be started, scored and waited for."""
LEAST_NARROWING = 0.005
"""A run that narrows less than this is not worth naming."""
SAME = 1e-9
"""Relative difference up to which two runs have the same size, or the same number of tokens."""
PRIOR_DEVIATION = 2.0
"""Weak prior of the solver's coordinates (logarithms at the middle of the data, exponents), so that a design that
leaves a direction open still has a finite determinant."""
RATIO_ROOM = (4.0, 8.0)
"""How far below the design's least, and above its largest, number of tokens per parameter a candidate may lie: further
down runs are hardly trained, and no law was measured further up."""
TOKEN_ROOM = 4.0
"""How far above the design's largest number of tokens a candidate may lie."""
MOST_LEVELS = 40
"""Sizes, and token counts, that candidates are made of: enough for any grid, and a bound for sweeps of thousands."""


@dataclass(frozen=True, kw_only=True)
class AddedRun:
    """One proposed run."""

    candidate: int
    """Its place among the candidates."""
    params: float
    """N."""
    tokens: float
    """D."""
    flops: float
    """6 N D."""
    width: float
    """Width of the target's interval after it, over that of the design as given, to first order."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Runs to add, in the order of choice."""

    runs: tuple[AddedRun, ...]
    criterion: str
    """loss at the target, or all parameters."""
    flops: float
    """Their compute together."""
    share: float
    """That over the compute of the design."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Geometry:
    """A design and its candidates by the gradients of ln L in the solver's coordinates, over the noise."""

    places: tuple[Floats, Floats]
    """[n] N and D of the runs."""
    trunks: Labels | None
    """[n] labels of runs that share the beginning of their training; None where none do."""
    design: Floats
    """[n, P] gradients at the runs."""
    choice: tuple[Floats, Floats]
    """[m] N and D of the candidates."""
    candidates: Floats
    """[m, P] ... at the candidates."""
    target: Floats
    """[P] ... at the target."""

    @property
    def information(self) -> Floats:
        """[P, P] M, the sum of x x' over the runs' gradients, with the weak prior."""
        return np.asarray(self.design.T @ self.design + np.eye(len(self.target)) / PRIOR_DEVIATION**2)

    @property
    def score_variance(self) -> Floats:
        """[P, P] S, the variance of the sum of gradients times noise: M where no noise is shared."""
        if self.trunks is None:
            return self.information
        sums = np.zeros((int(self.trunks.max()) + 1, len(self.target)))
        np.add.at(sums, self.trunks, self.design)
        return np.asarray(self.information + SHARED_NOISE * (sums.T @ sums - self.design.T @ self.design))

    @property
    def siblings(self) -> Floats:
        """[m, P] sum of the gradients of the trunk that each candidate would branch off; 0 where it begins its own."""
        found = np.zeros_like(self.candidates)
        if self.trunks is None:
            return found
        for size in np.unique(self.choice[0]):
            rows, same = self.choice[0] == size, np.flatnonzero(np.isclose(self.places[0], size, rtol=SAME))
            if len(same):
                taken = np.isclose(self.choice[1][rows, None], self.places[1][same], rtol=SAME)
                trunk = self.design[self.trunks == self.trunks[same[0]]].sum(axis=0)
                found[rows] = np.where(taken.any(axis=1, keepdims=True), 0.0, trunk)
        return found

    def with_run(self, chosen: int) -> "Geometry":
        """The design with one of the candidates."""
        N, D = (np.append(axis, more[chosen]) for axis, more in zip(self.places, self.choice, strict=True))
        trunks = None if self.trunks is None else add_to_trunks(N, D, self.trunks)
        return replace(self, places=(N, D), trunks=trunks, design=np.vstack([self.design, self.candidates[chosen]]))


def list_candidates(
    design: tuple[Floats, Floats], sizes: Floats, *, most_flops: float | None = None, most_tokens: float | None = None
) -> tuple[Floats, Floats]:
    """N and D of the runs around a design: its sizes and others between them, by its token counts and doublings.

    At most `most_flops` (the compute of the largest run) and `most_tokens` (no limit) each.
    """
    N, D = design
    limit = float(FLOPS_PER_PARAMETER_TOKEN * (N * D).max()) if most_flops is None else most_flops
    levels = thin(np.unique(sizes[(sizes >= N.min()) & (sizes <= N.max())]))
    doublings = D.min() * 2.0 ** np.arange(0, np.log2(TOKEN_ROOM * D.max() / D.min()) + DISTINCT)
    own = thin(np.unique(D))
    apart = [bool((np.abs(np.log(own / tokens)) > DISTINCT).all()) for tokens in doublings]
    budgets = np.concatenate([own, doublings[apart]])
    params, tokens = (axis.ravel() for axis in np.meshgrid(levels, budgets))
    ratio, ratios = tokens / params, D / N
    allowed = (ratio >= ratios.min() / RATIO_ROOM[0]) & (ratio <= ratios.max() * RATIO_ROOM[1])
    # A rounding of the batch must not exclude the largest run itself.
    allowed &= FLOPS_PER_PARAMETER_TOKEN * params * tokens <= limit * (1 + DISTINCT)
    if most_tokens is not None:
        allowed &= tokens <= most_tokens
    return params[allowed], tokens[allowed]


def thin(levels: Floats) -> Floats:
    """At most MOST_LEVELS of ascending levels, evenly spaced in rank, first and last among them."""
    if len(levels) <= MOST_LEVELS:
        return levels
    return np.asarray(levels[np.round(np.linspace(0, len(levels) - 1, MOST_LEVELS)).astype(int)])


def propose(
    law: Surface,
    design: tuple[Floats, Floats],
    candidates: tuple[Floats, Floats],
    *,
    noise: float,
    target: Target,
    count: int = 4,
    trunks: Labels | None = None,
) -> Proposal:
    """At most `count` of the candidates (N, D), any of them more than once (as another seed), chosen greedily.

    `trunks` [n] are as in `assess_design`.
    """
    N, D = design
    geometry = lay_out(law, design, candidates, noise, target, trunks)
    flops = FLOPS_PER_PARAMETER_TOKEN * candidates[0] * candidates[1]
    total = float(FLOPS_PER_PARAMETER_TOKEN * (N * D).sum())
    open_design = undetermined(law, N, D) is not None
    before = target_deviation(geometry)
    added: list[AddedRun] = []
    while len(added) < count and len(flops):
        gain = volume_gain(geometry) if open_design else narrowing(geometry)
        best = int(np.argmax(gain / (flops + OVERHEAD * total)))
        if gain[best] < LEAST_NARROWING:
            break
        geometry = geometry.with_run(best)
        place = {"params": float(candidates[0][best]), "tokens": float(candidates[1][best])}
        width = target_deviation(geometry) / before
        added.append(AddedRun(candidate=best, flops=float(flops[best]), width=width, **place))
    spent, criterion = sum(run.flops for run in added), "all parameters" if open_design else "loss at the target"
    return Proposal(runs=tuple(added), criterion=criterion, flops=spent, share=spent / total)


def lay_out(
    law: Surface,
    design: tuple[Floats, Floats],
    candidates: tuple[Floats, Floats],
    noise: float,
    target: Target,
    trunks: Labels | None = None,
) -> Geometry:
    """The gradients of all places in one set of coordinates, whose centre is the middle of them all."""
    N = np.concatenate([design[0], candidates[0], [target.params]])
    D = np.concatenate([design[1], candidates[1], [target.tokens]])
    form = make_form(type(law), make_points(law.score(N=N, D=D), params=N, tokens=D), FitOptions())
    gradients = jacobian_at(form, coordinates(form, law)).T  # [n + m + 1, P]
    n = len(design[0])
    return Geometry(
        places=design,
        trunks=trunks,
        design=gradients[:n] / noise,
        choice=candidates,
        candidates=gradients[n:-1] / noise,
        target=gradients[-1],
    )


def target_deviation(geometry: Geometry) -> float:
    """Standard deviation of ln L at the target."""
    towards = np.linalg.solve(geometry.information, geometry.target)
    return float(np.sqrt(towards @ geometry.score_variance @ towards))


def narrowing(geometry: Geometry) -> Floats:
    """[m] -ln of the factor by which each candidate narrows the target's interval.

    With x the candidate's gradient, M^-1 becomes M^-1 - k k' / (1 + x'k), k = M^-1 x (Sherman and Morrison), and S
    gains x x' and what x shares with its siblings u: the shared part times u x' + x u'.
    """
    seen = np.linalg.solve(geometry.information, geometry.candidates.T).T  # k, [m, P]
    towards = np.linalg.solve(geometry.information, geometry.target)
    own = geometry.candidates @ towards / (1 + (geometry.candidates * seen).sum(axis=1))
    after = towards - own[:, None] * seen  # M^-1 g with the candidate, [m, P]
    shared = 2 * SHARED_NOISE * (geometry.siblings * after).sum(axis=1) * own
    variance = np.einsum("mp,pq,mq->m", after, geometry.score_variance, after) + own**2 + shared
    return np.asarray(np.log(target_deviation(geometry)) - 0.5 * np.log(np.maximum(variance, 1e-300)))


def volume_gain(geometry: Geometry) -> Floats:
    """[m] half the growth of ln det M by each candidate: -ln of the factor on the volume of the parameters' region."""
    seen = np.linalg.solve(geometry.information, geometry.candidates.T).T
    return np.asarray(0.5 * np.log1p((geometry.candidates * seen).sum(axis=1)))


LOOSE = 0.5
"""Half width of an exponent's interval, as a share of the exponent, beyond which it is hardly known."""
OFTEN = 0.05
"""Share of refits at a bound beyond which a term of the law is in doubt."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The standard deviation of ln loss that a plan reckons with."""

    value: float
    source: str
    """Where it is from."""
    low: float | None = None
    """Lower end of its 95 % interval; None where it was not measured."""
    high: float | None = None
    """Upper end."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a prospect is asked."""

    target_flops: float | None = None
    """Budget at which the loss is extrapolated; None: ten times the largest run's compute."""
    added_runs: int = 4
    """Most runs to propose."""
    simulations: int = SIMULATIONS
    seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Prospect:
    """The answer."""

    reference: Reference
    noise: Noise
    question: Question
    resolution: Resolution
    target: Target
    before: Simulation | None
    """Fits of the design as it is; None where it cannot determine the law."""
    proposal: Proposal
    after: Simulation | None
    """Fits of the design with the proposed runs; None where none is proposed."""
    shares_noise: bool
    """Whether runs share the beginning of their training."""

    @property
    def narrowing(self) -> float | None:
        """Width of the loss's interval with the proposed runs over that without; None where either is unknown."""
        if self.before is None or self.after is None:
            return None
        before, after = width(self.before.loss), width(self.after.loss)
        return after / before if before and after else None

    @property
    def warnings(self) -> list[str]:
        """What a reader should know before believing the intervals."""
        found = []
        for simulation, where in ((self.before, "from this sweep"), (self.after, "even with the added runs")):
            if simulation is None or not simulation.count:
                continue
            names = [name for name in simulation.intervals if is_exponent(name) and self._is_loose(simulation, name)]
            if names:
                found.append(f"{where} {' and '.join(names)} would hardly be known, worse than to +-{LOOSE:.0%}")
            if simulation.at_bound > OFTEN:
                share = f"{simulation.at_bound:.0%}"
                found.append(f"{where} {share} of the fits end at a bound: some term could not be told from absent")
        if self.before is not None and self.before.problem:
            found.append(f"{self.before.problem}, so a fit would give no intervals")
        return found

    def _is_loose(self, simulation: Simulation, name: str) -> bool:
        wide = width(simulation.intervals[name])
        return wide is None or wide / 2 > LOOSE * self.reference.law.parameters[name]

    def to_json(self) -> dict[str, Any]:
        """JSON's own types; what is unknown is null."""
        return self.resolution.to_json() | {
            "reference": {"source": self.reference.source, "parameters": self.reference.law.parameters},
            "noise_source": self.noise.source,
            "noise_interval": [self.noise.low, self.noise.high],
            "target": vars(self.target),
            "shared_noise": SHARED_NOISE if self.shares_noise else None,
            "simulations": self.question.simulations,
            "seed": self.question.seed,
            "before": None if self.before is None else self.before.to_json(),
            "after": None if self.after is None else self.after.to_json(),
            "narrowing": self.narrowing,
            "warnings": self.warnings,
        }


def assess_design(
    reference: Reference,
    noise: Noise,
    design: tuple[Floats, Floats],
    candidates: tuple[Floats, Floats],
    question: Question,
    trunks: Labels | None = None,
) -> Prospect:
    """What fits of a design (N, D) could say, and which of the candidates (N, D) to add.

    `trunks` [n] tells which runs share the beginning of their training, and with it SHARED_NOISE of the noise's
    variance. A run that is added to a size at a new number of tokens branches off that size's trunk.
    """
    law, (N, D) = reference.law, design
    resolution = resolve(N, D, law=law, noise=noise.value)
    target = place_target(law, N, D, question.target_flops)
    proposal = propose(
        law, design, candidates, noise=noise.value, target=target, count=question.added_runs, trunks=trunks
    )
    more_n = np.append(N, [run.params for run in proposal.runs])
    more_d = np.append(D, [run.tokens for run in proposal.runs])
    more_trunks = None if trunks is None else add_to_trunks(more_n, more_d, trunks)

    def fits(n: Floats, d: Floats, labels: Labels | None) -> Simulation:
        options = {"count": question.simulations, "seed": question.seed}
        return simulate(law, n, d, noise=noise.value, target=target, trunks=labels, **options)

    return Prospect(
        reference=reference,
        noise=noise,
        question=question,
        resolution=resolution,
        target=target,
        before=None if resolution.problem else fits(N, D, trunks),
        proposal=proposal,
        after=fits(more_n, more_d, more_trunks) if proposal.runs and not undetermined(law, more_n, more_d) else None,
        shares_noise=trunks is not None,
    )


def add_to_trunks(N: Floats, D: Floats, trunks: Labels) -> Labels:
    """Trunks of a design [n] and of the runs after it [m - n]: a new number of tokens of a size that is there branches
    off its first trunk, another seed of a setting makes a trunk of its own."""
    labels = list(trunks)
    for place in range(len(trunks), len(N)):
        same = np.isclose(N[:place], N[place], rtol=SAME)
        again = (same & np.isclose(D[:place], D[place], rtol=SAME)).any()
        labels.append(max(labels) + 1 if again or not same.any() else labels[int(np.argmax(same))])
    return np.array(labels, dtype=np.int64)
