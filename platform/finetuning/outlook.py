"""What fine-tuning will cost, and how sure its scores will be, before anything is trained.

FLOPs are 6 N for each token of a training sequence, padding left out, and 2 N for each of a scored one. How sure: over
items by the number of scored examples, at the worst share, a half; over seeds by SEED_DEVIATION.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ladder.models.sizes import Size
from ladder.platform.finetuning.batches import choose_examples
from ladder.platform.finetuning.data import load_task
from ladder.platform.finetuning.task import Task
from ladder.sweeps.finetuning import SPECIAL_TOKENS, FineTuning

SEED_DEVIATION = 0.03
"""Standard deviation of an accuracy between seeds: .007 to .046 on 4,000 phrases of SST-2 at 2x32 to 4x128."""
NETWORKS = 2
"""The checkpoint, and the same size from scratch."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """One size on one task, all seeds and from scratch included."""

    size: str
    task: str
    n_runs: int
    """Runs of fine-tuning."""
    tokens: int
    """Training tokens of one run, all epochs."""
    flops: float
    """Training and scoring of all runs."""
    cut_share: float
    """Share of the scored examples that the context cuts."""
    standard_error_items: float
    """Of an accuracy, over the scored examples, at most."""
    standard_error_seeds: float
    """Of the mean over the seeds, by SEED_DEVIATION."""

    @property
    def standard_error(self) -> float:
        """Over both."""
        return float(np.hypot(self.standard_error_items, self.standard_error_seeds))


def foresee_finetuning(
    sizes: Sequence[Size], tasks: Sequence[Task], *, recipe: FineTuning, seeds: int, tokenizer: str, data: str
) -> list[Outlook]:
    """The outlook of each size on each task, whose files are in `data`; InputError where they are not."""
    found = []
    for task in tasks:
        for size in sizes:
            read = load_task(task.name, data, tokenizer=tokenizer, context=size.context)
            chosen, _ = choose_examples(len(read.train), recipe)
            tokens = recipe.epochs * sum(sum(read.train[row].lengths) for row in chosen)
            scored = sum(sum(one.lengths) for examples in read.scored.values() for one in examples)
            params = size.params_total + SPECIAL_TOKENS * size.d_model
            n_items = len(read.scored["dev"])
            found.append(
                Outlook(
                    size=size.shape_name,
                    task=task.name,
                    n_runs=NETWORKS * seeds,
                    tokens=tokens,
                    flops=float(NETWORKS * seeds * params * (6 * tokens + 2 * scored)),
                    cut_share=read.cut_shares()["dev"],
                    standard_error_items=(0.25 / n_items) ** 0.5,
                    standard_error_seeds=SEED_DEVIATION / seeds**0.5,
                )
            )
    return found
