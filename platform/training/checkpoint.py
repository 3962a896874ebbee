"""A checkpoint: the weights as Hugging Face reads them, and beside them all that training needs to go on exactly.

    model.safetensors  config.json      what `ladder evaluate` and `transformers` read
    training/                           moments, the random state: PyTorch's distributed format in safetensors
    training.json                       where training stood, and a checksum of every file

Saving is in two steps: `take_snapshot` copies the tensors, which the training loop waits for, and `write_checkpoint`
writes the copy from another thread. Nothing is pickled: PyTorch's distributed format keeps its index as a pickle, but
its safetensors variant does not.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import Size
from ladder.models.weights import load_weights, save_tensors
from ladder.platform.runs.checkpoints import MARK
from ladder.platform.training.optimizer import empty_state


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Where training stands."""

    run: str
    """Key of the run that the checkpoint belongs to."""
    step: int
    """Optimizer steps done; with corpus, seed and batch it is the position in the data too."""
    seconds_training: float
    """Seconds spent in the training loop so far, over all attempts."""
    precision: str
    """bf16 or fp32, as it came out on the device that began the run."""
    micro_batch_sequences: int
    """Sequences through the network at once, found once: sums of other micro-batches round differently."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A copy of everything that a checkpoint holds, on the CPU."""

    state: TrainingState
    size: Size
    weights: dict[str, torch.Tensor]
    """The model's state by name."""
    optimizer: dict[str, torch.Tensor]
    """The optimizer's moments by parameter, and the random state."""


def take_snapshot(model: GPT2, optimizer: torch.optim.Optimizer, state: TrainingState) -> Snapshot:
    """A copy of model, optimizer and random state that later steps do not change."""
    return Snapshot(
        state=state,
        size=model.size,
        weights=_copied(model.state_dict()),
        optimizer=_copied(_optimizer_tensors(model, optimizer)),
    )


def write_checkpoint(folder: Path, snapshot: Snapshot, *, tokenizer: str) -> dict[str, Any]:
    """Write a snapshot's files into a folder; returns what its mark is to say of the training state."""
    save_tensors(snapshot.weights, snapshot.size, folder, tokenizer=tokenizer)
    with _alone():
        save(
            dict(snapshot.optimizer),
            storage_writer=HuggingFaceStorageWriter(path=str(folder / "training")),
            no_dist=True,
        )
    return asdict(snapshot.state)


def load_checkpoint(folder: Path, model: GPT2, optimizer: torch.optim.Optimizer) -> None:
    """Put weights, optimizer and random state of a checkpoint in place."""
    model.load_state_dict(load_weights(str(folder)).state_dict())
    tensors = make_optimizer_state(model, optimizer)
    with _alone():
        load(tensors, storage_reader=HuggingFaceStorageReader(path=str(folder / "training")), no_dist=True)
    torch.set_rng_state(tensors["random_state"])


def read_state(folder: Path, *, run: str) -> TrainingState:
    """The training state that a checkpoint of a run was saved at.

    Raises InputError where it is not whole, or belongs to another run.
    """
    try:
        mark = json.loads((folder / MARK).read_text())
        state = TrainingState(**{name: mark[name] for name in TrainingState.__dataclass_fields__})
    except (OSError, TypeError, KeyError, json.JSONDecodeError) as error:
        raise InputError(f"checkpoint {folder} cannot be resumed: {MARK}: {error!r}. Remove the folder.") from error
    if state.run != run:
        raise InputError(f"checkpoint {folder} is of run {state.run}, wanted one of {run}. Remove the run's folder.")
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
    return tensors | {"random_state": torch.get_rng_state()}


def _copied(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


@contextmanager
def _alone() -> Iterator[None]:
    """One process writes: every worker holds the whole state, so rank 0 saves it without the others."""
    with warnings.catch_warnings():
        # PyTorch warns that it saves without a process group, which is what is meant.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
