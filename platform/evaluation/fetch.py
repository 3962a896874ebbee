"""Puts benchmark files into storage from local copies, checked by sha256: all of a benchmark or nothing."""

import logging
from collections.abc import Sequence
from pathlib import Path

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.benchmark import Benchmark, BenchmarkFile, benchmark_folder, sha256_of
from ladder.platform.evaluation.registry import BENCHMARKS, find_benchmarks

logger = logging.getLogger(__name__)


def fetch(names: Sequence[str], *, storage: UPath, source_dir: Path | None) -> list[UPath]:
    """The files put into storage for the benchmarks named ("all": every one that has files).

    Files are looked for in `source_dir/<benchmark>/` and in `source_dir` itself; nothing is installed unless every file
    asked for is there and is the published one. Files already installed and right are left alone.
    """
    chosen = [
        benchmark
        for benchmark in (find_benchmarks(names) if "all" not in names else list(BENCHMARKS.values()))
        if benchmark.files or "all" not in names
    ]
    for benchmark in chosen:
        if benchmark.from_corpus:
            raise InputError(
                f"benchmark {benchmark.name} has no files: it is made from a corpus, see `ladder corpus build`"
            )
    if source_dir is None:
        places = "; ".join(f"{b.name}/{file.name} from {file.address}" for b in chosen for file in b.files)
        raise InputError(f"wanted --from DIR with local copies, of: {places}")
    sources = [(b, file, find_source(source_dir, b, file)) for b in chosen for file in b.files]
    return [_install(source, benchmark_folder(storage, b.name) / file.name, file) for b, file, source in sources]


def find_source(source_dir: Path, benchmark: Benchmark, file: BenchmarkFile) -> Path:
    """The local copy of a file, with the right content; InputError where there is none."""
    places = [source_dir / benchmark.name / file.name, source_dir / file.name]
    source = next((place for place in places if place.is_file()), None)
    if source is None:
        looked = " and ".join(str(place) for place in places)
        raise InputError(f"benchmark {benchmark.name}: no {file.name}, looked at {looked}; it is at {file.address}")
    digest = sha256_of(UPath(source))
    if digest != file.sha256:
        raise InputError(
            f"{source} is not the published {file.name} of {benchmark.name}: sha256 {digest}, wanted {file.sha256}; "
            f"get it again from {file.address}"
        )
    return source


def _install(source: Path, target: UPath, file: BenchmarkFile) -> UPath:
    """Copies under another name first, so that a file under its own name is always whole."""
    if target.exists() and sha256_of(target) == file.sha256:
        logger.info("%s is there already", target)
        return target
    partial = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(source.read_bytes())
        if target.exists():
            target.unlink()
        partial.rename(target)
    except OSError as error:
        raise InputError(
            f"cannot write {target}: {error.strerror or error}; free space or name another --storage"
        ) from error
    logger.info("installed %s", target)
    return target
