"""The matrix rate is measured in a moment on any processor, also in a precision that it has no instructions for."""

import pytest
import torch

from ladder.platform import hardware

CPU = torch.device("cpu")


@pytest.mark.parametrize(("flops", "width"), [(1e9, 256), (1e10, 1024), (1e12, 1024)])
def test_a_slow_processor_multiplies_smaller_matrices(
    monkeypatch: pytest.MonkeyPatch, flops: float, width: int
) -> None:
    products: list[tuple[int, float]] = []

    def multiply(device: torch.device, precision: str, width: int, repeats: int) -> float:
        seconds = 2 * width**3 / flops
        products.extend([(width, seconds)] * (1 + repeats))  # one to warm up
        return seconds

    monkeypatch.setattr(hardware, "_product_seconds", multiply)
    assert hardware.matrix_rate(CPU, "bf16") == pytest.approx(flops)
    assert products[-1][0] == width
    assert sum(seconds for _, seconds in products) < 3


def test_the_rate_of_a_given_width_is_measured_with_it() -> None:
    assert hardware.matrix_rate(CPU, "fp32", width=64) > 0


def test_measuring_leaves_the_random_state_of_a_run_alone() -> None:
    before = torch.get_rng_state()
    hardware.matrix_rate(CPU, "fp32")
    assert torch.equal(torch.get_rng_state(), before)
