"""Where things are kept: one root, a local folder or an fsspec URI, and the folders under it.

corpora/<name>/  benchmarks/<name>/  sweeps/<sweep>/<run>/  reports/<sweep>/index.html
"""

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from upath import UPath

from ladder.models.errors import InputError


def open_storage(root: str) -> UPath:
    """The storage root; a local path is made absolute, since Ray's workers have another working folder."""
    try:
        path = UPath(root)
    except (ValueError, ImportError) as error:  # an unknown scheme, or one whose package is not installed
        raise InputError(f"storage {root!r}: {error}. Wanted a folder or a URI such as s3://bucket/ladder.") from error
    return UPath(Path(path.path).expanduser().resolve()) if is_local(path) else path


def is_local(path: UPath) -> bool:
    """Whether a path is on this machine's file system."""
    return path.protocol in ("", "file", "local")


def run_folder(storage: UPath, sweep: str, key: str) -> UPath:
    """The folder of a run."""
    return storage / "sweeps" / sweep / key


def report_path(storage: UPath, sweep: str) -> UPath:
    """The page of a sweep's report."""
    return storage / "reports" / sweep / "index.html"


def write_json(path: UPath, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=1)
    if not is_local(path):
        path.write_text(text)  # object stores replace whole objects
        return
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text)
    temporary.rename(path)


def create_exclusively(path: UPath, data: bytes) -> bool:
    """Create a file that must not exist yet; False, and nothing changed, where it does."""
    if not is_local(path):
        try:
            path.fs.pipe_file(path.path, data, mode="create")
        except FileExistsError:
            return False
        return True
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.write_bytes(data)
    try:
        os.link(str(temporary), str(path))
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


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


def remove_folder(path: UPath) -> None:
    """Remove a folder and all in it; nothing where there is none."""
    if is_local(path):
        shutil.rmtree(str(path), ignore_errors=True)
    elif path.exists():
        path.fs.rm(path.path, recursive=True)
