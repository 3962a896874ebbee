"""The solver's derivatives against differences, and its objectives against their definitions."""

import numpy as np
import pytest

from ladder.analysis.fitting.fits import FitOptions, fit_law
from ladder.analysis.fitting.forms import (
    Form,
    KaplanForm,
    PlaneForm,
    RawSumOfPowers,
    RepeatedForm,
    RuleForm,
    SumOfPowers,
)
from ladder.analysis.fitting.formulation import (
    TERMS,
    Held,
    LossErrorForm,
    LossSigmoidForm,
    SaturatingForm,
    Scaled,
    SigmoidForm,
)
from ladder.analysis.fitting.points import make_points
from ladder.analysis.fitting.solver import Objective, Rho, Sample, derivatives
from ladder.analysis.laws.surfaces import KAPLAN, find_law
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
        PlaneForm(score, LOGS, ("A", "p", "q")),
        RuleForm(LOSS, {"x": LOGS["N"]}, ("A", "p")),
        RepeatedForm(LOSS, LOGS | {"U": LOGS["D"] - np.linspace(0, 3, 9)}),
        SaturatingForm(score, LOGS["N"], 1.0),
        SigmoidForm(score, LOGS["N"], 0.1, 1.0),
        LossErrorForm(score, LOSS, 1.0),
        LossSigmoidForm(1 - score / 2, LOSS, 1.0),
    ]
    given = SumOfPowers(LOSS, LOGS, TERMS["hoffmann"], find_law("hoffmann").fitted, given=("A",))
    wrapped: list[Form] = [Scaled(single, np.linspace(0.5, 2, 9)), Held(given, {"A": 5.0, "beta": 0.3})]
    return [*sums, single, *wrapped, *others]


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


@pytest.mark.parametrize(
    "form", forms()[:6], ids=["hoffmann", "gadre", "raw hoffmann", "power-offset", "scaled", "held"]
)
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


def test_many_points_are_solved_on_some_of_them_first_and_their_refits_spread_as_they_should() -> None:
    """Two Newton steps a refit: its spread is that of the linear theory, 24,000 points of it."""
    generator = np.random.default_rng(4)
    x = np.exp(generator.uniform(np.log(1e6), np.log(1e9), 24_000))
    points = make_points(20 * x**-0.1 * np.exp(0.01 * generator.standard_normal(len(x))), params=x)
    options = FitOptions(bootstrap=200, starts=20, objective=Objective(kind="squares"))
    fit = fit_law("power", points, options)
    wanted = 0.01 / np.sqrt(((np.log(x) - np.log(x).mean()) ** 2).sum())
    assert fit.law.parameters["alpha"] == pytest.approx(0.1, abs=4 * wanted)
    assert fit.draws is not None
    # A standard deviation from 200 refits is known to 5 %.
    assert np.std(fit.draws.values["alpha"]) == pytest.approx(wanted, rel=0.15)
    robust = fit_law("power", points, FitOptions(bootstrap=200, starts=20))
    assert robust.draws is not None
    # Absolute values are pi / 2 as variable for normal noise, which a Huber function of a tenth of it nearly is.
    assert np.std(robust.draws.values["alpha"]) == pytest.approx(wanted * np.sqrt(np.pi / 2), rel=0.2)


def test_kaplans_law_reaches_its_best_objective_from_many_starts_under_huber() -> None:
    """Reweighting stalled at the kinks: none of 3,000 starts reached the best, beside the word converged."""
    N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e9, 8), np.geomspace(2e8, 2e10, 8)))
    noise = np.exp(0.01 * np.random.default_rng(0).standard_normal(64))
    points = make_points(KAPLAN.score(N=N, D=D) * noise, params=N, tokens=D)
    fit = fit_law("kaplan", points, FitOptions(bootstrap=0, starts=100))
    assert fit.health.best_share > 0.3
