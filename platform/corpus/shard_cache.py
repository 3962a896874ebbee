"""Shards of remote storage on this machine: one copy of each, shared by every process, run and sweep here.

A copy is named by the sha256 of its content, so two corpora that hold the same shard share it, and a corpus that was
built again never meets its old shards. A lock makes one process copy a shard while the others wait for it.

A copy whose sha256 was compared carries a fixed modification time. Whatever writes to the file later changes that
time, so damage is found by one look at the file's size and time, and only a file that looks touched is read again.
"""

import contextlib
import errno
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.storage import persistently

logger = logging.getLogger(__name__)

VERIFIED_SECONDS = 1_000_000_000
"""Modification time, in seconds since 1970, of a copy whose sha256 was right."""
LOCK_SECONDS = 60.0
"""A process that waits for another's copy says so this often."""
TRIALS = 2
"""Copies of a shard until its content is taken to be wrong in storage and not on the way."""


def copy_of_shard(remote: UPath, *, sha256: str, n_bytes: int) -> Path:
    """The path of this machine's copy of a shard, which is made now unless a right one is there.

    InputError if the shard is missing or changed in storage, or if the cache cannot take it. An error of the storage
    itself is raised as it is, with the shard's name: another try may pass.
    """
    copy = cache_folder() / sha256
    if _is_marked(copy, n_bytes):
        return copy
    with _lock(copy):
        if not _is_marked(copy, n_bytes) and not _mark_again(copy, sha256):
            _fetch(remote, copy, sha256, n_bytes)
    return copy


def drop_damaged_copy(sha256: str) -> None:
    """Reads this machine's copy of a shard, if there is one, and removes it unless it has this sha256."""
    copy = cache_folder() / sha256
    if copy.exists():
        with _lock(copy):
            if not _mark_again(copy, sha256):
                copy.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Where copies of shards are: in LADDER_CACHE, else in `ladder` under XDG_CACHE_HOME or ~/.cache."""
    if root := os.environ.get("LADDER_CACHE"):
        return Path(root) / "shards"
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "ladder" / "shards"


def _is_marked(copy: Path, n_bytes: int) -> bool:
    try:
        found = copy.stat()
    except OSError:  # not there; if it cannot be there, the lock says why
        return False
    return found.st_size == n_bytes and found.st_mtime == VERIFIED_SECONDS


def _mark_again(copy: Path, sha256: str) -> bool:
    """Whether a copy is there whose content is right after all; it is marked as verified again."""
    if not copy.exists():
        return False
    if _sha256_of(copy) == sha256:
        _mark(copy)
        return True
    logger.warning("the copy %s is damaged: it is not read, and the shard is copied again", copy)
    return False


@contextlib.contextmanager
def _lock(copy: Path) -> Iterator[None]:
    """Keeps other processes of this machine from this copy; the system frees the lock of a process that dies."""
    lock = FileLock(copy.with_name(f"{copy.name}.lock"))
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            try:
                lock.acquire(timeout=LOCK_SECONDS)
            except Timeout:
                logger.warning("still waiting for another process, which copies shard %s", copy)
    except OSError as error:
        raise InputError(
            f"cannot write the cache of shards {copy.parent} ({error.strerror}); set LADDER_CACHE to another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _fetch(remote: UPath, copy: Path, sha256: str, n_bytes: int) -> None:
    """Copies a shard, which gets its name only when it is whole, right and on the disk."""
    part = copy.with_name(f"{copy.name}.part")  # what a killed process left of it is written over
    try:
        for _ in range(TRIALS):
            persistently(lambda: _get(remote, part, n_bytes))
            found = _sha256_of(part)
            if found == sha256:
                _mark(part)
                os.replace(part, copy)
                return
            logger.warning("shard %s arrived with sha256 %.12s, wanted %.12s", remote, found, sha256)
        raise InputError(
            f"shard {remote} is not as recorded in corpus.json (sha256 {found[:12]}, wanted {sha256[:12]}); "
            "copy or build the corpus again"
        )
    except FileNotFoundError as error:
        raise InputError(f"shard {remote} is missing; copy or build the corpus again") from error
    finally:
        part.unlink(missing_ok=True)


def _get(remote: UPath, part: Path, n_bytes: int) -> None:
    try:
        remote.fs.get_file(remote.path, str(part))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"no space left in the cache of shards {part.parent}, wanted {n_bytes:,} bytes more; "
                "remove files there that no run needs, or set LADDER_CACHE to another folder"
            ) from error
        error.add_note(f"while copying shard {remote} to {part}")
        raise


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mark(path: Path) -> None:
    """Gives a file the time that stands for a right sha256, and flushes both to the disk."""
    with path.open("rb") as file:
        os.utime(path, (path.stat().st_atime, VERIFIED_SECONDS))
        os.fsync(file.fileno())
