"""Every law by its name, and laws with the constants that papers print, to compare with and to plan by.

Kaplan et al. 2020 count N without embeddings and give compute in petaflop/s-days; here compute is in FLOPs.
"""

from dataclasses import dataclass

from ladder.analysis.laws.law import (
    FLOPS_PER_PF_DAY,
    Law,
    LogLinear,
    LossError,
    LossSigmoid,
    Power,
    PowerOffset,
    Saturating,
    Sigmoid,
)
from ladder.analysis.laws.surfaces import Gadre, Hoffmann, Kaplan
from ladder.models.errors import InputError

LAWS: dict[str, type[Law]] = {
    law.name: law
    for law in (LogLinear, Power, PowerOffset, Kaplan, Hoffmann, Gadre, Saturating, Sigmoid, LossSigmoid, LossError)
}


def find_law(name: str) -> type[Law]:
    """The law class of a name; unknown names are an InputError that lists the known ones."""
    if name not in LAWS:
        raise InputError(f"law {name!r} is unknown; choose one of {', '.join(LAWS)}")
    return LAWS[name]


KAPLAN_SIZE = Power.from_critical(8.8e13, 0.076)
"""L(N), N without embeddings, data unlimited (Kaplan et al. 2020, eq. 1.1)."""
KAPLAN_DATA = Power.from_critical(5.4e13, 0.095)
"""L(D), D in tokens, a large model stopped early (eq. 1.2)."""
KAPLAN_COMPUTE = Power.from_critical(3.1e8 * FLOPS_PER_PF_DAY, 0.050)
"""L(C_min), C_min in FLOPs, the size best chosen and the batch far below the critical one (eq. 1.3)."""
KAPLAN = Kaplan(Nc=6.4e13, Dc=1.8e13, alpha_N=0.076, alpha_D=0.103)
"""L(N, D) (eq. 1.5, constants of table 2)."""


@dataclass(frozen=True, kw_only=True)
class CriticalBatch:
    """B_crit(L) = B / L^(1 / alpha_B): the batch beyond which more of it hardly saves steps (eq. 1.4)."""

    B: float
    """Critical batch at a loss of 1 nat, tokens."""
    alpha_B: float
    """1 / alpha_B is the exponent of the loss."""

    def tokens(self, loss: float) -> float:
        """The critical batch at a loss in nats per token, tokens."""
        return float(self.B / loss ** (1 / self.alpha_B))

    def least_flops(self, flops: float, *, batch_tokens: float, loss: float) -> float:
        """C_min: what training at a batch far below the critical one would have taken to the same loss (eq. 5.5)."""
        return float(flops / (1 + batch_tokens / self.tokens(loss)))


KAPLAN_BATCH = CriticalBatch(B=2e8, alpha_B=0.21)
"""The critical batch of their Transformers (eq. 1.4)."""


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """L(N, S) = (Nc / N)^alpha_N + (Sc / S)^alpha_S, data unlimited (eq. 1.6)."""

    Nc: float
    """Critical size, parameters without embeddings."""
    Sc: float
    """Critical number of steps."""
    alpha_N: float
    """Exponent of N."""
    alpha_S: float
    """Exponent of S."""

    def score(self, *, N: float, S: float) -> float:
        """Loss after S steps at a batch far above the critical one, nats per token."""
        return float((self.Nc / N) ** self.alpha_N + (self.Sc / S) ** self.alpha_S)


KAPLAN_STEPS = LearningCurve(Nc=6.5e13, Sc=2.1e3, alpha_N=0.077, alpha_S=0.76)
"""Their learning curves (eq. 1.6, constants of table 3)."""

HOFFMANN = Hoffmann(E=1.69337368, A=406.401018, B=410.722827, alpha=0.33917084, beta=0.2849083)
"""Hoffmann et al. 2022, approach 3, unrounded as in the paper's source; not the optimum of their own points."""
BESIROGLU = Hoffmann(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
"""Besiroglu et al. 2024, table 1: the refit of Hoffmann et al.'s points."""
