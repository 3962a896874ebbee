"""Scores one checkpoint on benchmarks, one after another, from the cache where they are in it.

Plain functions and records that travel: called here, or on a Ray worker for each of many checkpoints.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.weights import CONFIG_FILE, SHARDS_FILE, find_folder, read_size
from ladder.platform.corpus.store import open_corpus
from ladder.platform.evaluation.benchmark import Benchmark, Setting
from ladder.platform.evaluation.checkpoints.cache import ResultCache, ResultKey, checkpoint_sha256, make_key
from ladder.platform.evaluation.checkpoints.open import choose_device, open_checkpoint, tokenizer_of
from ladder.platform.evaluation.evaluate import make_setting, measure_with_items
from ladder.platform.evaluation.item_scores import ItemScores
from ladder.platform.evaluation.measurement import Measurement
from ladder.platform.evaluation.own.file import OwnFile
from ladder.platform.evaluation.protocol import DEFAULT_PROTOCOL, Protocol
from ladder.platform.evaluation.registry import find_benchmarks
from ladder.platform.evaluation.scorer import Progress, tell_nobody
from ladder.platform.hardware import resolve_precision
from ladder.platform.processes import keep_large_buffers
from ladder.platform.storage import is_local, open_storage


@dataclass(frozen=True, kw_only=True)
class ScoringTask:
    """A checkpoint to score, with all that a worker needs to know; it travels to the worker as it is."""

    checkpoint: str
    """A folder, an fsspec URI of one, or a Hugging Face name."""
    benchmarks: tuple[str, ...]
    """Names of the benchmarks, whose data are at hand."""
    own: tuple[OwnFile, ...] = ()
    """The files that define the user's own among them."""
    storage: str
    """Storage root, a path or URI."""
    corpus: str | None = None
    """Corpus whose held-out split is scored; None for none."""
    tokenizer: str | None = None
    """gpt2 or bytes; None takes the one that the checkpoint names."""
    device: str = "auto"
    """cpu or cuda; auto takes what is there."""
    precision: str = "auto"
    """fp32 or bf16; auto takes bf16 where the processor has it."""
    protocol: Protocol = field(default=DEFAULT_PROTOCOL)
    """How benchmarks are scored."""
    use_cache: bool = True
    """Whether scores that were kept are taken; new ones are kept in any case."""
    samples: bool = False
    """Whether the outcome has a record of every item; what was kept has none, so everything is then scored."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one benchmark on one checkpoint."""

    checkpoint: str
    """The checkpoint, as the task names it."""
    benchmark: str | None
    """The benchmark; None where the checkpoint itself cannot be scored at all."""
    measurements: tuple[Measurement, ...] = ()
    """Its numbers; none where there is a problem."""
    cached: bool = False
    """Whether they are from the cache."""
    params_total: int | None = None
    """Parameters of the model."""
    samples: tuple[dict[str, Any], ...] = ()
    """A record of every item, where the task asks for them (`ItemScores.samples`)."""
    problem: str | None = None
    """Why it was not scored, for people; None where it was."""


def score_checkpoint(task: ScoringTask, progress: Progress = tell_nobody) -> Iterator[Outcome]:
    """What becomes of each benchmark of a task, as soon as it is known; `progress` is told how far each is.

    A benchmark's problem does not stop the others; one of the checkpoint ends it.
    """
    keep_large_buffers()
    with tempfile.TemporaryDirectory(prefix="ladder-score-") as scratch:
        try:
            opened = OpenedCheckpoint(task, Path(scratch), progress)
        except InputError as error:
            yield Outcome(checkpoint=task.checkpoint, benchmark=None, problem=str(error))
            return
        for benchmark in find_benchmarks(task.benchmarks, task.own):
            outcome = opened.score(benchmark)
            yield outcome
            if outcome.benchmark is None:
                return


def find_cached(task: ScoringTask) -> list[Outcome] | None:
    """All outcomes of a task on a local folder, where the cache holds every one; None where something is to be done."""
    if not task.use_cache or task.samples or not Path(task.checkpoint).is_dir():
        return None
    try:
        opened = OpenedCheckpoint(task, Path())
        found = [opened.find(benchmark) for benchmark in find_benchmarks(task.benchmarks, task.own)]
    except InputError:  # said again by whoever does the task
        return None
    outcomes = [outcome for outcome in found if outcome is not None]
    return outcomes if len(outcomes) == len(found) else None


class OpenedCheckpoint:
    """A task's checkpoint; the model is loaded when the first benchmark is not in the cache."""

    def __init__(self, task: ScoringTask, scratch: Path, progress: Progress = tell_nobody) -> None:
        self.task = task
        self.progress = progress
        self.storage = open_storage(task.storage)
        self.cache = ResultCache(self.storage)
        self.corpus = None if task.corpus is None else open_corpus(self.storage, task.corpus)
        self.folder = find_folder(local_copy(task.checkpoint, scratch))
        self.device = choose_device(task.device)
        self.precision = resolve_precision(task.precision, self.device)
        self.tokenizer = tokenizer_of(self.folder, task.tokenizer)
        self.params_total = read_size(self.folder).params_total
        self.sha256 = checkpoint_sha256(self.folder)

    @cached_property
    def setting(self) -> Setting:
        """What benchmarks score with."""
        model, tokenizer = open_checkpoint(
            str(self.folder), device=self.device, precision=self.precision, tokenizer=self.task.tokenizer
        )
        return make_setting(
            model,
            tokenizer,
            storage=self.storage,
            corpus=self.corpus,
            device=self.device,
            precision=self.precision,
            protocol=self.task.protocol,
            progress=self.progress,
        )

    def score(self, benchmark: Benchmark) -> Outcome:
        """What becomes of a benchmark; of no benchmark where it turns out that the weights cannot be loaded."""
        try:
            found = self.find(benchmark)
            if found is not None:
                return found
            try:
                setting = self.setting
            except InputError as error:
                return Outcome(checkpoint=self.task.checkpoint, benchmark=None, problem=str(error))
            measurements, items = measure_with_items(benchmark, setting)
            measurements = [
                replace(measurement, scored_with=measurement.scored_with | {"checkpoint_sha256": self.sha256})
                for measurement in measurements
            ]
            self.cache.keep(self._key(benchmark), measurements)
            samples = _samples(items) if self.task.samples else ()
            return self._outcome(benchmark, measurements=tuple(measurements), samples=samples)
        except (InputError, torch.OutOfMemoryError) as error:
            return self._outcome(benchmark, problem=str(error))

    def find(self, benchmark: Benchmark) -> Outcome | None:
        """What the cache holds of a benchmark, or None; InputError where the benchmark cannot be scored here."""
        benchmark.check(
            storage=self.storage, corpus=self.corpus, tokenizer=self.tokenizer, shots=self.task.protocol.shots
        )
        use_cache = self.task.use_cache and not self.task.samples
        found = self.cache.find(self._key(benchmark)) if use_cache else None
        return None if found is None else self._outcome(benchmark, measurements=tuple(found), cached=True)

    def _key(self, benchmark: Benchmark) -> ResultKey:
        return make_key(
            benchmark,
            checkpoint=self.sha256,
            storage=self.storage,
            corpus=self.corpus,
            tokenizer=self.tokenizer,
            precision=self.precision,
            device=self.device.type,
            protocol=self.task.protocol,
        )

    def _outcome(
        self,
        benchmark: Benchmark,
        *,
        measurements: tuple[Measurement, ...] = (),
        cached: bool = False,
        samples: tuple[dict[str, Any], ...] = (),
        problem: str | None = None,
    ) -> Outcome:
        return Outcome(
            checkpoint=self.task.checkpoint,
            benchmark=benchmark.name,
            measurements=measurements,
            cached=cached,
            params_total=self.params_total,
            samples=samples,
            problem=problem,
        )


def _samples(scored: Sequence[ItemScores]) -> tuple[dict[str, Any], ...]:
    """The records of a benchmark's items, those that metrics share once."""
    distinct = {id(scores.items): scores for scores in reversed(scored)}.values()
    return tuple(record for scores in reversed(distinct) for record in scores.samples())


def local_copy(checkpoint: str, scratch: Path) -> str:
    """The checkpoint itself, or a copy under `scratch` of the config and weights at an fsspec URI."""
    if "://" not in checkpoint:
        return checkpoint
    kept = UPath(checkpoint)
    if is_local(kept):
        return kept.path
    files = [
        path for path in kept.iterdir() if path.name in (CONFIG_FILE, SHARDS_FILE) or path.suffix == ".safetensors"
    ]
    for path in files:
        path.fs.get_file(path.path, str(scratch / path.name))
    return str(scratch)
