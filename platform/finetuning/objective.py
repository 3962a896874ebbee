"""Fine-tuning as an objective of the training engine: L2 + lambda L1 (Radford et al. 2018, equation 5).

L2 is the task's loss, a mean over the batch's examples: cross-entropy over classes or options, or the squared error of
a number. L1 is the language model's on the task's own text: the mean over a sequence's tokens after the first, the
special ones included, then over sequences, those of wrong options too (as openai/finetune-transformer-lm has it).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ladder.models.classifier import Classifier
from ladder.models.dropout import Dropout
from ladder.models.loss import next_token_nats
from ladder.platform.finetuning.batches import ExampleBatch, collate, order_batches
from ladder.platform.finetuning.inputs import Encoded, SpecialTokens
from ladder.platform.finetuning.task import Kind, Task
from ladder.platform.training.feed import Feed, ReadAhead
from ladder.platform.training.objective import LossModule
from ladder.platform.training.worker import Worker
from ladder.sweeps.finetuning import ALL, EMBEDDINGS, NOTHING, FineTuning, FineTuningRun

Weights = Mapping[str, Tensor]
"""A checkpoint's weights by name."""


class TaskLoss(LossModule):
    """The network with a task's loss."""

    model: Classifier

    def __init__(self, model: Classifier, task: Task, recipe: FineTuning) -> None:
        super().__init__()
        self.model, self.task, self.recipe = model, task, recipe

    def forward(self, batch: ExampleBatch) -> Tensor:
        """Sum over the batch's examples of task loss and weighted language-model loss, in nats where it is nats."""
        dropout = self._dropout(batch)
        hidden = self.model.hidden(batch.tokens, dropout=dropout)  # [S, T, D]
        total = self.item_losses(self.answers(hidden, batch, dropout), batch.labels).sum()
        if self.recipe.lm_weight:
            total = total + self.recipe.lm_weight * self._text_nats(hidden, batch)
        return total

    def answers(self, hidden: Tensor, batch: ExampleBatch, dropout: Dropout | None = None) -> Tensor:
        """What the head says of each example: [E, classes or options] or, where the task asks for a number, [E, 1]."""
        states = self.model.last_states(hidden, batch.lengths)  # [S, D]
        if dropout is not None:
            states = dropout(states, 3 * self.model.size.n_layer + 1)
        if self.task.kind is Kind.SIMILARITY:
            states = states.view(-1, 2, states.shape[1]).sum(1)  # [E, D]
        scores = self.model.score_states(states)
        return scores.view(len(batch.labels), -1)  # of a choice: [S, 1] to [E, options]

    def item_losses(self, answers: Tensor, labels: Tensor) -> Tensor:
        """Loss of each example [E]: nats of the right class, or the squared error as a share of the largest number."""
        if self.task.largest is None:
            return F.cross_entropy(answers, labels.long(), reduction="none")
        return (answers[:, 0] - (labels / self.task.largest).to(answers.dtype)).square()

    def _text_nats(self, hidden: Tensor, batch: ExampleBatch) -> Tensor:
        """Sum over examples of the mean over sequences of the mean over tokens of the next token's nats."""
        followed = (batch.lengths - 1)[:, None]  # [S, 1], tokens that another comes after
        places = torch.arange(batch.tokens.shape[1], device=batch.device)
        weights = (places < followed).float() / (followed * batch.together)  # [S, T], 0 from the last token on
        return next_token_nats(hidden, self.model.wte.weight, batch.tokens.roll(-1, 1), weights)

    def _dropout(self, batch: ExampleBatch) -> Dropout | None:
        if not self.recipe.dropout or not torch.is_grad_enabled():
            return None
        return Dropout(self.recipe.dropout, seed=batch.seed, together=batch.together)


class FineTune:
    """A fine-tuning run as the engine's objective."""

    def __init__(
        self, run: FineTuningRun, task: Task, examples: Sequence[Encoded], weights: Callable[[], Weights] | None
    ) -> None:
        """`weights` gives those of the checkpoint; None, and only then, for a run from scratch.

        InputError where the examples do not make one batch.
        """
        assert (weights is None) == (run.recipe.layers == NOTHING), run.recipe.layers
        self.run, self.task, self.examples, self.weights = run, task, examples, weights
        self.special = SpecialTokens.after(run.size.vocabulary)
        lengths = np.array([example.lengths for example in examples])  # [n, sequences of an example]
        longest, tokens = lengths.max(1), lengths.sum(1)
        self.order = order_batches(longest, run.recipe)
        self.together, self.units = task.together, run.recipe.batch_examples
        self.tokens_before = np.concatenate([[0], np.cumsum(tokens[self.order].sum(1))])
        self.padded_tokens = int((longest[self.order].max(1) * self.units * self.together).sum())
        self.training = run.as_training(steps=len(self.order), together=self.together)

    @property
    def padding_share(self) -> float:
        """Share of what goes through the network that is padding."""
        return 1 - int(self.tokens_before[-1]) / self.padded_tokens

    def build(self, *, attention: str, activation_checkpointing: bool) -> TaskLoss:
        """The network with what is taken over from the checkpoint, the rest drawn."""
        model = Classifier(
            self.training.size,
            outputs=self.task.outputs,
            attention=attention,
            seed=self.run.recipe.seed,
            base=self.run.base,
            activation_checkpointing=activation_checkpointing,
        )
        if self.weights is not None:
            take_over(model, self.weights(), self.run.recipe.layers)
        return TaskLoss(model, self.task, self.run.recipe)

    def feed(self, worker: Worker) -> Feed:
        """The worker's examples of each step."""

        def build(step: int) -> ExampleBatch:
            rows = self.order[step, worker.rank :: worker.world_size]
            batch = collate([self.examples[row] for row in rows], self.special, seed=self.mask_seed(step, worker.rank))
            return batch.pin_memory() if worker.device.type == "cuda" else batch

        return ReadAhead(build, len(self.order), worker.device)

    def mask_seed(self, step: int, rank: int) -> int:
        """Seed of a batch's masks: a function of the run's seed, the step and the worker."""
        return int(np.random.SeedSequence([self.run.recipe.seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)

    def learning_rate(self, step: int) -> float:
        """As the recipe has it."""
        return self.run.recipe.learning_rate(step, len(self.order))

    def tokens(self, first: int, last: int) -> int:
        """Tokens without padding."""
        return int(self.tokens_before[last] - self.tokens_before[first])


@torch.no_grad()
def take_over(model: Classifier, weights: Weights, layers: str) -> None:
    """Write a checkpoint's weights into a network drawn anew: embeddings, and as many blocks as `layers` says.

    The rows of the special tokens stay as drawn. The final norm comes with all the blocks: it is made for the last
    block's output.
    """
    n_layer = model.size.n_layer
    n_blocks = n_layer if layers == ALL else 0 if layers == EMBEDDINGS else int(layers)
    state = model.state_dict()
    for name, values in weights.items():
        block = int(name.split(".")[1]) if name.startswith("h.") else None
        if name == "wte.weight":
            state[name][: len(values)] = values
        elif name == "wpe.weight" or (block is not None and block < n_blocks) or n_blocks == n_layer:
            state[name].copy_(values)
