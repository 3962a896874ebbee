"""What follows from a law: optima, inverses and the other papers' forms of the same thing."""

import numpy as np
import pytest

from ladder.analysis.laws.law import (
    KAPLAN_BATCH,
    KAPLAN_COMPUTE,
    KAPLAN_DATA,
    KAPLAN_SIZE,
    KAPLAN_STEPS,
    LogLinear,
    LossSigmoid,
    Power,
    PowerOffset,
    Sigmoid,
)
from ladder.analysis.laws.surfaces import (
    BESIROGLU,
    KAPLAN,
    MUENNIGHOFF,
    Gadre,
    Hoffmann,
    Kaplan,
    Surface,
    find_law,
)
from ladder.models.errors import InputError

CHINCHILLA = BESIROGLU
SURFACES = [CHINCHILLA, Gadre(E=1.84, A=166.2, B=230.0, alpha=0.273), KAPLAN]
each_surface = pytest.mark.parametrize("law", SURFACES, ids=lambda law: law.name)


@each_surface
def test_compute_to_loss_to_compute_is_the_identity(law: Surface) -> None:
    for flops in (1e18, 5.76e23):
        assert law.flops_for(law.optimum(flops).loss) == pytest.approx(flops, rel=1e-9)


@each_surface
def test_the_optimum_is_lower_than_its_neighbours_at_equal_compute(law: Surface) -> None:
    best = law.optimum(1e21)
    assert 6 * best.params * best.tokens == pytest.approx(1e21)
    for factor in (0.99, 1.01):
        assert float(law.score(N=best.params * factor, D=best.tokens / factor)) > best.loss


@each_surface
def test_best_sizes_and_tokens_grow_as_the_powers_a_and_b(law: Surface) -> None:
    small, large = law.optimum(1e20), law.optimum(1e22)
    assert np.log(large.params / small.params) / np.log(100) == pytest.approx(law.a)
    assert np.log(large.tokens / small.tokens) / np.log(100) == pytest.approx(law.b)


@each_surface
def test_tokens_for_a_loss_give_back_the_loss(law: Surface) -> None:
    best = law.optimum(1e21)
    # Half the best size reaches the same loss with more than twice the tokens: that is what a wrong size costs.
    tokens = law.tokens_for(best.params / 2, best.loss)
    assert float(law.score(N=best.params / 2, D=tokens)) == pytest.approx(best.loss)
    assert tokens > 2 * best.tokens


@each_surface
def test_a_loss_that_a_size_cannot_reach_has_no_tokens(law: Surface) -> None:
    floor = float(law.score(N=1e8, D=np.inf))
    assert law.tokens_for(1e8, floor + 1e-3) > 0
    with pytest.raises(InputError, match="with any number of tokens"):
        law.tokens_for(1e8, floor - 1e-3)


@pytest.mark.parametrize(("law", "loss"), [(CHINCHILLA, 1.8), (SURFACES[1], 1.84), (KAPLAN, 0.0)])
def test_a_loss_below_the_irreducible_one_has_no_budget(law: Surface, loss: float) -> None:
    with pytest.raises(InputError, match="irreducible"):
        law.flops_for(loss)


def test_a_law_whose_term_does_not_fall_has_no_optimum() -> None:
    with pytest.raises(InputError, match="exponent of 0"):
        Hoffmann(E=1.8, A=1.0, B=2000.0, alpha=0.0, beta=0.3).optimum(1e20)


def test_kaplans_laws_are_1_nat_at_their_critical_values() -> None:
    for law, critical in ((KAPLAN_SIZE, 8.8e13), (KAPLAN_DATA, 5.4e13), (KAPLAN_COMPUTE, 3.1e8 * 8.64e19)):
        assert float(law.score(x=critical)) == pytest.approx(1.0)
        assert law.critical == pytest.approx(critical)
    # GPT-2's 1.5 billion parameters: their figure 1 shows about 2.3 nats.
    assert float(KAPLAN_SIZE.score(x=1.5e9)) == pytest.approx(2.30, abs=0.01)


def test_kaplans_critical_batch_doubles_for_every_13_percent_of_loss() -> None:
    # "roughly doubles for every 13% decrease in loss" (Kaplan et al. 2020, section 5.1).
    assert KAPLAN_BATCH.tokens(0.87 * 3.0) / KAPLAN_BATCH.tokens(3.0) == pytest.approx(2.0, rel=0.05)
    batch = KAPLAN_BATCH.tokens(3.0)
    assert KAPLAN_BATCH.least_flops(1e20, batch_tokens=batch, loss=3.0) == pytest.approx(0.5e20)


def test_kaplans_learning_curve_ends_at_the_law_of_size() -> None:
    assert KAPLAN_STEPS.score(N=1e9, S=1e30) == pytest.approx((6.5e13 / 1e9) ** 0.077)
    assert KAPLAN_STEPS.score(N=1e9, S=2.1e3) == pytest.approx((6.5e13 / 1e9) ** 0.077 + 1)


@pytest.mark.parametrize("law", [Power(A=20.0, alpha=0.1), PowerOffset(E=1.7, A=400.0, alpha=0.34)])
def test_a_power_law_gives_the_x_of_a_loss(law: Power | PowerOffset) -> None:
    assert law.x_for(float(law.score(x=3e8))) == pytest.approx(3e8)
    with pytest.raises(InputError, match="irreducible"):
        law.x_for(law.values.get("E", 0.0))


def test_the_sigmoid_of_a_loss_goes_from_ceiling_to_chance() -> None:
    law = LossSigmoid(a=-0.6, k=5.0, L0=1.2, b=0.85)
    assert float(law.score(x=-1e6)) == pytest.approx(law.ceiling) == pytest.approx(0.85)
    assert float(law.score(x=1e6)) == pytest.approx(law.chance) == pytest.approx(0.25)
    assert float(law.score(x=1.2)) == pytest.approx(0.55)
    assert float(law.score(x=1.5)) == pytest.approx(-0.6 / (1 + np.exp(-5.0 * 0.3)) + 0.85)


def test_gadre_is_the_law_of_its_paper() -> None:
    a, b, E, eta = 130.0, 170.0, 1.84, 0.136
    law = Gadre(E=E, A=a * 6**-eta, B=b * 6**-eta, alpha=2 * eta)
    N, D = 4.1e8, 3.3e10
    C, M = 6 * N * D, D / N
    assert float(law.score(N=N, D=D)) == pytest.approx(E + (a * M**eta + b * M**-eta) * C**-eta)
    assert law.eta == eta


def test_kaplan_tends_to_its_one_variable_laws() -> None:
    law = Kaplan(Nc=6.4e13, Dc=1.8e13, alpha_N=0.076, alpha_D=0.103)
    assert float(law.score(N=1e9, D=1e30)) == pytest.approx((6.4e13 / 1e9) ** 0.076, rel=1e-6)
    assert float(law.score(N=1e40, D=1e10)) == pytest.approx((1.8e13 / 1e10) ** 0.103, rel=1e-2)


def test_critical_size_of_a_power_law_has_a_loss_of_one() -> None:
    law = Power(A=11.4, alpha=0.076)
    assert float(law.score(x=law.critical)) == pytest.approx(1.0)


def test_the_sigmoid_is_half_way_at_its_midpoint() -> None:
    law = Sigmoid(ceiling=0.9, a=-12.0, b=0.7, chance=0.1)
    assert float(law.score(x=law.midpoint)) == pytest.approx(0.5)


def test_a_line_in_log_score_is_a_power_of_size() -> None:
    law = LogLinear(a=3.0, b=-0.2, log_score=1.0)
    assert float(law.score(x=2e6)) / float(law.score(x=1e6)) == pytest.approx(np.exp(law.per_doubling))


def test_an_unknown_law_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="log-linear, power, power-offset, kaplan, hoffmann"):
        find_law("chinchilla")


def test_what_no_number_holds_is_infinite_and_no_traceback() -> None:
    """Each of these raised OverflowError or ZeroDivisionError."""
    assert Power(A=3.0, alpha=1e-4).critical == np.inf and Power(A=3.0, alpha=0.0).critical == np.inf
    assert Sigmoid(ceiling=1.0, a=-800.0, b=1.0).midpoint == np.inf
    assert Sigmoid(ceiling=1.0, a=1.0, b=0.0).midpoint == 0.0, "a flat one is half way nowhere"
    assert np.isfinite(Kaplan(Nc=1e300, Dc=1e10, alpha_N=0.5, alpha_D=0.01).a)
    assert Kaplan(Nc=1e300, Dc=1e-300, alpha_N=3.0, alpha_D=0.01).G > 0
    flat = Hoffmann(E=1.0, A=1.0, B=1.0, alpha=0.0, beta=0.0)
    assert np.isnan(flat.a) and flat.decay == 0.0
    with pytest.raises(InputError, match="exponent of 0 has no optimum"):
        flat.optimum(1e20)


def test_repeated_tokens_are_worth_what_muennighoff_say() -> None:
    """Four epochs are worth 3.73 fresh ones and sixteen 10.6 with their R_D (eq. 5)."""
    law, unique = MUENNIGHOFF, 1e10
    fresh = Hoffmann(E=law.E, A=law.A, B=law.B, alpha=law.alpha, beta=law.beta)
    for epochs, worth in ((1, 1.0), (4, 3.727), (16, 10.58)):
        found = float(law.score(N=1e8, D=epochs * unique, U=unique))
        assert found == pytest.approx(float(fresh.score(N=1e8, D=worth * unique)), rel=2e-5)


def test_parameters_beyond_those_that_the_unique_tokens_deserve_are_worth_less() -> None:
    law = MUENNIGHOFF
    fresh = Hoffmann(E=law.E, A=law.A, B=law.B, alpha=law.alpha, beta=law.beta)
    best = fresh.G ** (1 + law.beta / law.alpha) * 1e9 ** (law.beta / law.alpha)
    assert fresh.optimum(6 * best * 1e9).params == pytest.approx(best, rel=1e-9), "U_N is the optimal size for U tokens"
    for multiple, worth in ((0.5, 0.5), (1.0, 1.0), (4.0, 1 + law.R_N * (1 - np.exp(-3 / law.R_N)))):
        found = float(law.score(N=multiple * best, D=1e9, U=1e9))
        assert found == pytest.approx(float(fresh.score(N=worth * best, D=1e9)), rel=1e-9)
