"""Many fits at once: damped Newton steps on a batch of parameter vectors, in plain numpy.

One batch holds every start of a fit, or every bootstrap resample. Steps are Newton's with the exact Hessian of the
objective where the form gives it, damped as in Levenberg and Marquardt per vector, kept within the bounds by freezing
coordinates that press against one, and accepted only when the objective falls. Robust objectives are reached through
`Objective.stages`: squares first, then ever narrower Huber functions. Measured on the 240 Chinchilla points of
Besiroglu et al. 2024: straight at delta 1e-3 a tenth of the starts stop elsewhere, the worst at 20 times the optimum;
through the stages 98 % of 1,000 starts reach it, in a third of a second on one core.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ladder.analysis.forms import Form, State
from ladder.analysis.objectives import LAD_DELTA, Objective, Rho

Floats = NDArray[np.float64]

CHUNK_VALUES = 30_000
"""Values [S, n] per chunk: about what stays in a core's cache while a step is computed (100 x 240 measured best)."""
STAGE_STEPS = 8
"""Steps spent on a stage that is only on the way."""
SQUARES_STEPS = 80
"""Most steps on squares, from anywhere."""
NEAR_DELTA = 1e-3
"""Stages narrower than this are walked to their end, since the next one starts within a hair of it."""
FINAL_STEPS = 100
"""Most steps on the wanted objective; 8 are typical."""
DECREASE_TOLERANCE = 1e-13
"""A vector has converged when a Newton step would lower the objective by less than this share of it."""
MAX_STEP = 2.0
"""Most change of one coordinate (a logarithm or an exponent) per step."""
EXACT = 1e-28
"""Objective per point below which the residuals are rounding errors and the fit is exact."""


@dataclass(frozen=True, kw_only=True)
class Solutions:
    """Where each of the S vectors ended."""

    theta: Floats
    """[S, P] solver coordinates."""
    objective: Floats
    """[S] the wanted objective (exact, also for lad)."""


@dataclass(kw_only=True)
class Walk:
    """The changing state of one chunk: S vectors on their way down one stage's objective."""

    form: Form
    rho: Rho
    weights: Floats
    theta: Floats
    state: State
    value: Floats
    damping: Floats
    moving: NDArray[np.bool_]

    @classmethod
    def begin(cls, form: Form, rho: Rho, weights: Floats, theta: Floats) -> "Walk":
        """The walk before its first step; damping starts small, so that a vector near the optimum takes Newton steps."""
        state = form.evaluate(theta)
        value = (weights * rho.value(form.target - state.prediction)).sum(axis=1)
        damping = np.full(len(theta), 1e-3)
        moving = np.ones(len(theta), dtype=bool)
        return cls(
            form=form, rho=rho, weights=weights, theta=theta.copy(), state=state, value=value, damping=damping, moving=moving
        )

    def step(self) -> None:
        """One damped Newton step of every vector that still moves."""
        rows = np.flatnonzero(self.moving)
        theta, state, weights = self.theta[rows], self.state.take(rows), self.weights[rows]
        gradient, hessian, scale = derivatives(self.form, self.rho, weights, theta, state)
        frozen = ((theta <= self.form.lower) & (gradient > 0)) | ((theta >= self.form.upper) & (gradient < 0))
        step = damped_step(gradient, hessian, scale * self.damping[rows, None], frozen)
        target = np.clip(theta + np.clip(step, -MAX_STEP, MAX_STEP), self.form.lower, self.form.upper)
        promised = -(gradient * (target - theta)).sum(axis=1)
        new_state = self.form.evaluate(target)
        residuals = self.form.target - new_state.prediction
        new_value = (weights * self.rho.value(residuals)).sum(axis=1)
        better = new_value < self.value[rows]
        won = rows[better]
        settled = (promised >= 0) & (promised <= DECREASE_TOLERANCE * self.value[rows])
        settled |= self.value[rows] < EXACT * self.rho.scale * len(self.form.target)
        self.theta[won], self.value[won] = target[better], new_value[better]
        self.state.put(won, new_state.take(better))
        self.damping[won] = np.maximum(self.damping[won] / 5, 1e-12)
        self.damping[rows[~better]] *= 8
        self.moving[rows] = ~settled & (self.damping[rows] < 1e12)


def derivatives(
    form: Form, rho: Rho, weights: Floats, theta: Floats, state: State
) -> tuple[Floats, Floats, Floats]:
    """Gradient [S, P], Hessian [S, P, P] of the objective, and the positive scale [S, P] that damping multiplies."""
    residuals = form.target - state.prediction  # [S, n]
    slope = weights * rho.slope(residuals)
    jacobian = form.jacobian(theta, state)  # [S, P, n]
    gradient = -(jacobian @ slope[:, :, None])[:, :, 0]
    secant = weights * rho.scale * np.minimum(1.0, rho.delta / np.maximum(np.abs(residuals), 1e-300))
    curvature = form.curvature(theta, state, jacobian, slope) if np.isfinite(rho.delta) else None
    # Without curvature the secant weights (iterated reweighting) give a Hessian that is never indefinite; squares are
    # reached from far away, where that matters more than the last digits' speed.
    bend = secant if curvature is None else weights * rho.bend(residuals)
    hessian = (jacobian * bend[:, None]) @ jacobian.transpose(0, 2, 1)
    if curvature is not None:
        hessian -= curvature
    scale = np.einsum("spn,spn,sn->sp", jacobian, jacobian, secant)
    return gradient, hessian, scale


def damped_step(gradient: Floats, hessian: Floats, damping: Floats, frozen: NDArray[np.bool_]) -> Floats:
    """-(H + diag(damping))^-1 g with frozen coordinates left where they are, [S, P]."""
    free = ~frozen
    system = hessian * (free[:, :, None] & free[:, None, :])
    diagonal = np.arange(gradient.shape[1])
    system[:, diagonal, diagonal] += np.where(free, damping + 1e-300, 1.0)
    right = np.where(free, gradient, 0.0)
    try:
        return np.asarray(-np.linalg.solve(system, right[:, :, None])[:, :, 0])
    except np.linalg.LinAlgError:  # one singular matrix refuses the whole batch: lift all by a hair
        system[:, diagonal, diagonal] += 1e-9 * (np.abs(system[:, diagonal, diagonal]) + 1e-30)
        return np.asarray(-(np.linalg.pinv(system) @ right[:, :, None])[:, :, 0])


def descend(form: Form, rho: Rho, weights: Floats, theta: Floats, max_steps: int) -> Floats:
    """theta [S, P] after at most `max_steps` steps down one stage's objective."""
    walk = Walk.begin(form, rho, weights, theta)
    for _ in range(max_steps):
        if not walk.moving.any():
            break
        walk.step()
    return walk.theta


def solve(form: Form, objective: Objective, starts: Floats) -> Solutions:
    """Fits from every start [S, P].

    Starts that have met at one point after the squares stage go on as one, since from there their paths are the same;
    the answer still has a row for each.
    """
    squares, *narrower = objective.stages()
    met = in_chunks(starts, form, lambda theta, _: descend(form, squares, ones(theta, form), theta, SQUARES_STEPS))
    if not narrower:
        return Solutions(theta=met, objective=objective.total(form.target - form.evaluate(met).prediction))
    _, first, group = np.unique(np.round(met, 6), axis=0, return_index=True, return_inverse=True)
    walked = in_chunks(met[first], form, lambda theta, _: narrow(form, objective, theta, ones(theta, form)))
    theta = walked[group.reshape(-1)]
    return Solutions(theta=theta, objective=objective.total(form.target - form.evaluate(theta).prediction))


def solve_weighted(form: Form, objective: Objective, start: Floats, weights: Floats) -> Floats:
    """theta [R, P] of refits under point weights [R, n], each from the fit's own optimum `start` [P]."""
    starts = np.repeat(start[None], len(weights), axis=0)
    return in_chunks(starts, form, lambda theta, rows: narrow(form, objective, theta, weights[rows], near=True))


def ones(theta: Floats, form: Form) -> Floats:
    """Equal weights [S, n]."""
    return np.ones((len(theta), len(form.target)))


def in_chunks(starts: Floats, form: Form, work: Callable[[Floats, slice], Floats]) -> Floats:
    """work(theta, rows) over chunks of the starts, on two threads: numpy's loops let go of the interpreter lock."""
    size = max(1, CHUNK_VALUES // len(form.target))
    chunks = [slice(begin, begin + size) for begin in range(0, len(starts), size)]

    def quiet(chunk: slice) -> Floats:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return work(np.clip(starts[chunk], form.lower, form.upper), chunk)

    with ThreadPoolExecutor(max_workers=2) as pool:
        return np.concatenate(list(pool.map(quiet, chunks)))


def narrow(form: Form, objective: Objective, theta: Floats, weights: Floats, *, near: bool = False) -> Floats:
    """theta [S, P] through the stages after squares; `near` skips those wider than the noise of a good fit."""
    *way, last = objective.stages()
    for rho in way[1:]:
        if not near or rho.delta < NEAR_DELTA:
            theta = descend(form, rho, weights, theta, STAGE_STEPS if rho.delta >= NEAR_DELTA else FINAL_STEPS)
    theta = descend(form, last, weights, theta, FINAL_STEPS)
    return snap_to_points(form, theta, weights) if objective.kind == "lad" else theta


def snap_to_points(form: Form, theta: Floats, weights: Floats) -> Floats:
    """Least absolute deviation passes exactly through as many points as it has parameters: go there if it is lower.

    The narrow Huber function ends within about its delta of the true corner; two Newton steps on the P smallest
    residuals land on it.
    """
    n_coordinates = theta.shape[1]
    state = form.evaluate(theta)
    residuals = np.where(weights > 0, np.abs(form.target - state.prediction), np.inf)
    if residuals.shape[1] <= n_coordinates:
        return theta
    nearest = np.argsort(residuals, axis=1)[:, :n_coordinates]
    trial = theta.copy()
    for _ in range(3):
        state = form.evaluate(trial)
        jacobian = np.take_along_axis(form.jacobian(trial, state), nearest[:, None, :], axis=2)  # [S, P, P]
        gap = np.take_along_axis(form.target - state.prediction, nearest, axis=1)
        try:
            step = np.linalg.solve(jacobian.transpose(0, 2, 1), gap[:, :, None])[:, :, 0]
        except np.linalg.LinAlgError:
            return theta
        trial = np.clip(trial + np.clip(step, -100 * LAD_DELTA - 0.01, 100 * LAD_DELTA + 0.01), form.lower, form.upper)
    before = (weights * np.abs(form.target - form.evaluate(theta).prediction)).sum(axis=1)
    after = (weights * np.abs(form.target - form.evaluate(trial).prediction)).sum(axis=1)
    return np.where((after < before)[:, None], trial, theta)
