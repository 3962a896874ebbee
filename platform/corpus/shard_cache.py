"""Shards of remote storage on this machine: one copy of each, shared by every process, run and sweep here.

A copy is named by the sha256 of its content, so two corpora that hold the same shard share it, and a corpus that was
built again never meets its old shards. A lock makes one process fetch a shard while the others wait for it. What was
fetched before a process died, or the storage refused, is gone on from.

A copy whose sha256 was compared carries a fixed modification time. Whatever writes to the file later changes that
time, so damage is found by one look at the file's size and time, and only a file that looks touched is read again.

All copies together stay within a limit: before a shard is fetched, what was not read for longest is removed. A reader
locks the file while it reads, for microseconds, so a corpus of any size can be read through a small cache.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.storage import persistently

logger = logging.getLogger(__name__)

VERIFIED_SECONDS = 1_000_000_000
"""Modification time, in seconds since 1970, of a copy whose sha256 was right."""
LOCK_SECONDS = 60.0
"""A process that waits for another's copy, or for room, says so this often."""
TRIALS = 2
"""Copies of a shard until its content is taken to be wrong in storage and not on the way."""
CHUNK_BYTES = 1 << 24
"""What is asked of the storage at once; an interrupted copy loses no more."""
LIMIT = "LADDER_CACHE_GIB"
"""Environment variable of the limit."""
RESERVE_BYTES = 20 << 30
"""Without a limit given, the cache leaves this much of its disk free, or a twentieth of it where that is less."""


@contextlib.contextmanager
def opened_shard(remote: UPath, *, sha256: str, n_bytes: int) -> Iterator[BinaryIO]:
    """This machine's copy of a shard, open for reading and kept for the time of the block; made now unless a right one
    is there.

    InputError if the shard is missing or changed in storage, or if the cache cannot take it. An error of the storage
    itself is raised as it is, with the shard's name: another try may pass.
    """
    copy = cache_folder() / sha256
    file = _open_verified(copy, n_bytes)
    if file is None:
        with _lock(copy):
            file = _open_verified(copy, n_bytes)
            if file is None:
                if not _mark_again(copy, sha256):
                    _fetch(remote, copy, sha256, n_bytes)
                file = _open_verified(copy, n_bytes)
                assert file is not None, f"{copy} was changed by another program as it was made"
    with file:
        yield file


def drop_damaged_copy(sha256: str) -> None:
    """Reads this machine's copy of a shard, if there is one, and removes it unless it has this sha256."""
    copy = cache_folder() / sha256
    if copy.exists():
        with _lock(copy):
            _mark_again(copy, sha256)


def cache_folder() -> Path:
    """Where copies of shards are: in LADDER_CACHE, else in `ladder` under XDG_CACHE_HOME or ~/.cache."""
    if root := os.environ.get("LADDER_CACHE"):
        return Path(root) / "shards"
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "ladder" / "shards"


def cache_limit(folder: Path, on_disk: int) -> int:
    """Bytes that the cache may hold: as LADDER_CACHE_GIB says, else what is on disk of it now and what the disk has
    room for without `RESERVE_BYTES`."""
    words = os.environ.get(LIMIT)
    if not words:
        disk = shutil.disk_usage(folder)
        return on_disk + disk.free - min(RESERVE_BYTES, disk.total // 20)
    try:
        limit = float(words)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise InputError(f"{LIMIT} is {words!r}; give GiB above 0, such as 200, or leave it out")
    return int(limit * 2**30)


def _open_verified(copy: Path, n_bytes: int) -> BinaryIO | None:
    """A copy that is whole and marked, open and locked against removal; None if there is none."""
    try:
        file = copy.open("rb")
    except OSError:  # not there; if it cannot be there, the lock says why
        return None
    fcntl.flock(file, fcntl.LOCK_SH)  # whoever removes copies tries, and never waits
    found = os.fstat(file.fileno())
    if found.st_nlink and found.st_size == n_bytes and found.st_mtime == VERIFIED_SECONDS:
        _lock_file(copy).touch()  # the time of the last use
        return file
    file.close()
    return None


def _mark_again(copy: Path, sha256: str) -> bool:
    """Whether a copy is there whose content is right after all; it is marked as verified again, another is removed."""
    if not copy.exists():
        return False
    if _sha256_of(copy) == sha256:
        _mark(copy)
        return True
    logger.warning("the copy %s is damaged: it is not read, and the shard is copied again", copy)
    copy.unlink()
    return False


def _lock_file(copy: Path) -> Path:
    return copy.with_name(f"{copy.name}.lock")


@contextlib.contextmanager
def _lock(copy: Path) -> Iterator[None]:
    """Keeps other processes of this machine from this copy; the system frees the lock of a process that dies."""
    lock = FileLock(_lock_file(copy))
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
    part = _part_of(copy, n_bytes)
    _make_room(part, n_bytes)
    for _ in range(TRIALS):
        try:
            persistently(lambda: _get(remote, part, n_bytes))
        except FileNotFoundError as error:
            part.unlink(missing_ok=True)
            raise InputError(f"shard {remote} is missing; copy or build the corpus again") from error
        found = _sha256_of(part)
        if found == sha256:
            _mark(part)
            with _room_lock(copy.parent):  # who counts what is there finds it once
                os.replace(part, copy)
            return
        part.unlink()
        logger.warning("shard %s arrived with sha256 %.12s, wanted %.12s", remote, found, sha256)
    raise InputError(
        f"shard {remote} is not as recorded in corpus.json (sha256 {found[:12]}, wanted {sha256[:12]}); "
        "copy or build the corpus again"
    )


def _get(remote: UPath, part: Path, n_bytes: int) -> None:
    """Fetches what a part does not have yet."""
    try:
        with part.open("ab") as file:
            while (start := file.tell()) < n_bytes:
                data = remote.fs.cat_file(remote.path, start=start, end=min(start + CHUNK_BYTES, n_bytes))
                if not data:  # it ends early, which its sha256 will tell
                    return
                file.write(data)
                file.flush()
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            part.unlink(missing_ok=True)
            raise InputError(
                f"no space left in the cache of shards {part.parent}, wanted {n_bytes:,} bytes more; "
                "remove files there that no run needs, or set LADDER_CACHE to another folder"
            ) from error
        error.add_note(f"while copying shard {remote} to {part}")
        raise


@dataclass(frozen=True)
class _Entry:
    """A copy in the cache, or the part of one."""

    path: Path
    n_bytes: int
    """Bytes that it takes, a part as if it were whole."""
    on_disk: int
    """Bytes that it takes now."""
    used: float
    """When it was last read, seconds since 1970."""

    @property
    def copy(self) -> Path:
        return self.path.with_name(self.path.name.partition(".")[0])


def _part_of(copy: Path, n_bytes: int) -> Path:
    return copy.with_name(f"{copy.name}.{n_bytes}.part")


def _make_room(part: Path, n_bytes: int) -> None:
    """Reserves the bytes of a part by its name, once enough of what was not read for longest is removed.

    What others fetch or read just now is not removed, but waited for.
    """
    told = time.monotonic()
    while not _reserved(part, n_bytes):
        time.sleep(0.1)
        if time.monotonic() - told > LOCK_SECONDS:
            told = time.monotonic()
            logger.warning("still waiting for room in the cache of shards %s, which others use", part.parent)


def _room_lock(folder: Path) -> FileLock:
    """Held by who counts what is in the cache. Whoever holds it waits for no other lock."""
    return FileLock(folder / "room.lock")


def _reserved(part: Path, n_bytes: int) -> bool:
    with _room_lock(part.parent):
        entries = list(_entries(part.parent))
        limit = cache_limit(part.parent, sum(entry.on_disk for entry in entries))
        if n_bytes > limit:
            raise InputError(
                f"no room in the cache of shards {part.parent}: one shard takes {n_bytes:,} bytes, and it may hold "
                f"{max(0, limit):,}; raise {LIMIT}, or set LADDER_CACHE to a folder on a larger disk"
            )
        others = [entry for entry in entries if entry.path != part]
        used = sum(entry.n_bytes for entry in others)
        for entry in sorted(others, key=lambda entry: entry.used):
            if used + n_bytes <= limit:
                break
            if _removed(entry):
                used -= entry.n_bytes
        if used + n_bytes > limit:
            return False
        part.touch()
        return True


def _entries(folder: Path) -> Iterator[_Entry]:
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # somebody found it damaged, and removed it
            found = path.stat()
            if path.suffix == ".part":
                n_bytes = int(path.suffixes[0][1:]) if len(path.suffixes) > 1 else found.st_size
                yield _Entry(path, n_bytes, found.st_size, found.st_mtime)
            elif not path.suffix:
                yield _Entry(path, found.st_size, found.st_size, _lock_file(path).stat().st_mtime)


def _removed(entry: _Entry) -> bool:
    """Removes a copy or a part unless somebody fetches or reads it; whether it did."""
    lock = FileLock(_lock_file(entry.copy))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    try:
        with entry.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            entry.path.unlink()
    except (FileNotFoundError, BlockingIOError):  # found damaged and removed, or being read
        return False
    finally:
        lock.release()
    return True


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mark(path: Path) -> None:
    """Gives a file the time that stands for a right sha256, and flushes both to the disk."""
    with path.open("rb") as file:
        os.utime(path, (path.stat().st_atime, VERIFIED_SECONDS))
        os.fsync(file.fileno())
