"""Tokens a second of fine-tuning beside pre-training: the same shape, precision and length, one step after the other.

    python bench/finetuning.py [--context 128] [--dropout 0.1] [--threads 1] [SIZE...]

The two take turns, so that what else the machine does falls on both; on a processor its own seconds are counted.
Fine-tuning has what pre-training has not: dropout and a head. It is to have 80 % of pre-training's rate.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from ladder.models.sizes import Size, parse_size
from ladder.platform.finetuning.inputs import Encoded
from ladder.platform.finetuning.objective import FineTune
from ladder.platform.finetuning.registry import TASKS
from ladder.platform.finetuning.task import Kind
from ladder.platform.hardware import resolve_precision
from ladder.platform.processes import keep_large_buffers
from ladder.platform.training.step import TrainingStep
from ladder.platform.training.worker import Worker
from ladder.sweeps.finetuning import FineTuning, FineTuningRun
from ladder.sweeps.words import Execution, Recipe, Run

BATCH, STEPS, WARM_UP = 32, 12, 2


def fine_tuning(size: Size, dropout: float, precision: str, worker: Worker) -> Callable[[], None]:
    """A step of fine-tuning on texts that fill the context."""
    draw = np.random.default_rng(0)
    recipe = FineTuning(lr_peak=1e-4, layers="nothing", dropout=dropout, precision=precision)  # type: ignore[arg-type]
    run = FineTuningRun(size=size, tokenizer="", checkpoint=None, task="sst2", data="", recipe=recipe)
    texts = [draw.integers(0, size.vocabulary, size.context - 2).astype(np.int32) for _ in range(BATCH)]
    examples = [
        Encoded(kind=Kind.CLASSIFICATION, parts=(text,), label=n % 2, cut=False) for n, text in enumerate(texts)
    ]
    objective = FineTune(run, TASKS["sst2"], examples, None)
    engine = TrainingStep(objective.training, Execution(), worker, objective=objective)
    return stepping(engine, objective.feed(worker).take(0))


def pre_training(size: Size, precision: str, worker: Worker) -> Callable[[], None]:
    """A step of pre-training on as many tokens."""
    tokens = BATCH * size.context
    recipe = Recipe(tokens=tokens, batch_tokens=tokens, lr_peak=1e-4, precision=precision)  # type: ignore[arg-type]
    engine = TrainingStep(Run(size=size, recipe=recipe, corpus="", corpus_fingerprint=None), Execution(), worker)
    return stepping(engine, torch.randint(size.vocabulary, (BATCH, size.context + 1)).to(worker.device))


def stepping(engine: TrainingStep, batch: object) -> Callable[[], None]:
    """One step of an engine, until the device has done it."""
    engine.start(batch)

    def step() -> None:
        engine.gradients(batch)
        engine.update(1e-4)
        if engine.worker.device.type == "cuda":
            torch.cuda.synchronize()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=["2x32", "2x64", "3x96", "4x128"])
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--vocabulary", type=int, default=257)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_large_buffers()
    worker = Worker(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    precision = resolve_precision("auto", worker.device)
    clock = time.perf_counter if worker.device.type == "cuda" else time.process_time
    print(f"{worker.device.type}, {precision}, context {asked.context}, dropout {asked.dropout}")
    for name in asked.sizes:
        size = parse_size(name, context=asked.context, vocabulary=asked.vocabulary)
        steps = [pre_training(size, precision, worker), fine_tuning(size, asked.dropout, precision, worker)]
        seconds: list[list[float]] = [[], []]
        for _ in range(WARM_UP + STEPS):
            for kept, step in zip(seconds, steps, strict=True):
                started = clock()
                step()
                kept.append(clock() - started)
        rates = [BATCH * size.context / statistics.median(kept[WARM_UP:]) for kept in seconds]
        print(
            f"{name:>8}: pre-training {rates[0]:9,.0f} tokens/s, fine-tuning {rates[1]:9,.0f}, "
            f"{rates[1] / rates[0]:.0%} of it"
        )


if __name__ == "__main__":
    main()
