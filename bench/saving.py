"""What saving checkpoints costs training: the same steps with and without, in turns, in one process.

    python bench/saving.py [--size 6x384] [--every 50] [--turns 4]

The default is 11M parameters and a checkpoint every 50 steps. The price is of the step's time; both include the log.
"""

import argparse
import statistics
import tempfile
import time

import numpy as np
import numpy.typing as npt
import torch
from upath import UPath

from ladder.models.sizes import parse_size
from ladder.platform.hardware import resolve_precision
from ladder.platform.runs.attempt import begin
from ladder.platform.training.job import CheckpointSaver
from ladder.platform.training.train import Trainer
from ladder.platform.training.worker import Worker
from ladder.sweeps.words import Execution, Recipe, Run


class RandomTokens:
    """A stream of uniformly random tokens."""

    def __init__(self, n_tokens: int, vocabulary: int) -> None:
        self.n_tokens = n_tokens
        self.tokens = np.random.default_rng(0).integers(0, vocabulary, n_tokens, dtype=np.int64)

    def read(self, start: int, n: int) -> npt.NDArray[np.int64]:
        """Tokens start to start + n."""
        return self.tokens[start : start + n]


def main() -> None:
    """Time both, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="6x384", help="with 512 classes the default has 11M parameters")
    parser.add_argument("--every", type=int, default=50, help="steps between checkpoints")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--sequences", type=int, default=8, help="of 128 tokens in a step")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    size = parse_size(arguments.size, context=128, vocabulary=512)
    ratios = []
    for turn in range(arguments.turns):
        seconds = {saves: time_steps(size, arguments, saves=saves) for saves in (turn % 2 == 0, turn % 2 == 1)}
        ratios.append(seconds[True] / seconds[False])
        print(f"turn {turn}: {seconds[True]:.1f} s with, {seconds[False]:.1f} s without, ratio {ratios[-1]:.3f}")
    print(f"{size.params_total / 1e6:.1f}M parameters: {statistics.median(ratios) - 1:+.1%} of the time, median")


def time_steps(size, arguments, *, saves: bool) -> float:  # type: ignore[no-untyped-def]
    """Seconds of three times as many steps as there are between checkpoints, after a few that warm up."""
    steps = 3 * arguments.every
    batch = arguments.sequences * size.context
    precision = resolve_precision("auto", torch.device("cpu"))
    recipe = Recipe(tokens=(steps + 5) * batch, batch_tokens=batch, lr_peak=1e-4, precision=precision)  # type: ignore[arg-type]
    run = Run(size=size, recipe=recipe, corpus="random tokens", corpus_fingerprint=None)
    stream = RandomTokens(8 * batch + 1, size.vocabulary)
    execution = Execution(log_every_steps=arguments.every // 5, checkpoint_seconds=1e9)
    with tempfile.TemporaryDirectory() as folder:
        attempt = begin(UPath(folder) / "run", "bench", trains=True, scores=True, max_failures=0)
        assert attempt is not None
        trainer = Trainer(run, execution, stream=stream, worker=Worker(device=torch.device("cpu")))
        with CheckpointSaver(attempt, trainer, tokenizer="bytes", params={}) as saver:
            marks = []

            def log(point: dict[str, float]) -> None:
                if not marks:
                    marks.append(time.perf_counter())
                if saves and point["step"] % arguments.every == 0:
                    saver.save()

            trainer.train(log=log, save=lambda: None)
            saver.wait()
            seconds = time.perf_counter() - marks[0]
        attempt.end("released")
    return seconds


if __name__ == "__main__":
    main()
