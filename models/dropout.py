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
_LEVELS = 256
"""A unit is dropped by a byte of its own, eight units to a draw: a tenth of the time of Bernoulli draws."""


class Dropout:
    """Drops units of one micro-batch, at any number of places in the network."""

    def __init__(self, share: float, *, seed: int, together: int = 1) -> None:
        """`share` of the units are dropped, the others scaled up; `together` sequences in a row share a mask."""
        assert 0 < share < 1, f"a share of {share}"
        self.share, self.seed, self.together = share, seed, together

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
        """0 for a unit that is dropped, the scale for another.

        A byte tells shares apart by 1 / 256 only. So the share of one mask is rounded down or up, by its seed, as often
        as makes each unit's chance exact: .1 is 25 or 26 of 256.
        """
        n, seed = math.prod(shape), (self.seed + site * _SITE_STEP) % 2**63
        dropped = int(self.share * _LEVELS + seed / 2**63)
        mask = torch.empty(n, dtype=dtype, device=device)
        torch.ge(_draw(-(-n // 8), device, seed).view(torch.int8)[:n], dropped - _LEVELS // 2, out=mask)
        return mask.mul_(1 / (1 - self.share)).view(shape)


def _draw(n: int, device: torch.device, seed: int) -> Tensor:
    """n draws of 64 random bits, int64. On a CPU NumPy's SFC64 takes half the time of torch's Mersenne Twister."""
    if device.type == "cpu":
        import numpy as np  # here, so that `make bench-gpu` runs where there is torch and nothing else

        draws = np.random.Generator(np.random.SFC64(seed)).integers(0, 1 << 64, n, dtype=np.uint64)
        return torch.from_numpy(draws.view(np.int64))
    generator = torch.Generator(device).manual_seed(seed)
    return torch.empty(n, dtype=torch.int64, device=device).random_(-(1 << 63), None, generator=generator)
