"""What the processor at hand can do: bf16 instructions, and the matrix rate that a share of peak is a share of."""

import time
from pathlib import Path

import torch

PEAK_BF16_FLOPS = {
    # Dense bf16 FLOP/s from the makers' data sheets, without sparsity.
    "H200": 989.4e12,
    "H100": 989.4e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10G": 70e12,
    "L4": 121e12,
}


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
    """`auto` as the device at hand has it: bf16 or fp32."""
    if precision != "auto":
        return precision
    return "bf16" if has_bf16(device) else "fp32"


def peak_flops(device: torch.device, precision: str) -> tuple[float, str]:
    """Floating-point operations a second that are the whole of which `mfu` is a share, and where the number is from.

    A known GPU in bf16: its data sheet. Anything else: the best of a few square matrix products, measured now on the
    threads that this process has.
    """
    if device.type == "cuda" and precision == "bf16":
        name = torch.cuda.get_device_name(device)
        for model, flops in PEAK_BF16_FLOPS.items():
            if model in name.replace("-", " ").split():
                return flops, f"data sheet of {model}, dense bf16"
    return matrix_rate(device, precision), "measured: best of five square matrix products"


def matrix_rate(device: torch.device, precision: str, width: int | None = None) -> float:
    """FLOP/s of a square matrix product, best of five after one to warm up."""
    width = width or (8192 if device.type == "cuda" else 1024)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(width, width, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        started = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * width**3 / best
