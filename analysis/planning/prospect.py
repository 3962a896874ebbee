"""What a sweep's fit will be able to say, and what a few more runs would add: plan, simulation and proposal at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ladder.analysis.fitting.intervals import Interval
from ladder.analysis.laws.curves import Floats
from ladder.analysis.laws.units import format_count
from ladder.analysis.planning.design import (
    Reference,
    Resolution,
    Target,
    is_exponent,
    place_target,
    resolve,
    undetermined,
)
from ladder.analysis.planning.proposal import Proposal, propose
from ladder.analysis.planning.simulation import SIMULATIONS, Simulation, simulate, width

LOOSE = 0.5
"""Half width of an exponent's interval, as a share of the exponent, beyond which it is hardly known."""
OFTEN = 0.05
"""Share of refits at a bound beyond which a term of the law is in doubt."""
OUTSIDE = 2.0
"""How far, as a factor, a design may leave the sizes that the reference was fitted to without a word."""


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
    """Seeds the simulations."""


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

    @property
    def narrowing(self) -> float | None:
        """Width of the loss's interval with the proposed runs over that without; None where either is unknown."""
        if self.before is None or self.after is None:
            return None
        before, after = width(self.before.loss), width(self.after.loss)
        return after / before if before and after is not None else None

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
        if self.before is not None and not self.before.count:
            parameters = len(self.reference.law.fitted)
            found.append(
                f"{self.resolution.runs} runs for {parameters} parameters leave none to judge the noise by, so a fit "
                "would give no intervals"
            )
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
            "simulations": self.question.simulations,
            "seed": self.question.seed,
            "before": simulation_to_json(self.before),
            "after": simulation_to_json(self.after),
            "narrowing": self.narrowing,
            "warnings": self.warnings,
        }


def simulation_to_json(simulation: Simulation | None) -> dict[str, Any] | None:
    """The intervals of simulated fits."""
    if simulation is None:
        return None
    return {
        "intervals": {name: interval.as_list() for name, interval in simulation.intervals.items()},
        "loss": simulation.loss.as_list(),
        "optimal_params": simulation.params.as_list(),
        "a": simulation.a.as_list(),
        "at_bound": simulation.at_bound,
    }


def foresee(
    reference: Reference,
    noise: Noise,
    design: tuple[Floats, Floats],
    candidates: tuple[Floats, Floats],
    question: Question,
) -> Prospect:
    """What fits of a design (N, D) could say, and which of the candidates (N, D) to add."""
    law, (N, D) = reference.law, design
    resolution = resolve(N, D, law=law, noise=noise.value)
    target = place_target(law, N, D, question.target_flops)
    proposal = propose(law, design, candidates, noise=noise.value, target=target, count=question.added_runs)
    settings = {"noise": noise.value, "target": target, "count": question.simulations, "seed": question.seed}
    more_n = np.append(N, [run.params for run in proposal.runs])
    more_d = np.append(D, [run.tokens for run in proposal.runs])
    solved = undetermined(law, more_n, more_d) is None
    return Prospect(
        reference=reference,
        noise=noise,
        question=question,
        resolution=resolution,
        target=target,
        before=None if resolution.problem else simulate(law, N, D, **settings),  # type: ignore[arg-type]
        proposal=proposal,
        after=simulate(law, more_n, more_d, **settings) if proposal.runs and solved else None,  # type: ignore[arg-type]
    )


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


def ends(interval: Interval, form: str = ".3g") -> str:
    """low to high for people; unknown where an end is."""
    if interval.low is None or interval.high is None:
        return "unknown"
    return f"{interval.low:{form}} to {interval.high:{form}}"
