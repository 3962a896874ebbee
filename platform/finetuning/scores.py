"""Scores of a fine-tuned network: what it answers to each example of a split, and the task's metrics over them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ladder.platform.evaluation.estimates import estimate_mean
from ladder.platform.evaluation.measurement import Measurement
from ladder.platform.finetuning.batches import collate
from ladder.platform.finetuning.inputs import Encoded, SpecialTokens
from ladder.platform.finetuning.metrics import UNITS, estimate, is_constant
from ladder.platform.finetuning.objective import TaskLoss
from ladder.platform.finetuning.task import Task
from ladder.platform.training.step import autocast

Numbers = npt.NDArray[np.float64]

TOKENS_AT_ONCE = 8192
"""Through the network while it is scored, padding included."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a network says of n examples."""

    labels: Numbers
    """Class, right option, or number [n]."""
    predictions: Numbers
    """The same, as it is predicted."""
    losses: Numbers
    """Loss of each [n]: nats of the right answer, or the squared error as a share of the largest number."""

    @property
    def collapsed(self) -> bool:
        """Whether every answer is the same."""
        return is_constant(self.predictions)

    def to_json(self) -> dict[str, Any]:
        """JSON's own types, for comparing checkpoints example by example."""
        return {
            "labels": self.labels.tolist(),
            "predictions": [round(value, 6) for value in self.predictions.tolist()],
            "losses": [round(value, 6) for value in self.losses.tolist()],
        }


@torch.no_grad()
def answer(
    loss: TaskLoss, examples: Sequence[Encoded], special: SpecialTokens, *, precision: str, device: torch.device
) -> Answers:
    """What a network says of examples, in their order."""
    labels = np.array([example.label for example in examples])
    predictions, losses = np.empty(len(examples)), np.empty(len(examples))
    largest = loss.task.largest
    for rows in _batches(examples):
        batch = collate([examples[row] for row in rows], special).to(device)
        with autocast(device, precision):
            given = loss.answers(loss.model.hidden(batch.tokens), batch)
        losses[rows] = loss.item_losses(given, batch.labels).double().cpu().numpy()
        predictions[rows] = (given.argmax(1) if largest is None else given[:, 0].double() * largest).cpu().numpy()
    return Answers(labels=labels, predictions=predictions, losses=losses)


def _batches(examples: Sequence[Encoded]) -> Iterator[list[int]]:
    """Places of examples of about one length, at most TOKENS_AT_ONCE tokens together, or one example."""
    together = len(examples[0].lengths)
    longest = [max(example.lengths) for example in examples]
    rows: list[int] = []
    for row in np.argsort(longest, kind="stable").tolist():
        if rows and (len(rows) + 1) * together * longest[row] > TOKENS_AT_ONCE:
            yield rows
            rows = []
        rows.append(row)
    yield rows


def measure(task: Task, split: str, answers: Answers) -> list[Measurement]:
    """The task's metrics over the answers to a split, and the loss, which moves before any of them does."""
    suffix = split.removeprefix("dev")
    collapsed = "; all answers are the same" if answers.collapsed else ""
    made = []
    for metric in task.metrics:
        value = estimate(metric, answers.labels, answers.predictions)
        made.append(
            Measurement(
                benchmark=task.name,
                protocol=f"fine-tuned, {split} split, last step",
                metric=metric + suffix,
                value=value.value,
                unit=UNITS[metric],
                direction="higher",
                count=len(answers.labels),
                standard_error=value.standard_error,
                chance=guess(task, metric, answers.labels),
                description=f"{task.source}; standard error over examples{collapsed}",
            )
        )
    loss = estimate_mean(answers.losses)
    numeric = task.largest is not None
    made.append(
        Measurement(
            benchmark=task.name,
            protocol=f"fine-tuned, {split} split, last step",
            metric=("squared_error" if numeric else "cross_entropy") + suffix,
            value=loss.value,
            unit="squared share of the largest score" if numeric else "nats per example",
            direction="lower",
            count=len(answers.labels),
            standard_error=loss.standard_error,
            chance=None if task.answers is None else float(np.log(task.answers)),
            description=f"{task.source}; standard error over examples{collapsed}",
        )
    )
    return made


def guess(task: Task, metric: str, labels: Numbers) -> float:
    """What the best constant answer scores: the commonest class, or for F1 the positive one; 0 for a coefficient."""
    if task.largest is not None:
        return 0.0
    answers = range(task.answers or 0)
    return max(estimate(metric, labels, np.full(len(labels), float(answer))).value for answer in answers)
