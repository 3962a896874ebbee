"""What a budget buys under a fitted law, and what a wrong size costs, against numeric solutions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.optimize import brentq, minimize_scalar

from ladder.analysis.fitting.fits import Fit, FitOptions, fit_hoffmann, fit_power
from ladder.analysis.fitting.health import Status
from ladder.analysis.laws.law import Floats
from ladder.analysis.laws.surfaces import BESIROGLU, Gadre, Hoffmann, Kaplan, Surface
from ladder.analysis.planning.budget import mistake, plan_budget, plan_served
from ladder.models.errors import InputError

SURFACES: list[Surface] = [
    BESIROGLU,
    Gadre(E=1.8, A=480.0, B=2000.0, alpha=0.35),
    Kaplan(Nc=6e13, Dc=1.8e13, alpha_N=0.076, alpha_D=0.103),
]


def fit_grid(noise: float = 0.003, ratios: tuple[float, ...] = (5, 20, 80), bootstrap: int = 300) -> Fit:
    """A fit of five sizes by some ratios under Besiroglu's law."""
    sizes, ratio = (a.ravel() for a in np.meshgrid([3e7, 1e8, 3e8, 1e9, 3e9], ratios))
    L: Floats = BESIROGLU.score(N=sizes, D=sizes * ratio)
    noisy = L * np.exp(noise * np.random.default_rng(0).standard_normal(len(L)))
    return fit_hoffmann(sizes, sizes * ratio, noisy, options=FitOptions(bootstrap=bootstrap, starts=30))


@pytest.mark.parametrize("law", SURFACES)
def test_a_budget_gives_a_loss_that_gives_the_budget_back(law: Surface) -> None:
    for flops in (1e18, 1e21, 1e24):
        best = law.optimum(flops)
        assert 6 * best.params * best.tokens == pytest.approx(flops)
        assert law.flops_for(best.loss) == pytest.approx(flops, rel=1e-9)


@pytest.mark.parametrize("law", SURFACES)
def test_the_optimum_is_the_numeric_minimum(law: Surface) -> None:
    found = minimize_scalar(
        lambda log_n: float(law.score(N=np.exp(log_n), D=1e21 / 6 / np.exp(log_n))), bounds=(12, 32), method="bounded"
    )
    # The loss is flat at its minimum: sizes are found to about the square root of the loss's precision.
    assert law.optimum(1e21).params == pytest.approx(np.exp(found.x), rel=1e-3)
    assert law.optimum(1e21).loss == pytest.approx(found.fun, rel=1e-12)


@pytest.mark.parametrize("law", SURFACES)
@pytest.mark.parametrize("factor", [0.5, 0.8, 2.0, 5.0])
def test_the_cost_of_a_wrong_size_is_the_numeric_solution(law: Surface, factor: float) -> None:
    best = law.optimum(1e22)
    wrong = mistake(law, best, factor * best.params, "wrong")
    assert wrong.loss == pytest.approx(float(law.score(N=wrong.params, D=1e22 / 6 / wrong.params)))

    def excess(log_tokens: float) -> float:
        return float(law.score(N=wrong.params, D=np.exp(log_tokens))) - best.loss

    tokens = np.exp(brentq(excess, np.log(best.tokens / 1e4), np.log(best.tokens * 1e6), xtol=1e-13))
    assert wrong.flops == pytest.approx(6 * wrong.params * tokens, rel=1e-8)
    assert wrong.extra is not None and wrong.extra > 0


def test_the_right_size_costs_nothing_more() -> None:
    best = BESIROGLU.optimum(1e22)
    assert mistake(BESIROGLU, best, best.params, "right").extra == pytest.approx(0, abs=1e-9)


def test_a_size_too_small_for_the_loss_has_no_cost_but_none() -> None:
    best = BESIROGLU.optimum(1e22)
    wrong = mistake(BESIROGLU, best, best.params / 100, "small")
    assert wrong.flops is None and wrong.extra is None and wrong.loss > best.loss


def test_intervals_are_the_optima_of_the_refits() -> None:
    fit = fit_grid()
    plan = plan_budget(fit, 1e22)
    assert fit.draws is not None
    values = fit.draws.values
    optima = [
        Hoffmann(**{name: float(values[name][i]) for name in values}).optimum(1e22).params
        for i in range(len(values["E"]))
    ]
    low, high = np.quantile(optima, [fit.draws.tail, 1 - fit.draws.tail], method="weibull")
    assert plan.params.as_list() == pytest.approx([low, high])
    # D and D / N have quantiles of their own: between two draws these interpolate in D, not in 1 / N.
    assert plan.tokens.as_list() == pytest.approx([1e22 / 6 / high, 1e22 / 6 / low], rel=1e-3)
    assert plan.ratio.as_list() == pytest.approx([1e22 / 6 / high**2, 1e22 / 6 / low**2], rel=1e-2)
    assert low < BESIROGLU.optimum(1e22).params < high
    assert plan.loss.low is not None and plan.loss.low < plan.best.loss
    assert plan.new_run.low is not None and plan.new_run.low < plan.loss.low
    assert [m.params for m in plan.mistakes] == pytest.approx([low, high, plan.best.params / 2, plan.best.params * 2])


def test_chinchillas_budget_by_its_own_points_is_near_chinchilla(shared: Path) -> None:
    table = pl.read_csv(shared / "laws" / "epoch_chinchilla" / "svg_extracted_data.csv").sort("loss").head(240)
    N, C = table["Model Size"].to_numpy(), table["Training FLOP"].to_numpy()
    fit = fit_hoffmann(N, C / (6 * N), table["loss"].to_numpy(), options=FitOptions(bootstrap=1000, starts=50))
    plan = plan_budget(fit, 5.76e23)
    # 70B parameters and 1.4T tokens were trained (Hoffmann et al. 2022, table 1): 20 tokens per parameter.
    assert plan.best.params == pytest.approx(73.2e9, rel=0.002)
    assert plan.best.tokens == pytest.approx(1.312e12, rel=0.002)
    assert plan.best.loss == pytest.approx(1.9739, abs=1e-4)
    for interval, trained in ((plan.params, 70e9), (plan.tokens, 1.4e12), (plan.ratio, 20)):
        assert interval.low is not None and interval.high is not None and interval.low < trained < interval.high
    assert plan.beyond == pytest.approx(44.5, abs=0.1)
    assert any("far beyond the data" in warning for warning in plan.warnings)


def test_distance_from_the_data_is_said_at_ten_and_at_a_hundred_times() -> None:
    fit = fit_grid(bootstrap=100)
    largest = 6 * 3e9 * 80 * 3e9
    for factor, words in ((5, ""), (50, "far beyond"), (500, "very far beyond")):
        warnings = " ".join(plan_budget(fit, factor * largest).warnings)
        assert words in warnings and ("beyond the data" in warnings) == bool(words)
        assert ("very far" in warnings) == words.startswith("very")


def test_one_ratio_is_refused_with_the_runs_to_add() -> None:
    with pytest.raises(InputError, match="not identifiable.*20 tokens per parameter.*add runs"):
        plan_budget(fit_grid(ratios=(20,)), 1e21)


def test_refits_without_an_optimum_are_refused() -> None:
    fit = fit_grid()
    assert fit.draws is not None
    values = fit.draws.values | {"alpha": np.where(np.arange(300) < 30, 0.0, fit.draws.values["alpha"])}
    flat = replace(fit, draws=replace(fit.draws, values=values))
    with pytest.raises(InputError, match="in 10% of 300 refits an exponent is 0"):
        plan_budget(flat, 1e21)


def test_a_law_without_size_and_data_is_refused() -> None:
    fit = fit_power(np.geomspace(1e6, 1e9, 8), 20 * np.geomspace(1e6, 1e9, 8) ** -0.1)
    with pytest.raises(InputError, match="no law in N and D"):
        plan_budget(fit, 1e21)


@pytest.mark.parametrize("flops", [0.0, -1.0, float("nan")])
def test_a_budget_that_is_none_is_refused(flops: float) -> None:
    with pytest.raises(InputError, match="compute budget"):
        plan_budget(fit_grid(bootstrap=0), flops)


def test_a_fit_without_refits_says_that_the_intervals_are_unknown() -> None:
    plan = plan_budget(fit_grid(bootstrap=0), 1e21)
    assert plan.params.low is None and any("unknown" in warning for warning in plan.warnings)
    assert [m.name for m in plan.mistakes] == ["0.5 x the optimum", "2 x the optimum"]


def test_an_absent_irreducible_loss_is_planned_with_and_said() -> None:
    fit = fit_grid()
    at_bound = replace(fit, status=Status.AT_BOUND, reason="E pressed", health=replace(fit.health, bounds_hit=("E",)))
    assert any("E pressed" in warning for warning in plan_budget(at_bound, 1e21).warnings)
    with pytest.raises(InputError, match="at a bound"):
        plan_budget(replace(at_bound, health=replace(fit.health, bounds_hit=("alpha",))), 1e21)


def test_a_law_that_misses_its_settings_by_more_than_seeds_do_is_told() -> None:
    sizes, ratio = (np.repeat(a.ravel(), 3) for a in np.meshgrid([3e7, 1e8, 3e8, 1e9, 3e9], [5, 20, 80]))
    generator = np.random.default_rng(0)
    seeds = 0.001 * generator.standard_normal(45)
    missed = np.repeat(0.004 * generator.standard_normal(15), 3)
    for extra, told in ((0.0, False), (1.0, True)):
        L = BESIROGLU.score(N=sizes, D=sizes * ratio) * np.exp(seeds + extra * missed)
        fit = fit_hoffmann(sizes, sizes * ratio, L, options=FitOptions(bootstrap=100, starts=20))
        assert any("misses these runs" in warning for warning in plan_budget(fit, 1e21).warnings) == told


@pytest.mark.parametrize("served", [0.0, 1e12, 1e14])
def test_the_served_model_is_the_numeric_minimum_of_training_and_serving(served: float) -> None:
    """Sardana et al. 2024: the more it is served, the smaller and the longer trained the cheapest model is."""
    best = BESIROGLU.optimum(1e23)
    found = plan_served(BESIROGLU, best.loss, served)
    assert float(BESIROGLU.score(N=found.params, D=found.tokens)) == pytest.approx(best.loss)
    sizes = best.params * np.geomspace(1 / 50, 1.5, 4000)
    costs = []
    for params in sizes:
        try:
            costs.append(params * (6 * BESIROGLU.tokens_for(params, best.loss) + 2 * served))
        except InputError:
            costs.append(np.inf)
    assert found.params == pytest.approx(sizes[int(np.argmin(costs))], rel=0.005)
    assert found.training_flops + found.serving_flops <= min(costs) * (1 + 1e-6)
    assert (found.share == pytest.approx(1.0)) if served == 0 else found.share < 1


def test_tokens_served_must_be_a_number() -> None:
    with pytest.raises(InputError, match="--serve-tokens is -1"):
        plan_served(BESIROGLU, 2.0, -1.0)
