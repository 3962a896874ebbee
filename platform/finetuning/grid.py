"""Which fine-tuning runs a question comes to: checkpoints, tasks, learning rates, parts taken over and seeds.

From scratch at the same size is always among them. With several learning rates a tenth of the training examples is kept
apart for all, to choose one on; which one is never decided by what is reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from ladder.models.errors import InputError
from ladder.models.sizes import Size
from ladder.platform.finetuning.batches import check_count, choose_examples
from ladder.platform.finetuning.data import load_task
from ladder.platform.finetuning.job import FineTuneJob
from ladder.platform.finetuning.starting import Start
from ladder.platform.finetuning.task import Task
from ladder.sweeps.finetuning import ALL, EMBEDDINGS, LM_WEIGHT, NOTHING, FineTuning, FineTuningRun
from ladder.sweeps.words import Execution

CHOICE_SHARE = 0.1
"""Of the training examples, kept apart where there is a learning rate to choose."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run in its place in the grid; runs of several places may be the same run."""

    start: Start
    """The checkpoint, or for a run from scratch the one that it is compared with."""
    task: Task
    """The task."""
    layers: str
    """What is taken over."""
    lm_weight: float
    """Weight of the auxiliary language-model loss."""
    lr_factor: float
    """Multiple of the rule's learning rate."""
    seed: int
    """The seed."""
    job: FineTuneJob
    """The run."""


def expand(
    starts: Sequence[Start],
    tasks: Sequence[Task],
    *,
    recipe: FineTuning,
    lr: float | None,
    lr_factors: Sequence[float],
    layers: Sequence[str],
    seeds: Sequence[int],
    lm_weights: Sequence[float] = (LM_WEIGHT,),
    data: str,
    storage: str,
    execution: Execution,
    keep_weights: bool = False,
) -> list[Cell]:
    """The cells of a grid, those from scratch included, task by task so that each is read once.

    `recipe` has what all share; its learning rate, layers, auxiliary weight, seed and share kept apart are set here.
    `lr` replaces the rule's rate. InputError where a checkpoint's is neither given nor on record, or a task's files are
    absent or wrong.
    """
    share = CHOICE_SHARE if len(lr_factors) > 1 else 0.0
    rates = {start.name: _rate(start) if lr is None else lr for start in starts}
    cells = []
    for task, start in product(tasks, starts):
        read = load_task(task.name, data, tokenizer=start.tokenizer, context=start.size.context)
        trained, _ = choose_examples(len(read.train), replace(recipe, choice_share=share))
        check_count(len(trained), recipe)
        taken = dict.fromkeys(canonical(words, start.size) for words in (*layers, NOTHING))
        for words, weight, factor, seed in product(taken, lm_weights, lr_factors, seeds):
            rate = rates[start.name] * factor
            run = FineTuningRun(
                size=start.size,
                tokenizer=start.fingerprint,
                checkpoint=None if words == NOTHING else start.sha256,
                task=task.name,
                data=read.fingerprint,
                recipe=replace(recipe, lr_peak=rate, layers=words, lm_weight=weight, seed=seed, choice_share=share),
                base=start.base,
            )
            job = FineTuneJob(
                run=run,
                checkpoint=None if words == NOTHING else str(start.folder),
                tokenizer=start.tokenizer,
                data=data,
                storage=storage,
                execution=execution,
                keep_weights=keep_weights,
            )
            cells.append(
                Cell(start=start, task=task, layers=words, lm_weight=weight, lr_factor=factor, seed=seed, job=job)
            )
    return cells


def _rate(start: Start) -> float:
    """The rule's learning rate; InputError where pre-training's is not on record."""
    if start.lr is None:
        raise InputError(
            f"checkpoint {start.name} does not say with which learning rate it was trained, of which fine-tuning "
            "takes a quarter: name the one to fine-tune with, with --lr."
        )
    return start.lr


def canonical(layers: str, size: Size) -> str:
    """The one word for what is taken over: all the blocks are `all`, none of them `embeddings`."""
    if layers.isdecimal():
        return {size.n_layer: ALL, 0: EMBEDDINGS}.get(int(layers), str(int(layers)))
    return layers
