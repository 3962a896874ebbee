"""What a model remembers while it generates: the keys and values of the positions it has read."""

import torch
from torch import Tensor


class KeyValueCache:
    """Keys and values of every layer, each [B, positions, H, K]; empty at first, grown by `extend`."""

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def n_positions(self) -> int:
        """Positions read so far."""
        return self._layers[0][0].shape[1] if self._layers else 0

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Appends the new positions' k, v [B, T, H, K] to those of `layer`, and gives all of them back."""
        if layer in self._layers:
            past_k, past_v = self._layers[layer]
            k, v = torch.cat((past_k, k), 1), torch.cat((past_v, v), 1)
        self._layers[layer] = k, v
        return k, v
