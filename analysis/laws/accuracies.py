"""Laws of accuracies and errors: against size (Saturating, Sigmoid), or against loss (LossSigmoid, LossError).

The two against loss are the second step of loss -> accuracy: what a model of some loss scores on a task, whatever the
size and the data that gave it the loss.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ladder.analysis.laws.law import Floats, Law, Variable


@dataclass(frozen=True, kw_only=True)
class Saturating(Law):
    """score = ceiling - A / x^alpha: an accuracy that stops growing (a power law in the distance to its ceiling)."""

    name: ClassVar[str] = "saturating"
    equation: ClassVar[str] = "score = ceiling - A / x^alpha"
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    fitted: ClassVar[tuple[str, ...]] = ("ceiling", "A", "alpha")
    log_residual: ClassVar[bool] = False
    ceiling: float
    """Score at unlimited x."""
    A: float
    """Distance from the ceiling at x = 1."""
    alpha: float
    """Exponent of x."""

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        return np.asarray(values["ceiling"] - values["A"] * inputs["x"] ** -values["alpha"])


@dataclass(frozen=True, kw_only=True)
class Sigmoid(Law):
    """score = chance + (ceiling - chance) / (1 + exp(-(a + b ln x))): from guessing to a ceiling."""

    name: ClassVar[str] = "sigmoid"
    equation: ClassVar[str] = "score = chance + (ceiling - chance) / (1 + exp(-(a + b ln x)))"
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    fitted: ClassVar[tuple[str, ...]] = ("ceiling", "a", "b")
    log_residual: ClassVar[bool] = False
    ceiling: float
    """Score at unlimited x."""
    a: float
    """Log-odds of the way from chance to ceiling at x = 1."""
    b: float
    """Change of these log-odds when x grows e-fold."""
    chance: float = 0.0
    """Score of guessing; given, not fitted."""

    @property
    def midpoint(self) -> float:
        """The x at which the score is half way from chance to ceiling."""
        return float(np.exp(-self.a / self.b))

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        odds = values["a"] + values["b"] * np.log(inputs["x"])
        chance = values.get("chance", np.float64(0.0))
        return np.asarray(chance + (values["ceiling"] - chance) * 0.5 * (1 + np.tanh(0.5 * odds)))


@dataclass(frozen=True, kw_only=True)
class LossSigmoid(Law):
    """accuracy = a / (1 + exp(-k (L - L0))) + b, L the loss on the task (Bhagia et al. 2024, eq. 2); a below 0."""

    name: ClassVar[str] = "loss-sigmoid"
    equation: ClassVar[str] = "accuracy = a / (1 + exp(-k (L - L0))) + b"
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    fitted: ClassVar[tuple[str, ...]] = ("a", "k", "L0", "b")
    log_residual: ClassVar[bool] = False
    reads: ClassVar[Variable | None] = "loss"
    a: float
    """Chance less ceiling: what a model without any knowledge of the task loses, below 0."""
    k: float
    """Steepness, per nat."""
    L0: float
    """Loss at which half of the way is lost, nats."""
    b: float
    """Accuracy at a loss far below L0."""

    @property
    def chance(self) -> float:
        """Accuracy at a loss far above L0."""
        return self.a + self.b

    @property
    def ceiling(self) -> float:
        """Accuracy at a loss far below L0."""
        return self.b

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        way = 0.5 * (1 + np.tanh(0.5 * values["k"] * (inputs["x"] - values["L0"])))  # never overflows
        return np.asarray(values["a"] * way + values["b"])


@dataclass(frozen=True, kw_only=True)
class LossError(Law):
    """error = eps - k exp(-gamma L), L the loss on held-out text (Gadre et al. 2024, eq. 5): a mean over many tasks."""

    name: ClassVar[str] = "loss-error"
    equation: ClassVar[str] = "error = eps - k exp(-gamma L)"
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    fitted: ClassVar[tuple[str, ...]] = ("eps", "k", "gamma")
    log_residual: ClassVar[bool] = False
    reads: ClassVar[Variable | None] = "loss"
    eps: float
    """Error of a model of unbounded loss."""
    k: float
    """What a loss of 0 would take off it."""
    gamma: float
    """Rate per nat."""

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        return np.asarray(values["eps"] - values["k"] * np.exp(-values["gamma"] * inputs["x"]))
