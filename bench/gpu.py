"""Training speed of the paper's sizes on the GPU at hand: tokens a second, MFU and memory, for each attention back end,
beside a compiled plain PyTorch GPT-2 with SDPA.

    make bench-gpu

It needs a Python with torch and this checkout, and nothing else. MFU is the share of the data sheet's rate; beside it
stands the share of the rate of matrix products measured here.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import torch  # noqa: E402 (the checkout has to be on the path first)
from plain import PlainGPT2, PlainLoop  # noqa: E402

from ladder.models.errors import InputError  # noqa: E402
from ladder.models.sizes import Size, parse_size  # noqa: E402
from ladder.platform.hardware import matrix_rate, peak_flops  # noqa: E402
from ladder.platform.training.speed import measure_speed  # noqa: E402
from ladder.sweeps.words import Execution  # noqa: E402

CASES = {"117M": 64, "345M": 32, "762M": 16, "1542M": 8}
"""Size: sequences of a step, at the paper's context of 1024 tokens."""


def measure_plain(size: Size, sequences: int, steps: int, precision: str, device: torch.device) -> dict[str, Any]:
    """The row of a compiled plain GPT-2, whose whole batch goes through at once."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    model = PlainGPT2(
        n_layer=size.n_layer, d_model=size.d_model, n_head=size.n_head, context=size.context, vocabulary=size.vocabulary
    )
    loop = PlainLoop(model, precision=precision, device=device, compiled=device.type == "cuda")
    batch = torch.randint(size.vocabulary, (sequences, size.context + 1)).to(device)
    seconds = []
    for _ in range(3 + steps):
        started = time.perf_counter()
        loop.step(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    rate = sequences * size.context / statistics.median(seconds[3:])
    return {
        "size": size.name,
        "attention": "plain PyTorch with sdpa",
        "precision": precision,
        "compiled": device.type == "cuda",
        "tokens_per_second": rate,
        "mfu": rate * size.flops_per_token / peak_flops(device, precision)[0],
        "matrix_share": rate * size.flops_per_token / matrix_rate(device, precision),
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    }


def rows_of(size: Size, sequences: int, arguments: argparse.Namespace, device: torch.device) -> None:
    """Measures a size with each back end and beside the plain one, and prints a line for each."""
    best = 0.0
    precision = arguments.precision
    for attention in arguments.attention:
        for compiled in (True, False) if arguments.eager else (True,):
            try:
                speed = measure_speed(
                    size,
                    batch_sequences=sequences,
                    steps=arguments.steps,
                    precision=precision,
                    execution=Execution(attention=attention, compile=compiled and device.type == "cuda"),
                    device=device,
                ).to_json()
            except (InputError, torch.OutOfMemoryError) as error:
                speed = {"size": size.name, "attention": attention, "error": str(error).splitlines()[0]}
            best = max(best, speed.get("tokens_per_second", 0.0))
            print(json.dumps(speed), flush=True)
            forget(device)
    try:
        plain = measure_plain(size, sequences, arguments.steps, precision, device)
        plain["ours_is_times_faster"] = best / plain["tokens_per_second"]
    except torch.OutOfMemoryError as error:
        plain = {"size": size.name, "attention": "plain PyTorch with sdpa", "error": str(error).splitlines()[0]}
    print(json.dumps(plain), flush=True)
    forget(device)


def forget(device: torch.device) -> None:
    """Drops compiled graphs and cached memory: each row stands alone."""
    torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(CASES), help="the paper's, or shapes such as 4x128")
    parser.add_argument("--attention", nargs="+", default=["sdpa", "xformers"])
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
    parser.add_argument("--context", type=int, default=1024, help="tokens that the network sees at once")
    parser.add_argument("--batch", type=int, help="sequences of a step; those of the paper's sizes are set, else 8")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--eager", action="store_true", help="measure without torch.compile too")
    parser.add_argument("--cpu", action="store_true", help="try the command where there is no GPU")
    arguments = parser.parse_args()
    if not torch.cuda.is_available() and not arguments.cpu:
        sys.exit("make bench-gpu: no CUDA device here; `make bench` measures processors.")
    device = torch.device("cpu" if arguments.cpu else "cuda")
    for name in arguments.sizes:
        sequences = arguments.batch or CASES.get(name, 8)
        rows_of(parse_size(name, context=arguments.context), sequences, arguments, device)


if __name__ == "__main__":
    main()
