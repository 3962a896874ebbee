"""Measurements kept under what they depend on, so that nothing is scored twice.

`scores/<checkpoint>/<benchmark>-<key>.json` in storage holds the key, in words that a person can read, and the
measurements. Whatever changes a number changes the key: the weights, the benchmark's version and data, the code, the
tokenizer, the precision, the kind of processor and the settings that the benchmark reads.
"""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from upath import UPath

from ladder.models.errors import InputError
from ladder.models.tokenizer import Tokenizer
from ladder.models.weights import CONFIG_FILE, weight_files
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Benchmark
from ladder.platform.evaluation.code_fingerprint import code_fingerprint
from ladder.platform.evaluation.files.published import BenchmarkFile, sha256_of
from ladder.platform.evaluation.measurement import Measurement
from ladder.platform.evaluation.protocol import Protocol
from ladder.platform.storage import read_json, write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ResultKey:
    """What a benchmark's numbers depend on."""

    checkpoint: str
    """sha256 (hex) of the checkpoint's config and weights."""
    benchmark: str
    """Name of the benchmark."""
    version: int
    """The benchmark's version."""
    code: str
    """Hash of the scoring code."""
    data: dict[str, str]
    """sha256 (hex) of each of its installed files and of a user's file that defines it, or the corpus' fingerprint."""
    tokenizer: str
    """The tokenizer's fingerprint."""
    precision: str
    """fp32 or bf16."""
    device: str
    """cpu or cuda."""
    protocol: dict[str, Any]
    """What of the protocol the benchmark reads."""

    @property
    def digest(self) -> str:
        """A short hash of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


class ResultCache:
    """The measurements kept in a storage."""

    def __init__(self, storage: UPath) -> None:
        self.folder = storage / "scores"

    def find(self, key: ResultKey) -> list[Measurement] | None:
        """The measurements kept under a key, or None; a record that cannot be read is as good as none."""
        path = self._path(key)
        try:
            record = read_json(path)
            if record is None or record["key"] != asdict(key):
                return None
            return [Measurement.from_json(measurement) for measurement in record["measurements"]]
        except (InputError, KeyError, TypeError) as error:
            logger.warning("%s is no record of scores (%s) and is replaced", path, error)
            return None

    def keep(self, key: ResultKey, measurements: list[Measurement]) -> None:
        """Keeps measurements under a key; InputError where storage does not take them."""
        record = {"key": asdict(key), "measurements": [measurement.to_json() for measurement in measurements]}
        path = self._path(key)
        try:
            write_json(path, record)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and path.exists():
                return  # another process kept the same at the same time
            raise InputError(
                f"cannot keep scores in {self.folder}: {error.strerror or error}; free space or pass --no-cache"
            ) from error

    def _path(self, key: ResultKey) -> UPath:
        return self.folder / key.checkpoint[:16] / f"{key.benchmark}-{key.digest}.json"


def make_key(
    benchmark: Benchmark,
    *,
    checkpoint: str,
    storage: UPath,
    corpus: Corpus | None,
    tokenizer: Tokenizer,
    precision: str,
    device: str,
    protocol: Protocol,
) -> ResultKey:
    """The key of a benchmark whose data are at hand, for a checkpoint of sha256 `checkpoint`."""
    if benchmark.from_corpus:
        assert corpus is not None, benchmark.name
        data = {"corpus": corpus.fingerprint}
    else:
        folder = benchmark.folder(storage)
        data = {"definition": benchmark.definition} if benchmark.definition else {}
        data |= {file.name: _file_sha256(folder / file.name, file) for file in benchmark.needed_files(protocol.shots)}
    return ResultKey(
        checkpoint=checkpoint,
        benchmark=benchmark.name,
        version=benchmark.version,
        code=code_fingerprint(),
        data=data,
        tokenizer=tokenizer.fingerprint,
        precision=precision,
        device=device,
        protocol=benchmark.settings_read(asdict(protocol)),
    )


def checkpoint_sha256(folder: Path) -> str:
    """sha256 (hex) over a checkpoint's config and weights; InputError where a file is missing."""
    digest = hashlib.sha256()
    for path in (folder / CONFIG_FILE, *weight_files(folder)):
        if not path.exists():
            raise InputError(f"{path} is missing; the checkpoint is not complete: copy it again")
        digest.update(f"{path.name} {sha256_of(UPath(path))}\n".encode())
    return digest.hexdigest()


def _file_sha256(path: UPath, file: BenchmarkFile) -> str:
    """sha256 of a benchmark's file, computed once for each state that this process sees it in."""
    stat = path.stat()
    return _sha256_in_state(path, stat.st_size, stat.st_mtime, file.sha256)


@lru_cache(maxsize=256)
def _sha256_in_state(path: UPath, size: int, modified: float, published: str | None) -> str:
    """sha256 of a file, with a warning, once, where it is not the published one."""
    digest = sha256_of(path)
    if published not in (None, digest):
        logger.warning("%s is not the published file: its sha256 is %s, not %s", path, digest, published)
    return digest
