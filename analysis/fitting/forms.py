"""Laws as the solver sees them: a batch of parameter vectors in, predictions with their derivatives out.

Solver coordinates are chosen for conditioning: logarithms of positive parameters, and amplitudes taken at the middle
of the data (ln N and ln D are centred), so that an amplitude and its exponent are nearly uncorrelated. Letters in the
shape comments: S parameter vectors, P coordinates, T terms, n points.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ladder.analysis.laws.law import Floats
from ladder.analysis.laws.surfaces import Repeated

LEVERAGE = 1 - 1e-6
"""Share of its own residuals that a cluster may take away; beyond it alone determines some parameter."""
LOG_REACH = 2.0
"""Most a logarithm or an exponent may move in one step."""


@dataclass(frozen=True, kw_only=True)
class State:
    """A form evaluated at S parameter vectors."""

    prediction: Floats
    """[S, n], in the residual's scale (log loss, or the score)."""
    parts: Floats
    """[T, S, n], intermediate values that the derivatives are made of."""

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "State":
        """The same for some of the S."""
        return State(prediction=self.prediction[rows], parts=self.parts[:, rows])

    def put(self, rows: NDArray[np.intp], other: "State") -> None:
        """Writes another state over some of the S."""
        self.prediction[rows] = other.prediction
        self.parts[:, rows] = other.parts


class Form:
    """Base of the forms; bounds keep every coordinate where the law can still be told from a simpler one."""

    lower: Floats
    upper: Floats
    """[P], least and greatest allowed coordinates."""
    target: Floats
    """[n], the observed values in the residual's scale."""
    reach: Floats
    """[P], most that a coordinate may move in one step: 2 for logarithms and exponents, in its own unit for a score."""
    names: tuple[str, ...]
    """[P], what each coordinate is, in the law's words."""
    follows: Mapping[str, tuple[str, ...]] = {}
    """Coordinate -> parameters that mean nothing where it is pressed against a bound."""
    settable: Mapping[str, str] = {}
    """Parameter -> the coordinate that alone says what it is, so that a user may fix or bound it."""
    amplitudes: Collection[str] = ()
    """Coordinates that are the logarithm of their parameter."""
    factor: Floats | float = 1.0
    """[n] what each residual was multiplied by, so that all are of equal noise."""
    known_noise: float = 0.0
    """Standard deviation that a residual is known to have; it counts unless these scatter by more. 0: none is known."""

    def evaluate(self, theta: Floats) -> State:
        """Predictions at theta [S, P]."""
        raise NotImplementedError

    def jacobian(self, theta: Floats, state: State) -> Floats:
        """d prediction / d theta, [S, P, n]."""
        raise NotImplementedError

    def curvature(self, theta: Floats, state: State, jacobian: Floats, slope: Floats) -> Floats | None:
        """sum over points of slope [S, n] times the second derivative of the prediction, [S, P, P]; None: left out."""
        return None

    def starts(self, generator: np.random.Generator, count: int) -> Floats:
        """Starting points [count, P] over everything the data could mean."""
        raise NotImplementedError

    def values(self, theta: Floats) -> dict[str, Floats]:
        """The law's own parameters, each [S]."""
        raise NotImplementedError

    def pinned(self, theta: Floats) -> dict[str, Floats]:
        """The parameters of which some theta [S, P] presses against a bound, each [S]: the value, -inf or inf where it
        is at its least or most itself, nan where it follows another that is."""
        values = self.values(theta)
        found: dict[str, Floats] = {}
        for place, name in enumerate(self.names):
            low, high = theta[:, place] <= self.lower[place], theta[:, place] >= self.upper[place]
            if not (low | high).any():
                continue
            if name in values:
                found[name] = np.select([low, high], [-np.inf, np.inf], found.get(name, values[name]))
            for other in self.follows.get(name, ()):
                found[other] = np.where(low | high, np.nan, found.get(other, values[other]))
        return found


@dataclass(frozen=True, kw_only=True)
class Term:
    """One power term exp(c - exponent * x) of a sum: where its log-amplitude and exponent stand in theta."""

    amplitude: int
    """Index in theta of the log-amplitude at the centre of x."""
    exponent: int | None
    """Index in theta of the exponent; None for a constant term."""
    variable: str
    """Which centred logarithm it falls with; unused by a constant term."""


class SumOfPowers(Form):
    """ln L = ln(sum of exp(c_t - e_t x_t)): the laws power, power-offset, hoffmann and gadre.

    A log-sum-exp of linear functions, so that first and second derivatives are moments of the terms' shares.
    """

    max_exponent: ClassVar[float] = 4.0
    """Far above any published exponent (0.05 to 0.7); a fit that wants more is chasing noise."""

    def __init__(
        self, loss: Floats, logs: Mapping[str, Floats], terms: tuple[Term, ...], names: tuple[str, ...],
        given: Collection[str] = (),
    ):  # fmt: skip
        """`logs` holds ln N and ln D; `names` the law's parameter for each coordinate.

        An amplitude that is `given`, fixed or bounded, is taken at x = 1 in place of the middle of the data.
        """
        self.target = np.log(loss)
        self.terms = terms
        self.names = names
        self.settable = {name: name for name in names}
        self.amplitudes = [names[term.amplitude] for term in terms]
        self.logs = logs
        plain = {term.variable for term in terms if term.exponent is not None and names[term.amplitude] in given}
        self.middles = {variable: float(np.mean(x)) for variable, x in logs.items()}
        self.centres = {variable: 0.0 if variable in plain else middle for variable, middle in self.middles.items()}
        self.x = [logs[t.variable] - self.centres[t.variable] if t.exponent is not None else None for t in terms]
        low, high = float(self.target.min()), float(self.target.max())
        self.lower, self.upper = np.empty(len(names)), np.empty(len(names))
        self.reach = np.full(len(names), LOG_REACH)
        bent = [(names[term.amplitude], names[term.exponent]) for term in terms if term.exponent is not None]
        self.follows = {one: tuple(b if one == a else a for a, b in bent if one in (a, b)) for one in names}
        for term in terms:
            # A term of less than e^-12 of the loss is absent to the sixth digit: at this bound the fit says so.
            self.lower[term.amplitude], self.upper[term.amplitude] = low - 12.0, high + 3.0
            if term.exponent is not None:
                self.lower[term.exponent], self.upper[term.exponent] = 0.0, self.max_exponent
                self.upper[term.amplitude] += self.max_exponent * self.off_centre(term)

    def off_centre(self, term: Term) -> float:
        """How far the middle of the data lies from where the term's amplitude is taken, in ln x."""
        return self.middles[term.variable] - self.centres[term.variable]

    def evaluate(self, theta: Floats) -> State:
        parts = np.empty((len(self.terms), len(theta), len(self.target)))  # [T, S, n]
        for part, term, x in zip(parts, self.terms, self.x, strict=True):
            amplitude = theta[:, term.amplitude, None]  # [S, 1]
            np.exp(amplitude if x is None else amplitude - theta[:, term.exponent, None] * x, out=part)
        total = parts.sum(axis=0)  # [S, n]
        parts /= total  # shares of the loss
        return State(prediction=np.log(total), parts=parts)

    def jacobian(self, theta: Floats, state: State) -> Floats:
        jacobian = np.zeros((len(theta), len(self.names), len(self.target)))  # [S, P, n]
        for share, term, x in zip(state.parts, self.terms, self.x, strict=True):
            jacobian[:, term.amplitude] += share
            if x is not None:
                jacobian[:, term.exponent] -= share * x
        return jacobian

    def curvature(self, theta: Floats, state: State, jacobian: Floats, slope: Floats) -> Floats:
        curvature = -(jacobian * slope[:, None]) @ jacobian.transpose(0, 2, 1)  # [S, P, P]
        for share, term, x in zip(state.parts, self.terms, self.x, strict=True):
            weighted = slope * share  # [S, n]
            i, j = term.amplitude, term.exponent
            curvature[:, i, i] += weighted.sum(axis=1)
            if x is not None:
                first, second = weighted @ x, weighted @ (x * x)
                curvature[:, i, j] -= first
                curvature[:, j, i] -= first
                curvature[:, j, j] += second
        return curvature

    def starts(self, generator: np.random.Generator, count: int) -> Floats:
        theta = np.empty((count, len(self.names)))
        for term in self.terms:
            theta[:, term.amplitude] = self.target.min() + generator.uniform(-2.0, 0.5, count)
            if term.exponent is not None:
                theta[:, term.exponent] = generator.uniform(0.05, 1.0, count)
        for term in self.terms:
            if term.exponent is not None:
                theta[:, term.amplitude] += theta[:, term.exponent] * self.off_centre(term)
        return theta

    def values(self, theta: Floats) -> dict[str, Floats]:
        values = {name: theta[:, index] for index, name in enumerate(self.names)}
        for term in self.terms:
            shift = 0.0 if term.exponent is None else theta[:, term.exponent] * self.centres[term.variable]
            values[self.names[term.amplitude]] = np.exp(theta[:, term.amplitude] + shift)
        return values


class RawSumOfPowers(SumOfPowers):
    """L = sum of exp(c_t - e_t x_t), residuals of the loss itself: what plain least squares on losses fits."""

    def __init__(
        self, loss: Floats, logs: Mapping[str, Floats], terms: tuple[Term, ...], names: tuple[str, ...],
        given: Collection[str] = (),
    ):  # fmt: skip
        super().__init__(loss, logs, terms, names, given)
        self.target, self.given = loss, given

    def evaluate(self, theta: Floats) -> State:
        state = super().evaluate(theta)
        total = np.exp(state.prediction)
        # The terms take the place of their shares: the derivatives of a sum are the same moments without its logarithm.
        return State(prediction=total, parts=state.parts * total)

    def curvature(self, theta: Floats, state: State, jacobian: Floats, slope: Floats) -> Floats:
        return super().curvature(theta, state, np.zeros_like(jacobian), slope)

    def starts(self, generator: np.random.Generator, count: int) -> Floats:
        return SumOfPowers(self.target, self.logs, self.terms, self.names, self.given).starts(generator, count)


class KaplanForm(Form):
    """ln L = s ln(exp(u / s) + exp(v / s)), u = c - alpha_N x, v = d - s z, s = alpha_D: Kaplan et al. eq. 1.5."""

    def __init__(self, loss: Floats, logs: Mapping[str, Floats]):
        self.target = np.log(loss)
        self.centres = {variable: float(np.mean(x)) for variable, x in logs.items()}
        self.x, self.z = logs["N"] - self.centres["N"], logs["D"] - self.centres["D"]
        low, high = float(self.target.min()), float(self.target.max())
        self.names = ("Nc", "Dc", "alpha_N", "alpha_D")
        self.settable = {name: name for name in self.names[2:]}
        self.follows = {"Nc": ("alpha_N",), "alpha_N": ("Nc",), "Dc": ("alpha_D",), "alpha_D": ("Dc",)}
        self.lower = np.array([low - 12.0, low - 12.0, 0.0, 1e-3])
        self.upper = np.array([high + 3.0, high + 3.0, 4.0, 4.0])
        self.reach = np.full(4, LOG_REACH)

    def evaluate(self, theta: Floats) -> State:
        c, d, exponent, s = (theta[:, i, None] for i in range(4))  # each [S, 1]
        u, v = c - exponent * self.x, d - s * self.z  # [S, n]
        share = 1 / (1 + np.exp(np.clip((v - u) / s, -700, 700)))  # of the size term
        prediction = s * np.logaddexp(u / s, v / s)
        return State(prediction=prediction, parts=np.stack([u, v, share]))

    def jacobian(self, theta: Floats, state: State) -> Floats:
        u, v, share = state.parts
        s = theta[:, 3, None]
        by_s = (state.prediction - share * u - (1 - share) * v) / s - (1 - share) * self.z
        return np.stack([share, 1 - share, -share * self.x, by_s], axis=1)

    def curvature(self, theta: Floats, state: State, jacobian: Floats, slope: Floats) -> Floats:
        """By central differences of the Jacobian; without it reweighting stalls at the kinks of a narrow Huber."""
        columns = []
        for step in 1e-5 * np.eye(4):
            ahead, behind = (self.jacobian(at, self.evaluate(at)) for at in (theta + step, theta - step))
            columns.append((((ahead - behind) / 2e-5) @ slope[:, :, None])[:, :, 0])
        return np.stack(columns, axis=2)

    def starts(self, generator: np.random.Generator, count: int) -> Floats:
        amplitudes = self.target.min() + generator.uniform(-2.0, 0.5, (count, 2))
        return np.hstack([amplitudes, generator.uniform(0.05, 1.0, (count, 2))])

    def values(self, theta: Floats) -> dict[str, Floats]:
        c, d, alpha_n, alpha_d = theta.T
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            n_c, d_c = np.exp(c / alpha_n + self.centres["N"]), np.exp(d / alpha_d + self.centres["D"])
        return {"Nc": n_c, "Dc": d_c, "alpha_N": alpha_n, "alpha_D": alpha_d}


class PlaneForm(Form):
    """y = c + sum of b_j x_j: solved like the others so that robust objectives work too."""

    def __init__(self, score: Floats, logs: Mapping[str, Floats], names: tuple[str, ...], given: Collection[str] = ()):
        """`names` are the constant and the slope of each of `logs`; a constant that is `given` is at x = 0."""
        self.target = score
        self.names = names
        self.settable = {name: name for name in names}
        centred = names[0] not in given
        self.centres = np.array([float(np.mean(x)) if centred else 0.0 for x in logs.values()])
        self.design = np.stack(
            [np.ones(len(score)), *(x - c for x, c in zip(logs.values(), self.centres, strict=True))]
        )
        self.lower, self.upper = np.full(len(names), -np.inf), np.full(len(names), np.inf)
        self.reach = np.full(len(names), np.inf)

    def evaluate(self, theta: Floats) -> State:
        return State(prediction=theta @ self.design, parts=np.empty((0, len(theta))))

    def jacobian(self, theta: Floats, state: State) -> Floats:
        return np.broadcast_to(self.design, (len(theta), *self.design.shape))

    def curvature(self, theta: Floats, state: State, jacobian: Floats, slope: Floats) -> Floats:
        return np.zeros((len(theta), len(self.names), len(self.names)))

    def starts(self, generator: np.random.Generator, count: int) -> Floats:
        spread = float(np.ptp(self.target)) or 1.0
        middles = self.target.mean() + generator.normal(0, spread, count)
        slopes = [generator.normal(0, spread, count) for _ in self.names[1:]]
        return np.stack([middles, *slopes], axis=1)

    def values(self, theta: Floats) -> dict[str, Floats]:
        constant = theta[:, 0] - theta[:, 1:] @ self.centres
        return dict(zip(self.names, [constant, *theta[:, 1:].T], strict=True))


class RuleForm(PlaneForm):
    """ln y = ln A + p ln x (+ q ln z): a power rule of a setting, whose amplitude is told as it is."""

    def __init__(
        self, setting: Floats, logs: Mapping[str, Floats], names: tuple[str, ...], given: Collection[str] = ()
    ):
        super().__init__(np.log(setting), logs, names, given)
        self.amplitudes = names[:1]

    def values(self, theta: Floats) -> dict[str, Floats]:
        values = super().values(theta)
        with np.errstate(over="ignore"):
            return values | {self.names[0]: np.exp(values[self.names[0]])}


LEAST_REPEATS, MOST_REPEATS = np.log(0.1), np.log(1e4)
"""Bounds of ln R: repeated tokens that are worth nothing at once, or as much as fresh ones in any run."""
DIFFERENCE = 1e-5
"""Step of the differences that stand for derivatives."""


class RepeatedForm(Form):
    """ln L of `surfaces.Repeated`: a sum of two powers over what repeated tokens and excess parameters are worth."""

    def __init__(self, loss: Floats, logs: Mapping[str, Floats], given: Collection[str] = ()):
        self.target, self.logs = np.log(loss), logs
        self.names = Repeated.fitted
        self.settable = {name: name for name in self.names}
        self.amplitudes = ("E", "A", "B", "R_D", "R_N")
        self.follows = {"A": ("alpha",), "B": ("beta",), "alpha": ("A",), "beta": ("B",)}
        self.middles = np.array([0.0, float(np.mean(logs["N"])), float(np.mean(logs["D"]))])
        self.centres = np.where([False, "A" in given, "B" in given], 0.0, self.middles)  # of E, A, B
        low, high = float(self.target.min()), float(self.target.max())
        off = SumOfPowers.max_exponent * (self.middles - self.centres)
        self.lower = np.array([low - 12, low - 12, low - 12, 1e-3, 1e-3, LEAST_REPEATS, LEAST_REPEATS])
        self.upper = np.array([*(high + 3 + off), *[SumOfPowers.max_exponent] * 2, MOST_REPEATS, MOST_REPEATS])
        self.reach = np.full(len(self.names), LOG_REACH)

    def evaluate(self, theta: Floats) -> State:
        values = {name: value[:, None] for name, value in self.values(theta).items()}
        inputs = {name: np.exp(x) for name, x in self.logs.items()}
        return State(prediction=np.log(Repeated.formula(inputs, values)), parts=np.empty((0, len(theta))))

    def jacobian(self, theta: Floats, state: State) -> Floats:
        columns = []
        for step in DIFFERENCE * np.eye(theta.shape[1]):
            ahead, behind = self.evaluate(theta + step).prediction, self.evaluate(theta - step).prediction
            columns.append((ahead - behind) / (2 * DIFFERENCE))
        return np.stack(columns, axis=1)

    def starts(self, generator: np.random.Generator, count: int) -> Floats:
        exponents = generator.uniform(0.1, 0.8, (count, 2))
        amplitudes = self.target.min() + generator.uniform(-2.0, 0.5, (count, 3))
        amplitudes[:, 1:] += exponents * (self.middles - self.centres)[1:]
        return np.hstack([amplitudes, exponents, generator.uniform(np.log(2), np.log(50), (count, 2))])

    def values(self, theta: Floats) -> dict[str, Floats]:
        exponents = np.column_stack([np.zeros(len(theta)), theta[:, 3:5]])
        with np.errstate(over="ignore"):
            amplitudes = np.exp(theta[:, :3] + exponents * self.centres)
        return dict(zip(self.names, [*amplitudes.T, *theta[:, 3:5].T, *np.exp(theta[:, 5:]).T], strict=True))


def jacobian_at(form: Form, theta: Floats) -> Floats:
    """The gradients [P, n] of a form at one parameter vector [P]."""
    return np.asarray(form.jacobian(theta[None], form.evaluate(theta[None]))[0])


def jackknife_residuals(form: Form, theta: Floats, residuals: Floats, groups: NDArray[np.int64]) -> Floats | None:
    """What each cluster [n] misses the law by that is fitted without it, to first order; None where one cannot go.

    (I - H_gg)^-1 r_g with H the projection onto the law's gradients, by Woodbury's identity.
    """
    jacobian = jacobian_at(form, theta)
    jacobian = jacobian / np.maximum(np.linalg.norm(jacobian, axis=1, keepdims=True), 1e-300)
    information = jacobian @ jacobian.T
    adjusted = np.empty_like(residuals)
    root = np.linalg.inv(np.linalg.cholesky(information + 1e-12 * np.eye(len(information))))
    for group in range(int(groups.max()) + 1):
        rows = groups == group
        own = jacobian[:, rows]
        taken = np.linalg.svd(root @ own, compute_uv=False)
        if len(taken) and taken[0] ** 2 > LEVERAGE:
            return None
        adjusted[rows] = residuals[rows] + own.T @ np.linalg.solve(information - own @ own.T, own @ residuals[rows])
    return adjusted
