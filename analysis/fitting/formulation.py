"""Which form a law takes over some points: one of `forms`, or one of a score, which are here.

A form may have some coordinates held or bounded, and its residuals scaled, so that points of unequal noise are alike.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ladder.analysis.fitting.forms import (
    LOG_REACH,
    Form,
    KaplanForm,
    PlaneForm,
    RawSumOfPowers,
    RepeatedForm,
    RuleForm,
    State,
    SumOfPowers,
    Term,
)
from ladder.analysis.fitting.points import Points
from ladder.analysis.fitting.solver import Objective
from ladder.analysis.laws.law import (
    Floats,
    Law,
    LogLinear,
    LossError,
    LossSigmoid,
    Power,
    PowerOffset,
    PowerRule,
    PowerRuleInBoth,
)
from ladder.analysis.laws.surfaces import Gadre, Hoffmann, Kaplan, Repeated
from ladder.models.errors import InputError

if TYPE_CHECKING:  # a fit's options are beside the fit, whose module imports this one
    from ladder.analysis.fitting.fits import FitOptions

LEAST_STEEPNESS, MAX_STEEPNESS = 1e-3, 50.0
"""Per nat: flat over every loss that there is; a step within a twentieth of a nat, steeper than any task's."""


class SaturatingForm(Form):
    """score = ceiling - exp(c - alpha x), coordinates (ceiling, c, alpha)."""

    def __init__(self, score: Floats, log_x: Floats, ceiling: float, given: Collection[str] = ()):
        """`ceiling` is the most the score can be (1 or 100 for an accuracy); an amplitude `given` is at x = 1."""
        self.target = score
        self.names = ("ceiling", "A", "alpha")
        self.settable = {name: name for name in self.names}
        self.amplitudes = ("A",)
        self.follows = {"A": ("alpha",), "alpha": ("A",)}
        self.middle = float(np.mean(log_x))
        self.centre = 0.0 if {"A", "k"} & set(given) else self.middle
        self.x = log_x - self.centre
        self.spread = float(np.ptp(score)) or 1.0
        self.lower = np.array([float(score.min()), np.log(self.spread) - 12.0, 0.0])
        off = self.middle - self.centre
        self.upper = np.array([ceiling, np.log(self.spread) + 6.0 + 4.0 * max(off, 0.0), 4.0])
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
        exponents = generator.uniform(0.05, 1.5, count)
        return np.stack([ceilings, gaps + exponents * (self.middle - self.centre), exponents], axis=1)

    def values(self, theta: Floats) -> dict[str, Floats]:
        return {"ceiling": theta[:, 0], "A": np.exp(theta[:, 1] + theta[:, 2] * self.centre), "alpha": theta[:, 2]}


class SigmoidForm(Form):
    """score = chance + (ceiling - chance) sigmoid(c + b x), coordinates (ceiling, c, b)."""

    def __init__(self, score: Floats, log_x: Floats, chance: float, ceiling: float, given: Collection[str] = ()):
        """`chance` is given; `ceiling` is the most the fitted ceiling can be; `a` where it is `given` is at x = 1."""
        self.target = score
        self.names = ("ceiling", "a", "b")
        self.settable = {name: name for name in self.names}
        self.chance = chance
        self.middle = float(np.mean(log_x))
        self.centre = 0.0 if "a" in given else self.middle
        self.x = log_x - self.centre
        most = 20.0 + 10.0 * abs(self.middle - self.centre)
        self.lower = np.array([chance, -most, -10.0])
        self.upper = np.array([ceiling, most, 10.0])
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
        odds, steepness = generator.uniform(-2, 3, count), sign * generator.uniform(0.1, 2.0, count)
        return np.stack([ceilings, odds - steepness * (self.middle - self.centre), steepness], axis=1)

    def values(self, theta: Floats) -> dict[str, Floats]:
        return {"ceiling": theta[:, 0], "a": theta[:, 1] - theta[:, 2] * self.centre, "b": theta[:, 2]}


class LossErrorForm(SaturatingForm):
    """error = eps - exp(c - gamma L), coordinates (eps, c, gamma): the saturating form with L in place of ln x."""

    def __init__(self, error: Floats, loss: Floats, ceiling: float, given: Collection[str] = ()):
        """`ceiling` is the most the error can be (1 or 100)."""
        super().__init__(error, loss, ceiling, given)
        self.names = ("eps", "k", "gamma")
        self.settable = {name: name for name in self.names}
        self.amplitudes = ("k",)
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
        self.settable = {"b": "ceiling", "k": "k"}
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


class Scaled(Form):
    """A form with each residual multiplied by a factor [n], so that points of unequal noise become alike."""

    def __init__(self, inner: Form, factor: Floats, known_noise: float = 0.0):
        self.inner, self.factor, self.known_noise = inner, factor, known_noise
        self.target = inner.target * factor
        self.names, self.follows = inner.names, inner.follows
        self.lower, self.upper, self.reach = inner.lower, inner.upper, inner.reach

    def unscaled(self, state: State) -> State:
        """The state as the form within has it."""
        return State(prediction=state.prediction / self.factor, parts=state.parts)

    def evaluate(self, theta: Floats) -> State:
        state = self.inner.evaluate(theta)
        return State(prediction=state.prediction * self.factor, parts=state.parts)

    def jacobian(self, theta: Floats, state: State) -> Floats:
        return self.inner.jacobian(theta, self.unscaled(state)) * self.factor

    def curvature(self, theta: Floats, state: State, jacobian: Floats, slope: Floats) -> Floats | None:
        return self.inner.curvature(theta, self.unscaled(state), jacobian / self.factor, slope * self.factor)

    def starts(self, generator: np.random.Generator, count: int) -> Floats:
        return self.inner.starts(generator, count)

    def values(self, theta: Floats) -> dict[str, Floats]:
        return self.inner.values(theta)


class Held(Form):
    """A form with some of its coordinates held where they are given; only the others are its own."""

    def __init__(self, inner: Form, held: Mapping[str, float]):
        """`held` are coordinates of the form within by name."""
        self.inner, self.target = inner, inner.target
        self.free = np.array([name not in held for name in inner.names])
        self.whole = np.array([held.get(name, 0.0) for name in inner.names])
        self.names = tuple(name for name in inner.names if name not in held)
        self.lower, self.upper, self.reach = inner.lower[self.free], inner.upper[self.free], inner.reach[self.free]
        follows = {name: inner.follows.get(name, ()) for name in self.names}
        self.follows = {name: tuple(one for one in others if one not in held) for name, others in follows.items()}

    def every(self, theta: Floats) -> Floats:
        """Coordinates of the form within, [S, all of them]."""
        filled = np.repeat(self.whole[None], len(theta), axis=0)
        filled[:, self.free] = theta
        return filled

    def evaluate(self, theta: Floats) -> State:
        return self.inner.evaluate(self.every(theta))

    def jacobian(self, theta: Floats, state: State) -> Floats:
        return self.inner.jacobian(self.every(theta), state)[:, self.free]

    def curvature(self, theta: Floats, state: State, jacobian: Floats, slope: Floats) -> Floats | None:
        whole = self.every(theta)
        found = self.inner.curvature(whole, state, self.inner.jacobian(whole, state), slope)
        return None if found is None else found[:, self.free][:, :, self.free]

    def starts(self, generator: np.random.Generator, count: int) -> Floats:
        return self.inner.starts(generator, count)[:, self.free]

    def values(self, theta: Floats) -> dict[str, Floats]:
        return self.inner.values(self.every(theta))


def default_objective(law: type[Law]) -> Objective:
    """Huber on log loss for the loss laws (Hoffmann et al. 2022), squares for scores and for rules of settings."""
    return Objective(kind="huber") if law.log_residual and law.robust else Objective(kind="squares")


def make_form(law: type[Law], points: Points, options: "FitOptions") -> Form:
    """The law over these points as the solver sees it, with fixed, bounded and weighted parts as the options say."""
    form = bounded(plain_form(law, points, options), law, options)
    places = {name: coordinate(form, law, name, value) for name, value in options.fixed.items()}
    held = {form.settable[name]: place for name, place in places.items()}
    whole = Held(form, held) if held else form
    spread = spread_of(law, points, options)
    if spread is None:
        return whole
    typical = float(np.sqrt(np.mean(spread**2)))
    return Scaled(whole, typical / spread, typical if points.errors is not None else 0.0)


def spread_of(law: type[Law], points: Points, options: "FitOptions") -> Floats | None:
    """[n] standard deviation of each residual, to a factor that is common to all; None where all are alike."""
    if points.weights is not None:
        return np.asarray(1 / np.sqrt(points.weights))
    if points.errors is None:
        return None
    logarithmic = law.log_residual and options.log_residual is not False
    logarithmic |= options.constants.get("log_score", 0.0) > 0
    return points.errors / points.score if logarithmic else points.errors


def plain_form(law: type[Law], points: Points, options: "FitOptions") -> Form:
    """The law over the points, all parameters free and all points alike."""
    logs, given = logs_of(law, points), {*options.fixed, *options.bounds}
    if options.log_residual is False and law.log_residual and law.name not in TERMS:
        raise InputError(f"{law.name} is fitted in its logarithm only; leave out the choice of residual")
    if law is LogLinear:
        logarithmic = options.constants.get("log_score", 0.0) > 0
        return PlaneForm(np.log(points.score) if logarithmic else points.score, logs, law.fitted, given)
    if law in (PowerRule, PowerRuleInBoth):
        return RuleForm(points.score, logs, law.fitted, given)
    if law is Repeated:
        return RepeatedForm(points.score, logs, given)
    if not law.log_residual:
        return make_score_form(law, points, options)
    if law is Kaplan:
        return KaplanForm(points.score, logs)
    kind = RawSumOfPowers if options.log_residual is False else SumOfPowers
    return kind(points.score, logs, TERMS[law.name], law.fitted, given)


def coordinate(form: Form, law: type[Law], name: str, value: float) -> float:
    """The solver's coordinate of a parameter's value; InputError for a parameter that no coordinate stands for."""
    if name not in form.settable:
        can = ", ".join(form.settable)
        raise InputError(f"{law.name} has no parameter {name!r} that can be fixed or bounded alone; it has {can}")
    if form.settable[name] not in form.amplitudes:
        return value
    if value < 0:
        raise InputError(f"{name} is {value:g}, and {law.name} needs 0 or more; give another value")
    place = form.names.index(form.settable[name])
    return max(float(np.log(value)), float(form.lower[place])) if value > 0 else float(form.lower[place])


def bounded(form: Form, law: type[Law], options: "FitOptions") -> Form:
    """The form with the bounds that the options give."""
    for name, (low, high) in options.bounds.items():
        if not low < high:
            raise InputError(f"the bounds of {name} are {low:g} and {high:g}; give the lower one first")
        ends = [coordinate(form, law, name, end) for end in (low, high)]
        place = form.names.index(form.settable[name])
        form.lower[place], form.upper[place] = max(form.lower[place], ends[0]), min(form.upper[place], ends[1])
    return form


def logs_of(law: type[Law], points: Points) -> dict[str, Floats]:
    """The logarithms of what the law reads, by its letters."""
    return {letter: np.log(values) for letter, values in points.inputs(law).items()}


def make_score_form(law: type[Law], points: Points, options: "FitOptions") -> Form:
    """The form of an accuracy or an error in x: a size, or a loss."""
    score, x, given = points.score, points.inputs(law)["x"], {*options.fixed, *options.bounds}
    ceiling = options.ceiling if options.ceiling is not None else natural_ceiling(score)
    if law is LossSigmoid:
        return LossSigmoidForm(score, x, ceiling)
    if law is LossError:
        return LossErrorForm(score, x, ceiling, given)
    if law.name == "saturating":
        return SaturatingForm(score, np.log(x), ceiling, given)
    return SigmoidForm(score, np.log(x), options.constants.get("chance", 0.0), ceiling, given)


TERMS: dict[str, tuple[Term, ...]] = {
    Power.name: (Term(amplitude=0, exponent=1, variable="x"),),
    PowerOffset.name: (Term(amplitude=0, exponent=None, variable=""), Term(amplitude=1, exponent=2, variable="x")),
    Hoffmann.name: (
        Term(amplitude=0, exponent=None, variable=""),
        Term(amplitude=1, exponent=3, variable="N"),
        Term(amplitude=2, exponent=4, variable="D"),
    ),
    Gadre.name: (
        Term(amplitude=0, exponent=None, variable=""),
        Term(amplitude=1, exponent=3, variable="N"),
        Term(amplitude=2, exponent=3, variable="D"),
    ),
}


def natural_ceiling(score: Floats) -> float:
    """1 where no score is above it, else 100 likewise, else far above."""
    top = float(score.max())
    return next((limit for limit in (1.0, 100.0) if top <= limit), 10 * abs(top))
