"""A corpus larger than the cache of shards is read through it: the same batches, and never more on the disk."""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.batches import batch_at
from ladder.platform.corpus.shard_cache import CHUNK_BYTES, opened_shard
from ladder.platform.corpus.store import Corpus
from tests.platform.corpus.test_shard_cache import (
    ROOT,
    SHARD_BYTES,
    SHARD_TOKENS,
    build,
    bytes_in,
    cache,
    copies,
    limit_to,
    remote,
    shas,
)

__all__ = ["cache", "remote"]

SHAPE: dict[str, int] = {"batch_sequences": 12, "context": 16, "seed": 7}
STEPS = 40

TRAINER = f"""
import sys
from upath import UPath
from ladder.platform.corpus.batches import batch_at
from ladder.platform.corpus.store import open_corpus

stream = open_corpus(UPath(sys.argv[1]), "texts").train
for step in range({STEPS}):
    batch = batch_at(stream, step=step, rows=range({SHAPE["batch_sequences"]}), **{SHAPE!r})
    print(batch.tobytes().hex())
"""


def batches(corpus: Corpus, steps: int = STEPS) -> list[list[list[int]]]:
    """The first batches of a run."""
    rows = range(SHAPE["batch_sequences"])
    return [batch_at(corpus.train, step=step, rows=rows, **SHAPE).tolist() for step in range(steps)]


class Watched:
    """How much a cache held at most, looked at all the time."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.most, self._end = cache, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._end.wait(0.0005):
            with contextlib.suppress(FileNotFoundError):  # one was removed, or renamed, while we looked
                self.most = max(self.most, bytes_in(self.cache))

    def __enter__(self) -> "Watched":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


@pytest.mark.parametrize("shards", [1, 2, 3.5])
def test_a_corpus_larger_than_the_cache_gives_the_same_batches(
    remote: UPath, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, shards: float
) -> None:
    limit_to(shards, monkeypatch)
    corpus = build(remote)
    held = []
    fetch = remote.fs.cat_file

    def counted(*arguments: Any, **options: Any) -> Any:
        held.append(bytes_in(cache))
        return fetch(*arguments, **options)

    monkeypatch.setattr(remote.fs, "cat_file", counted)
    assert batches(corpus) == batches(build(UPath(tmp_path / "local")))
    assert len(held) > 5, "shards were removed and fetched again"
    assert max([*held, bytes_in(cache)]) <= shards * SHARD_BYTES


def test_within_a_batch_no_shard_is_fetched_twice(remote: UPath, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(1, monkeypatch)
    corpus = build(remote)
    fetched: list[str] = []
    fetch = remote.fs.cat_file
    monkeypatch.setattr(remote.fs, "cat_file", lambda path, **part: (fetched.append(path), fetch(path, **part))[1])
    batches(corpus, steps=1)
    assert len(fetched) == len(set(fetched)) == 5


def test_processes_share_a_small_cache_and_keep_its_limit(
    s3: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_to(2, monkeypatch)
    storage = s3.storage("small-cache")
    build(storage)
    expected = batches(build(UPath(tmp_path / "local")))
    command = [sys.executable, "-c", TRAINER, str(storage)]
    with Watched(cache) as watched:
        trainers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        said = [trainer.communicate(timeout=120)[0] for trainer in trainers]
    for lines in said:
        arrays = [np.frombuffer(bytes.fromhex(line), dtype=np.int64) for line in lines.split()]
        assert [array.reshape(SHAPE["batch_sequences"], -1).tolist() for array in arrays] == expected
    assert len(s3.reads) > 5 and 0 < watched.most <= 2 * SHARD_BYTES


def test_what_was_not_read_for_longest_makes_room(remote: UPath, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(3, monkeypatch)
    corpus = build(remote)
    for shard in (0, 1, 2, 0):
        corpus.train.read(shard * SHARD_TOKENS, 1)
        os.utime(cache / f"{shas(corpus, shard)[0]}.lock", (0, 1000 + len(os.listdir(cache)) + 10 * (shard == 0)))
    corpus.train.read(3 * SHARD_TOKENS, 1)
    assert copies(cache) == shas(corpus, 0, 2, 3)


def test_a_copy_that_is_being_read_is_not_removed(remote: UPath, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(2, monkeypatch)
    corpus = build(remote)
    first = corpus.splits["train"].shards[0]
    corpus.train.read(SHARD_TOKENS, 1)
    with opened_shard(corpus.folder / first.name, sha256=first.sha256, n_bytes=SHARD_BYTES):
        for shard in (2, 3):
            os.utime(cache / f"{first.sha256}.lock", (0, 0))  # the oldest of all
            corpus.train.read(shard * SHARD_TOKENS, 1)
            assert copies(cache) == shas(corpus, 0, shard)


def test_a_fetch_goes_on_from_where_another_process_was_killed(
    remote: UPath, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ladder.platform.corpus.shard_cache.CHUNK_BYTES", 500)
    assert CHUNK_BYTES > SHARD_BYTES
    corpus, asked = build(remote), list[int]()
    fetch = remote.fs.cat_file

    def dies(path: str, *, start: int, end: int) -> Any:
        asked.append(start)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return fetch(path, start=start, end=end)

    monkeypatch.setattr(remote.fs, "cat_file", dies)
    with pytest.raises(KeyboardInterrupt):
        corpus.train.read(0, 1)
    assert copies(cache) == [f"{shas(corpus, 0)[0]}.{SHARD_BYTES}.part"]
    corpus.train.read(0, 1)
    assert asked == [0, 500, 1000, 1000, 1500], "nothing that had arrived was asked for again"
    assert copies(cache) == shas(corpus, 0)


def test_what_a_killed_process_left_counts_and_makes_room(
    remote: UPath, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_to(2, monkeypatch)
    corpus = build(remote)
    corpus.train.read(0, 1)
    left = cache / f"{shas(corpus, 1)[0]}.{SHARD_BYTES}.part"
    left.write_bytes(b"\1" * 10)
    os.utime(left, (0, 0))
    corpus.train.read(2 * SHARD_TOKENS, 1)
    assert copies(cache) == shas(corpus, 0, 2)


def test_a_cache_that_does_not_hold_one_shard_is_an_error_that_says_what_to_do(
    remote: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_to(0.5, monkeypatch)
    with pytest.raises(InputError, match=r"one shard takes 2,000 bytes, and it may hold 1,000; raise LADDER_CACHE_GIB"):
        build(remote).train.read(0, 1)


@pytest.mark.parametrize("words", ["much", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_none_is_an_error(remote: UPath, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setenv("LADDER_CACHE_GIB", words)
    with pytest.raises(InputError, match=f"LADDER_CACHE_GIB is '{words}'; give GiB above 0"):
        build(remote).train.read(0, 1)


def test_without_a_limit_the_disk_keeps_a_reserve(remote: UPath, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = build(remote)
    disk = type("Disk", (), {"total": 20 * 10_000, "free": 10_000 + 2 * SHARD_BYTES})  # a reserve of 10,000
    monkeypatch.setattr("ladder.platform.corpus.shard_cache.shutil.disk_usage", lambda folder: disk)
    for shard in range(3):
        corpus.train.read(shard * SHARD_TOKENS, 1)
        disk.free -= SHARD_BYTES if shard < 2 else 0
        os.utime(cache / f"{shas(corpus, shard)[0]}.lock", (0, shard))
    assert copies(cache) == shas(corpus, 1, 2)
