"""Scores a model in memory on benchmarks: for the command, and for the training worker on its own device."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import Tokenizer
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Setting
from ladder.platform.evaluation.heldout_pages import Limits, Pages
from ladder.platform.evaluation.measurement import Measurement
from ladder.platform.evaluation.registry import find_benchmarks
from ladder.platform.evaluation.scoring import Scorer

logger = logging.getLogger(__name__)

DEFAULT_LIMITS = Limits()

HELDOUT_TOKENS = 65_536
"""Tokens of the held-out loss unless asked otherwise: about a second for a small model on one core."""


def evaluate(
    model: GPT2,
    tokenizer: Tokenizer,
    benchmarks: Sequence[str],
    *,
    storage: UPath,
    corpus: Corpus | None = None,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    heldout_tokens: int | None = HELDOUT_TOKENS,
    limits: Limits = DEFAULT_LIMITS,
    batch_tokens: int | None = None,
) -> list[Measurement]:
    """The measurements of the benchmarks named, in their order, of a model that is on `device` already.

    `heldout_tokens` bounds the tokens of the held-out loss (None reads all), `limits` the pages of the `pages-`
    benchmarks; `precision` is fp32 or bf16. The model's mode and gradients are as before afterwards. InputError
    before anything is scored where a benchmark is unknown, its data are absent or the tokenizer does not fit.
    """
    chosen = find_benchmarks(benchmarks)
    if heldout_tokens is not None and heldout_tokens < 1:
        raise InputError(f"heldout_tokens is {heldout_tokens}: wanted at least 1")
    if tokenizer.vocabulary > model.size.vocabulary:
        raise InputError(
            f"tokenizer {tokenizer.name} has {tokenizer.vocabulary} tokens and the model only {model.size.vocabulary} "
            "classes: name the tokenizer that the model was trained with"
        )
    for benchmark in chosen:
        benchmark.check(storage=storage, corpus=corpus, tokenizer=tokenizer)
    scorer = Scorer(
        model, device=device, precision=precision, start_token=tokenizer.end_of_text, batch_tokens=batch_tokens
    )
    setting = Setting(
        scorer=scorer,
        tokenizer=tokenizer,
        storage=storage,
        corpus=corpus,
        pages=None if corpus is None else Pages(corpus, limits=limits, scorer=scorer, tokenizer=tokenizer),
        heldout_tokens=heldout_tokens,
    )
    measurements: list[Measurement] = []
    with _evaluation_mode(model):
        for benchmark in chosen:
            started = time.perf_counter()
            scored = benchmark.score(setting)
            seconds = time.perf_counter() - started
            logger.info("scored %s in %.1f s", benchmark.name, seconds)
            measurements += [replace(measurement, seconds=seconds) for measurement in scored]
    return measurements


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode, and afterwards each as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
