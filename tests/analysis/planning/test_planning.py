"""Designs judged before they are paid for: gradients, simulated intervals, and the runs to add."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ladder.analysis.fitting.fits import FitOptions, fit_hoffmann, fit_law
from ladder.analysis.fitting.formulation import make_form
from ladder.analysis.fitting.intervals import Labels
from ladder.analysis.fitting.points import make_points
from ladder.analysis.laws.law import Floats
from ladder.analysis.laws.surfaces import BESIROGLU, Gadre, Hoffmann, Kaplan, Surface
from ladder.analysis.planning.design import (
    REFERENCES,
    SEED_NOISE,
    SHARED_NOISE,
    coordinates,
    leaves_reference,
    log_gradients,
    place_target,
    resolve,
    simulate,
    undetermined,
    width,
)
from ladder.analysis.planning.proposal import (
    Noise,
    Question,
    add_to_trunks,
    assess_design,
    lay_out,
    list_candidates,
    narrowing,
    propose,
)
from ladder.models.errors import InputError

SURFACES: list[Surface] = [
    Hoffmann(E=1.8, A=480.0, B=2000.0, alpha=0.35, beta=0.37),
    Gadre(E=1.8, A=480.0, B=2000.0, alpha=0.35),
    Kaplan(Nc=6e13, Dc=1.8e13, alpha_N=0.076, alpha_D=0.103),
]
SIZES = np.array([3e7, 5e7, 8e7, 1.2e8, 3.5e8, 7.7e8, 1.56e9])


def grid(ratios: tuple[float, ...] = (5, 20, 80), sizes: Floats = SIZES) -> tuple[Floats, Floats]:
    """Each size at each number of tokens per parameter."""
    N, ratio = (a.ravel() for a in np.meshgrid(sizes, ratios))
    return N, N * ratio


@pytest.mark.parametrize("law", SURFACES)
def test_gradients_are_those_of_differences(law: Surface) -> None:
    N, D = grid()
    gradients = log_gradients(law, N, D)
    for column, name in enumerate(law.fitted):
        value, step = law.parameters[name], 1e-6
        exponent = name.startswith(("alpha", "beta"))
        moved = [value + sign * step if exponent else value * np.exp(sign * step) for sign in (1, -1)]
        up, down = (np.log(type(law)(**law.parameters | {name: v}).score(N=N, D=D)) for v in moved)
        # Central differences of step 1e-6 are good to about 1e-10 in ln L, so 1e-4 of a gradient of 0.01.
        assert gradients[:, column] == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("law", SURFACES)
def test_the_solvers_coordinates_give_the_law_back(law: Surface) -> None:
    N, D = grid()
    form = make_form(type(law), make_points(law.score(N=N, D=D), params=N, tokens=D), FitOptions())
    theta = coordinates(form, law)[None]
    assert {name: values[0] for name, values in form.values(theta).items()} == pytest.approx(law.parameters)
    assert form.evaluate(theta).prediction[0] == pytest.approx(form.target)


def test_simulated_intervals_are_those_that_fits_of_such_runs_report() -> None:
    N, D = grid()
    target = place_target(BESIROGLU, N, D, None)
    simulation = simulate(BESIROGLU, N, D, noise=0.004, target=target)
    generator = np.random.default_rng(1)
    reported: dict[str, list[float]] = {"alpha": [], "beta": [], "loss": []}
    place = {"N": np.array([target.params]), "D": np.array([target.tokens])}
    for seed in range(80):
        L = BESIROGLU.score(N=N, D=D) * np.exp(0.004 * generator.standard_normal(len(N)))
        fit = fit_hoffmann(N, D, L, options=FitOptions(bootstrap=300, starts=10, seed=seed))
        band = fit.band(place)
        assert band is not None
        reported["loss"].append(float(band[1][0] - band[0][0]))
        for name in ("alpha", "beta"):
            reported[name].append(width(fit.intervals[name]) or np.nan)
    # A fit's width goes with the noise that it happens to see: sd 1 / sqrt(2 x 16) = 18 %, so 2 % for a mean of 80;
    # 2,000 simulations know a width to 3 %. Each fit has a seed of its own: with one, 300 refits err by 5 % together.
    for name, widths in reported.items():
        planned = width(simulation.loss if name == "loss" else simulation.intervals[name])
        assert planned == pytest.approx(np.mean(widths), rel=0.1), name


def test_a_simulation_is_the_same_twice_and_differs_by_seed() -> None:
    N, D = grid()
    target = place_target(BESIROGLU, N, D, None)
    first, again, other = (simulate(BESIROGLU, N, D, noise=0.005, target=target, count=200, seed=s) for s in (0, 0, 1))
    assert first.intervals == again.intervals != other.intervals


def test_the_target_is_the_optimum_at_ten_times_the_largest_compute() -> None:
    N, D = grid()
    target = place_target(BESIROGLU, N, D, None)
    assert target.flops == pytest.approx(60 * (N * D).max())
    assert (target.params, target.loss) == (
        pytest.approx(BESIROGLU.optimum(target.flops).params),
        pytest.approx(BESIROGLU.optimum(target.flops).loss),
    )
    assert place_target(BESIROGLU, N, D, 1e23).flops == 1e23


def test_one_ratio_is_flagged_with_its_reason() -> None:
    N, D = grid(ratios=(20,))
    resolution = resolve(N, D)
    assert resolution.status == "not identifiable"
    assert resolution.problem is not None and "20 tokens per parameter" in resolution.problem


def test_fewer_runs_than_parameters_are_not_identifiable() -> None:
    N, D = np.array([1e7, 2e7, 4e7, 4e7]), np.array([1e9, 1e8, 5e8, 4e8])
    assert undetermined(BESIROGLU, N, D) is not None
    assert "4 runs are fewer than the 5 parameters" in str(resolve(N, D).problem)


def test_a_noise_of_zero_is_refused() -> None:
    with pytest.raises(InputError, match="above 0"):
        resolve(*grid(), noise=0.0)


def test_as_many_runs_as_parameters_give_no_interval() -> None:
    N, D = np.array([1e7, 3e7, 1e8, 1e7, 1e8]), np.array([1e8, 1e9, 1e10, 1e10, 1e9])
    target = place_target(BESIROGLU, N, D, None)
    simulation = simulate(BESIROGLU, N, D, noise=0.005, target=target)
    assert simulation.count == 0 and simulation.loss.low is None
    prospect = assess_design(
        REFERENCES["besiroglu"], Noise(value=0.005, source=""), (N, D), (N, D), Question(added_runs=0)
    )
    assert any("too few to judge the noise by" in warning for warning in prospect.warnings)


def covariance(gradients: Floats, trunks: Labels | None) -> Floats:
    """Of least squares over runs [n, P] in units of their noise, half of which runs of one trunk share."""
    same = np.eye(len(gradients)) if trunks is None else (trunks[:, None] == trunks).astype(float)
    noise = (1 - SHARED_NOISE) * np.eye(len(gradients)) + SHARED_NOISE * same
    inverse = np.linalg.inv(gradients.T @ gradients)
    return np.asarray(inverse @ gradients.T @ noise @ gradients @ inverse)


def size_trunks(N: Floats) -> Labels:
    """Each size's budgets branch off one trunk."""
    return np.unique(N, return_inverse=True)[1].astype(np.int64)


@pytest.mark.parametrize("shared", [False, True])
def test_one_more_run_narrows_as_the_whole_covariance_does(shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ladder.analysis.planning.proposal.PRIOR_DEVIATION", 1e6)  # no prior
    design, target = grid(), place_target(BESIROGLU, *grid(), None)
    candidates = list_candidates(design, np.append(SIZES, 2e8))
    trunks = size_trunks(design[0]) if shared else None
    geometry = lay_out(BESIROGLU, design, candidates, 0.005, target, trunks)
    gains, g = narrowing(geometry), geometry.target
    for index in range(0, len(gains), 7):
        more = geometry.with_run(index)
        before, after = (g @ covariance(one.design, one.trunks) @ g for one in (geometry, more))
        assert gains[index] == pytest.approx(-0.5 * np.log(after / before), rel=1e-6, abs=1e-9), index


def test_candidates_stay_within_the_sizes_compute_tokens_and_ratios_asked_for() -> None:
    N, D = grid()
    n, d = list_candidates((N, D), np.array([1e6, *SIZES, 2e8, 1e11]), most_tokens=5e10)
    assert set(np.unique(n)) == {*SIZES, 2e8}
    assert (n * d).max() <= (N * D).max() * 1.01 and d.max() <= 5e10 and d.min() >= D.min()
    assert (d / n).min() >= 5 / 4 and (d / n).max() <= 80 * 8
    small, more = list_candidates((N, D), SIZES, most_flops=1e19)
    assert len(small) > 0 and (6 * small * more).max() <= 1.01e19


def test_candidates_of_a_sweep_of_thousands_are_thinned() -> None:
    N, D = np.geomspace(1e7, 1e9, 3000), np.geomspace(1e8, 1e11, 3000)
    n, d = list_candidates((N, D[::-1]), N)
    assert len(np.unique(n)) <= 40 and n.min() >= 1e7 * 0.999 and len(n) <= 40 * 60


def test_blocks_of_a_large_simulation_make_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    N, D = grid()
    target = place_target(BESIROGLU, N, D, None)
    monkeypatch.setattr("ladder.analysis.planning.design.BLOCK_VALUES", 21 * 150)
    blocks = simulate(BESIROGLU, N, D, noise=0.005, target=target, count=400)
    assert len(blocks.draws["alpha"]) == 400 and len(np.unique(blocks.draws["alpha"])) == 400


def test_adding_the_proposed_runs_narrows_by_what_was_said() -> None:
    design = grid()
    target = place_target(BESIROGLU, *design, None)
    candidates = list_candidates(design, SIZES)
    proposal = propose(BESIROGLU, design, candidates, noise=0.004, target=target, count=6)
    assert proposal.criterion == "loss at the target" and len(proposal.runs) == 6
    assert proposal.share == pytest.approx(sum(r.flops for r in proposal.runs) / (6 * (design[0] * design[1]).sum()))
    more = tuple(
        np.append(axis, [getattr(r, name) for r in proposal.runs])
        for axis, name in zip(design, ("params", "tokens"), strict=True)
    )
    widths = [
        width(simulate(BESIROGLU, *runs, noise=0.004, target=target, count=4000).loss) or np.nan
        for runs in (design, more)
    ]
    # What is promised is a ratio of standard deviations; six more degrees of freedom take the t quantile from 2.120
    # (16) to 2.074 (22) besides. Two widths from 4,000 simulations are known to 2 % each.
    promised = proposal.runs[-1].width * 2.074 / 2.120
    assert promised < 0.93
    assert widths[1] / widths[0] == pytest.approx(promised, rel=0.06)


@pytest.mark.parametrize("shared", [False, True])
def test_the_first_proposed_run_is_the_best_for_its_compute_by_brute_force(shared: bool) -> None:
    design = grid()
    target = place_target(BESIROGLU, *design, None)
    candidates = list_candidates(design, SIZES)
    trunks = size_trunks(design[0]) if shared else None
    options = {"noise": 0.004, "target": target, "count": 1}
    (chosen,) = propose(BESIROGLU, design, candidates, **options, trunks=trunks).runs
    at_target = log_gradients(BESIROGLU, np.array([target.params]), np.array([target.tokens]))[0]
    before = at_target @ covariance(log_gradients(BESIROGLU, *design), trunks) @ at_target
    gain = []
    for run in zip(*candidates, strict=True):
        N, D = (np.append(axis, one) for axis, one in zip(design, run, strict=True))
        more = None if trunks is None else add_to_trunks(N, D, trunks)
        after = at_target @ covariance(log_gradients(BESIROGLU, N, D), more) @ at_target
        gain.append(-0.5 * np.log(after / before))
    cost = 6 * candidates[0] * candidates[1] + 0.01 * 6 * (design[0] * design[1]).sum()
    assert chosen.candidate == int(np.argmax(np.array(gain) / cost))


def test_runs_are_chosen_by_the_noise_that_trunks_share() -> None:
    """Chosen as if each had its own noise, and then simulated with it, they were not those that narrow it most."""
    design = grid()
    target = place_target(BESIROGLU, *design, None)
    candidates = list_candidates(design, SIZES)
    options = {"noise": 0.004, "target": target, "count": 6}
    own, shared = (
        [run.candidate for run in propose(BESIROGLU, design, candidates, **options, trunks=trunks).runs]
        for trunks in (None, size_trunks(design[0]))
    )
    assert own != shared


def test_the_runs_proposed_for_one_ratio_make_it_identifiable() -> None:
    N, D = grid(ratios=(20,), sizes=SIZES[:5])
    candidates = list_candidates((N, D), SIZES[:5])
    question = Question(simulations=1000)
    prospect = assess_design(
        REFERENCES["besiroglu"], Noise(value=0.005, source="as given"), (N, D), candidates, question
    )
    assert prospect.before is None and prospect.resolution.status == "not identifiable"
    assert prospect.proposal.criterion == "all parameters"
    assert prospect.after is not None and prospect.narrowing is None
    for name in ("alpha", "beta"):
        interval = prospect.after.intervals[name]
        assert interval.low is not None and interval.high is not None
        assert 0.05 < interval.low < BESIROGLU.parameters[name] < interval.high < 1.5
    assert max(run.flops for run in prospect.proposal.runs) <= 6 * (N * D).max() * 1.01
    assert prospect.proposal.share < 0.5


def test_sizes_that_the_reference_never_saw_are_said() -> None:
    reference = REFERENCES["besiroglu"]
    assert leaves_reference(reference, np.array([1e8, 1e9])) is None
    assert "stand-ins" in str(leaves_reference(reference, np.array([4e4, 8e5])))


def test_the_assumed_noise_is_the_scatter_of_hoffmanns_points(shared: Path) -> None:
    table = pl.read_csv(shared / "laws" / "epoch_chinchilla" / "svg_extracted_data.csv").sort("loss").head(240)
    N, C = table["Model Size"].to_numpy(), table["Training FLOP"].to_numpy()
    fit = fit_hoffmann(N, C / (6 * N), table["loss"].to_numpy(), options=FitOptions(bootstrap=0, starts=50))
    assert 1.4826 * np.median(np.abs(fit.residuals)) == pytest.approx(SEED_NOISE, rel=0.1)


def test_three_settings_with_two_seeds_each_are_not_identifiable() -> None:
    """Levels of N and D are three each, and the rank of the law's gradients is three of five."""
    N, D = np.repeat([1e7, 1e8, 1e9], 2), np.repeat([1e9, 3e9, 5e9], 2)
    resolution = resolve(N, D)
    assert resolution.status == "not identifiable"
    assert "6 runs at 3 settings are fewer than the 5 parameters" in str(resolution.problem)


def test_a_design_is_identifiable_if_and_only_if_a_fit_without_noise_recovers_the_law() -> None:
    generator, identifiable = np.random.default_rng(1), 0
    for number in range(60):
        law = SURFACES[number % 3]
        sizes = np.exp(generator.uniform(np.log(1e7), np.log(1e9), generator.integers(2, 6)))
        ratios = np.exp(generator.uniform(np.log(2), np.log(200), generator.integers(1, 6)))
        count, seeds = generator.integers(3, 13), generator.integers(1, 3)
        N = generator.choice(sizes, count)
        N, D = (np.repeat(axis, seeds) for axis in (N, N * generator.choice(ratios, count)))
        found = resolve(N, D, law=law)
        try:
            fit = fit_law(law.name, make_points(law.score(N=N, D=D), params=N, tokens=D), FitOptions(bootstrap=0))
        except InputError:
            recovered = False
        else:
            right = [abs(fit.law.parameters[name] / value - 1) < 0.01 for name, value in law.parameters.items()]
            recovered = fit.status == "converged" and all(right)
        assert (found.status == "identifiable") == recovered, (number, found.problem)
        identifiable += recovered
    assert 10 < identifiable < 50, "the designs are of both kinds"


def test_simulated_intervals_know_that_runs_of_one_trunk_share_noise() -> None:
    """Without, alpha's was 1.4 times too narrow for six sizes of four budgets each."""
    N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e9, 6), np.geomspace(3e8, 3e10, 4), indexing="ij"))
    trunks = np.repeat(np.arange(6), 4)
    target = place_target(BESIROGLU, N, D, None)
    planned = {
        shared: simulate(BESIROGLU, N, D, noise=0.002, target=target, trunks=trunks if shared else None, count=1000)
        for shared in (True, False)
    }
    generator = np.random.default_rng(4)
    reported: dict[str, list[float]] = {"alpha": [], "beta": []}
    for seed in range(60):
        noise = generator.standard_normal(6)[trunks] + generator.standard_normal(24)
        points = make_points(
            BESIROGLU.score(N=N, D=D) * np.exp(0.002 * np.sqrt(0.5) * noise), params=N, tokens=D, trunks=trunks
        )
        fit = fit_law("hoffmann", points, FitOptions(bootstrap=200, starts=10, seed=seed))
        for name in reported:
            reported[name].append(width(fit.intervals[name]) or np.nan)
    for name, widths in reported.items():
        # Three degrees of freedom of trunks: the widths of fits scatter by half, so their mean of 60 by 7 %.
        assert width(planned[True].intervals[name]) == pytest.approx(np.nanmedian(widths), rel=0.25), name
    alone, shared = (width(planned[which].intervals["alpha"]) for which in (False, True))
    assert alone is not None and shared is not None and shared > 1.3 * alone


def test_too_few_trunks_leave_the_planned_intervals_unknown_with_the_reason() -> None:
    N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e9, 3), np.geomspace(3e8, 3e10, 4), indexing="ij"))
    target = place_target(BESIROGLU, N, D, None)
    found = simulate(BESIROGLU, N, D, noise=0.002, target=target, trunks=np.repeat(np.arange(3), 4))
    assert found.count == 0 and not found.loss.known
    assert found.problem is not None and "3 sizes are too few" in found.problem


def test_an_added_budget_goes_on_from_the_trunk_of_its_size_and_a_seed_begins_one() -> None:
    N, D = np.array([1e7, 1e7, 1e8, 1e7, 1e7, 3e7]), np.array([1e9, 2e9, 1e9, 4e9, 1e9, 1e9])
    assert add_to_trunks(N, D, np.array([0, 0, 1])).tolist() == [0, 0, 1, 0, 2, 3]
