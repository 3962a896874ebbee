"""Laws in N and D, what a compute budget buys under them, and every law by its name or with the constants of a paper.

All but that of repeated data have the same shape of optimum under C = 6 N D: N_opt = G (C / 6)^a, D_opt = (C / 6)^b / G
with a + b = 1, and a part of the loss that falls along it as a power of C. So the optimum, its inverse and the cost of
missing it are closed forms, written once in `Surface`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ladder.analysis.laws.law import (
    FLOPS_PER_PARAMETER_TOKEN,
    Floats,
    Law,
    LogLinear,
    LossError,
    LossSigmoid,
    Power,
    PowerOffset,
    PowerRule,
    PowerRuleInBoth,
    Saturating,
    Sigmoid,
)
from ladder.models.errors import InputError


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


def plain(value: ArrayLike) -> float:
    """A number as a float; an array, where the law stands for many draws at once, as it is."""
    array = np.asarray(value, dtype=np.float64)
    return float(array) if array.ndim == 0 else array  # type: ignore[return-value]


def divide(over: float, under: float) -> float:
    """over / under; not finite, and no error, where `under` is 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return plain(np.divide(over, under))


class Surface(Law):
    """A law in N and D whose optimum at a budget is a power of the budget."""

    inputs: ClassVar[tuple[str, ...]] = ("N", "D")
    log_residual: ClassVar[bool] = True

    @property
    def a(self) -> float:
        """N_opt grows as C^a."""
        raise NotImplementedError

    @property
    def b(self) -> float:
        """D_opt grows as C^b; a + b = 1."""
        return 1.0 - self.a

    @property
    def G(self) -> float:
        """N_opt = G (C / 6)^a."""
        raise NotImplementedError

    @property
    def decay(self) -> float:
        """Along the optimum `reducible` falls as C^-decay."""
        raise NotImplementedError

    def reducible(self, loss: float) -> float:
        """The part of a loss, in the law's own measure, that compute takes away; 0 where none is left."""
        raise NotImplementedError

    def data_part(self, params: float, loss: float) -> float:
        """What of `reducible(loss)` the size leaves for the data; 0 or less where the size alone misses the loss."""
        raise NotImplementedError

    def tokens_of_part(self, part: float) -> float:
        """D whose term is `part`."""
        raise NotImplementedError

    def optimum(self, flops: float) -> Allocation:
        """The N and D of least loss among those with 6 N D = flops."""
        if not flops > 0:
            raise InputError(f"the compute budget is {flops}; give training FLOPs above 0, such as 1e21")
        self._require_falling_terms()
        product = flops / FLOPS_PER_PARAMETER_TOKEN
        params = self.G * product**self.a
        tokens = product / params
        return Allocation(flops=flops, params=params, tokens=tokens, loss=float(self.score(N=params, D=tokens)))

    @classmethod
    def optima(cls, values: Mapping[str, Floats], flops: float) -> dict[str, Floats]:
        """a, b, params, tokens, tokens_per_parameter and loss at the optimum of a budget for many laws at once.

        `values` are the law's fields, each [R]; nan for one without an optimum (an exponent of 0).
        """
        law = cls(**values)
        product = flops / FLOPS_PER_PARAMETER_TOKEN
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            whole = np.asarray(law.decay) > 0
            a = np.where(whole, law.a, np.nan)
            params = np.where(whole, np.exp(np.log(law.G) + a * np.log(product)), np.nan)
            tokens = product / params
            loss = cls.formula({"N": params, "D": tokens}, values)
            found = {"a": a, "b": 1 - a, "params": params, "tokens": tokens}
            return found | {"tokens_per_parameter": tokens / params, "loss": loss}

    def flops_for(self, loss: float) -> float:
        """Least training FLOPs that reach a loss (the inverse of `optimum(C).loss`)."""
        self._require_falling_terms()
        wanted = self.reducible(loss)
        if not wanted > 0:
            least = float(self.score(N=np.inf, D=np.inf))
            raise InputError(
                f"a loss of {loss:g} is not above the law's irreducible loss {least:.4g}; ask for a higher one"
            )
        return float((self.reducible(self.optimum(1.0).loss) / wanted) ** (1 / self.decay))

    def tokens_for(self, params: float, loss: float) -> float:
        """Tokens with which a model of `params` reaches a loss; InputError where no number of tokens does."""
        left = self.data_part(params, loss)
        if not left > 0:
            least = float(self.score(N=params, D=np.inf))
            raise InputError(
                f"{params:.3g} parameters reach no loss of {loss:g} with any number of tokens, {least:.4g} at best; "
                "ask for a higher loss or a larger size"
            )
        return self.tokens_of_part(left)

    def _require_falling_terms(self) -> None:
        if not self.decay > 0:
            raise InputError(f"{self.name} with an exponent of 0 has no optimum: more of N or D changes nothing")


@dataclass(frozen=True, kw_only=True)
class Kaplan(Surface):
    """L(N, D) = [(Nc / N)^(alpha_N / alpha_D) + Dc / D]^alpha_D (Kaplan et al. 2020, eq. 1.5)."""

    name: ClassVar[str] = "kaplan"
    equation: ClassVar[str] = "L = [(Nc / N)^(alpha_N / alpha_D) + Dc / D]^alpha_D"
    fitted: ClassVar[tuple[str, ...]] = ("Nc", "Dc", "alpha_N", "alpha_D")
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

    @property
    def ratio(self) -> float:
        """alpha_N / alpha_D: data must grow as N^ratio to keep the two terms in step (their eq. 4.4)."""
        return divide(self.alpha_N, self.alpha_D)

    @property
    def a(self) -> float:
        """N_opt grows as C^a, a = alpha_D / (alpha_N + alpha_D): where ratio times the size term is the data term."""
        return divide(self.alpha_D, self.alpha_N + self.alpha_D)

    @property
    def G(self) -> float:
        """(ratio Nc^ratio / Dc)^a: N_opt = G (C / 6)^a."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return plain(np.exp((np.log(self.ratio) + self.ratio * np.log(self.Nc) - np.log(self.Dc)) * self.a))

    @property
    def decay(self) -> float:
        """L^(1 / alpha_D) falls as C^-(ratio a)."""
        return self.ratio * self.a

    def reducible(self, loss: float) -> float:
        """The bracket, L^(1 / alpha_D): nothing is irreducible."""
        return float(loss ** (1 / self.alpha_D)) if loss > 0 else 0.0

    def data_part(self, params: float, loss: float) -> float:
        """The bracket less the size term."""
        return self.reducible(loss) - float((self.Nc / params) ** self.ratio)

    def tokens_of_part(self, part: float) -> float:
        """Dc / part."""
        return self.Dc / part


class PowerSum(Surface):
    """L = E + A / N^alpha + B / D^beta, what Hoffmann's and Gadre's laws share."""

    E: float
    A: float
    B: float
    alpha: float

    @property
    def data_exponent(self) -> float:
        """Exponent of D."""
        raise NotImplementedError

    @property
    def a(self) -> float:
        """N_opt grows as C^a, a = beta / (alpha + beta) (Hoffmann et al. 2022, eq. 4)."""
        return divide(self.data_exponent, self.alpha + self.data_exponent)

    @property
    def G(self) -> float:
        """(alpha A / (beta B))^(1 / (alpha + beta)): N_opt = G (C / 6)^a (Hoffmann et al. 2022, eq. 4)."""
        total = self.alpha + self.data_exponent
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            ratio = np.log(self.alpha) + np.log(self.A) - np.log(self.data_exponent) - np.log(self.B)
            return plain(np.exp(ratio / np.float64(total)))

    @property
    def decay(self) -> float:
        """At the optimum alpha A N^-alpha = beta B D^-beta, so both terms fall as C^-(alpha beta / (alpha + beta))."""
        return plain(np.nan_to_num(divide(self.alpha * self.data_exponent, self.alpha + self.data_exponent)))

    def reducible(self, loss: float) -> float:
        """L - E."""
        return loss - self.E

    def data_part(self, params: float, loss: float) -> float:
        """L - E - A / N^alpha."""
        return float(loss - self.E - self.A * params**-self.alpha)

    def tokens_of_part(self, part: float) -> float:
        """(B / part)^(1 / beta)."""
        return float((self.B / part) ** (1 / self.data_exponent))


@dataclass(frozen=True, kw_only=True)
class Hoffmann(PowerSum):
    """L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, eq. 2), with its optimum under C = 6 N D."""

    name: ClassVar[str] = "hoffmann"
    equation: ClassVar[str] = "L = E + A / N^alpha + B / D^beta"
    fitted: ClassVar[tuple[str, ...]] = ("E", "A", "B", "alpha", "beta")
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

    @property
    def data_exponent(self) -> float:
        """beta."""
        return self.beta

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        size_term = values["A"] * inputs["N"] ** -values["alpha"]
        return np.asarray(values["E"] + size_term + values["B"] * inputs["D"] ** -values["beta"])


@dataclass(frozen=True, kw_only=True)
class Gadre(PowerSum):
    """L = E + A / N^alpha + B / D^alpha: Gadre et al. 2024, eq. 4, where size and data share one exponent.

    Theirs is L(C, M) = E + (a M^eta + b M^-eta) C^-eta with M = D / N and C = 6 N D; since M / C = 1 / (6 N^2) and
    1 / (M C) = 1 / (6 D^2), alpha = 2 eta, A = a 6^-eta and B = b 6^-eta.
    """

    name: ClassVar[str] = "gadre"
    equation: ClassVar[str] = "L = E + A / N^alpha + B / D^alpha"
    fitted: ClassVar[tuple[str, ...]] = ("E", "A", "B", "alpha")
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

    @property
    def data_exponent(self) -> float:
        """alpha again: the best D / N is the same at every budget."""
        return self.alpha

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        size_term = values["A"] * inputs["N"] ** -values["alpha"]
        return np.asarray(values["E"] + size_term + values["B"] * inputs["D"] ** -values["alpha"])


@dataclass(frozen=True, kw_only=True)
class Repeated(Law):
    """L = E + A / N'^alpha + B / D'^beta for data that is repeated (Muennighoff et al. 2023, eq. 5 and 6).

    D' = U + U R_D (1 - exp(-(D / U - 1) / R_D)) with U unique tokens (D where that is less): what D tokens of them are
    worth in fresh ones. N' likewise, beyond the size U_N that is optimal for U, since a larger model is worth less too.
    """

    name: ClassVar[str] = "repeated"
    equation: ClassVar[str] = "L = E + A / N'^alpha + B / D'^beta"
    inputs: ClassVar[tuple[str, ...]] = ("N", "D", "U")
    fitted: ClassVar[tuple[str, ...]] = ("E", "A", "B", "alpha", "beta", "R_D", "R_N")
    log_residual: ClassVar[bool] = True
    E: float
    """Irreducible loss, nats per token."""
    A: float
    """Loss from finite size at N' = 1, nats per token."""
    B: float
    """Loss from finite data at D' = 1, nats per token."""
    alpha: float
    """Exponent of the size."""
    beta: float
    """Exponent of the data."""
    R_D: float
    """Repetitions after which another is worth 1 / e of fresh tokens."""
    R_N: float
    """The same for parameters beyond U_N, in multiples of it."""

    @classmethod
    def formula(cls, inputs: Mapping[str, Floats], values: Mapping[str, Floats]) -> Floats:
        N, D = np.log(inputs["N"]), np.log(inputs["D"])
        U = np.minimum(np.log(inputs["U"]), D)
        v, alpha, beta = values, values["alpha"], values["beta"]
        best = (np.log(alpha * v["A"]) - np.log(beta * v["B"]) + beta * U) / alpha
        size, data = cls.worth(N, np.minimum(N, best), v["R_N"]), cls.worth(D, U, v["R_D"])
        return np.asarray(v["E"] + v["A"] * np.exp(-alpha * size) + v["B"] * np.exp(-beta * data))

    @staticmethod
    def worth(used: Floats, fresh: Floats, scale: Floats) -> Floats:
        """ln of what exp(used) is worth where only exp(fresh) of it are new."""
        repeats = np.expm1(used - fresh)
        return np.asarray(fresh + np.log1p(-scale * np.expm1(-repeats / scale)))


KNOWN = (LogLinear, Power, PowerOffset, Kaplan, Hoffmann, Gadre, Repeated, Saturating, Sigmoid, LossSigmoid, LossError)
LAWS: dict[str, type[Law]] = {law.name: law for law in (*KNOWN, PowerRule, PowerRuleInBoth)}


def find_law(name: str) -> type[Law]:
    """The law class of a name; unknown names are an InputError that lists the known ones."""
    if name not in LAWS:
        raise InputError(f"law {name!r} is unknown; choose one of {', '.join(LAWS)}")
    return LAWS[name]


KAPLAN = Kaplan(Nc=6.4e13, Dc=1.8e13, alpha_N=0.076, alpha_D=0.103)
"""L(N, D) (eq. 1.5, constants of table 2)."""
HOFFMANN = Hoffmann(E=1.69337368, A=406.401018, B=410.722827, alpha=0.33917084, beta=0.2849083)
"""Hoffmann et al. 2022, approach 3, unrounded as in the paper's source; not the optimum of their own points."""
BESIROGLU = Hoffmann(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
"""Besiroglu et al. 2024, table 1: the refit of Hoffmann et al.'s points."""
MUENNIGHOFF = Repeated(
    E=float(np.exp(0.6254804)), A=float(np.exp(6.255414)), B=float(np.exp(7.3049974)), alpha=0.3526596, beta=0.3526596,
    R_D=15.387756, R_N=5.309743,
)  # fmt: skip
"""Muennighoff et al. 2023, appendix A, eq. 17, unrounded."""
