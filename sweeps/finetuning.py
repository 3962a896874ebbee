"""The words of fine-tuning: how a checkpoint is trained on a labelled task, and what makes two such runs the same.

The recipe's defaults are GPT-1's (Radford et al. 2018, section 4.1; what it does not print, from
openai/finetune-transformer-lm). The network at the same size whose weights are all drawn anew, "from scratch", is a run
like any other: the one that takes nothing over. It does not depend on the checkpoint, so checkpoints of one size share
it.
"""

import hashlib
import json
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from ladder.models.errors import InputError
from ladder.models.parametrization import BaseShape
from ladder.models.sizes import Size
from ladder.sweeps.words import KEY_DIGITS, Precision, Recipe, Run

SCHEMA = 1
"""Version of a fine-tuning run's identity; raised whenever anything but a new field with its old value changes it."""

PEAK_SHARE = 0.25
"""Of pre-training's peak learning rate: GPT-1 has 6.25e-5 after 2.5e-4."""
GPT1_LR = 6.25e-5
"""GPT-1's learning rate, for a checkpoint whose pre-training's is not known."""
LM_WEIGHT = 0.5
"""Of the auxiliary language-model loss (Radford et al. 2018, equation 5)."""
SPECIAL_TOKENS = 3
"""Start, delimiter and extract, after the checkpoint's vocabulary."""

ALL, EMBEDDINGS, NOTHING = "all", "embeddings", "nothing"


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """How a checkpoint is fine-tuned on a task. Part of the run's identity."""

    lr_peak: float
    """Largest learning rate; the rule is PEAK_SHARE of pre-training's."""
    batch_examples: int = 32
    """Examples in one optimizer step; the last ones of an epoch that make no whole batch are left out."""
    epochs: int = 3
    """Times that the training examples are seen."""
    warmup_share: float = 0.002
    """Of the updates, in which the learning rate rises from 0; then it falls linearly to 0."""
    lm_weight: float = LM_WEIGHT
    """Weight of the language-model loss on the task's own text beside the task's loss; 0: without."""
    dropout: float = 0.1
    """Share of units dropped: embeddings, attention's probabilities, what layers add, the head's input; 0: none."""
    weight_decay: float = 0.01
    """Decoupled weight decay, on matrices and embeddings."""
    beta1: float = 0.9
    """AdamW's decay of the first moment."""
    beta2: float = 0.999
    """AdamW's decay of the second moment."""
    clip_norm: float = 1.0
    """Largest global L2 norm of the gradient."""
    layers: str = ALL
    """What is taken over from the checkpoint: `all`; a number k, embeddings and the first k blocks; `embeddings`;
    `nothing`, which is training from scratch. The final norm comes with all blocks only; the rest is drawn anew."""
    train_examples: int | None = None
    """Training examples, drawn by the seed; None: all."""
    choice_share: float = 0.0
    """Share of the training examples that is kept apart, to choose a learning rate on."""
    length_pool: int = 50
    """Batches' worth of shuffled examples that are sorted by length before they are cut into batches, so that little is
    padded; 1: batches are as the shuffle has them."""
    seed: int = 0
    """Seed of the head, the special tokens, what is drawn anew, the examples' order and dropout."""
    precision: Precision = "auto"
    """Precision of matrix products; settled before the run has a key."""

    def __post_init__(self) -> None:
        for name in ("lr_peak", "batch_examples", "epochs", "clip_norm", "length_pool"):
            self._check(name, 0, None, above=True)
        for name, most in (("warmup_share", 1.0), ("dropout", 0.9), ("choice_share", 0.5)):
            self._check(name, 0, most)
        self._check("lm_weight", 0, None)
        self._check("weight_decay", 0, None)
        if self.train_examples is not None:
            self._check("train_examples", 0, None, above=True)
        if self.layers not in (ALL, EMBEDDINGS, NOTHING) and not self.layers.isdecimal():
            raise InputError(
                f"layers: got {self.layers!r}, wanted {ALL}, {EMBEDDINGS}, {NOTHING} or a number of blocks."
            )

    def _check(self, name: str, least: float, most: float | None, *, above: bool = False) -> None:
        value = getattr(self, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and (value > least if above else value >= least) and (most is None or value <= most):
            return
        limits = (
            f"above {least}" if above else f"of at least {least}" + ("" if most is None else f" and at most {most}")
        )
        raise InputError(f"{name}: got {value!r}, wanted a number {limits}.")

    def learning_rate(self, step: int, steps: int) -> float:
        """lr_peak min(1, x / warmup_share) (1 - x), x being the share of the updates done before `step`.

        So the first update has the rate 0 unless there is no warm-up (openai/finetune-transformer-lm, opt.py).
        """
        done = step / steps
        rise = min(1.0, done / self.warmup_share) if self.warmup_share else 1.0
        return self.lr_peak * rise * (1 - done)


@dataclass(frozen=True, kw_only=True)
class FineTuningRun:
    """A checkpoint, a task and a recipe: the identity of a measurement of transfer."""

    size: Size
    """The checkpoint's shape."""
    tokenizer: str
    """Fingerprint of the checkpoint's tokenizer."""
    checkpoint: str | None
    """sha256 (hex) of the checkpoint's weights; None where nothing of it is taken over."""
    task: str
    """Name of the task."""
    data: str
    """sha256 (hex) over the task's examples, those trained on and those scored."""
    recipe: FineTuning
    """How it is fine-tuned."""
    base: BaseShape | None = None
    """The shape that the checkpoint's `completep` scales from; None for the standard parametrisation."""

    def __post_init__(self) -> None:
        if (self.recipe.layers == NOTHING) != (self.checkpoint is None):
            raise InputError(
                f"layers {self.recipe.layers} with the checkpoint {self.checkpoint}: wanted one or neither."
            )
        if self.recipe.layers.isdecimal() and not 0 < int(self.recipe.layers) < self.size.n_layer:
            raise InputError(
                f"layers: got {self.recipe.layers} of a checkpoint of {self.size.n_layer} blocks, wanted 1 to "
                f"{self.size.n_layer - 1}, {ALL}, {EMBEDDINGS} or {NOTHING}."
            )

    @property
    def identity(self) -> dict[str, Any]:
        """What defines the result, as the key hashes it: what differs from the defaults."""
        if self.recipe.precision == "auto":
            raise InputError("a fine-tuning run has the precision auto, wanted bf16 or fp32, since its key follows it.")
        recipe = self.recipe
        kept = {f.name: getattr(recipe, f.name) for f in fields(recipe) if getattr(recipe, f.name) != f.default}
        shape = {f.name: getattr(self.size, f.name) for f in fields(self.size) if f.name != "name"}
        return {
            "schema": SCHEMA,
            "size": shape,
            "base": None if self.base is None else [self.base.d_model, self.base.n_layer],
            "tokenizer": self.tokenizer,
            "checkpoint": self.checkpoint,
            "task": self.task,
            "data": self.data,
            "recipe": {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in kept.items()},
        }

    @cached_property
    def key(self) -> str:
        """Readable name ending in the first digits of the identity's hash; nothing ever parses it."""
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]
        return f"{self.task}-{self.size.shape_name}-{self.recipe.layers}-s{self.recipe.seed}-{digest}"

    def as_training(self, *, steps: int, together: int) -> Run:
        """The run as the training engine takes it: `steps` steps over sequences of full context, `together` for each
        example; the vocabulary has the special tokens."""
        recipe = self.recipe
        batch_tokens = recipe.batch_examples * together * self.size.context
        size = Size(
            name=self.size.name,
            n_layer=self.size.n_layer,
            d_model=self.size.d_model,
            n_head=self.size.n_head,
            context=self.size.context,
            vocabulary=self.size.vocabulary + SPECIAL_TOKENS,
        )
        made = Recipe(
            tokens=steps * batch_tokens,
            batch_tokens=batch_tokens,
            lr_peak=recipe.lr_peak,
            weight_decay=recipe.weight_decay,
            beta1=recipe.beta1,
            beta2=recipe.beta2,
            clip_norm=recipe.clip_norm,
            seed=recipe.seed,
            precision=recipe.precision,
            parametrization="standard" if self.base is None else "completep",
            base_width=None if self.base is None else self.base.d_model,
            base_layers=None if self.base is None else self.base.n_layer,
        )
        return Run(size=size, recipe=made, corpus=self.task, corpus_fingerprint=self.key)
