"""Every law by name, and the laws in one variable: lines and power laws in N, D or C.

Laws are frozen objects: the formula, its parameters, and what follows from them. Those in N and D are in `surfaces`,
those of accuracies in `accuracies`; all can be imported from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ladder.analysis.laws.accuracies import LossError, LossSigmoid, Saturating, Sigmoid
from ladder.analysis.laws.law import FLOPS_PER_PARAMETER_TOKEN, Floats, Law, Variable
from ladder.analysis.laws.surfaces import Allocation, Gadre, Hoffmann, Kaplan, Surface
from ladder.models.errors import InputError

__all__ = [
    "FLOPS_PER_PARAMETER_TOKEN", "LAWS", "Allocation", "Floats", "Gadre", "Hoffmann", "Kaplan", "Law", "LogLinear",
    "LossError", "LossSigmoid", "Power", "PowerOffset", "Saturating", "Sigmoid", "Surface", "Variable", "find_law",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LogLinear(Law):
    """score = a + b ln x, or exp of it when `log_score` is 1: the form behind figures 1 and 4 of the GPT-2 paper."""

    name: ClassVar[str] = "log-linear"
    equation: ClassVar[str] = "score = a + b ln x"
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    fitted: ClassVar[tuple[str, ...]] = ("a", "b")
    log_residual: ClassVar[bool] = False
    a: float
    """Score (or ln score) at x = 1."""
    b: float
    """Change of the score (or ln score) when x grows e-fold."""
    log_score: float = 0.0
    """1 where the line is in ln score (perplexities), 0 where it is in the score."""

    @property
    def per_doubling(self) -> float:
        """Change of the score (or ln score) when x doubles."""
        return self.b * float(np.log(2))

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        line = values["a"] + values["b"] * np.log(inputs["x"])
        return np.where(values.get("log_score", np.float64(0)) > 0, np.exp(line), line)


@dataclass(frozen=True, kw_only=True)
class Power(Law):
    """L = A / x^alpha, x one of N, D, C (Kaplan et al. 2020, eq. 1.1 to 1.3: A = x_c^alpha)."""

    name: ClassVar[str] = "power"
    equation: ClassVar[str] = "L = A / x^alpha"
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    fitted: ClassVar[tuple[str, ...]] = ("A", "alpha")
    log_residual: ClassVar[bool] = True
    A: float
    """Loss at x = 1, nats per token."""
    alpha: float
    """Exponent of x."""

    @property
    def critical(self) -> float:
        """x_c of Kaplan's (x_c / x)^alpha, in the unit of x."""
        return float(self.A ** (1 / self.alpha))

    @classmethod
    def from_critical(cls, critical: float, alpha: float) -> "Power":
        """The law (critical / x)^alpha, as Kaplan et al. write it."""
        return cls(A=float(critical**alpha), alpha=alpha)

    def x_for(self, loss: float) -> float:
        """The x that reaches a loss."""
        return PowerOffset(E=0.0, A=self.A, alpha=self.alpha).x_for(loss)

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        return np.asarray(values["A"] * inputs["x"] ** -values["alpha"])


@dataclass(frozen=True, kw_only=True)
class PowerOffset(Law):
    """L = E + A / x^alpha: a power law above an irreducible loss (Henighan et al. 2020, eq. 1.1)."""

    name: ClassVar[str] = "power-offset"
    equation: ClassVar[str] = "L = E + A / x^alpha"
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    fitted: ClassVar[tuple[str, ...]] = ("E", "A", "alpha")
    log_residual: ClassVar[bool] = True
    E: float
    """Irreducible loss, nats per token."""
    A: float
    """Reducible loss at x = 1, nats per token."""
    alpha: float
    """Exponent of x."""

    def x_for(self, loss: float) -> float:
        """The x that reaches a loss; InputError where none does."""
        if not (loss > self.E and self.alpha > 0):
            raise InputError(
                f"a loss of {loss:g} is not above the law's irreducible loss {self.E:.4g}, or its exponent "
                f"{self.alpha:g} is not above 0; ask for a higher loss"
            )
        return float((self.A / (loss - self.E)) ** (1 / self.alpha))

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        return np.asarray(values["E"] + values["A"] * inputs["x"] ** -values["alpha"])


LAWS: dict[str, type[Law]] = {
    law.name: law
    for law in (LogLinear, Power, PowerOffset, Kaplan, Hoffmann, Gadre, Saturating, Sigmoid, LossSigmoid, LossError)
}


def find_law(name: str) -> type[Law]:
    """The law class of a name; unknown names are an InputError that lists the known ones."""
    if name not in LAWS:
        raise InputError(f"law {name!r} is unknown; choose one of {', '.join(LAWS)}")
    return LAWS[name]
