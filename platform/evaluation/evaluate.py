"""Scores a model in memory on benchmarks: for the command, and for the training worker on its own device."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import Tokenizer
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Benchmark, Setting
from ladder.platform.evaluation.code_fingerprint import code_fingerprint
from ladder.platform.evaluation.item_scores import ItemScores
from ladder.platform.evaluation.measurement import Measurement
from ladder.platform.evaluation.protocol import DEFAULT_PROTOCOL, Protocol
from ladder.platform.evaluation.scorer import Progress, Scorer, tell_nobody
from ladder.platform.evaluation.selection import select

logger = logging.getLogger(__name__)


def evaluate(
    model: GPT2,
    tokenizer: Tokenizer,
    benchmarks: Sequence[str],
    *,
    storage: UPath,
    corpus: Corpus | None = None,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    protocol: Protocol = DEFAULT_PROTOCOL,
    batch_tokens: int | None = None,
) -> list[Measurement]:
    """The measurements of the benchmarks, groups and files named, of a model that is on `device` already.

    `precision` is fp32 or bf16. The model's mode and gradients are as before afterwards. InputError before anything is
    scored where a benchmark is unknown, its data are absent or the tokenizer does not fit.
    """
    chosen = select(benchmarks).benchmarks
    setting = make_setting(
        model,
        tokenizer,
        storage=storage,
        corpus=corpus,
        device=device,
        precision=precision,
        protocol=protocol,
        batch_tokens=batch_tokens,
    )
    for benchmark in chosen:
        benchmark.check(storage=storage, corpus=corpus, tokenizer=tokenizer, shots=protocol.shots)
    return [measurement for benchmark in chosen for measurement in measure(benchmark, setting)]


def make_setting(
    model: GPT2,
    tokenizer: Tokenizer,
    *,
    storage: UPath,
    corpus: Corpus | None,
    device: torch.device | str,
    precision: str,
    protocol: Protocol,
    batch_tokens: int | None = None,
    progress: Progress = tell_nobody,
) -> Setting:
    """What benchmarks score with; InputError where the tokenizer has more tokens than the model has classes."""
    if tokenizer.vocabulary > model.size.vocabulary:
        raise InputError(
            f"tokenizer {tokenizer.name} has {tokenizer.vocabulary} tokens and the model only {model.size.vocabulary} "
            "classes: name the tokenizer that the model was trained with"
        )
    scorer = Scorer(
        model,
        device=device,
        precision=precision,
        start_token=tokenizer.end_of_text,
        batch_tokens=batch_tokens,
        progress=progress,
    )
    return Setting(scorer=scorer, tokenizer=tokenizer, storage=storage, corpus=corpus, protocol=protocol)


def score_items(benchmark: Benchmark, setting: Setting) -> list[ItemScores]:
    """The scores by item of a benchmark whose data are at hand; the model's mode is as before afterwards."""
    assert isinstance(setting.scorer.model, nn.Module)
    with _evaluation_mode(setting.scorer.model):
        return benchmark.score(setting)


def measure(benchmark: Benchmark, setting: Setting) -> list[Measurement]:
    """The measurements of a benchmark whose data are at hand."""
    return measure_with_items(benchmark, setting)[0]


def measure_with_items(benchmark: Benchmark, setting: Setting) -> tuple[list[Measurement], list[ItemScores]]:
    """The measurements, and the scores by item that they are of."""
    started = time.perf_counter()
    items = score_items(benchmark, setting)
    measurements = [scores.measure() for scores in items]
    seconds = time.perf_counter() - started
    logger.info("scored %s in %.1f s", benchmark.name, seconds)
    scored_with = describe_scoring(benchmark, setting)
    papers = benchmark.paper_scores
    described = [
        replace(m, seconds=seconds, scored_with=scored_with, paper_scores=dict(papers.get(m.metric, {})))
        for m in measurements
    ]
    return described, items


def describe_scoring(benchmark: Benchmark, setting: Setting) -> dict[str, Any]:
    """What made a benchmark's numbers, for a reader who has only them."""
    return {
        "version": benchmark.version,
        **({"definition": benchmark.definition} if benchmark.definition else {}),
        **benchmark.settings_read(asdict(setting.protocol)),
        "precision": setting.scorer.precision,
        "device": setting.scorer.device.type,
        "tokenizer": setting.tokenizer.name,
        "code": code_fingerprint(),
    }


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
