"""A checkpoint: the weights as Hugging Face reads them, and beside them all that training needs to go on exactly.

    model.safetensors  config.json          what `ladder evaluate` and `transformers` read
    tokenizer.json  tokenizer_config.json   what `AutoTokenizer` reads, and lm-evaluation-harness by it
    optimizer.safetensors                   the optimizer's moments by parameter, the random state
    training.json                           where training stood, and a checksum of every file

Saving is in two steps: `take_snapshot` copies the tensors, which the training loop waits for, and `write_checkpoint`
writes the copy from another thread. Nothing is pickled. The files hold whole tensors, so that any number of workers
under any strategy goes on from them; the first worker writes and reads them for all.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import Size
from ladder.models.weights import load_weights, save_tensors
from ladder.platform.runs.checkpoints import MARK
from ladder.platform.training.optimizer import empty_state
from ladder.platform.training.parallel import fill, whole
from ladder.platform.training.worker import Worker

OPTIMIZER_FILE = "optimizer.safetensors"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Where training stands."""

    run: str
    """Key of the run that the checkpoint belongs to."""
    step: int
    """Optimizer steps done; with corpus, seed and batch it is the position in the data too."""
    seconds_training: float
    """Seconds spent in the training loop so far, over all attempts, on the steps that were not shared."""
    precision: str
    """bf16 or fp32, as it came out on the device that began the run."""
    micro_batch_sequences: int
    """Sequences through the network at once, found once: sums of other micro-batches round differently."""
    attention: str
    """The back end of attention that the run trains with; another one rounds differently."""
    pending_nats: list[float] = field(default_factory=list)
    """Sums of nats, over all workers, of the steps since the last point of the curve."""
    shared_steps: int = 0
    """Steps at the beginning that another run trained, which began alike; see `ladder.sweeps.trunks`."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A copy of everything that a checkpoint holds, on the CPU."""

    state: TrainingState
    size: Size
    weights: dict[str, torch.Tensor]
    """The model's state by name."""
    optimizer: dict[str, torch.Tensor]
    """The optimizer's moments by parameter, and the random state."""


def take_snapshot(
    model: GPT2, optimizer: torch.optim.Optimizer, state: TrainingState, *, keep: bool = True
) -> Snapshot | None:
    """A copy of model, optimizer and random state that later steps do not change; None without `keep`.

    A collective call where workers share the tensors out: each of them makes it, and the first keeps the copy. A worker
    never holds more than one whole tensor beside its shares.
    """
    weights = _copied(model.state_dict(), keep)
    moments = _copied(_optimizer_tensors(model, optimizer) | {"random_state": torch.get_rng_state()}, keep)
    return Snapshot(state=state, size=model.size, weights=weights, optimizer=moments) if keep else None


def write_checkpoint(folder: Path, snapshot: Snapshot, *, tokenizer: str) -> dict[str, Any]:
    """Write a snapshot's files into a folder; returns what its mark is to say of the training state."""
    save_tensors(snapshot.weights, snapshot.size, folder, tokenizer=tokenizer)
    save_file(snapshot.optimizer, folder / OPTIMIZER_FILE)
    return asdict(snapshot.state)


def load_checkpoint(folder: Path | None, model: GPT2, optimizer: torch.optim.Optimizer, worker: Worker) -> None:
    """Put weights, optimizer and random state of a checkpoint in place, read by the first worker alone.

    A collective call: `folder` is None on the other workers, which are sent what they hold.
    """
    weights: Mapping[str, torch.Tensor] = {}
    moments: dict[str, torch.Tensor] = {}
    if folder is not None:
        weights, moments = load_weights(str(folder)).state_dict(), load_file(folder / OPTIMIZER_FILE)
    torch.set_rng_state(worker.from_first(moments.pop("random_state", torch.empty(0))))
    for name, tensor in model.state_dict().items():
        fill(tensor, weights[name] if worker.first else None, worker)
    for name, tensor in make_optimizer_state(model, optimizer).items():
        fill(tensor, moments[name] if worker.first else None, worker)


def read_state(folder: Path, *, runs: Collection[str]) -> TrainingState:
    """The training state that a checkpoint of one of `runs` was saved at.

    Raises InputError where it is not whole, or belongs to another run.
    """
    try:
        mark = json.loads((folder / MARK).read_text())
        state = TrainingState(**{name: mark[name] for name in TrainingState.__dataclass_fields__})
    except (OSError, TypeError, KeyError, json.JSONDecodeError) as error:
        raise InputError(f"checkpoint {folder} cannot be resumed: {MARK}: {error!r}. Remove the folder.") from error
    if state.run not in runs:
        wanted = " or ".join(runs)
        raise InputError(f"checkpoint {folder} is of run {state.run}, wanted one of {wanted}. Remove the run's folder.")
    return state


def make_optimizer_state(model: GPT2, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's tensors by name, made where it has not made them yet; loading writes into them."""
    with torch.no_grad():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state.setdefault(parameter, empty_state(group, parameter))
    return _optimizer_tensors(model, optimizer)


def _optimizer_tensors(model: GPT2, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {
        f"{moment}.{name}": tensor
        for name, parameter in model.named_parameters()
        for moment, tensor in optimizer.state[parameter].items()
    }
    return tensors


def _copied(tensors: Mapping[str, torch.Tensor], keep: bool) -> dict[str, torch.Tensor]:
    """Whole copies on the CPU by name; none without `keep`, where each is gathered for another worker and dropped."""
    copies = {}
    for name, tensor in tensors.items():
        gathered = whole(tensor.detach())
        if keep:
            copies[name] = gathered.to("cpu", copy=True)
    return copies
