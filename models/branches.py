"""Continuations that share a context: the context (the trunk) is computed once, each continuation is a branch of it.

Ten candidates after a context of 300 tokens would cost ten contexts. Here the trunk runs through the network once and
every branch only for its own tokens, which attend to the trunk's keys and to the branch's own:

    trunk        t t t t                a's first token is predicted from the last t
    branch a             a a            positions 4 5, sees all t and earlier a
    branch b             b b b          positions 4 5 6, sees all t and earlier b

In the last block nothing reads the trunk any more but its last token's successors, so only that token goes through it;
of the others only keys and values are made. A single continuation is a tree of one branch, and gains by that alone.

It walks GPT2's own blocks, since attention in `ladder.models.attention` knows no mask but the causal one.

Shapes: B trees, T tokens of the longest trunk, N branches of each, L tokens of the longest branch, H heads, K width of
a head, D = H K, M scored tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ladder.models.attention import attend
from ladder.models.gpt2 import GPT2, Block


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A trunk and the continuations that follow it."""

    trunk: tuple[int, ...]
    """Tokens of the context, at least one."""
    ends: tuple[tuple[int, ...], ...]
    """Tokens of each continuation, at least one; the last of each is predicted and never an input."""

    @property
    def width(self) -> int:
        """Input tokens of the longest branch, at least one."""
        return max(1, *(len(end) - 1 for end in self.ends))

    @property
    def n_tokens(self) -> int:
        """Tokens to be computed, padding of the branches included."""
        return len(self.trunk) + len(self.ends) * self.width


def branch_hidden(model: GPT2, trees: Sequence[Tree], device: torch.device) -> Tensor:
    """Hidden states [M, D] that predict the continuations' tokens, end after end, tree after tree.

    As `GPT2.hidden` gives them for each continuation alone. The trees have equally many ends.
    """
    trunks = pad_rows([tree.trunk for tree in trees]).to(device)  # [B, T]
    lengths = torch.tensor([len(tree.trunk) for tree in trees], device=device)  # [B]
    ends = pad_rows([end[:-1] for tree in trees for end in tree.ends]).to(device)
    ends = ends.view(len(trees), -1, ends.shape[1])  # [B, N, L]
    positions = lengths[:, None] + torch.arange(ends.shape[2], device=device)  # [B, L]
    positions = positions.clamp(max=model.size.context - 1)  # where only padding stands
    is_padding = torch.arange(trunks.shape[1], device=device) >= lengths[:, None]  # [B, T]
    x = model.wte(trunks) + model.wpe.weight[: trunks.shape[1]]  # [B, T, D]
    y = model.wte(ends) + model.wpe(positions)[:, None]  # [B, N, L, D]
    *blocks, last_block = cast(list[Block], list(model.h))
    for block in blocks:
        x, y = _run_block(block, x, y, is_padding)
    x, y = _run_last_block(last_block, x, y, lengths, is_padding)
    states = torch.cat([x, y.flatten(0, 2)])  # [B + B N L, D]
    scored: Tensor = model.ln_f(states[torch.from_numpy(_scored(trees, ends.shape[2])).to(device)])
    return scored


def pad_rows(rows: Sequence[Sequence[int] | np.ndarray]) -> Tensor:
    """Rows of tokens as one tensor [B, longest or 1], zeros on the right, where a causal model does not look."""
    padded = np.zeros((len(rows), max(1, *(len(row) for row in rows))), dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return torch.from_numpy(padded)


def _scored(trees: Sequence[Tree], end_width: int) -> np.ndarray:
    """Where the scored states stand [M] among the trunks' last ones [B] followed by all branches' [B N L]."""
    spans = []
    branch = len(trees)
    for trunk, tree in enumerate(trees):
        for end in tree.ends:
            spans += [np.array([trunk]), np.arange(branch, branch + len(end) - 1)]  # the trunk predicts the first token
            branch += end_width
    return np.concatenate(spans)


def _run_block(block: Block, x: Tensor, y: Tensor, is_padding: Tensor) -> tuple[Tensor, Tensor]:
    """`Block.forward` of trunks x [B, T, D] and of the branches y [B, N, L, D] that see them."""
    q, k, v = _heads(block, x)
    attended = attend(q, k, v, backend=block.attn.backend)
    return _end_block(block, x, attended), _run_branches(block, y, k, v, is_padding)


def _run_last_block(block: Block, x: Tensor, y: Tensor, lengths: Tensor, is_padding: Tensor) -> tuple[Tensor, Tensor]:
    """The same, but of each trunk only its last token [B, D]."""
    width = x.shape[-1]
    c_attn = block.attn.c_attn
    weight, bias = c_attn.weight[width:], c_attn.bias[width:]  # of keys and values
    k, v = F.linear(block.ln_1(x), weight, bias).view(*x.shape[:-1], 2, block.attn.n_head, -1).unbind(-3)
    last = x[torch.arange(len(x), device=x.device), lengths - 1]  # [B, D]
    q = _heads(block, last)[0]  # [B, H, K]
    scores = torch.einsum("bhk,bthk->bht", q, k).masked_fill(is_padding[:, None, :], float("-inf"))
    shares = (scores * q.shape[-1] ** -0.5).softmax(-1, dtype=torch.float32).to(v.dtype)
    attended = torch.einsum("bht,bthk->bhk", shares, v)
    return _end_block(block, last, attended), _run_branches(block, y, k, v, is_padding)


def _run_branches(block: Block, y: Tensor, trunk_k: Tensor, trunk_v: Tensor, is_padding: Tensor) -> Tensor:
    attended = _attend_branches(*_heads(block, y), trunk_k, trunk_v, is_padding)
    return _end_block(block, y, attended)


def _end_block(block: Block, x: Tensor, attended: Tensor) -> Tensor:
    """The block's output of its input x [..., D] and what attention gave [..., H, K]."""
    x = x + block.attn.c_proj(attended.flatten(-2))
    output: Tensor = x + block.mlp(block.ln_2(x))
    return output


def _heads(block: Block, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [..., H, K] of x [..., D]."""
    projected: Tensor = block.attn.c_attn(block.ln_1(x))
    q, k, v = projected.view(*x.shape[:-1], 3, block.attn.n_head, -1).unbind(-3)
    return q, k, v


def _attend_branches(q: Tensor, k: Tensor, v: Tensor, trunk_k: Tensor, trunk_v: Tensor, is_padding: Tensor) -> Tensor:
    """Attention of branches' q, k, v [B, N, L, H, K] over their trunk's keys [B, T, H, K] and their own earlier ones.

    One softmax over both parts, in float32; the trunk's keys are not copied for each branch.
    """
    far = torch.einsum("bnlhk,bthk->bhnlt", q, trunk_k)
    near = torch.einsum("bnlhk,bnmhk->bhnlm", q, k)
    far = far.masked_fill(is_padding[:, None, None, None, :], float("-inf"))
    near = near.masked_fill(torch.ones_like(near[0, 0, 0], dtype=torch.bool).triu(1), float("-inf"))
    scores = torch.cat([far, near], -1) * q.shape[-1] ** -0.5
    shares = scores.softmax(-1, dtype=torch.float32).to(v.dtype)  # [B, H, N, L, T + L]
    far, near = shares.split([far.shape[-1], near.shape[-1]], -1)
    return torch.einsum("bhnlt,bthk->bnlhk", far, trunk_v) + torch.einsum("bhnlm,bnmhk->bnlhk", near, v)
