"""Members of a zip or tar archive, read one by one; nothing is unpacked to a path that the archive names."""

import json
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from upath import UPath


class ArchiveError(Exception):
    """An archive cannot be read, or lacks a member; the message says which."""


_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)


def unpack(archive: Path, targets: Mapping[str, UPath], *, most_bytes: int) -> None:
    """Writes each member of `targets` to its path, reading the archive once; ArchiveError where one cannot be had.

    A member of more than `most_bytes`, unpacked, is refused: a small archive may hold an endless one.

    A member whose name ends in "/" is a folder: its files become one file of JSON lines {"file": path below the folder,
    "text": content}, in the order of the paths.
    """
    for target in targets.values():
        target.parent.mkdir(parents=True, exist_ok=True)
    folders: dict[str, dict[str, str]] = {member: {} for member in targets if member.endswith("/")}
    missing = set(targets)
    try:
        _read(archive, targets, folders, missing, most_bytes)
    except _DAMAGE as error:
        reason = str(error).partition(":\n")[0]  # tarfile lists every compression that it tried
        raise ArchiveError(f"{archive.name} is truncated or damaged ({type(error).__name__}: {reason})") from error
    except OSError as error:
        if error.errno is not None:  # of the file system
            raise
        raise ArchiveError(f"{archive.name} is truncated or damaged ({error})") from error  # of a gzip stream
    for member, files in folders.items():
        if files:
            missing.discard(member)
            _write_lines(files, targets[member])
    if missing:
        raise ArchiveError(f"{archive.name} holds no {' and no '.join(sorted(missing))}{_alike(archive, missing)}")


def _alike(archive: Path, missing: Collection[str]) -> str:
    """The members that have the last names of those that are missing, in other folders."""
    wanted = {PurePosixPath(member).name for member in missing}
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            names = packed.namelist()
    else:
        with tarfile.open(archive) as tar:
            names = tar.getnames()
    found = [name for name in names if PurePosixPath(name).name in wanted]
    return f"; it holds {', '.join(found)}" if found else ""


def _read(
    archive: Path,
    targets: Mapping[str, UPath],
    folders: dict[str, dict[str, str]],
    missing: set[str],
    most_bytes: int,
) -> None:
    """Copies the members that are files, strikes them off `missing`, and collects the texts of folders."""
    if zipfile.is_zipfile(archive) or archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            for name in packed.namelist():
                if not name.endswith("/") and _is_wanted(name, targets, folders):
                    with packed.open(name) as member:
                        _take(name, member, targets, folders, missing, most_bytes)
        return
    with tarfile.open(archive) as tar:
        for entry in tar:
            name = entry.name.removeprefix("./")
            if entry.isfile() and _is_wanted(name, targets, folders):
                content = tar.extractfile(entry)
                assert content is not None, name
                _take(name, content, targets, folders, missing, most_bytes)
            if not missing:  # the rest of a large archive need not be read
                return


def _is_wanted(name: str, targets: Mapping[str, UPath], folders: Mapping[str, object]) -> bool:
    return name in targets or any(name.startswith(folder) for folder in folders)


def _take(
    name: str,
    content: IO[bytes],
    targets: Mapping[str, UPath],
    folders: dict[str, dict[str, str]],
    missing: set[str],
    most_bytes: int,
) -> None:
    if name in targets:
        with targets[name].open("wb") as file:
            for chunk in _read_at_most(content, most_bytes, name):
                file.write(chunk)
        missing.discard(name)
        return
    folder = next(folder for folder in folders if name.startswith(folder))
    try:
        folders[folder][str(PurePosixPath(name).relative_to(folder))] = b"".join(
            _read_at_most(content, most_bytes, name)
        ).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{name} is not UTF-8 at byte {error.start + 1}") from error


def _read_at_most(content: IO[bytes], most_bytes: int, name: str) -> Iterator[bytes]:
    n_bytes = 0
    while chunk := content.read(1 << 20):
        n_bytes += len(chunk)
        if n_bytes > most_bytes:
            raise ArchiveError(f"{name} has more than the {most_bytes:,} bytes that it may have")
        yield chunk


def _write_lines(files: Mapping[str, str], target: UPath) -> None:
    lines = [json.dumps({"file": name, "text": files[name]}) for name in sorted(files)]
    target.write_bytes("".join(line + "\n" for line in lines).encode())
