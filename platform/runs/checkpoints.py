"""The checkpoints of a run where they are kept: in its folder, named by step and attempt, the last few of them.

A checkpoint counts when its mark is there, which is put in place last and says size and SHA-256 of every other file. So
half of one, as a kill leaves it, is none; and one that was cut or changed since is found when it is read, and the one
before it is taken. The attempt is in the name since a worker that was taken over may still be saving.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from upath import UPath

from ladder.platform.storage import is_local, list_files, list_names, persistently, read_json, remove_folder

logger = logging.getLogger(__name__)

MARK = "training.json"
"""The file that makes a folder a checkpoint: where training stood, and `files` with size and SHA-256 of each."""
PARTIAL = ".partial-"
"""How the folder of a checkpoint begins that is being written."""


class DamagedCheckpoint(Exception):
    """A file of a checkpoint is missing or is not as it was saved."""


def list_checkpoints(run_folder: UPath) -> list[UPath]:
    """The whole checkpoints of a run, newest first."""
    names = sorted((name for name in list_names(run_folder) if name.startswith("step-")), reverse=True)
    return [run_folder / name for name in names if MARK in list_names(run_folder / name)]


def checkpoint_step(checkpoint: UPath) -> int:
    """The step that a checkpoint of `list_checkpoints` was saved at."""
    return int(checkpoint.name.removeprefix("step-").partition(".")[0])


@contextmanager
def new_checkpoint(run_folder: UPath, *, step: int, epoch: int) -> Iterator[Path]:
    """A local folder to write a checkpoint's files into; it is removed at the end, published or not."""
    name = f"step-{step:08d}.{epoch:04d}"
    if is_local(run_folder):  # beside its place, so that publishing is a rename
        folder = Path(run_folder.path) / f"{PARTIAL}{name}"
        remove_folder(UPath(folder))
        folder.mkdir(parents=True)
    else:
        folder = Path(tempfile.mkdtemp(prefix="ladder-")) / f"{PARTIAL}{name}"
        folder.mkdir()
    try:
        yield folder
    finally:
        remove_folder(UPath(folder if is_local(run_folder) else folder.parent))


def publish_checkpoint(
    folder: Path,
    run_folder: UPath,
    mark: dict[str, Any],
    *,
    keep: int,
    check: Callable[[], None],
    keep_steps: Collection[int] = (),
) -> UPath:
    """Put a folder of `new_checkpoint` in its place, flushed to the disk, then remove all but the last `keep` and those
    of `keep_steps`.

    `check` is called just before it counts, and what it raises (LeaseLost) leaves things as they were. While an object
    store refuses, the upload is tried again.
    """
    final = run_folder / folder.name.removeprefix(PARTIAL)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {path.relative_to(folder).as_posix(): _describe_and_flush(path) for path in files}
    (folder / MARK).write_text(json.dumps(mark | {"files": sums}, indent=1))
    _describe_and_flush(folder / MARK)
    if is_local(run_folder):
        for inner in {path.parent for path in files} | {folder}:
            _flush_folder(inner)
        check()
        remove_folder(final)  # an earlier save of this very attempt and step
        folder.rename(final.path)
        _flush_folder(Path(run_folder.path))
    else:
        for file in files:
            persistently(lambda file=file: _upload(file, final / file.relative_to(folder).as_posix()))  # type: ignore[misc]
        persistently(check)
        persistently(lambda: _upload(folder / MARK, final / MARK))
    for older in persistently(lambda: list_checkpoints(run_folder))[keep:]:
        if checkpoint_step(older) in keep_steps:
            continue
        persistently(lambda older=older: _remove(older))  # type: ignore[misc]
    return final


def remove_partial_checkpoints(run_folder: UPath) -> None:
    """Remove what a killed attempt was writing; called by the holder of the lease."""
    for name in list_names(run_folder):
        if name.startswith(PARTIAL):
            remove_folder(run_folder / name)


@contextmanager
def newest_intact(run_folder: UPath, shared: Mapping[UPath, int] | None = None) -> Iterator[Path | None]:
    """The checkpoint furthest on whose files are as they were saved, as a local folder for the time of the block; None
    where there is none. A damaged one is passed over with a warning.

    `shared`: folders of other runs whose checkpoints up to a step would be this run's too; its own come before theirs.
    """
    with tempfile.TemporaryDirectory(prefix="ladder-") as scratch:
        yield _first_intact(run_folder, shared or {}, Path(scratch))


def verify(folder: Path) -> None:
    """Raises DamagedCheckpoint where a file of a checkpoint is not of the size and sum that its mark says."""
    try:
        files = json.loads((folder / MARK).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpoint(f"{MARK} cannot be read ({type(error).__name__}: {error})") from error
    for name, wanted in files.items():
        _refuse_outside(name)
        path = folder / name
        size = path.stat().st_size if path.exists() else None
        if size != wanted["bytes"]:
            raise DamagedCheckpoint(f"{name} has {size or 0:,} bytes, wanted {wanted['bytes']:,}")
        if _sha256(path) != wanted["sha256"]:
            raise DamagedCheckpoint(f"{name} was changed since it was saved (its SHA-256 differs)")


def read_mark(checkpoint: UPath) -> dict[str, Any]:
    """What a checkpoint's mark says; empty where it cannot be read."""
    try:
        mark: dict[str, Any] = read_json(checkpoint / MARK) or {}
    except ValueError:
        mark = {}
    return mark


def _first_intact(run_folder: UPath, shared: Mapping[UPath, int], scratch: Path) -> Path | None:
    found = persistently(lambda: list_checkpoints(run_folder))
    for other, steps in shared.items():
        theirs = persistently(lambda other=other: list_checkpoints(other))  # type: ignore[misc]
        found += [kept for kept in theirs if checkpoint_step(kept) <= steps]
    for kept in sorted(found, key=checkpoint_step, reverse=True):
        local = Path(kept.path)
        try:
            if not is_local(kept):
                local = scratch / kept.name
                persistently(lambda kept=kept, local=local: _download(kept, local))  # type: ignore[misc]
            verify(local)
        except DamagedCheckpoint as error:
            where = kept.parent
            logger.warning("checkpoint %s of %s is damaged: %s; taking the one before it", kept.name, where, error)
        else:
            return local
    return None


def _describe_and_flush(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, which is on the disk afterwards."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": digest}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _upload(file: Path, target: UPath) -> None:
    target.fs.put_file(str(file), target.path)


def _download(kept: UPath, local: Path) -> None:
    remove_folder(UPath(local))
    for name in sorted(list_files(kept)):
        _refuse_outside(name)
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        kept.fs.get_file(f"{kept.path.rstrip('/')}/{name}", str(local / name))


def _refuse_outside(name: str) -> None:
    """Raises DamagedCheckpoint for a name that leads out of the checkpoint's folder; object stores keep any name."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not name:
        raise DamagedCheckpoint(f"it names a file {name!r}, which is not in its folder")


def _remove(checkpoint: UPath) -> None:
    """Remove a checkpoint, its mark first, so that it never looks whole with files gone."""
    if MARK in list_names(checkpoint):
        (checkpoint / MARK).unlink()
    remove_folder(checkpoint)
