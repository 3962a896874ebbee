"""The matrix rate is measured in a moment on any processor, also in a precision that it has no instructions for."""

import pytest
import torch

from ladder.platform import hardware
from ladder.platform.gpus import GPUS, PEAK_BF16_FLOPS, find_gpu, gpu_named
from ladder.sweeps.words import BF16_GPUS, OLDER_GPUS

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


@pytest.mark.parametrize(("gain", "precision"), [(8.0, "bf16"), (1.1, "fp32"), (0.5, "fp32")])
def test_auto_is_bf16_only_where_the_processor_multiplies_it_faster(
    monkeypatch: pytest.MonkeyPatch, gain: float, precision: str
) -> None:
    """Instructions alone do not tell: without AMX a Xeon has them and is half as fast with them."""

    def multiply(device: torch.device, precision: str, width: int, repeats: int) -> float:
        return 1.0 if precision == "fp32" else 1.0 / gain

    monkeypatch.setattr(hardware, "has_bf16", lambda device: True)
    monkeypatch.setattr(hardware, "_product_seconds", multiply)
    hardware._bf16_gain.cache_clear()
    try:
        assert hardware.resolve_precision("auto", CPU) == precision
        assert f"{gain:.2g} times" in hardware.fastest_precision(CPU)[1]
    finally:
        hardware._bf16_gain.cache_clear()


def test_the_rate_of_a_given_width_is_measured_with_it() -> None:
    assert hardware.matrix_rate(CPU, "fp32", width=64) > 0


def test_measuring_leaves_the_random_state_of_a_run_alone() -> None:
    before = torch.get_rng_state()
    hardware.matrix_rate(CPU, "fp32")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("device", "name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", "H100", 989.4),
        ("NVIDIA H100 PCIe", "H100-PCIe", 756),
        ("NVIDIA H100 NVL", "H100-NVL", 835.5),
        ("NVIDIA H200", "H200", 989.4),
        ("NVIDIA H200 NVL", "H200-NVL", 835.5),
        ("NVIDIA GH200 480GB", "GH200", 989.4),
        ("NVIDIA B200", "B200", 2250),
        ("NVIDIA A100-SXM4-80GB", "A100", 312),
        ("NVIDIA A100 80GB PCIe", "A100", 312),
        ("NVIDIA A10G", "A10G", 70),
        ("NVIDIA A10", "A10", 125),
        ("NVIDIA L40S", "L40S", 362),
        ("NVIDIA L4", "L4", 121),
        ("AMD Instinct MI300X", "MI300X", 1307.4),
        ("NVIDIA GeForce RTX 4090", "RTX-4090", 165.2),
        ("NVIDIA RTX 6000 Ada Generation", "RTX-6000-Ada", 364.2),
        ("NVIDIA RTX A6000", "RTX-A6000", 154.8),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000", 503.8),
        ("Tesla T4", "T4", 8.1),
        ("Tesla V100-SXM2-16GB", "V100", 15.7),
    ],
)
def test_a_gpu_has_the_peak_of_its_own_data_sheet(device: str, name: str, teraflops: float) -> None:
    gpu = find_gpu(device)
    assert gpu is not None and (gpu.name, gpu.flops) == (name, pytest.approx(teraflops * 1e12))


@pytest.mark.parametrize("device", ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA Quadro P4000", "cpu"])
def test_a_part_of_a_gpu_and_an_unknown_one_have_no_data_sheet(device: str) -> None:
    assert find_gpu(device) is None


def test_every_accelerator_that_a_sweep_can_ask_for_has_a_data_sheet() -> None:
    for name in (*BF16_GPUS, *OLDER_GPUS):
        gpu = gpu_named(name)
        assert gpu is not None, name
        assert (gpu.name in PEAK_BF16_FLOPS) == (name in BF16_GPUS)
    assert len({gpu.name for gpu in GPUS}) == len(GPUS)
