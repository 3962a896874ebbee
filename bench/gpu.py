"""Training speed of the paper's sizes on the GPU at hand: tokens a second, MFU and memory, for each attention back end,
beside a compiled plain PyTorch GPT-2 with SDPA.

    make bench-gpu

It needs a Python with torch and this checkout, and nothing else. MFU is the share of the data sheet's rate; beside it
stands the share of the rate of matrix products measured here.
"""

import argparse
import gc
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

CASES = {"117M": (64, 64), "345M": (64, 32), "762M": (64, 16), "1542M": (64, 8)}
"""Size: sequences of a step at the paper's context of 1024 tokens, an eighth of the paper's, so that the optimizer
weighs little as it does in a run; and how many of them the plain one takes at once, whose logits are large. Ours finds
its own micro-batch."""


def measure_plain(
    size: Size, sequences: int, micro: int, steps: int, precision: str, device: torch.device
) -> dict[str, Any]:
    """The row of a compiled plain GPT-2 with `micro` sequences at once."""
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
        loop.step(batch, micro)
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
        "batch_sequences": sequences,
        "micro_batch_sequences": micro,
    }


def rows_of(size: Size, sequences: int, micro: int, arguments: argparse.Namespace, device: torch.device) -> int:
    """Measures a size with each back end and beside the plain one, and prints a line for each; how many broke.

    A row that fails, in a compiler say, is told and the next one measured: time on a GPU is lent. A back end that
    cannot run here says so and is not broken.
    """
    best, broken = 0.0, 0
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
            except (InputError, RuntimeError) as error:  # out of memory is a RuntimeError
                speed = {"size": size.name, "attention": attention, "error": first_line(error)}
                broken += isinstance(error, RuntimeError)
            best = max(best, speed.get("tokens_per_second", 0.0))
            print(json.dumps(speed), flush=True)
            forget(device)
    try:
        plain = measure_plain(size, sequences, micro, arguments.steps, precision, device)
        plain["ours_is_times_faster"] = best / plain["tokens_per_second"]
    except RuntimeError as error:
        plain = {"size": size.name, "attention": "plain PyTorch with sdpa", "error": first_line(error)}
        broken += 1
    print(json.dumps(plain), flush=True)
    forget(device)
    return broken


def first_line(error: Exception) -> str:
    """What an error says first, with its type."""
    return f"{type(error).__name__}: {[*str(error).splitlines(), ''][0]}"


def forget(device: torch.device) -> None:
    """Drops compiled graphs, the model that they refer to and cached memory: each row stands alone."""
    torch.compiler.reset()
    gc.collect()
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
    broken = 0
    for name in arguments.sizes:
        sequences, micro = CASES.get(name, (8, 8))
        sequences = arguments.batch or sequences
        size = parse_size(name, context=arguments.context)
        broken += rows_of(size, sequences, min(micro, sequences), arguments, device)
    if broken:
        sys.exit(f"{broken} rows could not be measured: see their errors above")


if __name__ == "__main__":
    main()
