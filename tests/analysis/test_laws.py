"""What follows from a law: optima, inverses and the other papers' forms of the same thing."""

import numpy as np
import pytest

from ladder.analysis.laws import Gadre, Hoffmann, Kaplan, LogLinear, Power, Sigmoid, find_law
from ladder.models.errors import InputError

CHINCHILLA = Hoffmann(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)


def test_compute_to_loss_to_compute_is_the_identity() -> None:
    for flops in (1e18, 5.76e23):
        assert CHINCHILLA.flops_for(CHINCHILLA.optimum(flops).loss) == pytest.approx(flops, rel=1e-9)


def test_the_optimum_is_lower_than_its_neighbours_at_equal_compute() -> None:
    best = CHINCHILLA.optimum(1e21)
    assert 6 * best.params * best.tokens == pytest.approx(1e21)
    for factor in (0.9, 1.1):
        assert float(CHINCHILLA.score(N=best.params * factor, D=best.tokens / factor)) > best.loss


def test_a_loss_below_the_irreducible_one_has_no_budget() -> None:
    with pytest.raises(InputError, match="irreducible"):
        CHINCHILLA.flops_for(1.8)


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
