"""Batches of labelled examples: which examples a step sees, as a pure function, and their sequences as tensors.

Examples are shuffled in each epoch, then sorted by length within pools of some batches, then cut into batches that are
shuffled within the pool: a batch has sequences of about one length, so little is padded. The last examples of an epoch
that make no whole batch are left out (as openai/finetune-transformer-lm does).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ladder.models.errors import InputError
from ladder.platform.corpus.batches import permute
from ladder.platform.finetuning.inputs import Encoded, SpecialTokens
from ladder.sweeps.finetuning import FineTuning

Indices = npt.NDArray[np.int64]

CHOICE_SEED = 0
"""Of the draw of examples that learning rates are chosen on: the same for all seeds and checkpoints."""
_POOL_SEEDS = 1 << 32
"""Apart from the epochs themselves, whose numbers seed the shuffle of the examples."""


@dataclass(frozen=True, kw_only=True)
class ExampleBatch:
    """Sequences of whole examples, an example's next to each other; a slice is a batch of those examples."""

    tokens: Tensor
    """[S, T] int64, padded behind the end with token 0, which nothing before it sees."""
    lengths: Tensor
    """[S] int64, tokens of each sequence."""
    labels: Tensor
    """[E] float64, S / E sequences each."""
    longest: tuple[int, ...]
    """Tokens of each sequence, on the host."""
    seed: int = 0
    """Of the masks of dropout."""

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.tokens.device

    @property
    def together(self) -> int:
        """Sequences of an example."""
        return len(self.tokens) // len(self.labels)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice) -> "ExampleBatch":
        first, last, _ = rows.indices(len(self))
        assert first % self.together == 0 == last % self.together, "an example is parted"
        longest = self.longest[rows]
        return ExampleBatch(
            tokens=self.tokens[rows, : max(longest)],
            lengths=self.lengths[rows],
            labels=self.labels[first // self.together : last // self.together],
            longest=longest,
            seed=self.seed + first,
        )

    def to(self, device: torch.device, non_blocking: bool = False) -> "ExampleBatch":
        """The batch on a device."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=non_blocking) for name in ("tokens", "lengths", "labels")
        }
        return replace(self, **moved)

    def pin_memory(self) -> "ExampleBatch":
        """The batch in memory that a GPU can copy from while the host goes on."""
        return replace(self, **{name: getattr(self, name).pin_memory() for name in ("tokens", "lengths", "labels")})


def collate(examples: Sequence[Encoded], special: SpecialTokens, *, seed: int = 0) -> ExampleBatch:
    """The examples as one batch on the host."""
    sequences = [sequence for example in examples for sequence in example.sequences(special)]
    lengths = [len(sequence) for sequence in sequences]
    tokens = torch.zeros(len(sequences), max(lengths), dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence)] = torch.from_numpy(sequence)
    return ExampleBatch(
        tokens=tokens,
        lengths=torch.tensor(lengths),
        labels=torch.tensor([example.label for example in examples], dtype=torch.float64),
        longest=tuple(lengths),
        seed=seed,
    )


def choose_examples(n: int, recipe: FineTuning) -> tuple[Indices, Indices]:
    """Which of `n` training examples are trained on, and which are kept apart to choose a learning rate on."""
    apart = round(recipe.choice_share * n)
    order = permute(np.arange(n), n=n, seed=CHOICE_SEED, epoch=0)
    kept, rest = np.sort(order[:apart]), np.sort(order[apart:])
    wanted = recipe.train_examples
    if wanted is not None and wanted < len(rest):
        rest = rest[np.sort(permute(np.arange(len(rest)), n=len(rest), seed=recipe.seed, epoch=0)[:wanted])]
    return rest, kept


def check_count(n: int, recipe: FineTuning) -> None:
    """InputError where `n` training examples are not one batch."""
    if n < recipe.batch_examples:
        raise InputError(
            f"{n} training examples, wanted at least one batch of {recipe.batch_examples}: take smaller batches, "
            "or more examples."
        )


def order_batches(lengths: Indices, recipe: FineTuning) -> Indices:
    """The examples of each step of a recipe, [steps, batch], by their lengths [n].

    InputError where there is not one batch of examples.
    """
    n, size = len(lengths), recipe.batch_examples
    check_count(n, recipe)
    epochs = []
    for epoch in range(recipe.epochs):
        order = permute(np.arange(n), n=n, seed=recipe.seed, epoch=1 + epoch)[: n - n % size]
        pool_size = size * recipe.length_pool
        for number, first in enumerate(range(0, len(order), pool_size)):
            pool = order[first : first + pool_size]
            if recipe.length_pool > 1:
                pool = pool[np.argsort(lengths[pool], kind="stable")]
            batches = pool.reshape(-1, size)
            shuffle = permute(
                np.arange(len(batches)), n=len(batches), seed=recipe.seed, epoch=_POOL_SEEDS * (1 + epoch) + number
            )
            epochs.append(batches[shuffle])
    return np.concatenate(epochs)
