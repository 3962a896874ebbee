"""Zero-shot scores over training (Radford et al. 2018, figure 2 right): every checkpoint that a sweep's runs keep, and
the network before its first step.

A score is told raw, and normalised where the task has a reference: (score - chance) / (reference - chance), as in the
figure. The paper prints neither raw scores nor its references; those here are the models of its tables named
below: single models, and for RACE an ensemble. The scores are kept with the sweep's parent in MLflow, where the report
reads them.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.parametrization import BaseShape
from ladder.models.weights import CONFIG_FILE, read_config, read_size, save_weights
from ladder.platform.evaluation.checkpoints.score import Outcome
from ladder.platform.launching.scoring import finished_checkpoints
from ladder.platform.runs.checkpoints import list_checkpoints, read_mark
from ladder.platform.storage import is_local

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEPT = "over_training.json"
"""Artifact of the sweep's parent with the scores, as `rows_of` has them."""
UNTRAINED = "untrained"
"""Folder in a run's folder: its network as it is drawn."""
REFERENCES: dict[tuple[str, str], tuple[float, str]] = {
    ("sst2", "accuracy"): (0.932, "sparse byte mLSTM (table 4)"),
    ("cola", "mcc"): (0.350, "single-task BiLSTM, ELMo, attention (table 4)"),
    ("race", "accuracy"): (0.533, "BiAttention MRU, ensemble of 9 (table 3)"),
}
"""Benchmark and metric to the score that counts as 1, with what reached it."""


@dataclass(frozen=True, kw_only=True)
class TrainingPoint:
    """A checkpoint in the course of a run."""

    checkpoint: str
    """Its folder."""
    run: str
    """Key of the run."""
    tokens: int
    """Tokens trained on."""


def points_of(storage: UPath, sweep: str) -> list[TrainingPoint]:
    """The checkpoints of each finished run from step 0 on; InputError where there is none or the storage is remote."""
    if not is_local(storage):
        raise InputError(f"--over-training writes untrained networks beside the runs and wants a folder, not {storage}")
    points = []
    for newest in finished_checkpoints(storage, sweep):
        run = UPath(newest).parent
        kept = [(one, read_mark(one)) for one in reversed(list_checkpoints(run))]
        points.append(TrainingPoint(checkpoint=str(_untrained(Path(newest), kept[-1][1])), run=run.name, tokens=0))
        points += [
            TrainingPoint(checkpoint=str(one), run=run.name, tokens=mark["step"] * mark["recipe"]["batch_tokens"])
            for one, mark in kept
        ]
    return points


def _untrained(checkpoint: Path, mark: Mapping[str, Any]) -> Path:
    """The folder of a run's network before its first step, made where it is not there."""
    folder = checkpoint.parent / UNTRAINED
    if not (folder / CONFIG_FILE).exists():  # the config is put in place last
        recipe = mark["recipe"]
        base = None
        if recipe.get("base_width") is not None:
            base = BaseShape(d_model=recipe["base_width"], n_layer=recipe["base_layers"])
        tokenizer = (read_config(checkpoint).get("ladder") or {}).get("tokenizer")
        save_weights(GPT2(read_size(checkpoint), seed=recipe["seed"], base=base), folder, tokenizer=tokenizer)
    return folder


def reach(benchmark: str, metric: str, chance: float | None) -> float | None:
    """From chance to the reference; None where either is not known."""
    if chance is None or (benchmark, metric) not in REFERENCES:
        return None
    return REFERENCES[benchmark, metric][0] - chance


def rows_of(points: Sequence[TrainingPoint], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for each score of each checkpoint, in the order of training."""
    rows = []
    for point in points:
        for outcome in outcomes:
            for one in outcome.measurements if outcome.checkpoint == point.checkpoint else ():
                known = REFERENCES.get((one.benchmark, one.metric))
                span, error = reach(one.benchmark, one.metric, one.chance), one.standard_error
                rows.append(
                    {
                        "checkpoint": point.checkpoint,
                        "run": point.run,
                        "tokens": point.tokens,
                        "benchmark": one.benchmark,
                        "metric": one.metric,
                        "unit": one.unit,
                        "count": one.count,
                        "value": one.value,
                        "standard_error": error,
                        "chance": one.chance,
                        "normalised": None if span is None else (one.value - (one.chance or 0.0)) / span,
                        "normalised_error": None if span is None or error is None else error / span,
                        "reference": None if known is None else f"{known[0]:g}, {known[1]}",
                    }
                )
    return rows


def keep_rows(client: "MlflowClient", sweep: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Keep the scores with the sweep's parent, in place of those of the same benchmarks; False where it has none."""
    from ladder.platform.tracking.records import find_parent

    parent = find_parent(client, sweep)
    if parent is None:
        return False
    named = {row["benchmark"] for row in rows}
    kept = []
    if KEPT in {item.path for item in client.list_artifacts(parent)}:
        with tempfile.TemporaryDirectory(prefix="ladder-scores-") as folder:
            path = Path(client.download_artifacts(parent, KEPT, folder))
            kept = [row for row in json.loads(path.read_text(encoding="utf-8")) if row["benchmark"] not in named]
    client.log_text(parent, json.dumps([*kept, *rows], indent=1), KEPT)
    return True
