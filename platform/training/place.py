"""Where a training process stands."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where this process stands among the workers of its run."""

    device: torch.device
    """The processor that it trains on."""
    rank: int = 0
    """Its number, from 0."""
    world: int = 1
    """How many workers the run has."""
