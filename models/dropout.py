"""Dropout whose masks are a function of a seed, a place in the network and nothing else (Srivastava et al. 2014).

A mask is drawn anew from its own seed wherever it is needed, so that a block that is computed again in the backward
pass drops the same, and a run that is resumed needs no random state. Sequences that belong together, such as the
options of one question, share a mask: they are compared with each other, and one that kept other units would differ by
chance alone.
"""

import math

import torch
from torch import Tensor

_SITE_STEP = 0x9E3779B97F4A7C15
"""Added to the seed for each place: 2^64 over the golden ratio, so that seeds of neighbouring places share few bits."""
_LEVELS = 1 << 16
"""A unit is dropped by 16 random bits of its own, four units to a draw: a seventh of the time of Bernoulli draws."""


class Dropout:
    """Drops units of one micro-batch, at any number of places in the network."""

    def __init__(self, share: float, *, seed: int, together: int = 1) -> None:
        """`share` of the units, to 1 / 65,536, are dropped, the others scaled up; `together` sequences in a row share a
        mask."""
        assert 0 < share < 1, f"a share of {share}"
        self.seed, self.together = seed, together
        self.dropped_levels = round(share * _LEVELS)

    def __call__(self, x: Tensor, site: int) -> Tensor:
        """x [B, ...] with units dropped; the mask is that of place `site`, alike for each `together` rows."""
        groups = x.shape[0] // self.together
        mask = self._mask((groups, 1, *x.shape[1:]), x.dtype, x.device, site)
        return (x.view(groups, self.together, *x.shape[1:]) * mask).view_as(x)

    def of_attention(self, heads: Tensor, site: int) -> Tensor:
        """The mask [G, 1, H, T, T] of the probabilities over heads [B, T, 3, H, K], for `together` rows each."""
        batch, length, _, n_head, _ = heads.shape
        return self._mask((batch // self.together, 1, n_head, length, length), heads.dtype, heads.device, site)

    def _mask(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, site: int) -> Tensor:
        """0 for a unit that is dropped, the scale for another."""
        generator = torch.Generator(device).manual_seed((self.seed + site * _SITE_STEP) % 2**63)
        n = math.prod(shape)
        draws = torch.empty(-(-n // 4), dtype=torch.int64, device=device).random_(-(2**63), None, generator=generator)
        mask = torch.empty(n, dtype=dtype, device=device)
        torch.ge(draws.view(torch.int16)[:n], self.dropped_levels - _LEVELS // 2, out=mask)
        return mask.mul_(_LEVELS / (_LEVELS - self.dropped_levels)).view(shape)
