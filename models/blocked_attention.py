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


def attend_in_blocks(heads: Tensor, mask: Tensor | None = None) -> Tensor:
    """Causal attention of queries, keys and values [B, T, 3, H, K], scaled by 1/sqrt(K): [B, T, H, K]; first derivative
    only. They come in one tensor since their gradients go back in one, without a pass that puts three together.

    With a mask [G, 1, H, T, T] the probabilities are multiplied by it, that of a group by each of its B / G sequences.
    """
    output: Tensor = _BlockedAttention.apply(heads, mask)  # type: ignore[no-untyped-call]
    return output


class _BlockedAttention(torch.autograd.Function):
    """Every product has a result of its own: into a part of a larger tensor PyTorch multiplies float32 one sequence and
    head after another, on one core."""

    @staticmethod
    def forward(ctx: Any, heads: Tensor, mask: Tensor | None) -> Tensor:
        output = torch.empty_like(heads[:, :, 0], memory_format=torch.contiguous_format)
        with torch.autocast("cpu", enabled=False):
            q, k, v = (_fold(x) for x in heads.unbind(2))
            probabilities = list(_probabilities(q, k))
            for p in probabilities:
                _write_rows(output[:, _rows_of(p)], torch.bmm(_masked(p, mask), v[:, : p.shape[2]]))
        ctx.mask = mask
        ctx.save_for_backward(q, k, v, *probabilities)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        q, k, v, *probabilities = ctx.saved_tensors
        batch, length, n_head, width = grad.shape
        gradient = grad.new_empty(batch, length, 3, n_head, width)
        grad, scale = _fold(grad), width**-0.5
        grad_k: Tensor | None = None
        grad_v: Tensor | None = None
        for p in reversed(probabilities):  # the last one sees all keys
            rows, end = _rows_of(p), p.shape[2]
            grad_p = _mask_(torch.bmm(grad[:, rows], v[:, :end].transpose(1, 2)), ctx.mask)  # [N, C, S]
            grad_scores = torch._softmax_backward_data(grad_p, p, -1, p.dtype)
            _write_rows(gradient[:, rows, 0], torch.bmm(grad_scores, k[:, :end]).mul_(scale))
            grad_k = _add(grad_k, torch.bmm(grad_scores.transpose(1, 2), q[:, rows]))
            grad_v = _add(grad_v, torch.bmm(_mask_(p, ctx.mask).transpose(1, 2), grad[:, rows]))
        assert grad_k is not None and grad_v is not None, "attention of no queries"
        _write_rows(gradient[:, :, 1], grad_k.mul_(scale))
        _write_rows(gradient[:, :, 2], grad_v)
        return gradient, None


def _masked(p: Tensor, mask: Tensor | None) -> Tensor:
    """p [N, C, S] of a block times the mask [G, 1, H, T, T] of their group, head and queries."""
    return p if mask is None else torch.mul(*_beside(p, mask)).view_as(p)


def _mask_(p: Tensor, mask: Tensor | None) -> Tensor:
    """`_masked` in place: of what is not needed without the mask any more."""
    if mask is not None:
        values, of_block = _beside(p, mask)
        values.mul_(of_block)
    return p


def _beside(p: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """p by group and head [G, B / G, H, C, S], and the part of the mask that it meets."""
    groups, _, n_head, _, _ = mask.shape
    return p.view(groups, -1, n_head, *p.shape[1:]), mask[..., _rows_of(p), : p.shape[2]]


def _rows_of(probabilities: Tensor) -> slice:
    """The queries of a block [N, C, S], which sees the keys before its last one."""
    end = probabilities.shape[2]
    return slice(end - probabilities.shape[1], end)


def _write_rows(rows: Tensor, block: Tensor) -> None:
    """Write a block [N, C, K] into rows [B, C, H, K]."""
    rows.copy_(block.view(rows.shape[0], rows.shape[2], *block.shape[1:]).transpose(1, 2))


def _add(total: Tensor | None, part: Tensor) -> Tensor:
    """Adds [N, S, K] of the first S keys to a float32 total of all; the first part is one of all keys."""
    if total is None:
        return part.float()
    total[:, : part.shape[1]] += part
    return total


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
