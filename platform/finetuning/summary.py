"""Transfer in numbers: the mean over seeds of what a checkpoint scores, beside everything it has to be compared with.

Two standard errors are kept apart, over seeds and over the scored examples (`differences`). Beside each mean stand the
baselines, the same size from scratch, the checkpoint before it and, where the auxiliary loss was varied, its own mean
with the first weight: each difference is taken seed by seed and example by example.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ladder.platform.evaluation.measurement import Measurement
from ladder.platform.finetuning.baselines import Answers, baseline_answers
from ladder.platform.finetuning.differences import SeedScores, Uncertain, repeated
from ladder.platform.finetuning.grid import Cell
from ladder.platform.finetuning.job import ITEMS
from ladder.platform.finetuning.metrics import METRICS, leave_one_out, mean_without
from ladder.platform.storage import open_storage, read_json
from ladder.sweeps.finetuning import NOTHING

Result = Mapping[str, Any]
"""What a run's result.json holds."""

SCRATCH, BEFORE, FIRST_WEIGHT = "scratch", "checkpoint_before", "first_lm_weight"
"""What a mean is compared with besides the baselines."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A mean beside something else that was scored on the same examples."""

    value: float
    """What the other scores, a mean over its seeds."""
    name: str
    """The other checkpoint, where it is one; else what it is."""
    difference: Uncertain
    """The mean less the other's, over the seeds that both have."""

    def better(self, direction: str) -> bool | None:
        """Whether it is better than the other beyond doubt; None where one seed leaves that open."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None:
            return None
        return low > 0 if direction == "higher" else high < 0


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One metric of a checkpoint on a task over the seeds."""

    checkpoint: str
    """The checkpoint."""
    run: str | None
    """Key of the run that it is of; None where it is not ours."""
    size: str
    """Its shape."""
    params_total: int
    """Parameters with embeddings, without the special tokens."""
    tokens: int | None
    """Tokens that it was pre-trained on; None where that is not on record."""
    task: str
    """The task."""
    metric: str
    """The metric; one with _mismatched is of that split."""
    unit: str
    """What the value is counted in."""
    direction: str
    """Whether a better model has a lower or a higher value."""
    chance: float | None
    """What the best constant answer scores."""
    layers: str
    """What was taken over; `nothing` is from scratch."""
    lm_weight: float
    """Weight of the auxiliary language-model loss."""
    lr_factor: float
    """The learning rate as a multiple of the rule's, chosen on examples kept apart where there were several."""
    recipe: dict[str, Any]
    """What else the runs share and other runs may not: `describe_recipe`."""
    seeds: int
    """Seeds that the value is a mean over."""
    missing: int
    """Seeds without a result, because they failed or have not ended."""
    value: float
    """Mean over seeds."""
    values: dict[int, float]
    """The metric of each seed."""
    standard_error_seeds: float | None
    """Standard error of the mean over seeds; None of one seed."""
    standard_error_items: float | None
    """Standard error of the mean over the scored examples, for these seeds."""
    collapsed: int
    """Seeds whose answers are all the same; they are in the mean."""
    cut_share: float
    """Share of the scored examples that lost text to the context."""
    beside: dict[str, Beside] = field(default_factory=dict)
    """What it is compared with, by name: baselines, scratch, the checkpoint before, the first auxiliary weight."""

    def to_json(self) -> dict[str, Any]:
        """JSON's own types."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Place:
    """The runs of one checkpoint on one task that differ in the seed alone, at the learning rate that was chosen."""

    cells: Sequence[Cell]
    """Those with a result."""
    missing: int
    """Seeds without one."""
    lr_factors: tuple[float, ...]
    """The learning rates that it was chosen from, as multiples of the rule's."""


VARIED = ("lr_peak", "layers", "seed")
"""Fields of a recipe that a summary has places of their own for."""
DATA_DIGITS = 12
"""Of the sha256 over a task's examples: enough to tell one set from another."""

Key = tuple[str, str, str, float]
"""Checkpoint, task, what is taken over, auxiliary weight."""


def summarise(cells: Sequence[Cell]) -> list[Transfer]:
    """The metrics of each checkpoint, task, part taken over and auxiliary weight, of the runs that are finished.

    The baselines of a task are made where the storage has none yet.
    """
    results = {cell.job.run.key: cell.job.result() for cell in cells}
    done = {key: result for key, result in results.items() if result is not None}
    groups: dict[Key, list[Cell]] = {}
    for cell in cells:
        key = (cell.start.name, cell.task.name, cell.layers, cell.lm_weight)
        groups.setdefault(key, []).append(cell)
    places = {key: place for key, group in groups.items() if (place := choose_rate(group, done)).cells}
    scores = Scores(done)
    before = _checkpoints_before(places)
    first_weight = next((cell.lm_weight for cell in cells), 0.0)
    rows = []
    for key, place in places.items():
        start, task, layers, weight = key
        others = {
            SCRATCH: (start, task, NOTHING, weight),
            BEFORE: (before.get(start, ""), task, layers, weight),
            FIRST_WEIGHT: (start, task, layers, first_weight),
        }
        compared = {name: places[other] for name, other in others.items() if other != key and other in places}
        if layers == NOTHING:  # which no checkpoint has a part in
            compared.pop(BEFORE, None)
        rows += [_transfer(place, measured, compared, scores) for measured in scores.measurements(place.cells[0])]
    return rows


def describe_recipe(place: Place) -> dict[str, Any]:
    """The recipe that the runs of a place share, with the task's data and the learning rates that were tried.

    Scores of two recipes are two numbers: a table of both says which is which, and neither replaces the other.
    """
    first = place.cells[0]
    run, rate = first.job.run, first.job.run.recipe.lr_peak / first.lr_factor
    by_rule = first.start.lr is not None and math.isclose(rate, first.start.lr)  # which differs between sizes
    shared = {name: value for name, value in asdict(run.recipe).items() if name not in VARIED}
    return shared | {
        "lr": "by the rule" if by_rule else float(f"{rate:.12g}"),
        "lr_factors": list(place.lr_factors),
        "data": run.data[:DATA_DIGITS],
    }


def name_settings(rows: Sequence[dict[str, Any]]) -> None:
    """Writes into the rows of a task as `setting`, in words, the fields in which their recipes differ; nothing where
    all have one."""
    recipes = [row.get("recipe") or {} for row in rows]  # an earlier version kept none
    names = list(dict.fromkeys(name for recipe in recipes for name in recipe))
    varied = [name for name in names if len({str(recipe.get(name)) for recipe in recipes}) > 1]
    for row, recipe in zip(rows, recipes, strict=True):
        words = [f"{name.replace('_', ' ')} {setting_word(recipe[name])}" for name in varied if name in recipe]
        row["setting"] = ", ".join(words) or ("recipe not recorded" if varied else "")


def setting_word(value: Any) -> str:
    """A field of a recipe: 1500, all (of the training examples), 0.5 and 1."""
    if isinstance(value, list):
        return " and ".join(map(setting_word, value))
    return "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def choose_rate(cells: Sequence[Cell], results: Mapping[str, Result]) -> Place:
    """The runs of the learning rate whose mean over seeds is best on the examples kept apart; of one rate, all.

    A rate with fewer results than another, since some of its runs diverged, is not taken.
    """
    done: dict[float, list[Cell]] = {}
    for cell in cells:
        kept = done.setdefault(cell.lr_factor, [])
        if cell.job.run.key in results:
            kept.append(cell)
    asked = len({cell.seed for cell in cells})
    most = max(len(kept) for kept in done.values())
    usable = {factor: kept for factor, kept in done.items() if len(kept) == most}

    def quality(factor: float) -> tuple[float, float]:
        kept = [[Measurement.from_json(one) for one in results[cell.job.run.key]["choice"]] for cell in usable[factor]]
        return float(np.mean([one[0].value for one in kept])), -float(np.mean([one[-1].value for one in kept]))

    chosen = max(usable, key=quality) if len(done) > 1 and most else next(iter(usable))
    return Place(cells=usable[chosen], missing=asked - most, lr_factors=tuple(sorted(done)))


class Scores:
    """The metrics of runs by seed, with what each example does to them; each run's answers are read once."""

    def __init__(self, results: Mapping[str, Result]) -> None:
        self.results = results
        self._items: dict[str, Any] = {}

    def measurements(self, cell: Cell) -> list[Measurement]:
        """The measurements of a run."""
        return [Measurement.from_json(one) for one in self.results[cell.job.run.key]["measurements"]]

    def collapsed(self, cell: Cell, metric: str) -> bool:
        """Whether a run gives one answer to every example of the metric's split."""
        return bool(self.results[cell.job.run.key]["collapsed"][_split(metric)])

    def of(self, place: Place, metric: str) -> SeedScores:
        """A metric by seed."""
        values = {
            cell.seed: next(one.value for one in self.measurements(cell) if one.metric == metric)
            for cell in place.cells
        }
        return SeedScores(values=values, without={cell.seed: self._without(cell, metric) for cell in place.cells})

    def labels(self, cell: Cell, split: str) -> np.ndarray:
        """The labels of a scored split."""
        return np.array(self._items_of(cell)[split]["labels"])

    def _without(self, cell: Cell, metric: str) -> np.ndarray | None:
        """The metric without each example in turn."""
        items, name = self._items_of(cell)[_split(metric)], _name(metric)
        if name in METRICS:
            return leave_one_out(name, np.array(items["labels"]), np.array(items["predictions"]))
        return mean_without(np.array(items["losses"])) if len(items["losses"]) > 1 else None

    def _items_of(self, cell: Cell) -> Any:
        key = cell.job.run.key
        if key not in self._items:
            self._items[key] = read_json(cell.job.folder / ITEMS) or {}
        return self._items[key]


def _transfer(place: Place, measured: Measurement, compared: Mapping[str, Place], scores: Scores) -> Transfer:
    first, metric = place.cells[0], measured.metric
    ours = scores.of(place, metric)
    mean = ours.mean()
    beside = {}
    for name, other in [*_baselines(first, metric, ours, scores), *_others(metric, compared, scores)]:
        difference = ours.less(other)
        if difference is not None:
            known = compared[name].cells[0].start.name if name == BEFORE else name
            beside[name] = Beside(value=other.mean().value, name=known, difference=difference.mean())
    return Transfer(
        checkpoint=first.start.name,
        run=first.start.run,
        size=first.start.size.shape_name,
        params_total=first.start.size.params_total,
        tokens=first.start.tokens,
        task=first.task.name,
        metric=metric,
        unit=measured.unit,
        direction=measured.direction,
        chance=measured.chance,
        layers=first.layers,
        lm_weight=first.lm_weight,
        lr_factor=first.lr_factor,
        recipe=describe_recipe(place),
        seeds=len(place.cells),
        missing=place.missing,
        value=mean.value,
        values=dict(ours.values),
        standard_error_seeds=mean.error_seeds,
        standard_error_items=mean.error_items,
        cut_share=scores.results[first.job.run.key]["cut_share"][_split(metric)],
        collapsed=sum(scores.collapsed(cell, metric) for cell in place.cells),
        beside=beside,
    )


def _baselines(cell: Cell, metric: str, ours: SeedScores, scores: Scores) -> Iterator[tuple[str, SeedScores]]:
    """What each baseline scores by a metric of answers; none by a loss, since a baseline has none."""
    name, split, job = _name(metric), _split(metric), cell.job
    if name not in METRICS:
        return
    kept: Answers = baseline_answers(job.run, cell.task, data=job.data, storage=open_storage(job.storage))
    labels = scores.labels(cell, split)
    for baseline, answers in kept.items():
        predictions = np.array(answers[split])
        value = METRICS[name].value(labels.astype(float), predictions)
        yield baseline, repeated(value, leave_one_out(name, labels, predictions), ours.values)


def _others(metric: str, compared: Mapping[str, Place], scores: Scores) -> Iterator[tuple[str, SeedScores]]:
    for name, place in compared.items():
        yield name, scores.of(place, metric)


def _checkpoints_before(places: Mapping[Key, Place]) -> dict[str, str]:
    """The checkpoint before each in the order of parameters and of tokens; none before the first."""
    starts = {place.cells[0].start.name: place.cells[0].start for place in places.values()}
    ordered = sorted(starts.values(), key=lambda start: (start.size.params_total, start.tokens or 0))
    return {after.name: before.name for before, after in zip(ordered, ordered[1:], strict=False)}


def _split(metric: str) -> str:
    return "dev_mismatched" if metric.endswith("_mismatched") else "dev"


def _name(metric: str) -> str:
    return metric.removesuffix("_mismatched")
