"""What a build writes as it goes: the shards of a split, and the hashes that tell how many documents came twice."""

import hashlib
import tempfile
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
from upath import UPath

from ladder.platform.corpus.blocks import HASH_BYTES
from ladder.platform.corpus.staging import flush_to_disk
from ladder.platform.corpus.stream import Shard

HASHES_IN_MEMORY = 1 << 25


class ShardWriter:
    """Writes a split's tokens to files `<split>-00000.bin` and on, of `shard_tokens` tokens but for the last."""

    def __init__(self, folder: UPath, split: str, itemsize: int, shard_tokens: int) -> None:
        self._folder = folder
        self._split = split
        self._itemsize = itemsize
        self._shard_bytes = shard_tokens * itemsize
        self._shards: list[Shard] = []
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256()
        self._n_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, tokens: bytes) -> None:
        """Appends tokens; a document may go on in the next shard, so that borders depend on nothing but the count."""
        rest = memoryview(tokens)
        while len(rest):
            if self._file is None:
                self._file = (self._folder / self._next_name()).open("wb")
            piece = rest[: self._shard_bytes - self._n_bytes]
            self._file.write(piece)
            self._digest.update(piece)
            self._n_bytes += len(piece)
            rest = rest[len(piece) :]
            if self._n_bytes == self._shard_bytes:
                self._end_shard(self._file)

    def finish(self) -> tuple[Shard, ...]:
        """Ends the last shard; all shards, in order."""
        if self._file is not None:
            self._end_shard(self._file)
        return tuple(self._shards)

    def _next_name(self) -> str:
        return f"{self._split}-{len(self._shards):05d}.bin"

    def _end_shard(self, file: IO[bytes]) -> None:
        flush_to_disk(file)
        file.close()
        tokens = self._n_bytes // self._itemsize
        self._shards.append(Shard(name=self._next_name(), tokens=tokens, sha256=self._digest.hexdigest()))
        self._file, self._digest, self._n_bytes = None, hashlib.sha256(), 0


class DuplicateCounter:
    """Counts documents that came before, by their hashes, on disk: they may be more than memory holds."""

    def __init__(self, hashes_in_memory: int = HASHES_IN_MEMORY) -> None:
        self._file = tempfile.TemporaryFile()
        self._hashes_in_memory = hashes_in_memory
        self._n = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, hashes: bytes) -> None:
        """Takes HASH_BYTES for each document."""
        self._file.write(hashes)
        self._n += len(hashes) // HASH_BYTES

    def count(self) -> int:
        """How many hashes came before; in passes over the file, each for the hashes of one remainder."""
        passes = max(1, -(-self._n // self._hashes_in_memory))
        return self._n - sum(self._count_distinct(remainder, passes) for remainder in range(passes))

    def _count_distinct(self, remainder: int, passes: int) -> int:
        self._file.seek(0)
        chosen: list[npt.NDArray[Any]] = []
        while data := self._file.read(self._hashes_in_memory * HASH_BYTES):
            hashes = np.frombuffer(data, dtype=f"<u{HASH_BYTES}")
            chosen.append(hashes[hashes % passes == remainder])
        return len(np.unique(np.concatenate(chosen))) if chosen else 0
