"""Where the files of benchmarks come from: local copies of theirs, or downloads kept until they are installed."""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import pooch
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.files.download import ATTEMPTS, Download, DownloadError, Progress, UnreachableError
from ladder.platform.evaluation.files.published import BenchmarkFile, sha256_of
from ladder.platform.storage import is_local


class Source(Protocol):
    """Gives local files to install from."""

    def find(self, benchmark: str, file: BenchmarkFile) -> tuple[Path, bool]:
        """A local file, and whether it is an archive that holds the benchmark's file; SourceError where none is."""
        ...

    def forget(self, needed: Collection[str]) -> None:
        """Removes what was downloaded, but from addresses that are still needed."""
        ...


class SourceError(Exception):
    """A file cannot be had; the message says why."""


def file_name(address: str) -> str:
    """The last part of an address: the name that a browser would give the file."""
    return unquote(urlsplit(address).path.rsplit("/", 1)[-1])


class LocalCopies:
    """A person's folder: the files themselves or the archives that hold them, in it or in folders of it."""

    def __init__(self, folder: Path, foreign: Callable[[str, str], str | None]) -> None:
        if not folder.is_dir():
            raise InputError(
                f"--from {folder}: no such folder; wanted one that holds the benchmarks' files or archives"
            )
        self.folder = folder
        self.foreign = foreign

    def find(self, benchmark: str, file: BenchmarkFile) -> tuple[Path, bool]:
        """A copy with the published content; what a checksum proves goes before what is only named so."""
        looked = [(file.name, file.sha256, False)]
        if file.downloadable:  # under the name that a browser gives it, which may be an archive's
            packed = file.member is not None
            looked.append((file_name(file.address), file.archive_sha256 if packed else file.sha256, packed))
        names = " and no ".join(dict.fromkeys(name for name, _, _ in looked))
        looked.sort(key=lambda one: one[1] is None)
        problems: list[str] = []
        for name, wanted, packed in looked:
            for path in self._candidates(benchmark, name, wanted):
                problem = self._problem(path, benchmark, wanted, packed)
                if problem is None:
                    return path, packed
                problems.append(problem)
        if problems:
            raise SourceError("; ".join(problems))
        raise SourceError(f"no {names} in {self.folder} or {self.folder / benchmark}")

    def forget(self, needed: Collection[str]) -> None:
        """Nothing was downloaded."""

    def _candidates(self, benchmark: str, name: str, sha256: str | None) -> list[Path]:
        """Files of that name; in folders of another name only where the content proves what it is."""
        places = [self.folder / benchmark / name, self.folder / name]
        if sha256 is not None:
            places += sorted(self.folder.glob(f"*/{name}"))
        return [path for path in dict.fromkeys(places) if path.is_file()]

    def _problem(self, path: Path, benchmark: str, wanted: str | None, packed: bool) -> str | None:
        """Why a file is not the one, or None."""
        digest = sha256_of(UPath(path))
        if wanted is not None:
            what = "archive" if packed else "file"
            return None if digest == wanted else f"{path} is not the published {what}: sha256 {digest}, wanted {wanted}"
        other = self.foreign(benchmark, digest)
        return None if other is None else f"{path} is the file of benchmark {other}"


class Downloads:
    """Files from their addresses, each downloaded once however many benchmarks need it."""

    def __init__(self, folder: Path, *, progress: Callable[[str], Progress], wait: Callable[[float], None]) -> None:
        self.folder = folder
        self.progress = progress
        self.wait = wait
        self.attempts = ATTEMPTS
        self.got: dict[str, Path] = {}
        self.failed: dict[str, SourceError] = {}

    def find(self, benchmark: str, file: BenchmarkFile) -> tuple[Path, bool]:
        """The file or archive at the address, downloaded and of the published sha256."""
        address = file.address
        if not file.downloadable:
            raise SourceError("it cannot be downloaded by a program: ask for it there")
        if address in self.failed:
            raise self.failed[address]
        if address not in self.got:
            try:
                self.got[address] = self._download(file)
            except SourceError as error:
                self.failed[address] = error
                raise
        return self.got[address], file.member is not None

    def forget(self, needed: Collection[str]) -> None:
        """Removes whole downloads that nothing needs any more; a part of one is kept for the next call."""
        for address in [address for address in self.got if address not in needed]:
            shutil.rmtree(self.got.pop(address).parent, ignore_errors=True)
        _remove_empty(self.folder)

    def _download(self, file: BenchmarkFile) -> Path:
        address, sha256 = file.address, file.archive_sha256 if file.member else file.sha256
        name = file_name(address)
        folder = self.folder / hashlib.sha256(address.encode()).hexdigest()[:16]
        pooch.get_logger().setLevel("WARNING")  # what it says of each download, the display says
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / (name + ".partial")
            download = Download(
                partial,
                progress=self.progress(name),
                most_bytes=file.most_bytes,
                attempts=self.attempts,
                wait=self.wait,
            )
            known = None if sha256 is None else f"sha256:{sha256}"
            return Path(pooch.retrieve(address, known_hash=known, fname=name, path=folder, downloader=download))
        except DownloadError as error:
            if isinstance(error, UnreachableError):
                self.attempts = 1  # without a network, not every other address is to be waited for
            raise SourceError(str(error)) from error
        except ValueError as error:
            raise SourceError(f"what is at the address is not the published file ({error})") from error
        except OSError as error:
            raise SourceError(f"cannot write it into {folder}: {error.strerror or error}; free space there") from error
        finally:
            _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    """Removes a folder with nothing but empty files in it."""
    for path in folder.glob("*"):
        if path.is_file() and path.stat().st_size == 0:
            path.unlink()
    with contextlib.suppress(OSError):  # there is something in it, or it was never made
        folder.rmdir()


def downloads_folder(storage: UPath) -> Path:
    """Where downloads stand until they are installed: in a local storage itself, which is the place known to have room
    and is found again by the next call; for a storage elsewhere, in the user's cache."""
    if is_local(storage):
        return Path(storage.path) / "benchmarks" / ".downloads"
    return Path(pooch.os_cache("ladder")) / "downloads"
