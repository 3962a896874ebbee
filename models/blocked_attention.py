"""Causal attention for CPUs, in blocks of queries that each read only the keys they may see.

PyTorch's CPU flash attention takes up to two fifths of a small model's training step. Plain batched matrix products,
which oneDNN runs at the processor's full bf16 rate, take about 0.4 of its time at 256 tokens in bf16. The price is
memory: the probabilities are kept for the backward pass, B H T (T + C) / 2 numbers a layer.

Shapes: B sequences, T tokens, H heads, K width of a head, N = B H, C queries of a block, S keys that a block sees.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 64
"""Queries whose scores are taken at once, and of a block in fp32: of 32, 64 and 128 the fastest at contexts of 256 and
1024."""

BF16_BLOCK = 256
"""Queries of a block in bf16, where products with the zeros above the diagonal cost less than more and smaller ones:
with 64 queries the gradient of the values took 5.4 ms of a core, with 256 0.9 (AMX, N 64, T 256, K 64)."""


def attend_in_blocks(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Causal attention of q over k, v, each [B, T, H, K], scaled by 1/sqrt(K): [B, T, H, K]; first derivative only.

    With a mask [G, 1, H, T, T] the probabilities are multiplied by it, that of a group by each of its B / G sequences.
    """
    output: Tensor = _BlockedAttention.apply(q, k, v, mask)  # type: ignore[no-untyped-call]
    return output


class _BlockedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            q, k, v, batch = _fold(q), _fold(k), _fold(v), q.shape[0]
            probabilities = list(_probabilities(q, k))
            output = torch.empty_like(q)
            for p in probabilities:
                end = p.shape[2]
                torch.bmm(_masked(p, mask), v[:, :end], out=output[:, end - p.shape[1] : end])
        ctx.batch, ctx.mask = batch, mask
        ctx.save_for_backward(q, k, v, *probabilities)
        return _unfold(output, batch)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, *probabilities = ctx.saved_tensors
        grad = _fold(grad)
        grad_q = torch.empty_like(q)
        grad_k, grad_v = torch.zeros_like(k, dtype=torch.float32), torch.zeros_like(v, dtype=torch.float32)
        for p in probabilities:
            end = p.shape[2]
            rows = slice(end - p.shape[1], end)
            grad_p = _masked(torch.bmm(grad[:, rows], v[:, :end].transpose(1, 2)), ctx.mask)  # [N, C, S]
            grad_scores = torch._softmax_backward_data(grad_p, p, -1, p.dtype)
            torch.bmm(grad_scores, k[:, :end], out=grad_q[:, rows])
            _add_bmm_(grad_k[:, :end], grad_scores.transpose(1, 2), q[:, rows])
            _add_bmm_(grad_v[:, :end], _masked(p, ctx.mask).transpose(1, 2), grad[:, rows])
        scale = q.shape[2] ** -0.5
        gradients = grad_q.mul_(scale), grad_k.mul_(scale).to(k.dtype), grad_v.to(v.dtype)
        grad_q, grad_k, grad_v = (_unfold(x, ctx.batch) for x in gradients)
        return grad_q, grad_k, grad_v, None


def _masked(p: Tensor, mask: Tensor | None) -> Tensor:
    """p [N, C, S] of the queries before S, times the mask [G, 1, H, T, T] of their group and head."""
    if mask is None:
        return p
    groups, _, heads, _, _ = mask.shape
    rows, end = p.shape[1:]
    return (p.view(groups, -1, heads, rows, end) * mask[..., end - rows : end, :end]).view_as(p)


def _add_bmm_(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Adds a @ b to a float32 total; in float32 within the product itself."""
    if a.dtype is torch.float32:
        total.baddbmm_(a, b)
    else:
        total += torch.bmm(a, b)


def _probabilities(q: Tensor, k: Tensor) -> Iterator[Tensor]:
    """softmax(q k^T / sqrt(K)) of each block of queries over the keys it sees: [N, C, S].

    Scores and softmax are float32, as in the fused kernels: in bf16 the rounding of a score of 8 alone moves its
    probability by 3 %.
    """
    scores_q, scores_k = q.float() * q.shape[2] ** -0.5, k.float()
    rows = block_of(q.dtype)
    for start in range(0, q.shape[1], rows):
        end = min(start + rows, q.shape[1])
        if end - start <= BLOCK:
            yield _softmax(scores_q, scores_k, start, end).to(q.dtype)
            continue
        probabilities = q.new_zeros(q.shape[0], end - start, end)
        for first in range(start, end, BLOCK):
            last = min(first + BLOCK, end)
            probabilities[:, first - start : last - start, :last] = _softmax(scores_q, scores_k, first, last)
        yield probabilities


def _softmax(scores_q: Tensor, scores_k: Tensor, start: int, end: int) -> Tensor:
    """Probabilities of the queries from start to end over the keys before end: float32 [N, end - start, end]."""
    scores = torch.bmm(scores_q[:, start:end], scores_k[:, :end].transpose(1, 2))
    scores[:, :, start:] += torch.full((end - start, end - start), float("-inf")).triu(1)
    return scores.softmax(-1)


def block_of(dtype: torch.dtype) -> int:
    """Queries of a block in a precision."""
    return BF16_BLOCK if dtype is torch.bfloat16 else BLOCK


def _fold(x: Tensor) -> Tensor:
    """[B, T, H, K] to [N, T, K]."""
    return x.transpose(1, 2).flatten(0, 1).contiguous()


def _unfold(x: Tensor, batch: int) -> Tensor:
    """[N, T, K] to [B, T, H, K]."""
    return x.view(batch, -1, *x.shape[1:]).transpose(1, 2)
