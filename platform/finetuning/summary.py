"""Transfer in numbers: the mean over seeds of what a checkpoint scores, beside the same size from scratch.

Two standard errors are kept apart: over seeds (head, data order, dropout) and over the examples that are scored, which
are the same for all seeds and checkpoints. A difference from scratch is taken seed by seed, and for metrics that are
means example by example too: what both share drops out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ladder.platform.evaluation.estimates import estimate_mean
from ladder.platform.evaluation.measurement import Measurement
from ladder.platform.finetuning.baselines import bag_of_words
from ladder.platform.finetuning.grid import Cell
from ladder.platform.finetuning.job import ITEMS
from ladder.platform.storage import open_storage, read_json
from ladder.sweeps.finetuning import NOTHING

Result = Mapping[str, Any]
"""What a run's result.json holds."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One metric of a checkpoint on a task over the seeds."""

    checkpoint: str
    """The checkpoint."""
    size: str
    """Its shape."""
    task: str
    """The task."""
    metric: str
    """The metric; one with _mismatched is of that split."""
    unit: str
    """What the value is counted in."""
    direction: str
    """Whether a better model has a lower or a higher value."""
    layers: str
    """What was taken over; `nothing` is from scratch."""
    lr_factor: float
    """The learning rate as a multiple of the rule's, chosen on examples kept apart where there were several."""
    seeds: int
    """Seeds that the value is a mean over."""
    value: float
    """Mean over seeds."""
    standard_error_seeds: float | None
    """Standard error of the mean over seeds; None of one seed."""
    standard_error_items: float | None
    """Standard error over the scored examples of a seed's value: the root of the mean square over seeds."""
    collapsed: int
    """Seeds whose answers are all the same; they are in the mean."""
    guess: float | None
    """What the best constant answer scores."""
    bag_of_words: float | None
    """What a bag of words with logistic regression scores; None where it has no such number."""
    difference: float | None
    """Value less that from scratch, over the seeds that both have; None for scratch itself."""
    difference_error_seeds: float | None
    """Its standard error over seeds, paired."""
    difference_error_items: float | None
    """Its standard error over examples, paired; None where the metric is no mean over examples."""
    beats_guess: bool | None
    """Whether it is better than the best constant answer by two standard errors over seeds and examples together."""

    def to_json(self) -> dict[str, Any]:
        """JSON's own types."""
        return asdict(self)


def summarise(cells: Sequence[Cell]) -> list[Transfer]:
    """The metrics of each checkpoint, task and part taken over, of the runs that are finished.

    The bag of words of a task is fitted where the storage has none yet.
    """
    results = {cell.job.run.key: cell.job.result() for cell in cells}
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        if results[cell.job.run.key] is not None:
            groups.setdefault((cell.start.name, cell.task.name, cell.layers), []).append(cell)
    done = {key: result for key, result in results.items() if result is not None}
    chosen = {place: choose_rate(group, done) for place, group in groups.items()}
    rows = []
    for (start, task, layers), group in chosen.items():
        scratch = chosen.get((start, task, NOTHING), []) if layers != NOTHING else []
        job = group[0].job
        words = bag_of_words(job.run, group[0].task, data=job.data, storage=open_storage(job.storage))
        for measured in _measurements(done[group[0].job.run.key]):
            rows.append(_transfer(group, scratch, measured, done, words.get(measured.metric)))
    return rows


def choose_rate(cells: Sequence[Cell], results: Mapping[str, Result]) -> list[Cell]:
    """The cells of the learning rate whose mean over seeds is best on the examples kept apart; of one rate, all."""
    by_factor: dict[float, list[Cell]] = {}
    for cell in cells:
        by_factor.setdefault(cell.lr_factor, []).append(cell)
    if len(by_factor) == 1:
        return list(cells)

    def quality(factor: float) -> tuple[float, float]:
        kept = [
            [Measurement.from_json(one) for one in results[cell.job.run.key]["choice"]] for cell in by_factor[factor]
        ]
        return float(np.mean([one[0].value for one in kept])), -float(np.mean([one[-1].value for one in kept]))

    return by_factor[max(by_factor, key=quality)]


def _measurements(result: Result) -> list[Measurement]:
    return [Measurement.from_json(one) for one in result["measurements"]]


def _transfer(
    cells: Sequence[Cell],
    scratch: Sequence[Cell],
    measured: Measurement,
    results: Mapping[str, Result],
    words: float | None,
) -> Transfer:
    first = cells[0]
    found = {cell.seed: _find(results[cell.job.run.key], measured.metric) for cell in cells}
    value = estimate_mean([one.value for one in found.values()])
    errors = [one.standard_error for one in found.values() if one.standard_error is not None]
    items = float(np.sqrt(np.mean(np.square(errors)))) if len(errors) == len(found) else None
    beside = {cell.seed: _find(results[cell.job.run.key], measured.metric) for cell in scratch}
    shared = sorted(found.keys() & beside.keys())
    difference = estimate_mean([found[seed].value - beside[seed].value for seed in shared]) if shared else None
    split = _split(measured.metric)
    return Transfer(
        checkpoint=first.start.name,
        size=first.start.size.shape_name,
        task=first.task.name,
        metric=measured.metric,
        unit=measured.unit,
        direction=measured.direction,
        layers=first.layers,
        lr_factor=first.lr_factor,
        seeds=len(found),
        value=value.value,
        standard_error_seeds=value.standard_error,
        standard_error_items=items,
        collapsed=sum(results[cell.job.run.key]["collapsed"][split] for cell in cells),
        guess=measured.chance,
        bag_of_words=words,
        difference=None if difference is None else difference.value,
        difference_error_seeds=None if difference is None else difference.standard_error,
        difference_error_items=_paired_error(cells, scratch, measured.metric, shared) if shared else None,
        beats_guess=_beats(measured, value.value, value.standard_error, items),
    )


def _find(result: Result, metric: str) -> Measurement:
    return next(one for one in _measurements(result) if one.metric == metric)


def _split(metric: str) -> str:
    return "dev_mismatched" if metric.endswith("_mismatched") else "dev"


def _beats(measured: Measurement, value: float, seeds: float | None, items: float | None) -> bool | None:
    if measured.chance is None:
        return None
    ahead = value - measured.chance if measured.direction == "higher" else measured.chance - value
    return ahead > 2 * float(np.hypot(seeds or 0.0, items or 0.0))


def _paired_error(cells: Sequence[Cell], scratch: Sequence[Cell], metric: str, seeds: Sequence[int]) -> float | None:
    """Standard error over examples of the difference of means over the seeds; None where the metric is no mean."""
    name = metric.removesuffix("_mismatched")
    if name not in ("accuracy", "cross_entropy", "squared_error"):
        return None
    ours, theirs = (
        np.mean([_by_item(cell, name, _split(metric)) for cell in group if cell.seed in seeds], axis=0)
        for group in (cells, scratch)
    )
    return estimate_mean(ours - theirs).standard_error


def _by_item(cell: Cell, metric: str, split: str) -> np.ndarray:
    """The metric of each example."""
    items = (read_json(cell.job.folder / ITEMS) or {})[split]
    if metric == "accuracy":
        return np.asarray(np.array(items["labels"]) == np.array(items["predictions"]), np.float64)
    return np.array(items["losses"])
