"""GPUs by their data sheets: peak rates of dense matrix products, and memory.

An H100 on PCIe has three quarters of the rate of one on SXM, so variants stand apart. The number is the maker's dense
figure with float32 accumulation; where a sheet gives the sparse one only, half of it.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One model of GPU."""

    name: str
    """What plans and people call it."""
    marks: tuple[str, ...]
    """Words that the driver's name of the device has, all of them."""
    precision: str
    """The fastest precision that training takes on it: bf16, or fp32 where it has no bf16 instructions."""
    flops: float
    """Dense FLOP/s in that precision."""
    memory_bytes: int
    """Memory of the device; the smallest where there are several."""
    sheet: str
    """The data sheet."""


def _gpu(name: str, marks: str, teraflops: float, gigabytes: int, sheet: str, precision: str = "bf16") -> Gpu:
    return Gpu(
        name=name,
        marks=tuple(marks.split()),
        precision=precision,
        flops=teraflops * 1e12,
        memory_bytes=gigabytes * 10**9,
        sheet=sheet,
    )


GPUS: tuple[Gpu, ...] = (
    # Variants before the name that they extend: the first whose marks are all there is the one. TFLOP/s, GB.
    _gpu("H200-NVL", "H200 NVL", 835.5, 141, "NVIDIA H200 data sheet, H200 NVL"),
    _gpu("H200", "H200", 989.4, 141, "NVIDIA H200 data sheet, H200 SXM"),
    _gpu("GH200", "GH200", 989.4, 96, "NVIDIA GH200 data sheet"),
    _gpu("H100-PCIe", "H100 PCIe", 756, 80, "NVIDIA H100 data sheet of 2023, H100 PCIe"),
    _gpu("H100-NVL", "H100 NVL", 835.5, 94, "NVIDIA H100 data sheet, H100 NVL"),
    _gpu("H100", "H100", 989.4, 80, "NVIDIA H100 data sheet, H100 SXM"),
    _gpu("H20", "H20", 148, 96, "NVIDIA H20 data sheet"),
    _gpu("GB300", "GB300", 2500, 279, "NVIDIA GB300 NVL72 data sheet, a GPU"),
    _gpu("GB200", "GB200", 2500, 186, "NVIDIA GB200 NVL72 data sheet, a GPU"),
    _gpu("B300", "B300", 2250, 270, "NVIDIA HGX B300 data sheet, a GPU"),
    _gpu("B200", "B200", 2250, 180, "NVIDIA HGX B200 data sheet, a GPU"),
    _gpu("A100", "A100", 312, 40, "NVIDIA A100 data sheet"),
    _gpu("A30", "A30", 165, 24, "NVIDIA A30 data sheet"),
    _gpu("A40", "A40", 149.7, 48, "NVIDIA A40 data sheet"),
    _gpu("A10G", "A10G", 70, 24, "NVIDIA A10G data sheet (AWS G5)"),
    _gpu("A10", "A10", 125, 24, "NVIDIA A10 data sheet"),
    _gpu("L40S", "L40S", 362, 48, "NVIDIA L40S data sheet"),
    _gpu("L40", "L40", 181, 48, "NVIDIA L40 data sheet"),
    _gpu("L4", "L4", 121, 24, "NVIDIA L4 data sheet, half of the sparse figure"),
    _gpu("RTX-PRO-6000", "RTX PRO 6000", 503.8, 96, "NVIDIA RTX Blackwell PRO architecture paper, half of sparse"),
    _gpu("RTX-6000-Ada", "RTX 6000 Ada", 364.2, 48, "NVIDIA Ada architecture paper, RTX 6000 Ada"),
    _gpu("RTX-A6000", "RTX A6000", 154.8, 48, "NVIDIA GA102 architecture paper, RTX A6000"),
    _gpu("RTX-5090", "RTX 5090", 209.5, 32, "NVIDIA RTX Blackwell architecture paper, RTX 5090"),
    _gpu("RTX-4090", "RTX 4090", 165.2, 24, "NVIDIA Ada architecture paper, RTX 4090"),
    _gpu("RTX-3090", "RTX 3090", 71, 24, "NVIDIA GA102 architecture paper, RTX 3090"),
    _gpu("MI325X", "MI325X", 1307.4, 256, "AMD Instinct MI325X data sheet"),
    _gpu("MI300X", "MI300X", 1307.4, 192, "AMD Instinct MI300X data sheet"),
    _gpu("MI250X", "MI250X", 191.5, 64, "AMD Instinct MI250X data sheet, one of its two dies"),
    _gpu("V100", "V100", 15.7, 16, "NVIDIA V100 data sheet, SXM2", precision="fp32"),
    _gpu("T4", "T4", 8.1, 16, "NVIDIA T4 data sheet", precision="fp32"),
)


PEAK_BF16_FLOPS = {gpu.name: gpu.flops for gpu in GPUS if gpu.precision == "bf16"}
"""Dense bf16 FLOP/s by name of the GPU."""

ASSUMED_GPU = "H100"
"""GPU that a budget is costed on where none is named."""

ASSUMED_UTILISATION = 0.35
"""Share of the peak rate that training reaches, until runs of the sweep have been measured."""


def find_gpu(device_name: str) -> Gpu | None:
    """The GPU by the driver's name of the device, such as "NVIDIA H100 80GB HBM3"; None: unknown, or a part of one."""
    words = device_name.replace("-", " ").split()
    if "MIG" in words:
        return None
    return next((gpu for gpu in GPUS if set(gpu.marks) <= set(words)), None)


def gpu_named(name: str) -> Gpu | None:
    """The GPU that plans, or Ray, call by a name such as H100 or A100-80G; None: unknown."""
    wanted = name.removesuffix("-40G").removesuffix("-80G").upper()
    gpu = next((gpu for gpu in GPUS if gpu.name.upper() == wanted), None)
    return replace(gpu, memory_bytes=80 * 10**9) if gpu is not None and name.endswith("-80G") else gpu
