"""A task of lm-evaluation-harness as a benchmark: its own text, protocol and metrics, scored by our scorer.

The harness builds the requests, filters the answers and makes each document's numbers; what they come to over
documents is the harness' own sum, so that a score is the one that it prints. Standard errors are by the delta method
for means and perplexities, by a seeded bootstrap over documents for the rest.
"""

import hashlib
import json
import logging
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ladder.models.errors import InputError, did_you_mean
from ladder.platform.evaluation.benchmark import Benchmark, Setting
from ladder.platform.evaluation.estimates import Estimate
from ladder.platform.evaluation.harness.names import FILE_SUFFIX, PREFIX, require_harness
from ladder.platform.evaluation.item_scores import Estimator, ItemScores, bits_of, mean_of, perplexity_of

logger = logging.getLogger(__name__)

FEWSHOT_SEED = 1234
"""The harness' seed of the draw of examples; ours is added to it."""
CHOICE_METRICS = ("acc", "acc_norm", "acc_bytes")
"""Metrics of the harness that are shares of right choices, of as many as there are requests."""
REFITS = 100
"""Resamples of the bootstrap."""


def find_tasks(name: str) -> list[str]:
    """Names, among benchmarks, of the tasks that `harness-<task, group or tag>` stands for; InputError for none."""
    asked = name.removeprefix(PREFIX)
    if asked not in _manager().task_index:
        near = did_you_mean(asked, _manager().all_tasks)
        raise InputError(f"lm-evaluation-harness has no task {asked}{near}; `lm_eval ls tasks` lists them")
    with _global_seeds():
        return [PREFIX + task for task in _load(asked, name)]


@cache
def find_task(name: str) -> Benchmark:
    """The benchmark `harness-<task>`."""
    with _global_seeds():
        loaded = _load(name.removeprefix(PREFIX), name)
    return _benchmark(loaded, name)


@cache
def task_of_file(path: str, fingerprint: str) -> Benchmark:
    """The benchmark of a task's own YAML file, whose text has this fingerprint; what it includes stands beside it."""
    require_harness()
    if not Path(path).is_file():
        raise InputError(f"{path} is not on this machine: a task of the harness is read where it is scored")
    with _global_seeds():
        loaded = _load(path, path)
    return _benchmark(loaded, path, fingerprint)


def _benchmark(loaded: dict[str, Any], named: str, fingerprint: str = "") -> Benchmark:
    if len(loaded) != 1:
        raise InputError(f"{named} is a group of {len(loaded)} tasks: name them one by one")
    ((task, made),) = loaded.items()
    config = made.dump_config() if hasattr(made, "dump_config") else {}
    name = PREFIX + re.sub(r"[^A-Za-z0-9._-]", "_", task)
    return Benchmark(
        name=name,
        source=f"lm-evaluation-harness, task {task}",
        score=partial(_score, name, named),
        reads=frozenset({"limit", "shots", "seed"}),
        samples=made.OUTPUT_TYPE == "generate_until",
        citation="Gao et al., lm-evaluation-harness, and the task's own",
        shots=config.get("num_fewshot") or 0,
        definition=_definition(config, fingerprint),
        on_request=True,
    )


def _definition(config: dict[str, Any], fingerprint: str) -> str:
    """Hash of the harness' version, of the task's configuration and of the local files that it reads."""
    from importlib.metadata import version

    digest = hashlib.sha256(f"{version('lm-eval')}\n{fingerprint}\n".encode())
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for path in sorted(_local_files((config.get("dataset_kwargs") or {}).get("data_files"))):
        digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return digest.hexdigest()


def _local_files(files: Any) -> Iterator[str]:
    """The paths of local files in what `datasets` calls data_files."""
    if isinstance(files, str):
        if Path(files).is_file():
            yield files
    elif isinstance(files, dict):
        for value in files.values():
            yield from _local_files(value)
    elif isinstance(files, list | tuple):
        for value in files:
            yield from _local_files(value)


@cache
def _manager() -> Any:
    """The harness' index of its tasks, made once."""
    require_harness()
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _load(spec: str, named: str) -> dict[str, Any]:
    """The tasks of a name or file by name; InputError where their data cannot be had."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False) if spec.endswith(FILE_SUFFIX) else _manager()
    try:
        loaded: dict[str, Any] = manager.load([spec])["tasks"]
        return loaded
    except Exception as error:  # whatever a task's file, its code and a download can do
        raise InputError(
            f"task {named} of lm-evaluation-harness cannot be loaded: {type(error).__name__}: {str(error)[:300]}"
        ) from error


@contextmanager
def _global_seeds() -> Iterator[None]:
    """Python's and numpy's global generators as the harness seeds them, which some tasks shuffle with; restored."""
    python, array = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(FEWSHOT_SEED)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """The harness says no more of a task, which it did when the task was found: checkpoints are many."""
    harness = logging.getLogger("lm_eval")
    level = harness.level
    harness.setLevel(logging.ERROR)
    try:
        yield
    finally:
        harness.setLevel(level)


def _score(name: str, named: str, setting: Setting) -> list[ItemScores]:
    """The scores by document of a task, one for each of its metrics."""
    from lm_eval.evaluator import evaluate

    from ladder.platform.evaluation.harness.model import ScorerModel

    with _global_seeds(), _without_warnings():
        ((task_name, task),) = _load(named.removeprefix(PREFIX), named).items()
        _set_shots(task, setting.protocol.shots)
        task.set_fewshot_seed(seed=FEWSHOT_SEED + setting.protocol.seed)
        results = evaluate(
            ScorerModel(setting),
            {"tasks": {task_name: task}, "groups": {}, "group_map": {}},
            limit=setting.protocol.limit,
            bootstrap_iters=0,
            log_samples=True,
        )
    assert results is not None, "the only process is the first"
    scores = list(_metrics(name, task, results["samples"][task_name]))
    if not scores:
        raise InputError(f"task {task_name} of lm-evaluation-harness gives no number for any of its metrics")
    return scores


def _set_shots(task: Any, asked: int | None) -> None:
    """As many solved examples as were asked for, or the task's own; one that is made for none keeps none."""
    own = task.get_config("num_fewshot")
    if asked is not None and own != 0:
        task.set_config(key="num_fewshot", value=asked)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)


def _metrics(name: str, task: Any, samples: Sequence[dict[str, Any]]) -> Iterator[ItemScores]:
    """Each metric under each of the task's filters, over the same documents."""
    filters = dict.fromkeys(sample["filter"] for sample in samples)
    for filter_key in filters:
        chosen = [sample for sample in samples if sample["filter"] == filter_key]
        items = [_item(sample) for sample in chosen]
        for metric in chosen[0]["metrics"]:
            values = [sample[metric] for sample in chosen]
            estimate, unit = _estimator(task.aggregation()[metric], values)
            if not math.isfinite(estimate(np.arange(len(values))).value):
                logger.warning("%s: metric %s is no finite number here and is left out", name, metric)
                continue
            higher = task.higher_is_better().get(metric, True)
            yield ItemScores(
                benchmark=name,
                protocol=_protocol(task, filter_key),
                metric=metric if filter_key == "none" else f"{metric}-{filter_key}",
                unit=unit,
                direction="higher" if higher else "lower",
                description=f"{metric} of lm-evaluation-harness",
                estimate=estimate,
                counted=np.ones(len(values), dtype=np.int64),
                totals={"items": np.ones(len(values))},
                chance=_chance(task, metric, chosen),
                items=items,
            )


def _chance(task: Any, metric: str, samples: Sequence[dict[str, Any]]) -> float | None:
    """The share that guessing gets right, where the metric is the share of choices that are right."""
    if task.OUTPUT_TYPE != "multiple_choice" or metric not in CHOICE_METRICS:
        return None
    if "acc_mutual_info" in samples[0]["metrics"]:  # asks for every choice twice
        return None
    return float(np.mean([1 / len(sample["arguments"]) for sample in samples]))


def _protocol(task: Any, filter_key: str) -> str:
    shots = task.get_config("num_fewshot") or 0
    filtered = "" if filter_key == "none" else f", filter {filter_key}"
    return f"lm-evaluation-harness, task version {task.VERSION}, {shots} solved examples{filtered}"


def _item(sample: dict[str, Any]) -> dict[str, Any]:
    """A document as it was asked and answered, in JSON's own types."""
    record: dict[str, Any] = json.loads(
        json.dumps(
            {
                "requests": [list(arguments) for arguments in sample["arguments"]],
                "responses": sample["filtered_resps"],
                "answer": sample["target"],
                "metrics": {metric: sample[metric] for metric in sample["metrics"]},
            },
            default=str,
        )
    )
    return record


def _estimator(aggregate: Callable[[Sequence[Any]], float], values: Sequence[Any]) -> tuple[Estimator, str]:
    """The harness' sum over documents as an estimator, and its unit."""
    from lm_eval.api import metrics

    if aggregate is metrics.mean:
        return mean_of([float(value) for value in values]), "mean over documents"
    if aggregate is metrics.perplexity:
        return perplexity_of([-float(value) for value in values], np.ones(len(values))), "perplexity"
    if aggregate in (metrics.weighted_perplexity, metrics.bits_per_byte):
        nats, units = [-float(value) for value, _ in values], [float(weight) for _, weight in values]
        if aggregate is metrics.bits_per_byte:
            return bits_of(nats, units), "bits per byte"
        return perplexity_of(nats, units), "perplexity"
    return partial(_bootstrap, aggregate, values), "as the task has it"


def _bootstrap(aggregate: Callable[[Sequence[Any]], float], values: Sequence[Any], kept: np.ndarray) -> Estimate:
    """The value over the documents kept, with the spread of it over documents drawn anew."""
    value = float(aggregate([values[index] for index in kept]))
    if len(kept) < 2:
        return Estimate(value=value, standard_error=None)
    draws = np.random.default_rng(0)
    again = [float(aggregate([values[index] for index in draws.choice(kept, len(kept))])) for _ in range(REFITS)]
    return Estimate(value=value, standard_error=float(np.std(again, ddof=1)) if np.isfinite(again).all() else None)
