"""What the processor at hand can do: bf16 instructions, and the matrix rate that a share of peak is a share of."""

import time
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from ladder.platform.gpus import find_gpu

LONGEST_PRODUCT_SECONDS = 0.25
"""What one product of the measurement may take on a processor."""
LEAST_GAIN = 1.25
"""How many times as fast a processor has to multiply bf16 as fp32 before training in bf16 pays: weights and activations
are rounded to it first. An Intel Xeon whose AMX its hypervisor hides has AVX-512 instructions for bf16 and multiplies
with them at half the rate of fp32: a training step took 1.5 to 1.7 times as long."""


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices with instructions made for it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():  # macOS
        return False
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features"))), "")
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags.split())


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` as it is best on the device at hand: bf16 or fp32."""
    return fastest_precision(device)[0] if precision == "auto" else precision


def fastest_precision(device: torch.device) -> tuple[Literal["bf16", "fp32"], str]:
    """bf16 or fp32, and what the device does that decides it: bf16 on a GPU that has it, and on a processor that
    multiplies it faster than fp32."""
    if not has_bf16(device):
        return "fp32", "has no bf16 instructions"
    if device.type == "cuda":
        return "bf16", "has bf16 instructions"
    gain = _bf16_gain()
    return ("bf16" if gain >= LEAST_GAIN else "fp32"), f"multiplies bf16 {gain:.2g} times as fast as fp32"


@cache
def _bf16_gain() -> float:
    """How many times as fast this processor multiplies bf16 as fp32; in turns, so that other work meets both."""
    seconds: dict[str, list[float]] = {"bf16": [], "fp32": []}
    for precision, measured in 5 * list(seconds.items()):
        measured.append(_product_seconds(torch.device("cpu"), precision, width=512, repeats=1))
    return min(seconds["fp32"]) / min(seconds["bf16"])


def peak_flops(device: torch.device, precision: str) -> tuple[float, str]:
    """Floating-point operations a second that are the whole of which `mfu` is a share, and where the number is from.

    A known GPU in its precision: its data sheet. Anything else: the best of a few square matrix products, measured
    once in this process on the threads that it has.
    """
    if device.type == "cuda":
        gpu = find_gpu(torch.cuda.get_device_name(device))
        if gpu is not None and gpu.precision == precision:
            return gpu.flops, f"{gpu.sheet}, dense {precision}"
    return _measured_peak(device, precision, torch.get_num_threads()), "measured: best of five square matrix products"


@cache
def _measured_peak(device: torch.device, precision: str, threads: int) -> float:
    return matrix_rate(device, precision)


def matrix_rate(device: torch.device, precision: str, width: int | None = None) -> float:
    """FLOP/s of a square matrix product, best of five after one to warm up.

    The width, unless given, is 8192 on a GPU and at most 1024 on a processor. One without instructions for bf16 has
    1e9 FLOP/s in it, and would spend half a minute on products that wide.
    """
    if width is None:
        width = 8192 if device.type == "cuda" else _affordable_width(device, precision)
    return 2 * width**3 / _product_seconds(device, precision, width, repeats=5)


def _affordable_width(device: torch.device, precision: str) -> int:
    """The largest power of two from 128 to 1024 whose product takes less than LONGEST_PRODUCT_SECONDS."""
    width = 128
    while width < 1024 and 8 * _product_seconds(device, precision, width, repeats=2) < LONGEST_PRODUCT_SECONDS:
        width *= 2
    return width


def _product_seconds(device: torch.device, precision: str, width: int, repeats: int) -> float:
    """Seconds of the fastest of these products, after one to warm up."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    draws = torch.Generator(device).manual_seed(0)  # its own: a run's random state is not to depend on this machine
    a, b = (torch.randn(width, width, device=device, generator=draws).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(1 + repeats):
        started = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return best
