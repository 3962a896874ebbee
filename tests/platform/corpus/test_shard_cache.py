"""Shards of remote storage are copied to a machine once, and a copy that is not right is never read."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.build import BuildOptions, build_from_records
from ladder.platform.corpus.documents import Record
from ladder.platform.corpus.store import Corpus, open_corpus

ROOT = Path(__file__).parents[3]
SHARD_TOKENS = 1000
SHARD_BYTES = 2 * SHARD_TOKENS

READER = """
import sys
from upath import UPath
from ladder.platform.corpus.store import open_corpus

corpus = open_corpus(UPath(sys.argv[1]), "texts")
print("opened", flush=True)
sys.stdin.readline()
print(corpus.train.read(0, int(sys.argv[2])).tobytes().hex(), flush=True)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of this test."""
    monkeypatch.setenv("LADDER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


@pytest.fixture
def remote(request: pytest.FixtureRequest) -> UPath:
    """An object storage within this process."""
    return UPath(f"memory://{request.node.name}")


def build(storage: UPath, n_documents: int = 40) -> Corpus:
    """A corpus of five shards to train on, no two alike."""
    texts = [hashlib.sha512(bytes([number])).hexdigest() for number in range(n_documents)]
    records = [Record(source="x", data=text.encode(), is_json=False, position=0) for text in texts]
    options = BuildOptions(tokenizer="bytes", heldout=0.1, progress=False, shard_tokens=SHARD_TOKENS)
    corpus = build_from_records(storage, "texts", records, source="texts", n_bytes=None, options=options)
    assert len(corpus.splits["train"].shards) == 5
    return corpus


def start_reader(storage: UPath, n_tokens: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", READER, str(storage), str(n_tokens)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )


def let_read(reader: subprocess.Popen[str]) -> None:
    """Waits until the reader has opened its corpus and sends it on to the tokens."""
    assert reader.stdin is not None and reader.stdout is not None
    assert reader.stdout.readline() == "opened\n"
    reader.stdin.write("\n")
    reader.stdin.flush()


def tokens_read(reader: subprocess.Popen[str]) -> list[int]:
    out, _ = reader.communicate()
    assert reader.returncode == 0
    tokens: list[int] = np.frombuffer(bytes.fromhex(out), dtype=np.int64).tolist()
    return tokens


def copies(cache: Path) -> list[str]:
    """Names in the cache, without the locks."""
    return sorted(file.name for file in cache.iterdir() if file.suffix != ".lock")


def bytes_in(cache: Path) -> int:
    """What the cache takes of the disk."""
    return sum(file.stat().st_size for file in cache.iterdir())


def limit_to(shards: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the cache hold so many shards."""
    monkeypatch.setenv("LADDER_CACHE_GIB", repr(shards * SHARD_BYTES / 2**30))


def shas(corpus: Corpus, *numbers: int) -> list[str]:
    return sorted(corpus.splits["train"].shards[number].sha256 for number in numbers)


def test_four_processes_that_want_one_shard_copy_it_once_and_no_other(s3: Any, tmp_path: Path, cache: Path) -> None:
    storage = s3.storage("four-readers")
    corpus = build(storage)
    expected = build(UPath(tmp_path / "local")).train.read(0, 1500).tolist()
    s3.open_to_reads.clear()
    readers = [start_reader(storage, 1500) for _ in range(4)]
    for reader in readers:
        let_read(reader)
    s3.asked.wait()  # one of them copies now, and the others are on their way
    s3.open_to_reads.set()
    assert [tokens_read(reader) for reader in readers] == [expected] * 4
    assert sorted(s3.reads) == ["train-00000.bin", "train-00001.bin"]
    assert copies(cache) == shas(corpus, 0, 1)


def test_a_copy_is_shared_by_every_corpus_that_holds_the_shard(s3: Any, cache: Path) -> None:
    first, second = build(s3.storage("first-corpus"), 40), build(s3.storage("second-corpus"), 41)
    assert first.fingerprint != second.fingerprint
    assert first.train.read(0, 10).tolist() == second.train.read(0, 10).tolist()
    assert s3.reads == ["train-00000.bin"]


def test_a_process_killed_while_it_copies_harms_no_other(s3: Any, tmp_path: Path, cache: Path) -> None:
    storage = s3.storage("killed-reader")
    corpus = build(storage)
    s3.open_to_reads.clear()
    killed = start_reader(storage, 10)
    let_read(killed)
    s3.asked.wait()
    killed.kill()
    killed.communicate()
    (cache / f"{shas(corpus, 0)[0]}.{SHARD_BYTES}.part").write_bytes(b"\1" * 100)  # what it had got, damaged
    s3.open_to_reads.set()
    assert corpus.train.read(0, 10).tolist() == build(UPath(tmp_path / "local")).train.read(0, 10).tolist()
    assert copies(cache) == shas(corpus, 0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: b"",
        lambda data: data + b"\0\0",
    ],
    ids=["cut", "one bit", "empty", "longer"],
)
def test_a_damaged_copy_is_found_and_copied_again(
    remote: UPath, cache: Path, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = build(remote)
    tokens = corpus.train.read(0, SHARD_TOKENS).tolist()
    copy = cache / shas(corpus, 0)[0]
    copy.write_bytes(damage(copy.read_bytes()))
    assert open_corpus(remote, "texts").train.read(0, SHARD_TOKENS).tolist() == tokens
    assert f"{copy} is damaged" in caplog.text


def test_a_right_copy_that_somebody_touched_is_kept(remote: UPath, cache: Path) -> None:
    corpus = build(remote)
    tokens = corpus.train.read(0, 10).tolist()
    copy = cache / shas(corpus, 0)[0]
    copy.write_bytes(copy.read_bytes())  # another time, the same bytes
    (corpus.folder / "train-00000.bin").unlink()
    assert replace(corpus).train.read(0, 10).tolist() == tokens


def test_verifying_a_corpus_checks_its_copies_too(remote: UPath, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    corpus = build(remote)
    corpus.train.read(0, 2 * SHARD_TOKENS)
    copy, whole = (cache / name for name in shas(corpus, 0, 1))
    times = copy.stat()
    copy.write_bytes(b"\0" * SHARD_BYTES)
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a failing disk changes it: nobody was told
    corpus.verify()
    assert f"{copy} is damaged" in caplog.text
    assert copies(cache) == [whole.name]


def test_a_copy_that_arrives_damaged_is_fetched_once_more(
    remote: UPath, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = build(remote)
    fetched, whole = [], remote.fs.cat_file

    def fetch(source: str, **part: int) -> bytes:
        fetched.append(source)
        data: bytes = whole(source, **part)
        return data if len(fetched) == 2 else b"\xff" + data[1:]

    monkeypatch.setattr(remote.fs, "cat_file", fetch)
    assert len(corpus.train.read(0, 10)) == 10
    assert len(fetched) == 2


def test_a_shard_changed_or_gone_in_storage_is_an_error_and_leaves_no_copy(remote: UPath, cache: Path) -> None:
    corpus = build(remote)
    shard = corpus.folder / "train-00000.bin"
    shard.write_bytes(b"\0" * SHARD_BYTES)
    with pytest.raises(InputError, match="train-00000.bin is not as recorded in corpus.json"):
        corpus.train.read(0, 1)
    shard.unlink()
    with pytest.raises(InputError, match="train-00000.bin is missing"):
        corpus.train.read(0, 1)
    with pytest.raises(InputError, match="train-00000.bin is missing"):
        open_corpus(remote, "texts")
    assert copies(cache) == []


def test_a_disk_without_room_is_an_error_that_says_what_to_do(
    remote: UPath, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = build(remote)
    wanted = f"no space left in the cache of shards {cache}, wanted {SHARD_BYTES:,} bytes more; .*LADDER_CACHE"

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:  # it fills up while the shard is copied
        patch.setattr(remote.fs, "cat_file", full)
        with pytest.raises(InputError, match=wanted):
            corpus.train.read(0, 1)
    assert copies(cache) == []
    corpus.train.read(0, 1)


def test_storage_that_refuses_is_not_taken_for_a_bad_cache(
    remote: UPath, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = build(remote)

    refusals = []

    def refuse(*_: Any, **__: Any) -> None:
        refusals.append(1)
        raise OSError(16, "Please reduce your request rate")

    monkeypatch.setattr(remote.fs, "cat_file", refuse)
    monkeypatch.setattr("ladder.platform.storage.PATIENCE_SECONDS", 1.0)
    with pytest.raises(OSError, match="request rate") as refused:  # not an InputError: the run may be tried again
        corpus.train.read(0, 1)
    assert len(refusals) == 2, "asked again, until patience ended"
    assert "train-00000.bin" in refused.value.__notes__[0]


def test_a_cache_that_cannot_be_written_is_an_error_that_says_what_to_do(
    remote: UPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = build(remote)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LADDER_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot write the cache of shards .*; set LADDER_CACHE to another folder"):
        corpus.train.read(0, 1)


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"LADDER_CACHE": "a", "XDG_CACHE_HOME": "b", "HOME": "c"}, "a/shards"),
        ({"XDG_CACHE_HOME": "b", "HOME": "c"}, "b/ladder/shards"),
        ({"HOME": "c"}, "c/.cache/ladder/shards"),
    ],
)
def test_the_cache_is_where_the_environment_says(
    remote: UPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], place: str
) -> None:
    corpus = build(remote)
    monkeypatch.delenv("LADDER_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    corpus.train.read(0, 1)
    assert copies(tmp_path / place) == shas(corpus, 0)
