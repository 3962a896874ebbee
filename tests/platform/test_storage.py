"""Writes are whole or absent, and of several who create one file a single one does."""

from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.storage import (
    check_exclusive_create,
    create_exclusively,
    exists,
    list_files,
    list_names,
    open_storage,
    persistently,
    write_bytes,
)


@pytest.fixture(params=["file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    return UPath(tmp_path / "root") if request.param == "file" else UPath(f"memory:/{tmp_path}/root")


def test_a_file_is_created_once_and_leaves_nothing_beside_it(root: UPath) -> None:
    assert create_exclusively(root / "a" / "x.json", b"first")
    assert not create_exclusively(root / "a" / "x.json", b"second")
    assert (root / "a" / "x.json").read_bytes() == b"first" and list_names(root / "a") == ["x.json"]
    write_bytes(root / "a" / "x.json", b"third")
    assert (root / "a" / "x.json").read_bytes() == b"third" and list_names(root / "a") == ["x.json"]


def test_a_put_whose_answer_was_lost_is_known_as_ones_own() -> None:
    path = UPath("memory://lost/x.json")
    path.fs.pipe_file(path.path, b"mine")  # the server took it, then the connection broke and the client tried again
    assert create_exclusively(path, b"mine") and not create_exclusively(path, b"another's")


def test_a_store_that_can_create_exclusively_is_taken_and_keeps_no_probe(root: UPath) -> None:
    root.mkdir(parents=True, exist_ok=True)
    check_exclusive_create(root)
    assert list_names(root) == []


def test_a_store_that_overwrites_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = MemoryFileSystem.pipe_file

    def overwrite(self: Any, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> Any:
        return pipe(self, path, value, mode="overwrite", **options)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", overwrite)
    with pytest.raises(InputError, match="overwrites a file that was to be created only once"):
        check_exclusive_create(UPath("memory://careless"))


def test_a_storage_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written.*--storage"):
        check_exclusive_create(UPath(tmp_path / "file" / "below"))


def test_files_are_listed_by_their_paths(root: UPath) -> None:
    assert list_files(root) == set() and list_names(root) == []
    for name in ("a.txt", "b/c.txt", "b/d/e.txt"):
        write_bytes(root / name, b"12")
    assert list_files(root) == {"a.txt", "b/c.txt", "b/d/e.txt"}
    assert sorted(list_names(root)) == ["a.txt", "b"] and exists(root / "a.txt") and not exists(root / "x.txt")


def test_what_is_refused_is_tried_again_and_what_is_answered_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ladder.platform.storage.time.sleep", lambda seconds: None)
    answers: list[Any] = [OSError("503"), TimeoutError(), "done"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    assert persistently(ask) == "done"
    answers[:] = [FileNotFoundError("none"), "done"]
    with pytest.raises(FileNotFoundError):
        persistently(ask)
    answers[:] = [OSError("503")] * 3
    with pytest.raises(OSError, match="503"):
        persistently(ask, seconds=0)


def test_other_writers_are_seen_in_a_bucket() -> None:
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    assert open_storage("s3://bucket/ladder").fs.dircache.use_listings_cache is False
