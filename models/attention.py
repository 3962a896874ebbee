"""Attention behind one signature: xformers on CUDA, PyTorch's own (SDPA) anywhere, and a plain one to compare with.

Shapes: B sequences, T query positions, S key positions, H heads, K width of a head.
"""

import importlib
import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ladder.models.errors import InputError

BACKENDS = ("xformers", "sdpa", "reference")

logger = logging.getLogger(__name__)


def attend(q: Tensor, k: Tensor, v: Tensor, *, backend: str, causal: bool = True) -> Tensor:
    """Attention of q [B, T, H, K] over k, v [B, S, H, K], scaled by 1/sqrt(K): [B, T, H, K].

    Causal: query t sees keys up to t, so T and S must be equal. Otherwise every query sees every key.
    """
    assert not causal or q.shape[1] == k.shape[1], f"causal attention of {q.shape[1]} queries over {k.shape[1]} keys"
    if backend == "sdpa":
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [B, H, T or S, K], no copies
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2)
    if backend == "xformers":
        return _attend_xformers(q, k, v, causal)
    assert backend == "reference", f"no attention back end {backend!r}"
    return _attend_reference(q, k, v, causal)


def _attend_reference(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Softmax(q k^T / sqrt(K)) v as it is written (Vaswani et al. 2017, equation 1), in the precision of q."""
    scores = torch.einsum("bthk,bshk->bhts", q, k) * q.shape[-1] ** -0.5  # [B, H, T, S]
    if causal:
        future = torch.ones_like(scores, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(future, float("-inf"))
    return torch.einsum("bhts,bshk->bthk", scores.softmax(-1, dtype=torch.float32).to(v.dtype), v)


@cache
def _fmha() -> Any:
    """xformers' attention module; imported only when it is asked for, since it is built for CUDA alone."""
    return importlib.import_module("xformers.ops.fmha")


@cache
def _causal_bias() -> Any:
    return _fmha().attn_bias.LowerTriangularMask()


def _attend_xformers(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    output: Tensor = _fmha().memory_efficient_attention(q, k, v, attn_bias=_causal_bias() if causal else None)
    return output


def choose_backend(asked: str, device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """The back end to use for `asked` ("auto" or a name) and why, in one clause.

    "auto" is xformers on CUDA when its preflight passes and SDPA otherwise; the fall-back on CUDA is logged as a
    warning. A back end asked for by name that cannot run here is an InputError.
    """
    if asked not in ("auto", *BACKENDS):
        raise InputError(f"unknown attention {asked!r}: wanted auto, {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}")
    if asked in ("sdpa", "reference"):
        return asked, "asked for by name"
    if asked == "auto" and device.type != "cuda":
        return "sdpa", f"xformers runs on CUDA only and the device is {device.type}"
    refusal = xformers_refusal(device, dtype)
    if refusal is None:
        return "xformers", "its preflight passed" if asked == "auto" else "asked for by name"
    if asked == "xformers":
        raise InputError(f"attention xformers cannot run here: {refusal}; use --attention sdpa or auto")
    logger.warning("attention falls back to sdpa: %s", refusal)
    return "sdpa", refusal


def xformers_refusal(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why xformers cannot attend forward and backward on `device` in `dtype`; None where it can.

    The import alone proves nothing: a wheel built for another CUDA imports with a warning and then refuses every
    input (facebookresearch/xformers#1388), so a small attention is run through.
    """
    if device.type != "cuda":
        return f"it runs on CUDA only and the device is {device.type}"
    try:
        probe = torch.zeros(1, 16, 1, 64, device=device, dtype=dtype, requires_grad=True)
        _attend_xformers(probe, probe, probe, causal=True).sum().backward()  # type: ignore[no-untyped-call]
    except (ImportError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        return f"xformers {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else 'no message'}"
    return None
