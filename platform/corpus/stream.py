"""A split's tokens as one stream over its shards, read by memory map.

Shards of remote storage are copied to a local cache, each when first touched, checked by sha256 and kept under the
corpus' fingerprint, so that a rebuilt corpus never meets the old one's shards.
"""

import errno
import hashlib
import os
import tempfile
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from upath import UPath

from ladder.models.errors import InputError

CHUNK_BYTES = 1 << 22


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

    def __init__(self, folder: UPath, shards: tuple[Shard, ...], dtype: str, fingerprint: str) -> None:
        self.n_tokens = sum(shard.tokens for shard in shards)
        self._folder = folder
        self._shards = shards
        self._dtype = np.dtype(dtype)
        self._fingerprint = fingerprint
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
            piece = self._map(index)[begin : begin + n - done]
            tokens[done : done + len(piece)] = piece
            done += len(piece)
            index += 1
        return tokens

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_maps": {}}

    def _map(self, index: int) -> npt.NDArray[Any]:
        if index not in self._maps:
            path = local_path(self._folder) or self._cache_folder()
            shard = self._shards[index]
            if local_path(self._folder) is None:
                _copy_shard(self._folder / shard.name, path / shard.name, shard)
            # A plain array over the map: np.memmap's own class costs a few microseconds at every slice.
            self._maps[index] = np.asarray(np.memmap(path / shard.name, dtype=self._dtype, mode="r"))
        return self._maps[index]

    def _cache_folder(self) -> Path:
        root = os.environ.get("LADDER_CACHE") or Path.home() / ".cache" / "ladder"
        return Path(root) / "corpora" / self._fingerprint


def local_path(path: UPath) -> Path | None:
    """The path on this machine's file system; None if it is elsewhere."""
    return Path(path.path) if path.protocol in ("", "file", "local") else None


def _copy_shard(remote: UPath, local: Path, shard: Shard) -> None:
    """Copies a shard unless it is there. It gets its name only when whole, so many workers may copy at once."""
    if local.exists():
        return
    try:
        local.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(dir=local.parent, prefix=f".{shard.name}.")
        try:
            digest = hashlib.sha256()
            with os.fdopen(descriptor, "wb") as target, remote.open("rb") as source:
                while chunk := source.read(CHUNK_BYTES):
                    digest.update(chunk)
                    target.write(chunk)
            if digest.hexdigest() != shard.sha256:
                raise InputError(f"shard {remote} is not as recorded in corpus.json; copy or build the corpus again")
            os.replace(part, local)
        except BaseException:
            os.unlink(part)
            raise
    except FileNotFoundError as error:
        raise InputError(f"shard {remote} is missing; copy or build the corpus again") from error
    except OSError as error:
        full = "no space left for" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "cannot write"
        raise InputError(f"{full} the cache of shards {local.parent}; set LADDER_CACHE to another folder") from error
