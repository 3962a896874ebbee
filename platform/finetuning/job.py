"""One fine-tuning run, from where it stands to its result, under a lease as any run.

finetuning/<run>/claims/        who works on it
                 curve/         loss and learning rate by step
                 step-.../      checkpoints while it trains; the last one stays where it is asked for
                 items.json     answers to each scored example, for comparisons example by example
                 sequence-classification/  the weights for Hugging Face's libraries, where weights are kept
                 result.json    the measurements; where it is, the run is done
"""

import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.finetuning.batches import choose_examples
from ladder.platform.finetuning.data import TaskData, load_task
from ladder.platform.finetuning.export import EXPORT, can_export, export_classifier
from ladder.platform.finetuning.inputs import Encoded
from ladder.platform.finetuning.objective import FineTune, TaskLoss
from ladder.platform.finetuning.scores import Answers, answer, measure
from ladder.platform.finetuning.starting import read_start
from ladder.platform.processes import keep_large_buffers
from ladder.platform.runs.attempt import RESULT, Attempt
from ladder.platform.runs.checkpoints import list_checkpoints, newest_intact
from ladder.platform.storage import open_storage, persistently, read_json, remove_folder, write_json
from ladder.platform.training.job import CheckpointSaver
from ladder.platform.training.train import Diverged, Metrics, Trainer
from ladder.platform.training.worker import Worker
from ladder.sweeps.finetuning import FineTuningRun
from ladder.sweeps.words import Execution

logger = logging.getLogger(__name__)

ITEMS = "items.json"
CHOICE = "choice"
"""Name of the part of the training examples that a learning rate is chosen on."""


@dataclass(frozen=True, kw_only=True)
class FineTuneJob:
    """A fine-tuning run to do, with all that a process needs to know."""

    run: FineTuningRun
    """What to train."""
    checkpoint: str | None
    """Folder of the checkpoint; None where nothing of it is taken over."""
    tokenizer: str
    """Name of the tokenizer."""
    data: str
    """Folder that the task's folder is in."""
    storage: str
    """Storage root, a path or URI."""
    execution: Execution
    """How."""
    keep_weights: bool = False
    """Whether the fine-tuned weights stay in the run's folder."""

    @property
    def folder(self) -> UPath:
        """Where the run is kept."""
        return finetuning_folder(open_storage(self.storage), self.run.key)

    def result(self) -> dict[str, Any] | None:
        """The run's result; None where it is not done."""
        return read_json(self.folder / RESULT)


def finetuning_folder(storage: UPath, key: str) -> UPath:
    """The folder of a fine-tuning run."""
    return storage / "finetuning" / key


def fine_tune(job: FineTuneJob, worker: Worker, attempt: Attempt) -> None:
    """Train a run from its newest intact checkpoint, score it and leave its result.

    A run that diverges is marked as failed; what else goes wrong is raised.
    """
    if job.result() is not None:  # an earlier attempt was ended while it cleaned up
        _clean_up(job)
        attempt.end("finished")
        return
    torch.set_num_threads(job.execution.cpus_per_worker)
    keep_large_buffers()
    data = load_task(job.run.task, job.data, tokenizer=job.tokenizer, context=job.run.size.context)
    if data.fingerprint != job.run.data:
        raise InputError(f"task {job.run.task}: the examples in {job.data} are no longer those that the run is of")
    chosen, apart = choose_examples(len(data.train), job.run.recipe)
    folder = job.checkpoint
    weights = None if folder is None else lambda: read_start(folder)
    objective = FineTune(job.run, data.task, [data.train[row] for row in chosen], weights)
    with newest_intact(job.folder) as resume:
        trainer = Trainer(objective.training, job.execution, objective=objective, worker=worker, resume=resume)
    reason = _train(job, trainer, objective, attempt)
    if reason is not None:
        attempt.end("failed", reason)
        return
    attempt.say(phase="scoring")
    seconds_training = trainer.state.seconds_training
    answers, seconds = _answer(trainer, objective, data, [data.train[row] for row in apart])
    result = _describe(job, objective, data, answers) | {
        "seconds_training": seconds_training,
        "seconds_scoring": seconds,
        "device": torch.cuda.get_device_name(worker.device) if worker.device.type == "cuda" else "cpu",
        "attention": trainer.attention.backend,
    }
    persistently(attempt.lease.check)
    if job.keep_weights and can_export(data.task):
        _export(job, trainer, objective)
    persistently(lambda: write_json(job.folder / ITEMS, {split: one.to_json() for split, one in answers.items()}))
    persistently(lambda: write_json(job.folder / RESULT, result))
    _clean_up(job)
    attempt.end("finished")


def _train(job: FineTuneJob, trainer: Trainer, objective: FineTune, attempt: Attempt) -> str | None:
    """Train to the end; why it cannot be, where the run diverges."""
    steps = objective.training.recipe.steps
    attempt.say(phase="training", step=trainer.step, steps=steps)

    def log(metrics: Metrics) -> None:
        attempt.say(step=int(metrics["step"]), loss=metrics["train/loss"], lr=metrics["train/lr"])
        attempt.log(metrics)

    saver = CheckpointSaver(attempt, trainer, tokenizer=job.tokenizer, params={"task": job.run.task})
    try:
        with saver:
            trainer.train(log=log, save=saver.save)
    except Diverged as error:
        return f"{error} of {steps}"
    return None


def _answer(
    trainer: Trainer, objective: FineTune, data: TaskData, apart: list[Encoded]
) -> tuple[dict[str, Answers], float]:
    """What the trained network says of each split, and the seconds that it took."""
    started = time.perf_counter()
    loss = trainer.engine.loss
    assert isinstance(loss, TaskLoss), "it was built by the objective"
    splits = dict(data.scored) | ({CHOICE: apart} if apart else {})
    answers = {
        split: answer(loss, examples, objective.special, precision=trainer.precision, device=trainer.worker.device)
        for split, examples in splits.items()
    }
    return answers, time.perf_counter() - started


def _describe(job: FineTuneJob, objective: FineTune, data: TaskData, answers: Mapping[str, Answers]) -> dict[str, Any]:
    """The result of a trained run."""
    task = data.task
    return {
        "run": job.run.key,
        "identity": job.run.identity,
        "task": task.name,
        "size": job.run.size.shape_name,
        "step": len(objective.order),
        "time_ms": int(time.time() * 1000),
        "measurements": [
            measurement.to_json()
            for split, one in answers.items()
            if split != CHOICE
            for measurement in measure(task, split, one)
        ],
        "choice": [measurement.to_json() for measurement in measure(task, "dev", answers[CHOICE])]
        if CHOICE in answers
        else [],
        "collapsed": {split: one.collapsed for split, one in answers.items()},
        "train_examples": len(objective.examples),
        "tokens": int(objective.tokens_before[-1]),
        "cut_share": data.cut_shares(),
        "padding_share": objective.padding_share,
    }


def _export(job: FineTuneJob, trainer: Trainer, objective: FineTune) -> None:
    """Leave the network in Hugging Face's layout for sequence classification beside the last checkpoint."""
    loss = trainer.engine.loss
    assert isinstance(loss, TaskLoss), "it was built by the objective"
    with tempfile.TemporaryDirectory(prefix="ladder-export-") as scratch:
        export_classifier(loss.model, objective.task, objective.special, Path(scratch), tokenizer=job.tokenizer)
        for path in sorted(Path(scratch).iterdir()):
            target = job.folder / EXPORT / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            persistently(lambda path=path, target=target: target.write_bytes(path.read_bytes()))  # type: ignore[misc]


def _clean_up(job: FineTuneJob) -> None:
    """Remove the checkpoints that are of no more use, all but the last where the weights are to stay."""
    for kept in persistently(lambda: list_checkpoints(job.folder))[1 if job.keep_weights else 0 :]:
        remove_folder(kept)
