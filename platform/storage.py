"""Where things are kept: one root, a local folder or an fsspec URI, and the folders under it.

corpora/<name>/  benchmarks/<name>/  sweeps/<sweep>/<run>/  scores/<checkpoint>/  reports/<sweep>/index.html

Every write is whole or absent, and two writers of one name never see half of each other's.
"""

import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from upath import UPath

from ladder.models.errors import InputError

logger = logging.getLogger(__name__)

T = TypeVar("T")

NETWORK_CLIENTS = frozenset({"aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "requests", "urllib3"})
"""Packages under fsspec whose errors are not OSErrors when a server cannot be reached."""

PATIENCE_SECONDS = 600.0
"""How long a write that must not be lost is tried again while an object store refuses it."""


def open_storage(root: str) -> UPath:
    """The storage root; a local path is made absolute, since Ray's workers have another working folder."""
    try:
        path = UPath(root)
        if not is_local(path):
            # Others write there too: a listing kept in memory would hide their leases and results.
            return UPath(root, use_listings_cache=False)
    except (ValueError, ImportError) as error:  # an unknown scheme, or one whose package is not installed
        raise InputError(f"storage {root!r}: {error}. Wanted a folder or a URI such as s3://bucket/ladder.") from error
    return UPath(Path(path.path).expanduser().resolve())


def is_local(path: UPath) -> bool:
    """Whether a path is on this machine's file system."""
    return path.protocol in ("", "file", "local")


def run_folder(storage: UPath, sweep: str, key: str) -> UPath:
    """The folder of a run."""
    return storage / "sweeps" / sweep / key


def report_path(storage: UPath, sweep: str) -> UPath:
    """The page of a sweep's report."""
    return storage / "reports" / sweep / "index.html"


def saved_example(storage: UPath, sweep: str) -> UPath:
    """The page of `ladder explore` as it was saved with a sweep's example."""
    return storage / "reports" / sweep / "explore.html"


def write_bytes(path: UPath, data: bytes) -> None:
    """Replace a file at once: a reader sees the old one or the new one."""
    if not is_local(path):
        path.fs.pipe_file(path.path, data)  # object stores replace whole objects
        return
    temporary = _write_aside(path, data)
    temporary.replace(str(path))


def create_exclusively(path: UPath, data: bytes) -> bool:
    """Create a file that must not exist yet; False, and nothing changed, where it does.

    Of any number of processes and machines that try at once, one gets True: a hard link on a file system, a
    conditional put (If-None-Match, generation match) on an object store. A put whose answer was lost is recognised by
    its content, so the data should name its writer.
    """
    if is_local(path):
        temporary = _write_aside(path, data)
        try:
            os.link(temporary, str(path))
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True
    try:
        path.fs.pipe_file(path.path, data, mode="create")
    except FileExistsError:
        return bool(path.fs.cat_file(path.path) == data)
    return True


def check_exclusive_create(storage: UPath) -> None:
    """Raises InputError where the storage cannot create a file exclusively, so that it cannot be shared safely."""
    probe = storage / f".probe-{uuid.uuid4().hex}"
    try:
        # The second creation has other content, since equal content is taken for one's own put.
        shared = create_exclusively(probe, b"1") and not create_exclusively(probe, b"2")
    except (NotImplementedError, TypeError, ValueError):  # fsspec's ways of saying that it knows no mode="create"
        shared = False
    except OSError as error:
        raise InputError(f"storage {storage} cannot be written: {error}. Name another with --storage.") from error
    finally:
        if exists(probe):
            probe.unlink()
    if not shared:
        raise InputError(
            f"storage {storage} overwrites a file that was to be created only once, so leases cannot hold there. "
            "Wanted a folder, s3:// or gs://, whose conditional writes work."
        )


def write_json(path: UPath, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of one."""
    write_bytes(path, json.dumps(value, indent=1).encode())


def read_json(path: UPath) -> Any | None:
    """The JSON in a file, or None where there is no such file.

    Raises InputError where it is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON: {error}. Remove it, and the run is taken up again.") from error


def exists(path: UPath) -> bool:
    """Whether there is such a file; raises where the storage does not answer (fsspec's own `exists` says no then)."""
    try:
        if is_local(path):
            os.stat(path.path)
        else:
            path.fs.info(path.path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def persistently(operation: Callable[[], T], *, seconds: float | None = None) -> T:
    """What an operation returns, tried again with growing pauses while the storage refuses it (`is_refusal`); its last
    error after `seconds`, None for `PATIENCE_SECONDS`."""
    end, pause = time.monotonic() + (PATIENCE_SECONDS if seconds is None else seconds), 0.5
    while True:
        try:
            return operation()
        except Exception as error:
            if not is_refusal(error) or time.monotonic() + pause > end:
                raise
            logger.info("the storage refuses, trying again: %s", error)
        time.sleep(pause)
        pause = min(2 * pause, 10.0)


def is_refusal(error: BaseException) -> bool:
    """Whether an error is of a storage that may answer later: one of the system or of a network client, and not that a
    file is absent or there."""
    if isinstance(error, FileNotFoundError | FileExistsError | NotADirectoryError | IsADirectoryError):
        return False
    return isinstance(error, OSError | TimeoutError) or type(error).__module__.split(".")[0] in NETWORK_CLIENTS


def list_names(folder: UPath) -> list[str]:
    """Names of what is directly in a folder; empty where there is no such folder."""
    try:
        if is_local(folder):
            return os.listdir(folder.path)
        return [str(name).rstrip("/").rsplit("/", 1)[-1] for name in folder.fs.ls(folder.path, detail=False)]
    except FileNotFoundError:
        return []


def list_files(folder: UPath) -> set[str]:
    """The path of every file below a folder, relative to it; empty where there is no such folder.

    One walk on a file system, one listing (of pages of 1,000) on an object store.
    """
    if is_local(folder):
        return set(_walk(folder.path, ""))
    root = folder.path.strip("/") + "/"
    return {str(name).strip("/").removeprefix(root) for name in folder.fs.find(folder.path)}


def remove_folder(path: UPath) -> None:
    """Remove a folder and all in it; nothing where there is none."""
    if is_local(path):
        shutil.rmtree(str(path), ignore_errors=True)
    elif path.exists():
        path.fs.rm(path.path, recursive=True)


def _walk(root: str, below: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(os.path.join(root, below)))
    except (FileNotFoundError, NotADirectoryError):  # removed while we looked
        return
    for entry in entries:
        name = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir():
            yield from _walk(root, name)
        else:
            yield name


def _write_aside(path: UPath, data: bytes) -> Path:
    """A flushed file beside `path` with the data, of a name that no other thread or process uses."""
    local = Path(path.path)
    temporary = local.with_name(f".{local.name}.{os.getpid()}-{threading.get_ident()}-{uuid.uuid4().hex[:8]}")
    try:
        file = temporary.open("wb")
    except FileNotFoundError:
        local.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("wb")
    with file:
        file.write(data)
    return temporary
