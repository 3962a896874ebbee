"""What a scaling law is, and the laws in one variable: lines, power laws, and laws of accuracies in a size or a loss.

Letters as in the papers: N parameters, D tokens seen, C training FLOPs, L loss in nats per token. Laws are frozen
objects: a formula that broadcasts, so that one serves a single law and a thousand refits alike, its parameters, and
what follows from them. Those in N and D are in `surfaces`. Numbers are written for people by the functions at the end.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ladder.models.errors import InputError

Floats = NDArray[np.float64]
Variable = Literal["params", "tokens", "flops", "loss", "unique"]

FLOPS_PER_PARAMETER_TOKEN = 6.0
"""C = 6 N D: 2 for the forward and 4 for the backward pass (Kaplan et al. 2020, section 2.1)."""


class Law:
    """What every law has; `inputs` says which of N, D the formula reads ("x" is one chosen variable)."""

    name: ClassVar[str]
    equation: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    fitted: ClassVar[tuple[str, ...]]
    """Names of the fields that a fit finds; the other fields are given constants."""
    log_residual: ClassVar[bool]
    """True where residuals are taken of the logarithm (losses), False where of the score itself (accuracies)."""
    reads: ClassVar[Variable | None] = None
    """What "x" must be; None: whichever of N, D and C the points name."""
    robust: ClassVar[bool] = True
    """Whether a law in the logarithm is fitted by Huber's function by default; False: by squares."""

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        """The score for inputs ("N", "D" or "x") and values (parameters and constants), all broadcast together."""
        raise NotImplementedError

    @property
    def values(self) -> dict[str, float]:
        """Every field by name."""
        return {field.name: float(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]

    @property
    def parameters(self) -> dict[str, float]:
        """The fitted parameters by name."""
        return {name: self.values[name] for name in self.fitted}

    @classmethod
    def given(cls) -> tuple[str, ...]:
        """Names of the fields that are given and not fitted."""
        return tuple(field.name for field in fields(cls) if field.name not in cls.fitted)  # type: ignore[arg-type]

    @property
    def constants(self) -> dict[str, Floats]:
        """The given fields by name, ready for `formula`."""
        return {name: np.array([self.values[name]]) for name in self.given()}

    def require(self, inputs: Collection[str]) -> None:
        """InputError where one of the law's inputs is missing."""
        missing = [name for name in self.inputs if name not in inputs]
        if missing:
            raise InputError(f"{self.name} reads {' and '.join(self.inputs)}; give {' and '.join(missing)} too")

    def score(self, **inputs: ArrayLike) -> Floats:
        """The law's score at inputs given by name, as in `law.score(N=1e8, D=2e9)`."""
        self.require(inputs)
        arrays = {name: np.asarray(value, dtype=np.float64) for name, value in inputs.items()}
        return np.asarray(self.formula(arrays, {name: np.float64(v) for name, v in self.values.items()}))  # type: ignore[misc]


PREFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
FLOPS_PER_PF_DAY = 1e15 * 86400
"""Training FLOPs in one petaflop/s-day (Kaplan et al. 2020, section 1.1)."""


def format_number(value: float | None, digits: int = 4) -> str:
    """4 significant digits, plain between 1e-3 and 1e5, otherwise with an exponent; a dash for an absent value."""
    if value is None or not math.isfinite(value):
        return "-"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits - 1}e}".replace("e+", "e")
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def format_power(value: float, digits: int = 3) -> str:
    """1e15, 2e15: compute, for which no prefix is usual."""
    return f"{value:.{digits}g}".replace("e+", "e")


def format_count(value: float) -> str:
    """1.2M, 350k, 7B: parameters and tokens to three digits."""
    if abs(value) >= 999.5e12:
        return format_power(value)
    for size, letter in PREFIXES:
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


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
        """x_c of Kaplan's (x_c / x)^alpha, in the unit of x; infinite where alpha is 0 or no number is as large."""
        with np.errstate(over="ignore", divide="ignore"):
            return float(np.exp(np.log(self.A) / np.float64(self.alpha)))

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
        with np.errstate(over="ignore"):
            return float(np.exp(np.log(self.A / (loss - self.E)) / self.alpha))

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        return np.asarray(values["E"] + values["A"] * inputs["x"] ** -values["alpha"])


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
        """The x at which the score is half way from chance to ceiling; 0 or infinite for a flat or far-off one."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return float(np.exp(np.float64(-self.a) / self.b))

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


@dataclass(frozen=True, kw_only=True)
class PowerRule(Law):
    """y = A x^p: how the best learning rate or batch grows with one of N, D and C (DeepSeek-AI 2024, section 3.1)."""

    name: ClassVar[str] = "power-rule"
    equation: ClassVar[str] = "y = A x^p"
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    fitted: ClassVar[tuple[str, ...]] = ("A", "p")
    log_residual: ClassVar[bool] = True
    robust: ClassVar[bool] = False
    A: float
    """The setting at x = 1, in its own unit."""
    p: float
    """Exponent of x, of either sign."""

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        return np.asarray(values["A"] * inputs["x"] ** values["p"])


@dataclass(frozen=True, kw_only=True)
class PowerRuleInBoth(Law):
    """y = A N^p D^q: the best learning rate or batch by size and data (Li et al. 2025, "Step Law")."""

    name: ClassVar[str] = "power-rule-nd"
    equation: ClassVar[str] = "y = A N^p D^q"
    inputs: ClassVar[tuple[str, ...]] = ("N", "D")
    fitted: ClassVar[tuple[str, ...]] = ("A", "p", "q")
    log_residual: ClassVar[bool] = True
    robust: ClassVar[bool] = False
    A: float
    """The setting at N = D = 1, in its own unit."""
    p: float
    """Exponent of N, of either sign."""
    q: float
    """Exponent of D, of either sign."""

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        return np.asarray(values["A"] * inputs["N"] ** values["p"] * inputs["D"] ** values["q"])


KAPLAN_SIZE = Power.from_critical(8.8e13, 0.076)
"""L(N), N without embeddings, data unlimited (Kaplan et al. 2020, eq. 1.1)."""
KAPLAN_DATA = Power.from_critical(5.4e13, 0.095)
"""L(D), D in tokens, a large model stopped early (eq. 1.2)."""
KAPLAN_COMPUTE = Power.from_critical(3.1e8 * FLOPS_PER_PF_DAY, 0.050)
"""L(C_min), C_min in FLOPs, the size best chosen and the batch far below the critical one (eq. 1.3)."""


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
