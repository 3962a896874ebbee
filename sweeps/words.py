"""The words of an experiment: what a run is (`Recipe`, `Run`), how it is carried out (`Execution`), and a set of them
(`Sweep`).

What defines a result and how it was computed are kept apart: only `Run` is hashed into the key under which a result is
stored, so the same run is never trained twice, wherever and however it is carried out.

The hash has a version, `SCHEMA`. It covers what differs from the defaults, so a new field whose default is what was
done before changes no key. Anything else that would change keys, a changed default first of all, raises `SCHEMA`.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

from ladder.models.errors import InputError
from ladder.models.parametrization import BaseShape
from ladder.models.sizes import Size

SCHEMA = 1
"""Version of a run's identity; a storage holds runs of one version."""
KEY_DIGITS = 12
"""Hex digits of the hash in a run's key. With 8, two of 10,000 runs of one size, budget and seed (a search over
learning rates, say) would meet in 1 sweep of 86; with 12, in 1 of 5.6 million (n^2 / 2 / 16^digits)."""

Schedule = Literal["cosine", "wsd"]
Precision = Literal["auto", "bf16", "fp32"]
Optimizer = Literal["adamw", "muon"]
Parametrization = Literal["standard", "completep"]
Strategy = Literal["auto", "ddp", "fsdp2"]

BF16_GPUS = (
    *("L4", "L40S", "A10G", "A100", "A100-40G", "A100-80G", "H20", "H100", "H200"),
    *("B200", "B300", "GB200", "GB300", "RTX-PRO-6000"),
)
"""Accelerators with bf16 instructions, by Ray's names."""
OLDER_GPUS = ("T4", "V100")
"""Accelerators without."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a size is trained. Part of a run's identity."""

    tokens: int
    """Tokens seen in training, D; a multiple of `batch_tokens`."""
    batch_tokens: int
    """Tokens in one optimizer step, over all workers and micro-batches."""
    lr_peak: float
    """Learning rate after warm-up, for all parameters; under `completep` that of the base shape."""
    warmup_tokens: int = 0
    """Tokens over which the learning rate rises linearly from 0, whole batches; 0: training starts at the peak."""
    schedule: Schedule = "cosine"
    """`cosine` decays over all the steps after warm-up; `wsd` stays at the peak, then falls linearly (warm-up, stable,
    decay; Hu et al. 2024)."""
    decay_tokens: int = 0
    """Tokens at the end over which `wsd` decays, whole batches; 0 for `cosine`, which decays over all after warm-up."""
    lr_final_fraction: float = 0.1
    """Learning rate of the last step as a share of the peak (Hoffmann et al. 2022 decay to a tenth)."""
    weight_decay: float = 0.1
    """AdamW's decoupled weight decay, on matrices and embeddings only."""
    beta1: float = 0.9
    """AdamW's decay of the first moment."""
    beta2: float = 0.95
    """AdamW's decay of the second moment (Brown et al. 2020, appendix B)."""
    clip_norm: float = 1.0
    """Largest global L2 norm of the gradient."""
    seed: int = 0
    """Seed of the initial weights and of the order of the data."""
    precision: Precision = "auto"
    """Precision of matrix products; `auto` is settled once for a sweep and storage, when the sweep is expanded: bf16
    where its devices have bf16 instructions, otherwise fp32."""
    optimizer: Optimizer = "adamw"
    """`adamw`, or `muon`: Muon (Jordan et al. 2024) for the matrices within blocks, AdamW for all else."""
    parametrization: Parametrization = "standard"
    """`standard` is GPT-2's; under `completep` (muP in width; Dey et al. 2025) one learning rate serves all shapes."""
    base_width: int | None = None
    """Width at which `completep` is the standard parametrisation; None, and only then, for `standard`."""
    base_layers: int | None = None
    """Blocks at which `completep` is the standard parametrisation; None, and only then, for `standard`."""

    def __post_init__(self) -> None:
        for name in ("tokens", "batch_tokens", "lr_peak", "clip_norm"):
            _positive(name, getattr(self, name))
        if not 0 <= self.lr_final_fraction <= 1:
            raise InputError(f"lr_final_fraction: got {self.lr_final_fraction}, wanted a number from 0 to 1.")
        _one_of("schedule", self.schedule, ("cosine", "wsd"))
        _one_of("precision", self.precision, ("auto", "bf16", "fp32"))
        for name in ("tokens", "warmup_tokens", "decay_tokens"):
            self._whole_batches(name)
        self._check_schedule()
        _one_of("optimizer", self.optimizer, ("adamw", "muon"))
        self._check_parametrization()

    def _whole_batches(self, name: str) -> None:
        """Whole batches only, not rounded here: two recipes that train alike must be equal."""
        value = getattr(self, name)
        if not isinstance(value, int) or value < 0 or value % self.batch_tokens:
            raise InputError(
                f"{name} must be a whole number of batches: got {value} tokens in batches of "
                f"{self.batch_tokens:,}. Round with ladder.sweeps.rules.ceil_to_multiple."
            )

    def _check_schedule(self) -> None:
        if self.warmup_tokens + self.decay_tokens > self.tokens:
            raise InputError(
                f"warmup_tokens and decay_tokens: got {self.warmup_tokens:,} and {self.decay_tokens:,}, wanted at most "
                f"the {self.tokens:,} tokens of the run together. Shorten one of them."
            )
        if (self.schedule == "wsd") != (self.decay_tokens > 0):
            wanted = "more than 0 for the schedule wsd" if self.schedule == "wsd" else "0 for the schedule cosine"
            raise InputError(
                f"decay_tokens: got {self.decay_tokens:,}, wanted {wanted}. ladder.sweeps.rules.share_of_tokens gives "
                "a share of the run in whole batches; only wsd has a decay of its own."
            )

    def _check_parametrization(self) -> None:
        _one_of("parametrization", self.parametrization, ("standard", "completep"))
        for name in ("base_width", "base_layers"):
            value = getattr(self, name)
            if self.parametrization == "completep" and (not isinstance(value, int) or value < 1):
                raise InputError(
                    f"{name}: got {value}, wanted a whole number above 0, as completep scales from a base shape. Name "
                    "the shape that the learning rate was found at."
                )
            if self.parametrization == "standard" and value is not None:
                raise InputError(f"{name}: got {value}, wanted None, as only the parametrization completep has a base.")

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.tokens // self.batch_tokens

    @property
    def base_shape(self) -> BaseShape | None:
        """The shape that `completep` scales from; None for the standard parametrisation."""
        if self.base_width is None or self.base_layers is None:
            return None
        return BaseShape(d_model=self.base_width, n_layer=self.base_layers)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One size, one recipe, one corpus: the identity of a result."""

    size: Size
    """What is trained."""
    recipe: Recipe
    """How it is trained."""
    corpus: str
    """Name of the corpus, under which the storage has it; no part of the identity."""
    corpus_fingerprint: str | None
    """Hash of the corpus's tokens and tokenizer; None while the corpus is not built, as in a dry run."""

    def __post_init__(self) -> None:
        if self.recipe.batch_tokens % self.size.context:
            raise InputError(
                f"batch_tokens must be a whole number of sequences: got {self.recipe.batch_tokens:,} tokens with "
                f"{self.size.context} tokens of context."
            )

    @property
    def batch_sequences(self) -> int:
        """Sequences in one optimizer step."""
        return self.recipe.batch_tokens // self.size.context

    @property
    def identity(self) -> dict[str, Any]:
        """What defines the result, as the key hashes it: shape, recipe and corpus, each without its name.

        Raises InputError where the precision is still `auto`, since bf16 and fp32 are two results.
        """
        if self.recipe.precision == "auto":
            raise InputError(
                f"a run of {self.size.name} has the precision auto, wanted bf16 or fp32, since the run's key follows "
                "it. Expand the sweep with the precision that auto is to mean, or name it in the recipe."
            )
        shape = _differing(self.size)
        del shape["name"]
        return {
            "schema": SCHEMA,
            "size": shape,
            "recipe": _differing(self.recipe),
            "corpus_fingerprint": self.corpus_fingerprint,
        }

    @cached_property
    def key(self) -> str:
        """Readable name ending in the first digits of the identity's hash; nothing ever parses it."""
        identity = json.dumps(self.identity, sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()[:KEY_DIGITS]
        return f"{self.size.shape_name}-{_short(self.recipe.tokens)}-s{self.recipe.seed}-{digest}"


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a run is carried out; no part of its identity."""

    workers: int = 1
    """Training processes of one run; the batch is split over them."""
    cpus_per_worker: int = 1
    """Processor cores, and threads, of one worker."""
    gpus_per_worker: float | None = None
    """GPUs of one worker: 0, 1, or with one worker a fraction of a GPU that several runs share; None: 1 where the
    cluster has GPUs, otherwise 0."""
    accelerator_type: str | None = None
    """The GPU to run on, by Ray's name for it, such as H100; None: any."""
    concurrent_runs: int | None = None
    """Runs at one time; None: as many as the cluster has room for."""
    micro_batch_tokens: int | None = None
    """Tokens that one worker puts through the network at once, the rest of its share being accumulated; None: as many
    as fit a stated memory."""
    attention: str = "auto"
    """Attention back end: auto, xformers (CUDA), blocked (CPU), sdpa or reference."""
    strategy: Strategy = "auto"
    """What each of several workers holds: `ddp` all weights and moments (Li et al. 2020); `fsdp2` a share of them,
    gathered block by block (Zhao et al. 2023); `auto`: ddp where it fits the worker's memory."""
    activation_checkpointing: bool | None = None
    """Whether the backward pass computes each block again from its input, which takes less memory and a third more
    work; None: where it would not fit otherwise."""
    compile: bool = False
    """Whether the network goes through torch.compile (a minute or more at the start; for GPUs)."""
    checkpoint_seconds: float = 600.0
    """Training time between checkpoints, so the most that an interruption costs."""
    log_every_steps: int = 10
    """Optimizer steps between two points of the training curve."""
    max_failures: int = 3
    """Restarts from the last checkpoint after a worker died, before the run counts as failed."""
    keep_checkpoints: int = 2
    """Checkpoints kept, the newest ones; a damaged one is passed over for the one before."""

    def __post_init__(self) -> None:
        for name in ("workers", "cpus_per_worker", "checkpoint_seconds", "log_every_steps", "keep_checkpoints"):
            _positive(name, getattr(self, name))
        for name in ("concurrent_runs", "micro_batch_tokens"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))
        _one_of("attention", self.attention, ("auto", "xformers", "sdpa", "blocked", "reference"))
        _one_of("strategy", self.strategy, ("auto", "ddp", "fsdp2"))
        if self.activation_checkpointing not in (None, True, False):
            raise InputError(
                f"activation_checkpointing: got {self.activation_checkpointing!r}, wanted True, False or None (where "
                "memory asks for it)."
            )
        self._check_gpus()

    def _check_gpus(self) -> None:
        gpus = self.gpus_per_worker
        if gpus is not None and (isinstance(gpus, bool) or not isinstance(gpus, int | float) or not 0 <= gpus <= 1):
            raise InputError(f"gpus_per_worker: got {gpus}, wanted 0, 1 or a fraction (a worker drives one GPU).")
        if gpus not in (None, 0, 1) and self.workers > 1:
            raise InputError(
                f"gpus_per_worker: got {gpus} for each of {self.workers} workers, wanted 1, since workers that share a "
                "GPU only wait for each other. Ask for 1, or for one worker."
            )
        if self.accelerator_type is None:
            return
        _one_of("accelerator_type", self.accelerator_type, (*BF16_GPUS, *OLDER_GPUS))
        if gpus == 0:
            raise InputError(
                f"accelerator_type: got {self.accelerator_type} with gpus_per_worker 0, wanted GPUs. Leave one out."
            )

    @property
    def asks_for_gpus(self) -> bool:
        """Whether the run has to have GPUs, however many the cluster has at the moment."""
        return bool(self.gpus_per_worker) or self.accelerator_type is not None


@dataclass(frozen=True, kw_only=True)
class Point:
    """One place in the plane of size and data, before the corpus and the recipe make it a run."""

    size: str
    """Name or shape of the size, as `ladder sizes` shows them."""
    tokens: int | None = None
    """Tokens to train on; None: see `tokens_per_parameter`."""
    tokens_per_parameter: float | None = None
    """Tokens as a multiple of all the parameters."""
    seed: int = 0
    """Seed of weights and data order."""

    def __post_init__(self) -> None:
        if (self.tokens is None) == (self.tokens_per_parameter is None):
            raise InputError(f"a point of size {self.size} wants either tokens or tokens_per_parameter, and not both.")
        _positive("tokens", self.tokens if self.tokens is not None else self.tokens_per_parameter)


def grid(
    *,
    sizes: Sequence[str],
    tokens: Sequence[int] = (),
    tokens_per_parameter: Sequence[float] = (),
    seeds: Sequence[int] = (0,),
) -> tuple[Point, ...]:
    """Every size at every budget and seed; grids can be added with `+`."""
    if not sizes:
        raise InputError("a grid without sizes: give at least one, as `ladder sizes` shows them.")
    if not tokens and not tokens_per_parameter:
        raise InputError("a grid without budgets: give tokens=... or tokens_per_parameter=...")
    budgets = [{"tokens": n} for n in tokens] + [{"tokens_per_parameter": r} for r in tokens_per_parameter]
    return tuple(Point(size=size, seed=seed, **budget) for size in sizes for budget in budgets for seed in seeds)


RecipeRule = Callable[[Size, int, int], Recipe]
"""A rule (size, tokens, seed) -> Recipe; it rounds the tokens up to whole batches."""
ExecutionRule = Callable[[Size], Execution]
"""A rule size -> Execution."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A named set of runs, the benchmarks to score them on and the laws to fit to the scores."""

    name: str
    """Name of the sweep, of its folder in the storage and of its MLflow experiment."""
    corpus: str
    """Corpus to train on; `ladder corpus list` shows them."""
    points: tuple[Point, ...]
    """Sizes and budgets; see `grid`."""
    recipe: RecipeRule
    """The rule that derives a recipe from a size and its tokens; see `ladder.sweeps.rules`."""
    context: int = 1024
    """Tokens that the network sees at once."""
    benchmarks: tuple[str, ...] = ()
    """What each final checkpoint is scored on, besides held-out loss: names, groups such as gpt2-paper, or files of
    one's own, named from the folder of the sweep's file."""
    laws: tuple[str, ...] = ("log-linear", "power-offset", "hoffmann")
    """Laws that the report fits."""
    heldout_tokens: int = 1_000_000
    """Held-out tokens that the held-out loss is measured on, at most."""
    execution: Execution | ExecutionRule = field(default_factory=Execution)
    """How runs are carried out: the same way for all, or a rule of the size; read it through `execution_for`."""
    question: str = ""
    """What the sweep asks and predicts: the docstring of its file, filled in when it is loaded."""

    def __post_init__(self) -> None:
        if not self.name or not all(c.isalnum() or c in "-_." for c in self.name) or self.name.startswith("."):
            raise InputError(
                f"sweep name: got {self.name!r}, wanted letters, digits, '-', '_' and '.', as it names a folder."
            )
        if not self.points:
            raise InputError(f"sweep {self.name} has no points: give points=grid(sizes=..., tokens=...).")
        _positive("context", self.context)
        _positive("heldout_tokens", self.heldout_tokens)

    def execution_for(self, size: Size) -> Execution:
        """How runs of a size are carried out."""
        execution = self.execution if isinstance(self.execution, Execution) else self.execution(size)
        if not isinstance(execution, Execution):
            raise InputError(
                f"sweep {self.name}: the execution of size {size.name} is a {type(execution).__name__}, wanted an "
                "Execution or a function of the size that returns one."
            )
        return execution


def _differing(words: Any) -> dict[str, Any]:
    """The fields that differ from their defaults; 1.0 is written as 1, as the two train alike."""
    differing = {f.name: getattr(words, f.name) for f in fields(words) if getattr(words, f.name) != f.default}
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in differing.items()}


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise InputError(f"{name}: got {value!r}, wanted a number above 0.")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{name}: got {value!r}, wanted one of {', '.join(known)}.")


def _short(tokens: int) -> str:
    """Tokens to three digits with a unit, for run names: 1_048_576 -> 1.05M."""
    for unit, scale in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if tokens >= scale:
            return f"{tokens / scale:.3g}{unit}"
    return str(tokens)
