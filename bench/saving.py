"""What saving checkpoints costs training: blocks of steps with a checkpoint and without, in turns, in one training.

    python bench/saving.py [--size 6x384] [--every 50] [--pairs 12]

The default is 11M parameters and a checkpoint every 50 steps. A block lasts until its checkpoint is written.
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
from ladder.platform.processes import keep_large_buffers
from ladder.platform.runs.attempt import begin
from ladder.platform.training.job import CheckpointSaver
from ladder.platform.training.train import Metrics, Trainer
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
    """Time both, print the ratio of each pair and what they say together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="6x384", help="with 512 classes the default has 11M parameters")
    parser.add_argument("--every", type=int, default=50, help="steps between checkpoints")
    parser.add_argument("--pairs", type=int, default=12, help="of a block with a checkpoint and one without")
    parser.add_argument("--sequences", type=int, default=8, help="of 128 tokens in a step")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    keep_large_buffers()
    size = parse_size(arguments.size, context=128, vocabulary=512)
    # The order changes from pair to pair, so that what drifts hits both alike. The first block warms up.
    turns = [saves for pair in range(arguments.pairs) for saves in ((True, False) if pair % 2 else (False, True))]
    seconds = time_blocks(size, arguments, [True, *turns])[1:]
    ratios = []
    for first in range(0, len(turns), 2):
        pair = dict(zip(turns[first : first + 2], seconds[first : first + 2], strict=True))
        ratios.append(pair[True] / pair[False])
        print(f"{pair[True]:.2f} s with a checkpoint, {pair[False]:.2f} s without, ratio {ratios[-1]:.3f}")
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"{size.params_total / 1e6:.1f}M parameters, a checkpoint every {arguments.every} steps: {middle - 1:+.1%} of "
        f"the time, median of {arguments.pairs} pairs; half of them between {low - 1:+.1%} and {high - 1:+.1%}"
    )


def time_blocks(size, arguments, turns: list[bool]) -> list[float]:  # type: ignore[no-untyped-def]
    """Seconds of each block of steps; where its turn says so, a checkpoint is saved at its beginning."""
    batch = arguments.sequences * size.context
    steps = (len(turns) + 1) * arguments.every
    precision = resolve_precision("auto", torch.device("cpu"))
    recipe = Recipe(tokens=steps * batch, batch_tokens=batch, lr_peak=1e-4, precision=precision)  # type: ignore[arg-type]
    run = Run(size=size, recipe=recipe, corpus="random tokens", corpus_fingerprint=None)
    stream = RandomTokens(8 * batch + 1, size.vocabulary)
    execution = Execution(log_every_steps=arguments.every, checkpoint_seconds=1e9)
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        attempt = begin(UPath(folder) / "run", "bench", trains=True, scores=True, max_failures=0)
        assert attempt is not None
        trainer = Trainer(run, execution, stream=stream, worker=Worker(device=torch.device("cpu")))
        with CheckpointSaver(attempt, trainer, tokenizer="bytes", params={}) as saver:

            def log(_: Metrics) -> None:
                saver.wait()
                ends.append(time.perf_counter())
                if len(ends) <= len(turns) and turns[len(ends) - 1]:
                    snapshot = trainer.snapshot()
                    assert snapshot is not None
                    saver.save(snapshot)

            trainer.train(log=log, save=lambda snapshot: None)
        attempt.end("released")
    return [end - start for start, end in zip(ends, ends[1:], strict=False)]


if __name__ == "__main__":
    main()
