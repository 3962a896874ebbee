"""A split's tokens as one stream over its shards, read by memory map where they are on this machine's file system.

A shard of remote storage is read from this machine's copy of it, which is made when a token in it is first read, and
again where it had to make room for others since.
"""

import os
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from upath import UPath

from ladder.platform.corpus.shard_cache import opened_shard


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of tokens."""

    name: str
    """File name in the corpus' folder."""
    tokens: int
    """Tokens in it."""
    sha256: str
    """sha256 (hex) of its bytes."""


class TokenStream:
    """The tokens of one split, over all its shards. It pickles as its place, not its tokens."""

    def __init__(self, folder: UPath, shards: tuple[Shard, ...], dtype: str) -> None:
        self.n_tokens = sum(shard.tokens for shard in shards)
        self._folder = folder
        self._shards = shards
        self._dtype = np.dtype(dtype)
        self._starts = np.array([0, *accumulate(shard.tokens for shard in shards)])  # [shards + 1]
        self._maps: dict[int, npt.NDArray[Any]] = {}

    def read(self, start: int, n: int) -> npt.NDArray[np.int64]:
        """Tokens start to start + n, int64 [n], across shard borders."""
        assert 0 <= start and 0 <= n and start + n <= self.n_tokens, f"{start} + {n} tokens of {self.n_tokens}"
        tokens = np.empty(n, dtype=np.int64)
        index = int(np.searchsorted(self._starts, start, side="right")) - 1
        done = 0
        while done < n:
            begin = start + done - int(self._starts[index])
            piece = self._piece(index, begin, n - done)
            tokens[done : done + len(piece)] = piece
            done += len(piece)
            index += 1
        return tokens

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_maps": {}}

    def _piece(self, index: int, begin: int, n: int) -> npt.NDArray[Any]:
        """Up to n tokens of a shard, as they are stored."""
        shard = self._shards[index]
        folder = local_path(self._folder)
        if folder is not None:
            return self._map(index, folder / shard.name)[begin : begin + n]
        size = self._dtype.itemsize
        with opened_shard(self._folder / shard.name, sha256=shard.sha256, n_bytes=shard.tokens * size) as file:
            # No map: one that is kept would keep the copy's place on the disk.
            return np.frombuffer(os.pread(file.fileno(), n * size, begin * size), dtype=self._dtype)

    def _map(self, index: int, path: Path) -> npt.NDArray[Any]:
        if index not in self._maps:
            # A plain array over the map: np.memmap's own class costs a few microseconds at every slice.
            self._maps[index] = np.asarray(np.memmap(path, dtype=self._dtype, mode="r"))
        return self._maps[index]


def local_path(path: UPath) -> Path | None:
    """The path on this machine's file system; None if it is elsewhere."""
    return Path(path.path) if path.protocol in ("", "file", "local") else None
