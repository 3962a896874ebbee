"""A file of a benchmark as it is published: where it stands, and what its content must be."""

import hashlib
from dataclasses import dataclass

from upath import UPath


@dataclass(frozen=True, kw_only=True)
class BenchmarkFile:
    """One file of a benchmark."""

    name: str
    """File name in the benchmark's folder."""
    sha256: str | None
    """sha256 (hex) of its bytes; None where no publisher states it: the first one installed is then held to."""
    address: str
    """Where it is published: the file itself, or an archive that holds it."""
    member: str | None = None
    """Its path in the archive at `address`, or a folder ("tests/") whose files become one of JSON lines; None for the
    file itself."""
    archive_sha256: str | None = None
    """sha256 (hex) of the archive; None where there is none or no publisher states it."""
    most_bytes: int = 1 << 29
    """Bytes that the file, and what is at `address`, may have at most: more is not what was published."""
    downloadable: bool = True
    """Whether a program can get it from `address`; otherwise the page there asks a person for something."""


def sha256_of(path: UPath) -> str:
    """sha256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
