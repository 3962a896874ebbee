"""Attention behind one signature: xformers on CUDA, blocks on CPU, PyTorch's own (SDPA) anywhere, and a plain one.

Shapes: B sequences, T query positions, S key positions, H heads, K width of a head.
"""

import importlib
import itertools
import logging
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ladder.models.blocked_attention import attend_in_blocks
from ladder.models.errors import InputError
from ladder.models.sizes import HEAD_WIDTH

BACKENDS = ("xformers", "sdpa", "blocked", "reference")

logger = logging.getLogger(__name__)

_xformers: dict[str, Any] = {}
"""xformers' attention and its causal bias, once `_load_xformers` ran: torch.compile can read them but not make them."""


def self_attend(heads: Tensor, *, backend: str) -> Tensor:
    """Causal attention of queries, keys and values in one tensor [B, T, 3, H, K], scaled by 1/sqrt(K): [B, T, H, K]."""
    if backend == "blocked":
        return attend_in_blocks(heads)
    return attend(*heads.unbind(2), backend=backend)


def attend(q: Tensor, k: Tensor, v: Tensor, *, backend: str, causal: bool = True) -> Tensor:
    """Attention of q [B, T, H, K] over k, v [B, S, H, K], scaled by 1/sqrt(K): [B, T, H, K].

    Causal: query t sees keys up to t, so T and S must be equal. Otherwise every query sees every key.
    """
    assert not causal or q.shape[1] == k.shape[1], f"causal attention of {q.shape[1]} queries over {k.shape[1]} keys"
    if backend == "xformers":
        return _attend_xformers(q, k, v, causal)
    if backend == "reference":
        return _attend_reference(q, k, v, causal)
    if backend == "blocked" and causal:
        return attend_in_blocks(torch.stack((q, k, v), 2))
    assert backend in BACKENDS, f"no attention back end {backend!r}"
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [B, H, T or S, K], no copies
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2)


def _attend_reference(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Softmax(q k^T / sqrt(K)) v as it is written (Vaswani et al. 2017, equation 1), in the precision of q."""
    scores = torch.einsum("bthk,bshk->bhts", q, k) * q.shape[-1] ** -0.5  # [B, H, T, S]
    if causal:
        future = torch.ones_like(scores, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(future, float("-inf"))
    return torch.einsum("bhts,bshk->bthk", scores.softmax(-1, dtype=torch.float32).to(v.dtype), v)


def _attend_xformers(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    output: Tensor = _xformers["attention"](q, k, v, attn_bias=_xformers["causal"] if causal else None)
    return output


def _load_xformers() -> None:
    """Imports xformers, which is built for CUDA alone and so is imported only where it is asked for."""
    fmha = importlib.import_module("xformers.ops.fmha")
    _xformers["attention"] = fmha.memory_efficient_attention
    _xformers["causal"] = fmha.attn_bias.LowerTriangularMask()


def choose_backend(asked: str, device: torch.device, dtype: torch.dtype, *, width: int = HEAD_WIDTH) -> tuple[str, str]:
    """The back end to use for `asked` ("auto" or a name) with heads of a width, and why, in one clause.

    "auto" is xformers on CUDA when its preflight passes, blocks on the CPU and SDPA otherwise; falling back to SDPA on
    CUDA is logged as a warning. A back end asked for by name that cannot run here is an InputError.
    """
    if asked not in ("auto", *BACKENDS):
        raise InputError(f"unknown attention {asked!r}: wanted auto, {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}")
    if asked == "auto":
        return _choose(device, dtype, width)
    refusal = None
    if asked == "blocked" and device.type != "cpu":
        refusal = f"it is made for the CPU and the device is {device.type}"
    if asked == "xformers":
        refusal = xformers_refusal(device, dtype, width)
    if refusal is not None:
        raise InputError(f"attention {asked} cannot run here: {refusal}; ask for sdpa or auto")
    return asked, "asked for by name"


def _choose(device: torch.device, dtype: torch.dtype, width: int) -> tuple[str, str]:
    if device.type == "cpu":
        return "blocked", "it is the fastest on a CPU"
    refusal = xformers_refusal(device, dtype, width)
    if refusal is None:
        return "xformers", "its preflight passed"
    if device.type == "cuda":
        logger.warning("attention falls back to sdpa: %s", refusal)
    return "sdpa", refusal


def xformers_refusal(device: torch.device, dtype: torch.dtype, width: int = HEAD_WIDTH) -> str | None:
    """Why xformers cannot attend forward and backward on `device` in `dtype` with heads of a width; None where it can.

    The import alone proves nothing: a wheel built for another CUDA imports with a warning and then refuses every
    input (facebookresearch/xformers#1388), so a small attention is run through.
    """
    if device.type != "cuda":
        return f"xformers runs on CUDA only and the device is {device.type}"
    try:
        _load_xformers()
        probe = torch.zeros(1, 16, 1, width, device=device, dtype=dtype, requires_grad=True)
        _attend_xformers(probe, probe, probe, causal=True).sum().backward()  # type: ignore[no-untyped-call]
    except (ImportError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        return f"xformers: {type(error).__name__}: {_reasons(str(error)) or 'no message'}"
    return None


def _reasons(message: str) -> str:
    """xformers' message on one line: what it says first, then each operator with why it was refused."""
    lines = [line.strip() for line in message.strip().splitlines()]
    refused = [index for index, line in enumerate(lines) if line.endswith("is not supported because:")]
    operators = (" ".join(lines[start:end]) for start, end in itertools.pairwise([*refused, len(lines)]))
    return "; ".join([*lines[:1], *operators])
