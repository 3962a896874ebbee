"""Scaling laws as frozen objects: the formula, its parameters, and what follows from them.

Letters as in the papers: N parameters, D tokens seen, C training FLOPs, L loss in nats per token. Each law has one
`formula`, which broadcasts, so that a single law and a thousand bootstrap draws are evaluated by the same code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ladder.models.errors import InputError

Floats = NDArray[np.float64]
Variable = Literal["params", "tokens", "flops"]

FLOPS_PER_PARAMETER_TOKEN = 6.0
"""C = 6 N D: 2 for the forward and 4 for the backward pass (Kaplan et al. 2020, section 2.1)."""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """How a compute budget is best spent under a law."""

    flops: float
    """The budget C, training FLOPs."""
    params: float
    """Optimal N, parameters."""
    tokens: float
    """Optimal D, tokens."""
    loss: float
    """Loss there, nats per token."""

    @property
    def tokens_per_parameter(self) -> float:
        """D / N."""
        return self.tokens / self.params


class Law:
    """What every law has; `inputs` says which of N, D the formula reads ("x" is one chosen variable)."""

    name: ClassVar[str]
    equation: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    fitted: ClassVar[tuple[str, ...]]
    """Names of the fields that a fit finds; the other fields are given constants."""
    log_residual: ClassVar[bool]
    """True where residuals are taken of the logarithm (losses), False where of the score itself (accuracies)."""

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

    @property
    def constants(self) -> dict[str, Floats]:
        """The given fields by name, ready for `formula`."""
        return {name: np.array([value]) for name, value in self.values.items() if name not in self.fitted}

    def score(self, **inputs: ArrayLike) -> Floats:
        """The law's score at inputs given by name, as in `law.score(N=1e8, D=2e9)`."""
        arrays = {name: np.asarray(value, dtype=np.float64) for name, value in inputs.items()}
        return np.asarray(self.formula(arrays, {name: np.float64(v) for name, v in self.values.items()}))  # type: ignore[misc]


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

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        return np.asarray(values["E"] + values["A"] * inputs["x"] ** -values["alpha"])


@dataclass(frozen=True, kw_only=True)
class Kaplan(Law):
    """L(N, D) = [(Nc / N)^(alpha_N / alpha_D) + Dc / D]^alpha_D (Kaplan et al. 2020, eq. 1.5)."""

    name: ClassVar[str] = "kaplan"
    equation: ClassVar[str] = "L = [(Nc / N)^(alpha_N / alpha_D) + Dc / D]^alpha_D"
    inputs: ClassVar[tuple[str, ...]] = ("N", "D")
    fitted: ClassVar[tuple[str, ...]] = ("Nc", "Dc", "alpha_N", "alpha_D")
    log_residual: ClassVar[bool] = True
    Nc: float
    """Size at which the size term alone gives 1 nat, parameters."""
    Dc: float
    """Data at which the data term alone gives 1 nat, tokens."""
    alpha_N: float
    """Exponent of N at unlimited data."""
    alpha_D: float
    """Exponent of D at unlimited size."""

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        ratio = values["alpha_N"] / values["alpha_D"]
        bracket = (values["Nc"] / inputs["N"]) ** ratio + values["Dc"] / inputs["D"]
        return np.asarray(bracket ** values["alpha_D"])


@dataclass(frozen=True, kw_only=True)
class Hoffmann(Law):
    """L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, eq. 2), with its optimum under C = 6 N D."""

    name: ClassVar[str] = "hoffmann"
    equation: ClassVar[str] = "L = E + A / N^alpha + B / D^beta"
    inputs: ClassVar[tuple[str, ...]] = ("N", "D")
    fitted: ClassVar[tuple[str, ...]] = ("E", "A", "B", "alpha", "beta")
    log_residual: ClassVar[bool] = True
    E: float
    """Irreducible loss, nats per token."""
    A: float
    """Loss from finite size at N = 1, nats per token."""
    B: float
    """Loss from finite data at D = 1, nats per token."""
    alpha: float
    """Exponent of N."""
    beta: float
    """Exponent of D."""

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        size_term = values["A"] * inputs["N"] ** -values["alpha"]
        return np.asarray(values["E"] + size_term + values["B"] * inputs["D"] ** -values["beta"])

    @property
    def a(self) -> float:
        """N_opt grows as C^a, a = beta / (alpha + beta) (their eq. 4)."""
        return self.beta / (self.alpha + self.beta)

    @property
    def b(self) -> float:
        """D_opt grows as C^b, b = alpha / (alpha + beta) (their eq. 4)."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def G(self) -> float:
        """(alpha A / (beta B))^(1 / (alpha + beta)): N_opt = G (C / 6)^a (their eq. 4)."""
        return float((self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta)))

    def optimum(self, flops: float) -> Allocation:
        """The N and D of least loss among those with 6 N D = flops."""
        if not flops > 0:
            raise InputError(f"the compute budget is {flops}; give training FLOPs above 0, such as 1e21")
        product = flops / FLOPS_PER_PARAMETER_TOKEN
        params = self.G * product**self.a
        tokens = product / params
        return Allocation(flops=flops, params=params, tokens=tokens, loss=float(self.score(N=params, D=tokens)))

    def flops_for(self, loss: float) -> float:
        """Least training FLOPs that reach a loss (the inverse of `optimum(C).loss`)."""
        if not loss > self.E:
            raise InputError(
                f"a loss of {loss} is not above the law's irreducible loss {self.E:.4g}; ask for a higher one"
            )
        # At the optimum alpha A N^-alpha = beta B D^-beta, so both terms fall as C^(-alpha beta / (alpha + beta)).
        power = self.alpha * self.beta / (self.alpha + self.beta)
        reducible_at_one = self.optimum(1.0).loss - self.E
        return float((reducible_at_one / (loss - self.E)) ** (1 / power))


@dataclass(frozen=True, kw_only=True)
class Gadre(Law):
    """L = E + A / N^alpha + B / D^alpha: Gadre et al. 2024, eq. 4, where size and data share one exponent.

    Theirs is L(C, M) = E + (a M^eta + b M^-eta) C^-eta with M = D / N and C = 6 N D; since M / C = 1 / (6 N^2) and
    1 / (M C) = 1 / (6 D^2), alpha = 2 eta, A = a 6^-eta and B = b 6^-eta.
    """

    name: ClassVar[str] = "gadre"
    equation: ClassVar[str] = "L = E + A / N^alpha + B / D^alpha"
    inputs: ClassVar[tuple[str, ...]] = ("N", "D")
    fitted: ClassVar[tuple[str, ...]] = ("E", "A", "B", "alpha")
    log_residual: ClassVar[bool] = True
    E: float
    """Irreducible loss, nats per token."""
    A: float
    """Loss from finite size at N = 1, nats per token."""
    B: float
    """Loss from finite data at D = 1, nats per token."""
    alpha: float
    """The exponent of both N and D."""

    @property
    def eta(self) -> float:
        """The exponent of compute at a fixed D / N."""
        return self.alpha / 2

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        size_term = values["A"] * inputs["N"] ** -values["alpha"]
        return np.asarray(values["E"] + size_term + values["B"] * inputs["D"] ** -values["alpha"])


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


LAWS: dict[str, type[Law]] = {
    law.name: law for law in (LogLinear, Power, PowerOffset, Kaplan, Hoffmann, Gadre, Saturating, Sigmoid)
}


def find_law(name: str) -> type[Law]:
    """The law class of a name; unknown names are an InputError that lists the known ones."""
    if name not in LAWS:
        raise InputError(f"law {name!r} is unknown; choose one of {', '.join(LAWS)}")
    return LAWS[name]
