"""What a run is trained to do: its batches, the network with its loss over one of them, and the learning rate.

The engine and the loop know neither tokens nor labels. Pre-training is `NextTokens`; fine-tuning on a labelled task is
another objective, in `ladder.platform.finetuning`.
"""

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from ladder.models.gpt2 import GPT2
from ladder.models.loss import next_token_nats
from ladder.platform.training.feed import BatchFeed, Feed
from ladder.platform.training.optimizer import learning_rate
from ladder.platform.training.worker import Worker
from ladder.sweeps.words import Run

if TYPE_CHECKING:
    from ladder.platform.corpus.batches import Tokens

Batch = Any
"""Sequences that go through the network in one step: a tensor, or what has its length, slices and device."""


class LossModule(nn.Module):
    """A network and its loss as one module, so that data parallelism sees one forward pass."""

    model: GPT2
    """The network, which is what a checkpoint holds."""


class StepLoss(LossModule):
    """The network with the nats of the next tokens."""

    def __init__(self, model: GPT2) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Sum of nats of the batch's next tokens; `batch` is [B, T + 1] int64."""
        return next_token_nats(self.model.hidden(batch[:, :-1]), self.model.wte.weight, batch[:, 1:])


class Objective(Protocol):
    """What a run is trained to do."""

    together: int
    """Sequences in a row that a micro-batch does not part."""
    units: int
    """What the sum of a batch's loss, over all workers, is divided by: its tokens, or its examples."""

    def build(self, *, attention: str, activation_checkpointing: bool) -> LossModule:
        """The network at the weights that training starts from, with the sum of the loss over a micro-batch."""

    def feed(self, worker: Worker) -> Feed:
        """A worker's share of the batch at each step."""

    def learning_rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""

    def tokens(self, first: int, last: int) -> int:
        """Tokens that go through the network in the steps from `first` up to, not including, `last`."""


class NextTokens:
    """Pre-training: the mean of nats over the next tokens of a stream."""

    together = 1

    def __init__(self, run: Run, stream: "Tokens | None" = None) -> None:
        """Without a stream it has no feed: batches come from elsewhere, as in a measurement of speed."""
        self.run, self.stream = run, stream
        self.units = run.recipe.batch_tokens

    def build(self, *, attention: str, activation_checkpointing: bool) -> LossModule:
        """GPT-2 at its initial weights."""
        recipe = self.run.recipe
        return StepLoss(
            GPT2(
                self.run.size,
                attention=attention,
                seed=recipe.seed,
                base=recipe.base_shape,
                activation_checkpointing=activation_checkpointing,
            )
        )

    def feed(self, worker: Worker) -> Feed:
        """Windows of the stream, in the order of the seed."""
        assert self.stream is not None, "there is nothing to read from"
        rows = range(worker.rank, self.run.batch_sequences, worker.world_size)
        return BatchFeed(self.stream, self.run, rows, worker.device)

    def learning_rate(self, step: int) -> float:
        """As the recipe's schedule says."""
        return learning_rate(self.run.recipe, step)

    def tokens(self, first: int, last: int) -> int:
        """Every batch has as many."""
        return (last - first) * self.run.recipe.batch_tokens
