"""The bytes of compressed files in bounded pieces: zstd, gzip, xz and bzip2, by the file's suffix.

The libraries' own file objects end quietly where a file was cut off, and some refuse the 2 GiB windows of Reddit's
dumps; here a cut is an error and the window is allowed. A window is memory that zstd needs while it reads: a frame
that uses all of a 2 GiB window costs 2 GiB, whatever reads it.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Protocol

import zstandard
from upath import UPath

from ladder.models.errors import InputError

# Small enough that files of many tiny frames (a gzip member per line) are not copied over and over.
CHUNK_BYTES = 128 * 1024
# Text of one kind shrinks a hundredfold and more; what one step gives out must stay small all the same.
COMPRESSED_CHUNK_BYTES = 16 * 1024
PIECE_BYTES = 1024 * 1024


class _Decompressor(Protocol):
    """What the libraries' decompression objects have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


_START_FRAME: dict[str, Callable[[], _Decompressor]] = {
    # Dumps packed with --long=31 need the larger window.
    ".zst": lambda: zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj(),
    ".gz": lambda: zlib.decompressobj(wbits=31),
    ".xz": lzma.LZMADecompressor,
    ".bz2": bz2.BZ2Decompressor,
}

_ERRORS = (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError, EOFError)
"""What a decompressor raises for damaged data; bz2 raises OSError."""


def read_chunks(stream: IO[bytes], file: UPath) -> Iterator[bytes]:
    """The bytes of an open file in pieces, decompressed by the suffix of its name.

    InputError, with the bytes of text that came before, for data that are damaged or cut off.
    """
    for suffix, start_frame in _START_FRAME.items():
        if file.name.endswith(suffix):
            return _inflate(iter(lambda: stream.read(COMPRESSED_CHUNK_BYTES), b""), start_frame, file)
    return iter(lambda: stream.read(CHUNK_BYTES), b"")


def _inflate(chunks: Iterator[bytes], start_frame: Callable[[], _Decompressor], file: UPath) -> Iterator[bytes]:
    frame: _Decompressor | None = None
    n_bytes = 0
    for chunk in chunks:
        while chunk:
            frame = frame or start_frame()
            try:
                data = frame.decompress(chunk)
            except _ERRORS as error:
                raise InputError(
                    f"{file}: corrupt compressed data after {n_bytes:,} bytes of text ({error})"
                ) from error
            n_bytes += len(data)
            yield from (data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES))
            chunk = b""
            if frame.eof:  # files may hold many frames, one after the other
                chunk, frame = frame.unused_data, None
    if frame is not None:
        raise InputError(f"{file}: the compressed data is cut off after {n_bytes:,} bytes of text; copy it again")
