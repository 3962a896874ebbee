"""Training speed of the paper's sizes on the GPU at hand: tokens a second, MFU and memory, for each attention back end.

    make bench-gpu

It needs a Python with torch and this checkout, and neither Ray nor MLflow.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402 (the checkout has to be on the path first)

from ladder.models.errors import InputError  # noqa: E402
from ladder.models.sizes import parse_size  # noqa: E402
from ladder.platform.training.speed import measure_speed  # noqa: E402
from ladder.sweeps.words import Execution  # noqa: E402

CASES = {"117M": 64, "345M": 32, "762M": 16, "1542M": 8}
"""Size: sequences of a step, at the paper's context of 1024 tokens."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--attention", nargs="+", default=["sdpa", "xformers"])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--compile", action="store_true", help="measure with torch.compile too")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("make bench-gpu: no CUDA device here; `make bench` measures processors.")
    for name in arguments.sizes:
        for attention in arguments.attention:
            for compiled in (False, True) if arguments.compile else (False,):
                execution = Execution(attention=attention, compile=compiled, log_every_steps=1)
                try:
                    speed = measure_speed(
                        parse_size(name),
                        batch_sequences=CASES[name],
                        steps=arguments.steps,
                        precision="bf16",
                        execution=execution,
                        device=torch.device("cuda"),
                    )
                except (InputError, torch.cuda.OutOfMemoryError) as error:
                    print(json.dumps({"size": name, "attention": attention, "error": str(error).splitlines()[0]}))
                    continue
                print(json.dumps(speed.to_json() | {"compile": compiled}), flush=True)


if __name__ == "__main__":
    main()
