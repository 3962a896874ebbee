"""A folder that appears whole or not at all.

On a file system, files are written to the sibling `.building-<name>`, which is locked while its writer lives, flushed
to the disk and renamed at the end; what a killed build left is removed by the next one. Object storage can neither
rename nor lock: there files go straight to their place, and the folder counts only with its last file, the marker.
"""

import contextlib
import fcntl
import io
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.stream import local_path

logger = logging.getLogger(__name__)


class FolderExistsError(InputError):
    """The folder to be made is already there."""


@contextlib.contextmanager
def staged_folder(final: UPath, *, marker: str, overwrite: bool) -> Iterator[UPath]:
    """A folder to fill, which is at `final` when the block ends, and is gone when the block raises.

    FolderExistsError if `final` is there (on object storage: holds `marker`, written last), unless `overwrite`.
    """
    path = local_path(final)
    with _local_folder(path, overwrite) if path else _remote_folder(final, marker, overwrite) as folder:
        yield folder


@contextlib.contextmanager
def locked_folder(folder: UPath) -> Iterator[None]:
    """Makes a folder and keeps other processes out of it; InputError if one is at work there.

    Only on a file system; object storage has no locks, and the user must let one build of a name run at a time.
    """
    path = local_path(folder)
    if path is None:
        yield
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}; choose another place with --storage") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise InputError(f"another process is at work in {folder}; wait for it, or choose another name") from error
    finally:
        os.close(descriptor)


def flush_to_disk(file: IO[bytes]) -> None:
    """Makes what was written survive a power cut, where the file is on this machine's file system."""
    file.flush()
    try:
        descriptor = file.fileno()
    except (AttributeError, io.UnsupportedOperation):  # a file of object storage: safe once it is closed
        return
    os.fsync(descriptor)


@contextlib.contextmanager
def _local_folder(final: Path, overwrite: bool) -> Iterator[UPath]:
    staging = final.with_name(f".building-{final.name}")
    replaced = final.with_name(f".replaced-{final.name}")
    descriptor = _claim(staging)
    try:
        if final.exists() and not overwrite:
            raise _exists(final)
        for leftover in staging.iterdir():  # of a build that was killed
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        yield UPath(staging)
        os.fsync(descriptor)
        shutil.rmtree(replaced, ignore_errors=True)
        if final.exists():
            final.rename(replaced)
        staging.rename(final)
        _fsync_folder(final.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    finally:
        os.close(descriptor)  # lets go of the lock


def _claim(staging: Path) -> int:
    """Makes the folder and locks it for this process, waiting for another build of the same name; its descriptor."""
    while True:
        staging.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(staging, os.O_RDONLY)
        except FileNotFoundError:
            continue  # the other build renamed it in between
        _lock(descriptor, staging)
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(staging)):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # we waited for a folder that is now complete, or gone


def _lock(descriptor: int, staging: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.warning("waiting for another process that builds %s", staging)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        # Some cluster file systems have no locks. Then it is up to the user that only one build of a name runs.
        logger.warning("cannot lock %s (%s): build this name from one process at a time", staging, error.strerror)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _remote_folder(final: UPath, marker: str, overwrite: bool) -> Iterator[UPath]:
    if (final / marker).exists():
        if not overwrite:
            raise _exists(final)
        (final / marker).unlink()  # first, so that the old folder never looks whole with new shards in it
    _remove_files(final)
    final.mkdir(parents=True, exist_ok=True)
    try:
        yield final
    except BaseException:
        with contextlib.suppress(OSError):  # without its marker the folder does not count; the next build removes it
            _remove_files(final)
        raise


def _remove_files(folder: UPath) -> None:
    if folder.exists():
        folder.fs.rm(folder.path, recursive=True)


def _exists(final: Path | UPath) -> FolderExistsError:
    return FolderExistsError(f"{final} already exists; give --overwrite to build it again, or choose another name")
