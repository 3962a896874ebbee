"""Loss -> accuracy in two steps: planted laws, intervals of both steps together, and whole runs."""

import numpy as np
import pytest

from ladder.analysis.fitting.fits import FitOptions
from ladder.analysis.fitting.health import Status
from ladder.analysis.fitting.solver import Objective
from ladder.analysis.fitting.two_step import TwoStep, fit_two_step
from ladder.analysis.laws.law import Floats, LossSigmoid
from ladder.analysis.laws.surfaces import Hoffmann
from ladder.models.errors import InputError

LAW = TwoStep(
    first=Hoffmann(E=0.5, A=60.0, B=100.0, alpha=0.25, beta=0.25), second=LossSigmoid(a=-0.55, k=4.0, L0=1.05, b=0.85)
)
QUICK = FitOptions(bootstrap=0, starts=40)
SQUARES = FitOptions(bootstrap=200, starts=30, objective=Objective(kind="squares"))
TARGET = {"N": np.array([7e9]), "D": np.array([4e12])}


def ladder_runs() -> tuple[Floats, Floats]:
    """Four sizes of Bhagia et al.'s ladder at four numbers of tokens each."""
    N, ratio = np.meshgrid([1.9e8, 3.7e8, 7.6e8, 1.3e9], [20.0, 40.0, 100.0, 200.0])
    return N.ravel(), (N * ratio).ravel()


def noisy_checkpoints(seed: int, checkpoints: int = 6) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """N, D, loss, accuracy and run of several checkpoints of each run."""
    generator = np.random.default_rng(seed)
    N, D = ladder_runs()
    run = np.repeat(np.arange(len(N)), checkpoints)
    part = np.tile(np.linspace(1 / checkpoints, 1, checkpoints), len(N))
    N, D = N[run], D[run] * part
    loss = LAW.loss(N=N, D=D) * np.exp(0.005 * generator.standard_normal(len(N)))
    accuracy = LAW.second.score(x=loss) + 0.008 * generator.standard_normal(len(N))
    return N, D, loss, accuracy, run


def test_a_planted_two_step_law_is_recovered() -> None:
    N, D = ladder_runs()
    fit = fit_two_step(N, D, LAW.loss(N=N, D=D), LAW.score(N=N, D=D), anchored=False, options=QUICK)
    assert fit.law.parameters == pytest.approx(LAW.parameters, rel=1e-6)
    assert set(fit.law.parameters) == set(LAW.fitted) == set(fit.intervals)
    assert fit.predict(TARGET) == pytest.approx(float(LAW.score(N=7e9, D=4e12)))
    assert fit.status is Status.CONVERGED and fit.reason == ""
    assert fit.band(TARGET) is None, "without a bootstrap the band is unknown"


def test_accuracies_in_percent_give_the_same_law_a_hundredfold() -> None:
    N, D = ladder_runs()
    fit = fit_two_step(N, D, LAW.loss(N=N, D=D), 100 * LAW.score(N=N, D=D), anchored=False, options=QUICK)
    assert fit.law.second.b == pytest.approx(85.0)


def test_the_first_step_reads_the_last_point_of_each_run_only() -> None:
    N, D, loss, accuracy, run = noisy_checkpoints(0)
    early = D < 0.99 * np.repeat(D[5::6], 6)
    loss[early] += 0.3  # before the learning rate came down: on no curve of final losses
    fit = fit_two_step(N, D, loss, accuracy, clusters=run, anchored=False, options=QUICK)
    assert (len(fit.first.points), len(fit.second.points)) == (16, 96)
    assert fit.first.points.tokens == pytest.approx(D[5::6])
    assert fit.law.first.alpha == pytest.approx(0.25, abs=0.1)


def test_rows_of_a_run_may_come_in_any_order() -> None:
    columns = noisy_checkpoints(0)
    shuffled = [column[np.random.default_rng(1).permutation(96)] for column in columns]
    fits = [fit_two_step(*given[:4], clusters=given[4], anchored=False, options=QUICK) for given in (columns, shuffled)]
    assert fits[0].law.parameters == pytest.approx(fits[1].law.parameters, rel=1e-6)


def test_what_is_unknown_of_either_step_widens_the_band() -> None:
    N, D, loss, accuracy, run = noisy_checkpoints(0)

    def width(loss: Floats, accuracy: Floats, *, new_run: bool = False) -> float:
        fit = fit_two_step(N, D, loss, accuracy, clusters=run, anchored=False, options=SQUARES)
        band = fit.band(TARGET, new_run=new_run)
        assert band is not None
        return float(band[1][0] - band[0][0])

    exact_loss, both = LAW.loss(N=N, D=D), width(loss, accuracy)
    assert both > width(loss, LAW.second.score(x=loss)) > 0.003, "an exact second step leaves the first step's spread"
    second_noise = accuracy - LAW.second.score(x=loss)
    assert width(exact_loss, LAW.second.score(x=exact_loss) + second_noise) > 0.003
    assert width(loss, accuracy, new_run=True) > both


def test_bands_of_checkpoints_hold_the_truth_as_often_as_they_say() -> None:
    truth, covered, simulations = float(LAW.score(N=7e9, D=4e12)), 0, 40
    for seed in range(simulations):
        *columns, run = noisy_checkpoints(seed)
        band = fit_two_step(*columns, clusters=run, anchored=False, options=SQUARES).band(TARGET)
        assert band is not None
        covered += band[0][0] <= truth <= band[1][0]
    # 95 % of 40 is 38 with a standard error of 1.4; `make test-simulations` counts 1,000.
    assert covered >= 34


def test_one_ratio_refuses_the_first_step_and_says_so() -> None:
    N = np.array([1.9e8, 3.7e8, 7.6e8, 1.3e9, 2e9])
    fit = fit_two_step(N, 20 * N, LAW.loss(N=N, D=20 * N), LAW.score(N=N, D=20 * N), options=SQUARES)
    assert fit.status is Status.NOT_IDENTIFIABLE
    assert "first step: every run has the same 20 tokens per parameter" in fit.reason
    assert all(interval.low is None for interval in fit.intervals.values())
    assert fit.band(TARGET) is None


def test_too_few_runs_for_the_first_step_are_refused_though_checkpoints_abound() -> None:
    N, D, loss, accuracy, run = noisy_checkpoints(0)
    few = np.isin(run, [0, 1, 4, 5])
    with pytest.raises(InputError, match="4 points are fewer than the 5 parameters of hoffmann"):
        fit_two_step(N[few], D[few], loss[few], accuracy[few], clusters=run[few], options=QUICK)


def test_the_summary_names_both_steps() -> None:
    N, D = ladder_runs()
    fit = fit_two_step(N, D, LAW.loss(N=N, D=D), LAW.score(N=N, D=D), anchored=False, options=QUICK)
    for wanted in ("two-step:", "L0", "first step: task loss", "second step: accuracy", "status      converged"):
        assert wanted in repr(fit)
    assert [step["law"] for step in fit.to_json()["steps"]] == ["hoffmann", "loss-sigmoid"]


def test_a_loss_of_0_is_the_tasks_maximum_unless_that_is_left_out() -> None:
    """Bhagia et al. 2024, section 3.2: without the anchor a ceiling far below 1 passes for the truth."""
    truth = TwoStep(first=LAW.first, second=LossSigmoid(a=-0.75, k=3.5, L0=1.3, b=1.0))
    N, D = ladder_runs()
    loss = truth.loss(N=N, D=D)
    accuracy = truth.second.score(x=loss) + 0.01 * np.random.default_rng(3).standard_normal(len(N))
    fits = [fit_two_step(N, D, loss, accuracy, anchored=anchored, options=QUICK) for anchored in (True, False)]
    assert len(fits[0].second.points) == 17 and fits[0].second.points.score[-1] == 1.0
    wanted = float(truth.score(N=7e10, D=1e13))
    missed = [abs(float(fit.law.score(N=7e10, D=1e13)) - wanted) for fit in fits]
    assert missed[0] < 0.02 < missed[1]
