"""Forms of accuracies and errors as the solver sees them; the base class and the letters are in `forms`."""

import numpy as np

from ladder.analysis.fitting.forms import LOG_REACH, Floats, Form, State

MAX_STEEPNESS = 50.0
"""Per nat: a step within a twentieth of a nat, steeper than any task's."""
LEAST_STEEPNESS = 1e-3
"""Per nat: flat over every loss that there is."""


class SaturatingForm(Form):
    """score = ceiling - exp(c - alpha x), coordinates (ceiling, c, alpha)."""

    def __init__(self, score: Floats, log_x: Floats, ceiling: float):
        """`ceiling` is the most the score can be (1 or 100 for an accuracy)."""
        self.target = score
        self.names = ("ceiling", "A", "alpha")
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
        return np.stack(
            [ceilings, np.log(self.spread) + generator.uniform(-2, 1, count), generator.uniform(0.05, 1.5, count)],
            axis=1,
        )

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
