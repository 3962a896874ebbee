"""Continuations that share a context, computed as branches of one sequence.

Ten candidates after one context of 300 tokens would cost ten contexts. Here the context (the trunk) and the candidates
stand in one sequence; each candidate takes the positions that follow the trunk and sees the trunk and itself only:

    tokens       t t t t a a b b b c      trunk t, continuations a, b, c
    positions    0 1 2 3 4 5 4 5 6 4
    b's 2nd sees x x x x . . x x . .

It walks GPT2's own blocks, since attention in `ladder.models.attention` knows no mask but the causal one.

Shapes: B sequences of at most S tokens, H heads, K width of a head, D = H K.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ladder.models.gpt2 import GPT2, Block


@dataclass(frozen=True, kw_only=True)
class Branches:
    """A trunk and the continuations that follow it."""

    trunk: tuple[int, ...]
    """Tokens of the context, at least one."""
    ends: tuple[tuple[int, ...], ...]
    """Tokens of each continuation, at least one; the last of each is predicted and never an input."""

    @property
    def length(self) -> int:
        """Tokens to be computed."""
        return len(self.trunk) + sum(len(end) - 1 for end in self.ends)

    @cached_property
    def tokens(self) -> list[int]:
        """The sequence [S]: the trunk, then each continuation without its last token."""
        return [*self.trunk, *(token for end in self.ends for token in end[:-1])]

    @cached_property
    def owners(self) -> np.ndarray:
        """Which continuation each token belongs to [S], counted from 1; 0 is the trunk."""
        return np.repeat(np.arange(len(self.ends) + 1), [len(self.trunk), *(len(end) - 1 for end in self.ends)])

    @cached_property
    def positions(self) -> np.ndarray:
        """The place of each token in its own text [S]."""
        spans = [np.arange(len(self.trunk))]
        return np.concatenate([*spans, *(len(self.trunk) + np.arange(len(end) - 1) for end in self.ends)])

    @property
    def scored(self) -> np.ndarray:
        """Where the hidden states stand that predict the continuations' tokens, one continuation after the other."""
        spans, start = [], len(self.trunk)
        for end in self.ends:
            spans += [np.array([len(self.trunk) - 1]), np.arange(start, start + len(end) - 1)]
            start += len(end) - 1
        return np.concatenate(spans).astype(np.int64)


def branches_hidden(model: GPT2, branches: Sequence[Branches], device: torch.device) -> Tensor:
    """Hidden states [B, S, D] of each row's tokens, as `GPT2.hidden` would give them for each continuation alone."""
    tokens = pad_rows([branch.tokens for branch in branches]).to(device)
    positions = pad_rows([branch.positions for branch in branches]).to(device)
    mask = _mask(branches, tokens.shape[1]).to(device)
    x = model.wte(tokens) + model.wpe(positions)  # [B, S, D]
    for block in model.h:
        x = _run_block(cast(Block, block), x, mask)
    y: Tensor = model.ln_f(x)
    return y


def pad_rows(rows: Sequence[Sequence[int] | np.ndarray]) -> Tensor:
    """Rows of tokens as one tensor [B, longest], zeros on the right, where a causal model does not look."""
    padded = np.zeros((len(rows), max(len(row) for row in rows)), dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return torch.from_numpy(padded)


def _mask(branches: Sequence[Branches], width: int) -> Tensor:
    """Who sees whom [B, 1, S, S] bool: earlier tokens of the trunk and of one's own branch. Padding sees the trunk."""
    owners = np.full((len(branches), width), -1)
    for index, branch in enumerate(branches):
        owners[index, : branch.length] = branch.owners
    owner = torch.from_numpy(owners)
    same = (owner[:, None, :] == 0) | (owner[:, None, :] == owner[:, :, None])  # [B, S, S]
    return (same & torch.ones(width, width, dtype=torch.bool).tril()).unsqueeze(1)


def _run_block(block: Block, x: Tensor, mask: Tensor) -> Tensor:
    """`Block.forward` with a mask: x [B, S, D] to [B, S, D]."""
    heads = block.attn.c_attn(block.ln_1(x)).unflatten(-1, (3, block.attn.n_head, -1))  # [B, S, 3, H, K]
    q, k, v = (part.transpose(1, 2) for part in heads.unbind(2))  # [B, H, S, K]
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    x = x + block.attn.c_proj(y.transpose(1, 2).flatten(2))
    z: Tensor = x + block.mlp(block.ln_2(x))
    return z
