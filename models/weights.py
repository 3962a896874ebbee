"""Weights in and out, in the layout of Hugging Face's GPT-2: `model.safetensors` and `config.json` in one folder.

What is written here `transformers.GPT2LMHeadModel.from_pretrained` loads, and the other way round; the tokenizer's
files stand beside it for `AutoTokenizer`. The weights' file holds linear weights as [in, out] (OpenAI's conv1d), the
model as torch's [out, in]. Nothing is ever loaded with pickle.
"""

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2, NORM_EPSILON, WEIGHT_STD
from ladder.models.sizes import MLP_RATIO, PAPER_SIZES, Size, parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.models.tokenizer_files import tokenizer_files

WEIGHTS_FILE = "model.safetensors"
SHARDS_FILE = "model.safetensors.index.json"
CONFIG_FILE = "config.json"

_PREFIX = "transformer."
_TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")

# Not parameters of ours: the causal mask that old files carry, and the head, which is tied to the token embedding.
_IGNORED = (".attn.bias", ".attn.masked_bias", "lm_head.weight")

_EXPECTED: dict[str, tuple[Any, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (NORM_EPSILON,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}
"""Fields of config.json whose other values would be another network, with the values that this one has."""

_PAPER_NAMES = {f"{size.n_layer}x{size.d_model}h{size.n_head}": name for name, size in PAPER_SIZES.items()}


def save_weights(model: GPT2, folder: str | Path, *, tokenizer: str | None) -> None:
    """Writes the model's weights in fp32, its config and its tokenizer's files into `folder`, made if absent.

    Old files are replaced whole.

    `tokenizer` is the name of the one that the model was trained with, None where it was with none of ours.
    """
    save_tensors(model.state_dict(), model.size, folder, tokenizer=tokenizer)


def save_tensors(state: Mapping[str, Tensor], size: Size, folder: str | Path, *, tokenizer: str | None) -> None:
    """As `save_weights`, of a model's state by name, such as a copy that training does not change."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        _file_name(name): (tensor.T if name.endswith(_TRANSPOSED) else tensor).float().contiguous().cpu()
        for name, tensor in state.items()
    }
    partial = folder / (WEIGHTS_FILE + ".partial")
    save_file(tensors, partial, metadata={"format": "pt"})
    os.replace(partial, folder / WEIGHTS_FILE)
    files = {CONFIG_FILE: (json.dumps(_config(size, tokenizer), indent=2) + "\n").encode()}
    if tokenizer is not None:
        files |= tokenizer_files(load_tokenizer(tokenizer), context=size.context)
    for name, content in files.items():
        partial = folder / (name + ".partial")
        partial.write_bytes(content)
        os.replace(partial, folder / name)


def load_weights(source: str | Path, *, attention: str = "sdpa") -> GPT2:
    """The GPT-2 in the folder `source`, one of ours or of Hugging Face's, or of that name on the Hugging Face hub.

    fp32, on the CPU. A missing, truncated or misfitting file is an InputError.
    """
    folder = find_folder(source)
    config = read_config(folder)
    size = size_of(config, folder)
    with torch.device("meta"):
        model = GPT2(size, attention=attention)
    model.load_state_dict(read_weights(folder, model), assign=True)
    return model.requires_grad_(True)


def read_weights(folder: Path, model: GPT2) -> dict[str, Tensor]:
    """The weights in a folder by the names of a model's state; InputError where they are not of the model's shapes."""
    tensors = _read_tensors(folder)
    _check_shapes(model, tensors, folder)
    return tensors


def read_config(folder: str | Path) -> dict[str, Any]:
    """What config.json in `folder` says; InputError where there is none or it is not a JSON object."""
    path = Path(folder) / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"no {CONFIG_FILE} in {folder}: wanted the folder of a checkpoint, with {CONFIG_FILE} and {WEIGHTS_FILE}"
        ) from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); the checkpoint is damaged: copy it again") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} holds a {type(config).__name__}, not an object; the checkpoint is damaged")
    return config


def read_size(folder: str | Path) -> Size:
    """The size that config.json in `folder` describes, under the name that it was saved with or else its shape's."""
    return size_of(read_config(folder), Path(folder))


def _config(size: Size, tokenizer: str | None) -> dict[str, Any]:
    end_of_text = load_tokenizer(tokenizer).end_of_text if tokenizer is not None else None
    return {
        "architectures": ["GPT2LMHeadModel"],
        **{field: values[0] for field, values in _EXPECTED.items()},
        "n_layer": size.n_layer,
        "n_embd": size.d_model,
        "n_head": size.n_head,
        "n_positions": size.context,
        "n_inner": None,
        "vocab_size": size.vocabulary,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "initializer_range": WEIGHT_STD,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "dtype": "float32",
        "ladder": {"size": size.name, "tokenizer": tokenizer},
    }


def size_of(config: dict[str, Any], folder: Path) -> Size:
    """The size that a config describes; InputError, which names the `folder`, where it is not of a GPT-2 of ours."""
    for field, values in _EXPECTED.items():
        if config.get(field, values[0]) not in values:
            raise InputError(f"{folder / CONFIG_FILE}: {field} is {config[field]!r}; this GPT-2 has {values[0]!r} only")
    n_layer, width, n_head, context, vocabulary = (
        _positive(config, field, folder) for field in ("n_layer", "n_embd", "n_head", "n_positions", "vocab_size")
    )
    if config.get("n_inner") not in (None, MLP_RATIO * width):
        raise InputError(f"{folder / CONFIG_FILE}: n_inner is {config['n_inner']}; this GPT-2 has {MLP_RATIO * width}")
    shape = f"{n_layer}x{width}h{n_head}"
    name = (config.get("ladder") or {}).get("size") or _PAPER_NAMES.get(shape, shape)
    size = parse_size(str(name), context=context, vocabulary=vocabulary)
    if (size.n_layer, size.d_model, size.n_head) != (n_layer, width, n_head):
        raise InputError(
            f"{folder / CONFIG_FILE} names the size {name} but describes {n_layer} layers of width {width} with "
            f"{n_head} heads; one of them was changed by hand: correct it"
        )
    return size


def _positive(config: dict[str, Any], field: str, folder: Path) -> int:
    value = config.get(field)
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{folder / CONFIG_FILE}: {field} is {value!r}; wanted a whole number of at least 1")
    return value


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    """Our names and layout to tensors in fp32, from one file or from the shards that an index names."""
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            tensors |= load_file(path)
        except FileNotFoundError:
            raise InputError(f"{path} is missing; the checkpoint is not complete: copy it again") from None
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{path} cannot be read as safetensors ({error}); it is truncated or damaged: copy it again"
            ) from error
    named = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items() if not name.endswith(_IGNORED)}
    return {
        name: (tensor.T if name.endswith(_TRANSPOSED) else tensor).float().contiguous()
        for name, tensor in named.items()
    }


def weight_files(folder: Path) -> list[Path]:
    """The files that a checkpoint's weights are in: one, or the shards that an index names."""
    index = folder / SHARDS_FILE
    if (folder / WEIGHTS_FILE).exists() or not index.exists():
        return [folder / WEIGHTS_FILE]
    try:
        shards = list(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} is not an index of shards ({error}); it is damaged: copy it again") from error
    for shard in shards:
        if not isinstance(shard, str) or shard in ("", ".", "..") or Path(shard).name != shard:
            raise InputError(f"{index} names {shard!r}, which is no file of its folder; it is damaged: copy it again")
    return [folder / shard for shard in sorted(set(shards))]


def _check_shapes(model: GPT2, tensors: dict[str, Tensor], folder: Path) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    got = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(wanted.keys() | got.keys()):
        if got.get(name) != wanted.get(name):
            raise InputError(
                f"the weights in {folder} do not fit its {CONFIG_FILE}: {name} is {_shape(got.get(name))} and "
                f"should be {_shape(wanted.get(name))}; both files must come from the same model"
            )


def _file_name(name: str) -> str:
    """A tensor's name in the file; a task's head is not part of the network underneath."""
    return name if name.startswith("score.") else _PREFIX + name


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))


def find_folder(source: str | Path) -> Path:
    """`source` where it is a folder, else the folder in which the hub's files of that name are cached."""
    if Path(source).is_dir():
        return Path(source)
    name = str(source)
    if isinstance(source, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"no folder {name}: wanted one with {CONFIG_FILE} and {WEIGHTS_FILE}")
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise InputError(
            f"no folder {name}, and to look it up on the Hugging Face hub needs `pip install huggingface_hub`"
        ) from error
    try:
        patterns = [CONFIG_FILE, WEIGHTS_FILE, SHARDS_FILE, "model-*.safetensors"]
        return Path(hub.snapshot_download(name, allow_patterns=patterns))
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError, ValueError) as error:
        raise InputError(
            f"no folder {name}, and the Hugging Face hub did not give it ({type(error).__name__}: {str(error)[:200]}); "
            "check the name and the network, or download the folder elsewhere and give its path"
        ) from error
