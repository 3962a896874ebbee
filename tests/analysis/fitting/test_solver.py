"""The solver's derivatives against differences, and its objectives against their definitions."""

import numpy as np
import pytest

from ladder.analysis.fitting.fits import TERMS
from ladder.analysis.fitting.forms import (
    Form,
    KaplanForm,
    LineForm,
    LossErrorForm,
    LossSigmoidForm,
    RawSumOfPowers,
    SaturatingForm,
    SigmoidForm,
    SumOfPowers,
)
from ladder.analysis.fitting.solver import Objective, Rho, Sample, derivatives
from ladder.analysis.laws.surfaces import find_law
from ladder.models.errors import InputError

GENERATOR = np.random.default_rng(0)
LOGS = {"N": np.log(GENERATOR.uniform(1e6, 1e9, 9)), "D": np.log(GENERATOR.uniform(1e8, 1e10, 9))}
LOSS = GENERATOR.uniform(2, 4, 9)


def forms() -> list[Form]:
    """Every form over the same nine points."""
    sums: list[Form] = [SumOfPowers(LOSS, LOGS, TERMS[name], find_law(name).fitted) for name in ("hoffmann", "gadre")]
    sums.append(RawSumOfPowers(LOSS, LOGS, TERMS["hoffmann"], find_law("hoffmann").fitted))
    single = SumOfPowers(LOSS, {"x": LOGS["N"]}, TERMS["power-offset"], ("E", "A", "alpha"))
    score = LOSS / 5
    others: list[Form] = [
        KaplanForm(LOSS, LOGS),
        LineForm(score, LOGS["N"]),
        SaturatingForm(score, LOGS["N"], 1.0),
        SigmoidForm(score, LOGS["N"], 0.1, 1.0),
        LossErrorForm(score, LOSS, 1.0),
        LossSigmoidForm(1 - score / 2, LOSS, 1.0),
    ]
    return [*sums, single, *others]


@pytest.mark.parametrize("form", forms(), ids=lambda form: type(form).__name__)
def test_jacobians_agree_with_differences(form: Form) -> None:
    theta = form.starts(np.random.default_rng(1), 3)
    jacobian = form.jacobian(theta, form.evaluate(theta))
    for index in range(theta.shape[1]):
        shift = np.zeros(theta.shape[1])
        shift[index] = 1e-6
        difference = (form.evaluate(theta + shift).prediction - form.evaluate(theta - shift).prediction) / 2e-6
        # Central differences of step 1e-6 are right to about 1e-9.
        assert jacobian[:, index] == pytest.approx(difference, abs=1e-7)


@pytest.mark.parametrize("form", forms()[:4], ids=["hoffmann", "gadre", "raw hoffmann", "power-offset"])
def test_the_hessian_agrees_with_differences_of_the_gradient(form: Form) -> None:
    rho = Rho(delta=0.5, scale=1.0)
    theta = form.starts(np.random.default_rng(2), 1)

    def gradient(at: np.ndarray) -> np.ndarray:
        return derivatives(form, rho, Sample.whole(form, 1), at, form.evaluate(at))[0][0]

    hessian = derivatives(form, rho, Sample.whole(form, 1), theta, form.evaluate(theta))[1][0]
    for index in range(theta.shape[1]):
        shift = np.zeros(theta.shape[1])
        shift[index] = 1e-6
        difference = (gradient(theta + shift) - gradient(theta - shift)) / 2e-6
        assert hessian[index] == pytest.approx(difference, rel=1e-4, abs=1e-4)


def test_objectives_are_sums_with_their_usual_definitions() -> None:
    residuals = np.array([0.0005, -0.002, 0.1])
    assert Objective(kind="squares").total(residuals) == pytest.approx(np.sum(residuals**2))
    assert Objective(kind="lad").total(residuals) == pytest.approx(0.1025)
    huber = 0.5 * 0.0005**2 + 1e-3 * (0.002 - 0.0005) + 1e-3 * (0.1 - 0.0005)
    assert Objective(kind="huber", delta=1e-3).total(residuals) == pytest.approx(huber)


def test_a_delta_that_is_not_positive_is_refused() -> None:
    with pytest.raises(InputError, match="delta is 0"):
        Objective(delta=0.0)
