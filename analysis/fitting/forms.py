"""Laws as the solver sees them: a batch of parameter vectors in, predictions with their derivatives out.

Solver coordinates are chosen for conditioning: logarithms of positive parameters, and amplitudes taken at the middle
of the data (ln N and ln D are centred), so that an amplitude and its exponent are nearly uncorrelated. Letters in the
shape comments: S parameter vectors, P coordinates, T terms, n points.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ladder.analysis.laws.law import Floats

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

    def __init__(self, loss: Floats, logs: Mapping[str, Floats], terms: tuple[Term, ...], names: tuple[str, ...]):
        """`logs` holds ln N and ln D; `names` the law's parameter for each coordinate."""
        self.target = np.log(loss)
        self.terms = terms
        self.names = names
        self.logs = logs
        self.centres = {variable: float(np.mean(x)) for variable, x in logs.items()}
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
        return theta

    def values(self, theta: Floats) -> dict[str, Floats]:
        values = {name: theta[:, index] for index, name in enumerate(self.names)}
        for term in self.terms:
            shift = 0.0 if term.exponent is None else theta[:, term.exponent] * self.centres[term.variable]
            values[self.names[term.amplitude]] = np.exp(theta[:, term.amplitude] + shift)
        return values


class RawSumOfPowers(SumOfPowers):
    """L = sum of exp(c_t - e_t x_t), residuals of the loss itself: what plain least squares on losses fits."""

    def __init__(self, loss: Floats, logs: Mapping[str, Floats], terms: tuple[Term, ...], names: tuple[str, ...]):
        super().__init__(loss, logs, terms, names)
        self.target = loss

    def evaluate(self, theta: Floats) -> State:
        state = super().evaluate(theta)
        total = np.exp(state.prediction)
        # The terms take the place of their shares: the derivatives of a sum are the same moments without its logarithm.
        return State(prediction=total, parts=state.parts * total)

    def curvature(self, theta: Floats, state: State, jacobian: Floats, slope: Floats) -> Floats:
        return super().curvature(theta, state, np.zeros_like(jacobian), slope)

    def starts(self, generator: np.random.Generator, count: int) -> Floats:
        return SumOfPowers(self.target, self.logs, self.terms, self.names).starts(generator, count)


class KaplanForm(Form):
    """ln L = s ln(exp(u / s) + exp(v / s)), u = c - alpha_N x, v = d - s z, s = alpha_D: Kaplan et al. eq. 1.5."""

    def __init__(self, loss: Floats, logs: Mapping[str, Floats]):
        self.target = np.log(loss)
        self.centres = {variable: float(np.mean(x)) for variable, x in logs.items()}
        self.x, self.z = logs["N"] - self.centres["N"], logs["D"] - self.centres["D"]
        low, high = float(self.target.min()), float(self.target.max())
        self.names = ("Nc", "Dc", "alpha_N", "alpha_D")
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


class LineForm(Form):
    """score = a + b x: solved like the others so that robust objectives work too."""

    def __init__(self, score: Floats, log_x: Floats):
        self.target = score
        self.centre = float(np.mean(log_x))
        self.x = log_x - self.centre
        self.names = ("a", "b")
        self.lower, self.upper = np.full(2, -np.inf), np.full(2, np.inf)
        self.reach = np.full(2, np.inf)

    def evaluate(self, theta: Floats) -> State:
        prediction = theta[:, 0, None] + theta[:, 1, None] * self.x
        return State(prediction=prediction, parts=np.empty((0, len(theta), len(self.x))))

    def jacobian(self, theta: Floats, state: State) -> Floats:
        return np.broadcast_to(np.stack([np.ones_like(self.x), self.x]), (len(theta), 2, len(self.x)))

    def curvature(self, theta: Floats, state: State, jacobian: Floats, slope: Floats) -> Floats:
        return np.zeros((len(theta), 2, 2))

    def starts(self, generator: np.random.Generator, count: int) -> Floats:
        spread = float(np.ptp(self.target)) or 1.0
        middles = self.target.mean() + generator.normal(0, spread, count)
        return np.stack([middles, generator.normal(0, spread, count)], axis=1)

    def values(self, theta: Floats) -> dict[str, Floats]:
        return {"a": theta[:, 0] - theta[:, 1] * self.centre, "b": theta[:, 1]}


LEAST_STEEPNESS, MAX_STEEPNESS = 1e-3, 50.0
"""Per nat: flat over every loss that there is; a step within a twentieth of a nat, steeper than any task's."""


class SaturatingForm(Form):
    """score = ceiling - exp(c - alpha x), coordinates (ceiling, c, alpha)."""

    def __init__(self, score: Floats, log_x: Floats, ceiling: float):
        """`ceiling` is the most the score can be (1 or 100 for an accuracy)."""
        self.target = score
        self.names = ("ceiling", "A", "alpha")
        self.follows = {"A": ("alpha",), "alpha": ("A",)}
        self.centre = float(np.mean(log_x))
        self.x = log_x - self.centre
        self.spread = float(np.ptp(score)) or 1.0
        self.lower = np.array([float(score.min()), np.log(self.spread) - 12.0, 0.0])
        self.upper = np.array([ceiling, np.log(self.spread) + 6.0, 4.0])
        self.reach = np.array([LOG_REACH * self.spread, LOG_REACH, LOG_REACH])

    def evaluate(self, theta: Floats) -> State:
        gap = np.exp(theta[:, 1, None] - theta[:, 2, None] * self.x)
        return State(prediction=theta[:, 0, None] - gap, parts=gap[None])

    def jacobian(self, theta: Floats, state: State) -> Floats:
        gap = state.parts[0]
        return np.stack([np.ones_like(gap), -gap, gap * self.x], axis=1)

    def starts(self, generator: np.random.Generator, count: int) -> Floats:
        ceilings = np.minimum(self.target.max() + generator.uniform(0, 1.5, count) * self.spread, self.upper[0])
        gaps = np.log(self.spread) + generator.uniform(-2, 1, count)
        return np.stack([ceilings, gaps, generator.uniform(0.05, 1.5, count)], axis=1)

    def values(self, theta: Floats) -> dict[str, Floats]:
        return {"ceiling": theta[:, 0], "A": np.exp(theta[:, 1] + theta[:, 2] * self.centre), "alpha": theta[:, 2]}


class SigmoidForm(Form):
    """score = chance + (ceiling - chance) sigmoid(c + b x), coordinates (ceiling, c, b)."""

    def __init__(self, score: Floats, log_x: Floats, chance: float, ceiling: float):
        """`chance` is given; `ceiling` is the most the fitted ceiling can be."""
        self.target = score
        self.names = ("ceiling", "a", "b")
        self.chance = chance
        self.centre = float(np.mean(log_x))
        self.x = log_x - self.centre
        self.lower = np.array([chance, -20.0, -10.0])
        self.upper = np.array([ceiling, 20.0, 10.0])
        self.reach = np.array([LOG_REACH * (float(np.ptp(score)) or 1.0), LOG_REACH, LOG_REACH])

    def evaluate(self, theta: Floats) -> State:
        way = 0.5 * (1 + np.tanh(0.5 * (theta[:, 1, None] + theta[:, 2, None] * self.x)))
        return State(prediction=self.chance + (theta[:, 0, None] - self.chance) * way, parts=way[None])

    def jacobian(self, theta: Floats, state: State) -> Floats:
        way = state.parts[0]
        steep = (theta[:, 0, None] - self.chance) * way * (1 - way)
        return np.stack([way, steep, steep * self.x], axis=1)

    def starts(self, generator: np.random.Generator, count: int) -> Floats:
        spread = float(np.ptp(self.target)) or 1.0
        ceilings = np.minimum(self.target.max() + generator.uniform(0, 1, count) * spread, self.upper[0])
        sign = np.where(generator.random(count) < 0.9, 1.0, -1.0)
        return np.stack([ceilings, generator.uniform(-2, 3, count), sign * generator.uniform(0.1, 2.0, count)], axis=1)

    def values(self, theta: Floats) -> dict[str, Floats]:
        return {"ceiling": theta[:, 0], "a": theta[:, 1] - theta[:, 2] * self.centre, "b": theta[:, 2]}


class LossErrorForm(SaturatingForm):
    """error = eps - exp(c - gamma L), coordinates (eps, c, gamma): the saturating form with L in place of ln x."""

    def __init__(self, error: Floats, loss: Floats, ceiling: float):
        """`ceiling` is the most the error can be (1 or 100)."""
        super().__init__(error, loss, ceiling)
        self.names = ("eps", "k", "gamma")
        self.follows = {"k": ("gamma",), "gamma": ("k",)}
        self.upper[2] = MAX_STEEPNESS

    def values(self, theta: Floats) -> dict[str, Floats]:
        return {"eps": theta[:, 0], "k": np.exp(theta[:, 1] + theta[:, 2] * self.centre), "gamma": theta[:, 2]}


class LossSigmoidForm(Form):
    """accuracy = chance + (ceiling - chance) sigmoid(-(c + k x)), x = L - mean L; coordinates (chance, ceiling, c, k).

    Chance and ceiling lie below and above the middle of the observed scores, so that the two cannot change places.
    """

    def __init__(self, score: Floats, loss: Floats, ceiling: float):
        """`ceiling` is the most the accuracy can be (1 or 100)."""
        self.target = score
        self.names = ("chance", "ceiling", "L0", "k")
        self.follows = {"chance": ("a",), "ceiling": ("a", "b"), "k": ("L0",)}
        self.centre = float(np.mean(loss))
        self.x = loss - self.centre
        low, high = float(score.min()), float(score.max())
        self.spread = (high - low) or 1.0
        middle = 0.5 * (low + high)
        self.lower = np.array([min(0.0, low), middle, -MAX_STEEPNESS, LEAST_STEEPNESS])
        self.upper = np.array([middle, ceiling, MAX_STEEPNESS, MAX_STEEPNESS])
        self.reach = np.array([LOG_REACH * self.spread] * 2 + [LOG_REACH] * 2)

    def evaluate(self, theta: Floats) -> State:
        odds = theta[:, 2, None] + theta[:, 3, None] * self.x
        way = 0.5 * (1 - np.tanh(0.5 * odds))  # of the ceiling, [S, n]
        chance, ceiling = theta[:, 0, None], theta[:, 1, None]
        return State(prediction=chance + (ceiling - chance) * way, parts=way[None])

    def jacobian(self, theta: Floats, state: State) -> Floats:
        way = state.parts[0]
        steep = -(theta[:, 1, None] - theta[:, 0, None]) * way * (1 - way)
        return np.stack([1 - way, way, steep, steep * self.x], axis=1)

    def starts(self, generator: np.random.Generator, count: int) -> Floats:
        low, high = float(self.target.min()), float(self.target.max())
        chance = low - generator.uniform(0, 0.5, count) * self.spread
        ceiling = high + generator.uniform(0, 0.5, count) * self.spread
        # From a gentle slope over all of the losses to a step within them.
        width = float(np.ptp(self.x)) or 1.0
        steepness = np.exp(generator.uniform(np.log(0.5), np.log(20), count)) / width
        odds = generator.uniform(-0.5, 0.5, count) * width * steepness
        return np.clip(np.stack([chance, ceiling, odds, steepness], axis=1), self.lower, self.upper)

    def values(self, theta: Floats) -> dict[str, Floats]:
        chance, ceiling, odds, k = theta.T
        return {"a": chance - ceiling, "k": k, "L0": self.centre - odds / k, "b": ceiling}
