"""A checkpoint: the weights as Hugging Face reads them, and beside them all that training needs to go on exactly.

    model.safetensors  config.json      what `ladder evaluate` and `transformers` read
    training/                           AdamW's moments, the random state: PyTorch's distributed format in safetensors
    training.json                       step, seconds trained, precision
    metrics.jsonl                       the curve up to this step, so that a resumed run repeats no point

Nothing in it is pickled: PyTorch's distributed format keeps its index as a pickle, but its safetensors variant does
not.
"""

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.weights import load_weights, save_weights


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


def save_checkpoint(
    folder: Path,
    model: GPT2,
    optimizer: torch.optim.Optimizer,
    state: TrainingState,
    *,
    tokenizer: str,
    curve: Path | None,
) -> None:
    """Write a checkpoint into a folder; `curve` is the JSON-lines file of the training curve."""
    save_weights(model, folder, tokenizer=tokenizer)
    with _alone():
        save(
            _tensors(model, optimizer),
            storage_writer=HuggingFaceStorageWriter(path=str(folder / "training")),
            no_dist=True,
        )
    (folder / "training.json").write_text(json.dumps(asdict(state)))
    if curve is not None and curve.exists():
        shutil.copyfile(curve, folder / "metrics.jsonl")


def load_checkpoint(folder: Path, model: GPT2, optimizer: torch.optim.Optimizer, *, run: str) -> TrainingState:
    """Put weights, optimizer and random state of a checkpoint in place.

    Raises InputError where it belongs to another run or is not whole.
    """
    state = read_state(folder)
    if state.run != run:
        raise InputError(f"checkpoint {folder} is of run {state.run}, wanted one of {run}. Remove the run's folder.")
    model.load_state_dict(load_weights(str(folder)).state_dict())
    with torch.no_grad():
        for parameter in model.parameters():  # AdamW makes its state at the first step
            optimizer.state.setdefault(parameter, _empty_state(parameter))
    tensors = _tensors(model, optimizer)
    with _alone():
        load(tensors, storage_reader=HuggingFaceStorageReader(path=str(folder / "training")), no_dist=True)
    torch.set_rng_state(tensors["random_state"])
    return state


def read_state(folder: Path) -> TrainingState:
    """The training state that a checkpoint was saved at; raises InputError where it is not whole."""
    try:
        return TrainingState(**json.loads((folder / "training.json").read_text()))
    except (OSError, TypeError, json.JSONDecodeError) as error:
        raise InputError(
            f"checkpoint {folder} cannot be resumed: training.json: {error}. Remove the folder."
        ) from error


def _empty_state(parameter: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }


def _tensors(model: GPT2, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """All tensors of the training state by name; loading writes into them."""
    tensors = {
        f"{moment}.{name}": optimizer.state[parameter][moment]
        for name, parameter in model.named_parameters()
        for moment in ("step", "exp_avg", "exp_avg_sq")
    }
    return tensors | {"random_state": torch.get_rng_state()}


@contextmanager
def _alone() -> Iterator[None]:
    """One process writes: every worker holds the whole state, so rank 0 saves it without the others."""
    with warnings.catch_warnings():
        # PyTorch warns that it saves without a process group, which is what is meant.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
