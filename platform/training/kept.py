"""Checkpoints of a run where they are kept: beside its result, named by step, the newest only.

A checkpoint is there when its `training.json` is, which is put in place last; half of one, as a kill leaves it, is no
checkpoint and is replaced.
"""

import shutil
from pathlib import Path

from upath import UPath

from ladder.platform.storage import is_local, remove_folder

MARK = "training.json"
"""The file that makes a folder a checkpoint."""


def step_name(step: int) -> str:
    """The name of the checkpoint at a step; names sort as steps do."""
    return f"step-{step:08d}"


def find_latest(run_folder: UPath) -> UPath | None:
    """The newest whole checkpoint of a run, or None."""
    whole = [mark.parent for mark in run_folder.glob(f"step-*/{MARK}")]
    return max(whole, key=lambda folder: folder.name, default=None)


def keep(folder: Path, run_folder: UPath, name: str) -> UPath:
    """Move a finished checkpoint folder to where the run is kept, then remove the older ones."""
    kept = run_folder / name
    run_folder.mkdir(parents=True, exist_ok=True)
    if is_local(run_folder):
        partial = run_folder / f".{name}.partial"
        for leftover in (kept, partial):
            remove_folder(leftover)
        shutil.move(folder, str(partial))
        partial.rename(kept)
    else:
        _upload(folder, kept)
    for older in [path for path in run_folder.glob("step-*") if path.name < name]:
        remove_folder(older)
    return kept


def fetch(kept: UPath, scratch: Path) -> Path:
    """A kept checkpoint as a local folder: itself, or a copy under `scratch`."""
    if is_local(kept):
        return Path(str(kept))
    local = scratch / kept.name
    kept.fs.get(kept.path, str(local), recursive=True)
    return local


def _upload(folder: Path, kept: UPath) -> None:
    """Copy a folder to an object store, its mark last."""
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.name == MARK)
    for file in files:
        kept.fs.put_file(str(file), (kept / file.relative_to(folder).as_posix()).path)
