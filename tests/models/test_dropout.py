"""Dropout drops what it says, the same wherever it is drawn again."""

import random

import pytest
import torch

from ladder.models.dropout import Dropout


def test_it_drops_its_share_and_keeps_the_mean() -> None:
    x = torch.ones(4, 100, 250)
    dropped = Dropout(0.1, seed=1)(x, 0)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.9], rel=1e-4)
    assert abs((dropped == 0).float().mean() - 0.1) < 0.005 and abs(dropped.mean() - 1) < 0.006


@pytest.mark.parametrize("share", [0.1, 0.002, 0.9])
def test_the_share_is_exact_on_average_over_masks(share: float) -> None:
    """A mask alone drops a whole number of 256ths; 2,000 of them come within four standard errors of the share."""
    x, draw = torch.ones(1, 1000), random.Random(1)
    masks = [Dropout(share, seed=draw.getrandbits(63))(x, site % 7) for site in range(2000)]
    dropped = (torch.stack(masks) == 0).float().mean()
    assert abs(dropped - share) < 4 * (share * (1 - share) / 2_000_000) ** 0.5 + 4 / 256 / 2 / 2000**0.5


def test_a_mask_follows_seed_and_place_alone() -> None:
    x = torch.ones(4, 50, 50)
    drop = Dropout(0.5, seed=7)
    first, other = drop(x, 3), drop(x, 4)
    assert torch.equal(drop(x, 3), first) and torch.equal(Dropout(0.5, seed=7)(x, 3), first)
    assert not torch.equal(first, other) and not torch.equal(Dropout(0.5, seed=8)(x, 3), first)
    assert abs(((first == 0) & (other == 0)).float().mean() - 0.25) < 0.03, "places drop independently"


def test_sequences_that_belong_together_share_a_mask() -> None:
    dropped = Dropout(0.5, seed=7, together=2)(torch.ones(4, 50, 50), 0)
    assert torch.equal(dropped[0], dropped[1]) and torch.equal(dropped[2], dropped[3])
    assert not torch.equal(dropped[0], dropped[2])
