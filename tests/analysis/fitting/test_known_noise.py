"""What is known of points and parameters beforehand: standard errors, weights, counts, fixed and bounded values."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import minimize

from ladder.analysis.fitting.fits import Fit, FitOptions, fit_law
from ladder.analysis.fitting.health import Status
from ladder.analysis.fitting.points import make_points
from ladder.analysis.fitting.solver import Objective
from ladder.analysis.laws.law import Floats, Power, PowerOffset, Sigmoid
from ladder.analysis.laws.surfaces import BESIROGLU
from ladder.models.errors import InputError

SQUARES = Objective(kind="squares")
LOW, HIGH = 0.92, 0.98
POWER = PowerOffset(E=1.7, A=400.0, alpha=0.34)
X = np.geomspace(1e6, 1e9, 12)
ODDS = Sigmoid(ceiling=0.9, a=-14.0, b=0.8, chance=0.25)
CHANCE = {"chance": 0.25}
SIZES = np.geomspace(1e7, 1e10, 10)


def uneven(seed: int) -> tuple[Floats, Floats]:
    """Losses at X whose standard errors differ by a factor of ten, and these errors."""
    generator = np.random.default_rng([11, seed])
    errors = 0.002 * POWER.score(x=X) * np.geomspace(0.3, 3, 12)[generator.permutation(12)]
    return POWER.score(x=X) + errors * generator.standard_normal(12), errors


def uneven_fit(seed: int, *, known: bool = True) -> Fit:
    """The law of such losses, with or without their errors."""
    loss, errors = uneven(seed)
    options = FitOptions(objective=SQUARES, bootstrap=400, starts=8, seed=seed)
    return fit_law("power-offset", make_points(loss, params=X, errors=errors if known else None), options)


def counted_fit(seed: int, more: float = 0.0) -> Fit:
    """A sigmoid of accuracies over 400 items; `more` is what models differ by besides, in log-odds."""
    generator = np.random.default_rng([12, seed])
    odds = ODDS.a + ODDS.b * np.log(SIZES) + more * generator.standard_normal(10)
    share = 0.25 + 0.65 / (1 + np.exp(-odds))
    score = generator.binomial(400, share) / 400
    points = make_points(score, params=SIZES, trials=np.full(10, 400))
    return fit_law("sigmoid", points, FitOptions(bootstrap=400, starts=8, seed=seed, constants=CHANCE))


def shares(fits: Callable[[int], Fit], truth: dict[str, float], simulations: int) -> dict[str, float]:
    """How often the intervals hold the truth, of those whose ends are known."""
    held, known = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0)
    for seed in range(simulations):
        fit = fits(seed)
        for name, value in truth.items():
            low, high = fit.interval(name).as_list()
            if low is not None and high is not None:
                known[name] += 1
                held[name] += low <= value <= high
    return {name: held[name] / known[name] for name in truth}


def test_equal_errors_or_weights_change_nothing() -> None:
    loss = uneven(0)[0]
    plain = fit_law("power-offset", make_points(loss, params=X), FitOptions(objective=SQUARES, bootstrap=100))
    for given in ({"weights": np.full(12, 7.0)}, {"errors": 0.01 * loss}):
        fit = fit_law(
            "power-offset", make_points(loss, params=X, **given), FitOptions(objective=SQUARES, bootstrap=100)
        )
        assert fit.law.parameters == pytest.approx(plain.law.parameters, rel=1e-6)
        assert fit.residuals == pytest.approx(plain.residuals, abs=1e-9)


def test_a_weight_of_two_is_the_point_twice() -> None:
    loss = uneven(0)[0]
    weights = np.where(np.arange(12) < 4, 2.0, 1.0)
    twice = np.concatenate([np.arange(12), np.arange(4)])
    one = fit_law("power", make_points(loss, params=X, weights=weights), FitOptions(objective=SQUARES, bootstrap=0))
    other = fit_law("power", make_points(loss[twice], params=X[twice]), FitOptions(objective=SQUARES, bootstrap=0))
    assert one.law.parameters == pytest.approx(other.law.parameters, rel=1e-8)


def test_known_errors_narrow_the_interval_and_hold_the_truth() -> None:
    widths = []
    for known in (True, False):
        ends = [uneven_fit(seed, known=known).interval("alpha") for seed in range(20)]
        widths.append(np.median([one.high - one.low for one in ends if one.low is not None and one.high is not None]))
    assert widths[0] < 0.6 * widths[1]
    # 95 % of 100 has a standard error of 2.2 %.
    assert all(share >= 0.88 for share in shares(uneven_fit, POWER.parameters, 100).values())


def test_points_that_miss_the_law_by_more_than_their_errors_are_a_misfit() -> None:
    loss, errors = uneven(0)
    assert uneven_fit(0).misfit == ""
    wrong = fit_law("power-offset", make_points(loss, params=X, errors=errors / 5), FitOptions(bootstrap=0))
    assert "more than their own standard errors" in wrong.misfit
    honest = fit_law("power-offset", make_points(loss, params=X, errors=errors), FitOptions(objective=SQUARES))
    small = fit_law("power-offset", make_points(loss, params=X, errors=errors / 5), FitOptions(objective=SQUARES))
    for name, ends in small.intervals.items():  # the scatter is judged by the points, whatever their errors say
        assert ends.known and honest.intervals[name].known
        assert ends.high - ends.low > 0.7 * (honest.intervals[name].high - honest.intervals[name].low)  # type: ignore[operator]


def test_counts_give_the_maximum_of_the_binomial_likelihood() -> None:
    fit = counted_fit(0)
    score, log_x = fit.points.score, np.log(SIZES)

    def minus_log_likelihood(theta: Floats) -> float:
        share = np.clip(0.25 + (theta[0] - 0.25) / (1 + np.exp(-(theta[1] + theta[2] * (log_x - 19)))), 1e-9, 1 - 1e-9)
        return float(-400 * (score * np.log(share) + (1 - score) * np.log(1 - share)).sum())

    found = minimize(
        minus_log_likelihood, [0.9, 1.0, 0.8], method="Nelder-Mead", options={"maxiter": 9999, "xatol": 1e-9}
    )
    own = [fit.law.values["ceiling"], fit.law.values["a"] + 19 * fit.law.values["b"], fit.law.values["b"]]
    assert minus_log_likelihood(np.array(own)) <= found.fun + 1e-7
    told = fit.to_json()
    assert fit.status is Status.CONVERGED and (told["objective_kind"], told["known_noise"]) == ("binomial", "trials")


def test_intervals_of_counts_hold_the_truth_also_where_models_differ_by_more() -> None:
    for more in (0.0, 0.3):
        found = shares(lambda seed, more=more: counted_fit(seed, more), {"a": ODDS.a, "b": ODDS.b}, 100)  # type: ignore[misc]
        assert all(share >= 0.88 for share in found.values()), (more, found)


def test_a_new_run_over_items_lies_in_its_band_and_within_0_and_1() -> None:
    held = 0
    for seed in range(100):
        band = counted_fit(seed).band({"x": np.array([3e10])}, new_run=True)
        assert band is not None
        score = np.random.default_rng([13, seed]).binomial(400, float(ODDS.score(x=3e10))) / 400
        assert band[1][0] <= 1.0
        held += band[0][0] <= score <= band[1][0]
    assert held >= 88


@pytest.mark.parametrize(
    ("law", "given", "message"),
    [
        ("power", {"trials": np.full(12, 10.0)}, "counts need a law of accuracies"),
        ("saturating", {"trials": np.full(12, 10.0), "weights": np.ones(12)}, "only one of errors, weights, trials"),
        ("power", {"errors": np.zeros(12)}, "errors is 0 in row 1; it must be above 0"),
    ],
)
def test_noise_that_cannot_be_is_refused(law: str, given: dict[str, Floats], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_law(law, make_points(np.linspace(0.2, 0.8, 12), params=X, **given))


def test_counts_above_their_trials_are_refused() -> None:
    with pytest.raises(InputError, match="divide successes by trials"):
        make_points([3.0, 5.0], params=[1e6, 1e7], trials=[10, 10])


N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 3e8, 4), np.geomspace(2e8, 5e9, 4)))


def grid_loss(seed: int, noise: float = 0.002) -> Floats:
    """Losses of Besiroglu et al.'s law at 16 places."""
    return np.asarray(BESIROGLU.score(N=N, D=D) * np.exp(noise * np.random.default_rng(seed).standard_normal(16)))


@pytest.mark.parametrize("names", [("E",), ("A",), ("alpha",), ("B", "beta"), ("E", "A", "B")])
def test_fixed_parameters_are_what_they_are_and_the_others_are_found(names: tuple[str, ...]) -> None:
    fixed = {name: BESIROGLU.parameters[name] for name in names}
    exact = make_points(BESIROGLU.score(N=N, D=D), params=N, tokens=D)
    fit = fit_law("hoffmann", exact, FitOptions(fixed=fixed, bootstrap=0))
    assert fit.law.parameters == pytest.approx(BESIROGLU.parameters, rel=1e-4) and fit.status is Status.CONVERGED
    assert fit.health.degrees_of_freedom == 16 - 5 + len(names)
    for name in names:
        assert fit.intervals[name].as_list() == [fixed[name], fixed[name]]


def test_what_is_fixed_narrows_what_is_left() -> None:
    points = make_points(grid_loss(0), params=N, tokens=D)
    free = fit_law("hoffmann", points, FitOptions(objective=SQUARES, bootstrap=300))
    fixed = fit_law("hoffmann", points, FitOptions(objective=SQUARES, bootstrap=300, fixed={"E": BESIROGLU.E}))
    wide, narrow = (fit.interval("alpha") for fit in (free, fixed))
    assert wide.known and narrow.known
    assert narrow.high - narrow.low < 0.85 * (wide.high - wide.low)  # type: ignore[operator]


def test_a_fixed_exponent_lets_one_ratio_be_fitted() -> None:
    """With both exponents known a single number of tokens per parameter still cannot part A and B where they agree."""
    loss = BESIROGLU.score(N=N, D=20 * N)
    points = make_points(loss, params=N, tokens=20 * N)
    assert fit_law("hoffmann", points, FitOptions(bootstrap=0)).status is Status.NOT_IDENTIFIABLE
    same = {"alpha": 0.35, "beta": 0.35}
    assert fit_law("hoffmann", points, FitOptions(bootstrap=0, fixed=same)).status is Status.NOT_IDENTIFIABLE


def test_a_bound_that_presses_is_said_and_leaves_its_end_unknown() -> None:
    points = make_points(grid_loss(0), params=N, tokens=D)
    fit = fit_law("hoffmann", points, FitOptions(bounds={"alpha": (0.2, 0.3)}, bootstrap=200))
    assert fit.law.values["alpha"] == pytest.approx(0.3) and fit.status is Status.AT_BOUND
    assert fit.intervals["alpha"].high is None
    wide = fit_law("hoffmann", points, FitOptions(bounds={"alpha": (0.1, 0.9), "A": (10, 1e5)}, bootstrap=0))
    assert wide.law.parameters == pytest.approx(
        fit_law("hoffmann", points, FitOptions(bootstrap=0)).law.parameters, rel=1e-3
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fixed": {"gamma": 1.0}}, "hoffmann has no parameter gamma; it has E, A, B, alpha, beta"),
        ({"fixed": dict.fromkeys(BESIROGLU.fitted, 1.0)}, "every parameter of hoffmann is fixed"),
        ({"bounds": {"alpha": (0.5, 0.1)}}, "give the lower one first"),
        ({"fixed": {"A": -1.0}}, "A is -1, and hoffmann needs 0 or more"),
    ],
)
def test_what_cannot_be_fixed_or_bounded_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_law("hoffmann", make_points(grid_loss(0), params=N, tokens=D), FitOptions(**options))  # type: ignore[arg-type]


def test_kaplans_constants_cannot_be_fixed_one_by_one() -> None:
    with pytest.raises(InputError, match="has no parameter 'Nc' that can be fixed or bounded alone; it has alpha_N"):
        fit_law("kaplan", make_points(grid_loss(0), params=N, tokens=D), FitOptions(fixed={"Nc": 1e14}))


def test_a_fixed_amplitude_of_one_variable_is_kept_in_every_law() -> None:
    truth = Power(A=20.0, alpha=0.1)
    points = make_points(truth.score(x=X), params=X)
    fit = fit_law("power", points, FitOptions(fixed={"A": 20.0}, bootstrap=0))
    assert fit.law.parameters == pytest.approx(truth.parameters, rel=1e-6)
    line = fit_law("log-linear", points, FitOptions(fixed={"b": -0.2}, bootstrap=50))
    assert line.law.values["b"] == -0.2 and line.line is None


@pytest.mark.simulation
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("what", ["errors", "counts", "counts that scatter more"])
def test_intervals_with_known_noise_hold_the_truth_in_1000_simulations(what: str) -> None:
    """Known noise counts unless the points scatter by more (p below .25), which widens a quarter of the intervals."""
    cases: dict[str, tuple[Callable[[int], Fit], dict[str, float]]] = {
        "errors": (uneven_fit, POWER.parameters),
        "counts": (counted_fit, {"a": ODDS.a, "b": ODDS.b}),
        "counts that scatter more": (lambda seed: counted_fit(seed, 0.3), {"a": ODDS.a, "b": ODDS.b}),
    }
    found = shares(*cases[what], 1000)
    print(f"{what}: {found}")
    assert all(LOW <= share <= HIGH for share in found.values()), found
