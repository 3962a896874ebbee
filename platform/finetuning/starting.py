"""The checkpoint that fine-tuning starts from: its shape and words, and what of its pre-training decides the recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from upath import UPath

from ladder.models.errors import InputError
from ladder.models.parametrization import BaseShape
from ladder.models.sizes import Size
from ladder.models.weights import find_folder, load_weights, read_config, read_size
from ladder.platform.evaluation.checkpoints.cache import checkpoint_sha256
from ladder.platform.evaluation.checkpoints.open import tokenizer_of
from ladder.platform.finetuning.objective import Weights
from ladder.platform.runs.checkpoints import read_mark
from ladder.sweeps.finetuning import GPT1_LR, PEAK_SHARE


@dataclass(frozen=True, kw_only=True)
class Start:
    """A checkpoint to fine-tune."""

    name: str
    """What people call it: its folder, or its name on a hub."""
    folder: Path
    """Where its files are."""
    size: Size
    """Its shape."""
    tokenizer: str
    """Name of its tokenizer."""
    fingerprint: str
    """The tokenizer's fingerprint."""
    sha256: str
    """sha256 (hex) over its config and weights."""
    base: BaseShape | None
    """The shape that its `completep` scales from; None for the standard parametrisation."""
    run: str | None
    """Key of the run that it is of; None where it is not ours."""
    tokens: int | None
    """Tokens that it was trained on; None where that is not on record."""
    lr: float | None
    """Learning rate that the rule gives for it; None where its pre-training's is not on record."""


def open_start(source: str, *, tokenizer: str | None = None) -> Start:
    """The checkpoint in a folder, or of a Hugging Face name; InputError where it is not whole or names no tokenizer."""
    folder = find_folder(source)
    words = tokenizer_of(folder, tokenizer)
    mark = read_mark(UPath(folder))
    recipe = mark.get("recipe") or {}
    ours = "ladder" in read_config(folder)
    lr = PEAK_SHARE * recipe["lr_peak"] if recipe else None if ours else GPT1_LR
    base = None
    if recipe.get("base_width") is not None:
        base = BaseShape(d_model=recipe["base_width"], n_layer=recipe["base_layers"])
    size = read_size(folder)
    if words.vocabulary > size.vocabulary:
        raise InputError(
            f"checkpoint {source} has {size.vocabulary} token embeddings and tokenizer {words.name} has "
            f"{words.vocabulary} tokens: name the tokenizer that it was trained with, with --tokenizer"
        )
    return Start(
        name=source,
        folder=folder,
        size=size,
        tokenizer=words.name,
        fingerprint=words.fingerprint,
        sha256=checkpoint_sha256(folder),
        base=base,
        run=mark.get("run"),
        tokens=mark["step"] * recipe["batch_tokens"] if "step" in mark and "batch_tokens" in recipe else None,
        lr=lr,
    )


def of_sizes(starts: Sequence[Start], names: Sequence[str]) -> list[Start]:
    """Those of these shapes; InputError for a shape that none has."""
    known = dict.fromkeys(start.size.shape_name for start in starts)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise InputError(f"--sizes: got {', '.join(unknown) or 'none'}, wanted some of {', '.join(known)}")
    return [start for start in starts if start.size.shape_name in names]


def largest_budgets(starts: Sequence[Start]) -> list[Start]:
    """Of each shape the checkpoints that were trained on the most tokens, every seed of them."""
    most: dict[str, int] = {}
    for start in starts:
        most[start.size.shape_name] = max(most.get(start.size.shape_name, 0), start.tokens or 0)
    return [start for start in starts if (start.tokens or 0) == most[start.size.shape_name]]


@lru_cache(maxsize=1)
def read_start(folder: str) -> Weights:
    """A checkpoint's weights in fp32, kept for the next run of the same one."""
    return load_weights(folder).state_dict()
