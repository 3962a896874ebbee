"""Puts benchmark files into storage, downloaded or from local copies, checked by sha256: all of a benchmark or nothing.

A file whose publisher states no sha256 is held to the one that was installed first, which `SHA256SUMS` beside it keeps
(`sha256sum --check` reads it). What comes out of an archive of the published sha256 is proven, and takes its place.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from upath import UPath

from ladder.models.errors import InputError, PartialFailure
from ladder.platform.evaluation.benchmark import Benchmark
from ladder.platform.evaluation.files.archive import ArchiveError, unpack
from ladder.platform.evaluation.files.download import Progress
from ladder.platform.evaluation.files.published import BenchmarkFile, sha256_of
from ladder.platform.evaluation.files.sources import Downloads, LocalCopies, Source, SourceError, downloads_folder
from ladder.platform.evaluation.registry import known_benchmarks
from ladder.platform.evaluation.selection import select
from ladder.platform.storage import is_local

logger = logging.getLogger(__name__)

SUMS = "SHA256SUMS"


class Display:
    """What a fetch tells while it goes on; this one tells the log."""

    def installed(self, path: UPath) -> None:
        """A file is in its place."""
        logger.info("installed %s", path)

    def note(self, text: str) -> None:
        """Something worth knowing that is no failure."""
        logger.warning(text)

    def progress(self, name: str) -> Progress:
        """Called at the start of a download; what it returns is told how far it is."""
        logger.info("downloading %s", name)
        return lambda received, total: None


def fetch(
    names: Sequence[str],
    *,
    storage: UPath,
    source_dir: Path | None = None,
    examples: bool = False,
    again: bool = False,
    display: Display | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> list[UPath]:
    """The files of the benchmarks named, put into storage where they are not there already.

    With `examples` also the files that solved examples are drawn from, where a benchmark has none in its prompts unless
    they are asked for. With `again` also what is there already is replaced, whatever was installed first.

    Of a group, such as "all", what only a person can get is left out with a note.
    They are downloaded, or taken from `source_dir` without a network. A benchmark that cannot be had does not stop the
    others: at the end InputError, or PartialFailure where some are there, names all that failed.
    """
    display = display or Display()
    named, grouped = _choose(names, display, local=source_dir is not None)
    chosen = named + grouped
    source: Source
    if source_dir is not None:
        source = LocalCopies(source_dir, _foreign)
    else:
        source = Downloads(downloads_folder(storage), progress=display.progress, wait=wait)
    installed: list[UPath] = []
    failures: list[str] = []
    for position, benchmark in enumerate(chosen):
        try:
            installed += install(benchmark, storage, source, display, examples=examples, again=again)
        except InputError as error:
            if benchmark in grouped and not _is_downloadable(benchmark):
                display.note(str(error))
            else:
                failures.append(str(error))
        later_files = (file for later in chosen[position + 1 :] for file in later.files + later.example_files)
        source.forget({file.address for file in later_files})
    if failures:
        kind = PartialFailure if installed else InputError
        many = f"{len(failures)} of {len(chosen)} benchmarks were not fetched:\n  " + "\n  ".join(failures)
        raise kind(many if len(failures) > 1 else failures[0])
    return installed


def _choose(names: Sequence[str], display: Display, *, local: bool) -> tuple[list[Benchmark], list[Benchmark]]:
    """The benchmarks to fetch that were named, and those of groups without what has no files or only a person gets."""
    selection = select(names)
    for benchmark in selection.named:
        if not benchmark.files:
            made = "it is made from a corpus, see `ladder corpus build`" if benchmark.from_corpus else "none are needed"
            raise InputError(f"benchmark {benchmark.name} has no files: {made}")
    grouped = [benchmark for benchmark in selection.grouped if benchmark.files]
    if not selection.named and not grouped:
        raise InputError(f"{', '.join(names)}: no benchmark of it has files, they are made from a corpus")
    by_hand = [] if local else [benchmark for benchmark in grouped if not _is_downloadable(benchmark)]
    for benchmark in by_hand:
        display.note(f"left out benchmark {benchmark.name}. {_remedy(benchmark.name, benchmark.files[0])}")
    return list(selection.named), [benchmark for benchmark in grouped if benchmark not in by_hand]


def _is_downloadable(benchmark: Benchmark) -> bool:
    return all(file.downloadable for file in benchmark.files)


def _foreign(benchmark: str, digest: str) -> str | None:
    """The other benchmark whose published file has this sha256, or None."""
    for other in known_benchmarks().values():
        files = other.files + other.example_files
        if other.folder_name != benchmark and digest in {file.sha256 for file in files}:
            return other.name
    return None


class FileSet(Protocol):
    """What is installed whole or not at all: a benchmark, or a task to fine-tune on."""

    @property
    def folder_name(self) -> str:
        """Folder that local copies may stand in."""
        ...

    @property
    def name(self) -> str:
        """Name in commands."""
        ...

    def folder(self, storage: UPath) -> UPath:
        """Where its files are installed."""
        ...

    def needed_files(self, shots: int | None) -> tuple[BenchmarkFile, ...]:
        """The files."""
        ...


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How messages speak of a file set."""

    what: str = "benchmark"
    """What it is, before its name."""
    fetch: str = "ladder fetch"
    """The command that gets one, before its name."""


def install(
    benchmark: FileSet,
    storage: UPath,
    source: Source,
    display: Display,
    *,
    examples: bool = False,
    again: bool = False,
    naming: Naming | None = None,
) -> list[UPath]:
    """The paths of a file set's files, all there and right; InputError, and nothing changed, where one cannot be."""
    folder = benchmark.folder(storage)
    sums = {} if again else read_sums(folder)
    files = benchmark.needed_files(1 if examples else None)
    wanting = [file for file in files if again or not _is_right(folder / file.name, file, sums)]
    staged = {file.name: folder / (file.name + ".partial") for file in wanting}
    try:
        for file in wanting:
            _stage(benchmark, file, staged[file.name], source, sums, naming or Naming())
        for name, partial in staged.items():
            _put_in_place(partial, folder / name)
        _write_sums(folder, files, read_sums(folder), new=set(staged))
    except OSError as error:
        raise InputError(
            f"cannot write into {folder}: {error.strerror or error}; free space or name another --storage"
        ) from error
    finally:
        for partial in staged.values():
            _remove(partial)
    for file in files:
        if file not in wanting:
            display.note(f"{folder / file.name} is there already")
        display.installed(folder / file.name)
    return [folder / file.name for file in files]


def _is_right(path: UPath, file: BenchmarkFile, sums: dict[str, str]) -> bool:
    """Whether the file is there with the content it should have; any content will do where no sum says which."""
    if not path.exists():
        return False
    wanted = file.sha256 or sums.get(file.name)
    return wanted is None or sha256_of(path) == wanted


def _stage(
    benchmark: FileSet, file: BenchmarkFile, partial: UPath, source: Source, sums: dict[str, str], naming: Naming
) -> None:
    """Brings a file's content beside its place, checked."""
    try:
        found, packed = source.find(benchmark.folder_name, file)
        if packed:
            assert file.member is not None
            unpack(found, {file.member: partial}, most_bytes=file.most_bytes)
        else:
            _copy(found, partial)
        digest = sha256_of(partial)
        is_proven = packed and file.archive_sha256 is not None
        wanted = file.sha256 or (None if is_proven else sums.get(file.name))
        if wanted is not None and digest != wanted:
            held = (
                "" if file.sha256 else ", as the one installed first had; pass --overwrite to put this one in its place"
            )
            raise SourceError(f"the {file.name} in {found.name} has sha256 {digest}, wanted {wanted}{held}")
    except (SourceError, ArchiveError) as error:
        problem = f"{naming.what} {benchmark.name}: {file.name} was not installed: {error}"
        raise InputError(f"{problem}. {_remedy(benchmark.name, file, naming.fetch)}") from error


def _remedy(benchmark: str, file: BenchmarkFile, command: str = "ladder fetch") -> str:
    """Where a file is published, and how a person can get it into storage by hand."""
    by_hand = f"{command} {benchmark} --from DIR"
    if not file.downloadable:
        return f"Ask for {file.name} at {file.address}, put it into a folder DIR and run `{by_hand}`."
    place = file.address if file.member is None else f"{file.address}, member {file.member}"
    return f"It is published at {place}. With a copy of it in a folder DIR, run `{by_hand}`."


def _copy(found: Path, target: UPath) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with found.open("rb") as content, target.open("wb") as file:
        while chunk := content.read(1 << 20):
            file.write(chunk)


def _put_in_place(partial: UPath, target: UPath) -> None:
    """Replaces the target at once: whoever reads sees the old file or the new one, never none."""
    if is_local(partial):
        partial.replace(str(target))
    else:
        partial.fs.mv(partial.path, target.path)  # object stores copy over what is there


def _remove(path: UPath) -> None:
    if path.exists():
        path.unlink()


def read_sums(folder: UPath) -> dict[str, str]:
    """File name to sha256 of the files installed first, of those whose publisher states none."""
    path = folder / SUMS
    if not path.exists():
        return {}
    lines = [line.split(maxsplit=1) for line in path.read_text().splitlines() if line.strip()]
    return {parts[1].strip(): parts[0] for parts in lines if len(parts) == 2}


def _write_sums(folder: UPath, files: Sequence[BenchmarkFile], sums: dict[str, str], *, new: set[str]) -> None:
    """Puts into SHA256SUMS what is new of the files that it is to hold, and what it lacks."""
    unstated = [f.name for f in files if f.sha256 is None and (f.name in new or f.name not in sums)]
    if unstated:
        kept = sums | {name: sha256_of(folder / name) for name in unstated}
        (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(kept.items())))
