"""A checkpoint to score or sample from: its model on a device, and the tokenizer it was trained with."""

from pathlib import Path

import torch

from ladder.models.attention import choose_backend
from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import TOKENIZERS, Tokenizer, load_tokenizer
from ladder.models.weights import load_weights, read_config

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
    model = load_weights(source, attention=attention).to(device).eval()
    name = tokenizer or _named_tokenizer(source) or _usual_tokenizer(model.size.vocabulary)
    if name is None:
        choices = " or ".join(TOKENIZERS)
        raise InputError(f"checkpoint {source} names no tokenizer: name it with --tokenizer {choices}")
    return model, load_tokenizer(name)


def _named_tokenizer(source: str) -> str | None:
    """The tokenizer that a folder's config.json names; None where it names none or the source is no folder."""
    if not Path(source).is_dir():
        return None
    named = (read_config(source).get("ladder") or {}).get("tokenizer")
    return str(named) if named is not None else None


def _usual_tokenizer(vocabulary: int) -> str | None:
    return {50257: "gpt2", 257: "bytes"}.get(vocabulary)
