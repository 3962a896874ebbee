"""A checkpoint to score or sample from: its model on a device, and the tokenizer it was trained with."""

from pathlib import Path

import torch

from ladder.models.attention import choose_backend
from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import TOKENIZERS, Tokenizer, load_tokenizer
from ladder.models.weights import find_folder, load_weights, read_config, read_size

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" is CUDA where there is one. InputError for CUDA where there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda was asked for and PyTorch sees none here: take --device cpu or auto")
    return torch.device(name)


def open_checkpoint(
    source: str, *, device: torch.device, precision: str, tokenizer: str | None = None
) -> tuple[GPT2, Tokenizer]:
    """The model in a folder (or of a Hugging Face name) in evaluation mode, and its tokenizer.

    The tokenizer is the one asked for, or the one that the checkpoint names, or GPT-2's where the vocabulary is its.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    attention, _ = choose_backend("auto", device, dtype)
    folder = find_folder(source)
    words = tokenizer_of(folder, tokenizer)
    return load_weights(folder, attention=attention).to(device).eval(), words


def tokenizer_of(folder: Path, asked: str | None = None) -> Tokenizer:
    """The tokenizer asked for, or that a checkpoint's config.json names, or the usual one of its vocabulary."""
    named = (read_config(folder).get("ladder") or {}).get("tokenizer")
    usual = {50257: "gpt2", 257: "bytes"}.get(read_size(folder).vocabulary)
    name = asked or named or usual
    if name is None:
        choices = " or ".join(TOKENIZERS)
        raise InputError(f"checkpoint {folder} names no tokenizer: name it with --tokenizer {choices}")
    return load_tokenizer(str(name))
