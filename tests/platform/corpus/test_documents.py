import gzip
import json
from collections.abc import Callable
from pathlib import Path

import polars
import pytest
import zstandard
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.documents import find_files, read_documents, read_records

TEXTS = ["one page", "two\nlines", "caf\u00e9 \U0001f40d", "<|endoftext|> is text here"]


def json_lines(texts: list[str]) -> bytes:
    return b"".join(json.dumps({"text": text, "url": "x"}).encode() + b"\n" for text in texts)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.jsonl": lambda path: path.write_bytes(json_lines(TEXTS)),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(json_lines(TEXTS))),
    "a.jsonl.zst": lambda path: path.write_bytes(zstandard.compress(json_lines(TEXTS))),
    "a.parquet": lambda path: polars.DataFrame({"text": TEXTS, "n": range(4)}).write_parquet(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    assert [document.text for document in read_documents([tmp_path / name])] == TEXTS


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert [document.text for document in read_documents([tmp_path / "a.txt"])] == ["one\n\ntwo\n"]


def test_a_folder_stands_for_its_files_in_order(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c.png"):
        (tmp_path / name).write_text(name)
    assert [document.text for document in read_documents([tmp_path])] == ["a.txt", "b.txt"]


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_many_frames_are_read_as_one_file(tmp_path: Path, suffix: str) -> None:
    compress = gzip.compress if suffix.endswith("gz") else zstandard.compress
    file = tmp_path / f"a{suffix}"
    file.write_bytes(b"".join(compress(json_lines([f"page {n}"])) for n in range(500)))
    assert [document.text for document in read_documents([file])] == [f"page {n}" for n in range(500)]


def test_a_line_longer_than_a_chunk_stays_whole(tmp_path: Path) -> None:
    long = "word " * 200_000
    (tmp_path / "a.jsonl").write_bytes(json_lines(["first", long, "last"])[:-1])  # and no line end at the end
    documents = list(read_documents([tmp_path / "a.jsonl"]))
    assert [document.text for document in documents] == ["first", long, "last"]
    assert documents[-1].source.endswith("a.jsonl:3")


def test_windows_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + json_lines(["one", "two"]).replace(b"\n", b"\r\n"))
    assert [document.text for document in read_documents([tmp_path / "a.jsonl"])] == ["one", "two"]


def test_positions_end_at_the_size_of_the_input(tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        write(tmp_path / name)
    files = find_files([tmp_path])
    positions = [record.position for record in read_records(files)]
    assert positions == sorted(positions)
    assert positions[-1] == sum(file.stat().st_size for file in files)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "half', "a.jsonl:3: not valid JSON"),
        (b"[" * 100_000, "a.jsonl:3: not valid JSON"),
        (b'"just a string"', "a.jsonl:3: got a JSON str, wanted an object"),
        (b'{"body": "x", "url": "y"}', "a.jsonl:3: no field 'text'; the fields are 'body', 'url'"),
        (b'{"text": null}', "a.jsonl:3: field 'text' is a NoneType, wanted a string"),
        (b'{"text": "\xff\xfe"}', "a.jsonl:3: not valid UTF-8 at byte 10"),
        (b'{"text": "\\ud83d"}', "a.jsonl:3: field 'text' holds half a surrogate pair"),
    ],
)
def test_a_corrupt_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(json_lines(["fine"]) + b"\n" + line + b"\n" + json_lines(["fine"]))
    with pytest.raises(InputError, match="a.jsonl:3") as error:
        list(read_documents([tmp_path / "a.jsonl"]))
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
@pytest.mark.parametrize("damage", ["cut off", "corrupt"])
def test_damaged_compressed_data_is_no_quiet_end(tmp_path: Path, name: str, damage: str) -> None:
    compress = gzip.compress if name.endswith("gz") else zstandard.compress
    data = compress(json_lines([f"page {n} {hash(str(n))}" for n in range(20_000)]))
    half = len(data) // 2
    (tmp_path / name).write_bytes(data[:half] + (b"" if damage == "cut off" else b"\xff" * 1000 + data[half + 1000 :]))
    with pytest.raises(InputError, match=f"{name}"):
        list(read_documents([tmp_path / name]))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.txt"])
def test_an_empty_file_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=f"{name} holds no document"):
        list(read_documents([tmp_path / name]))


def test_a_parquet_file_must_have_a_column_of_text(tmp_path: Path) -> None:
    polars.DataFrame({"body": ["x"]}).write_parquet(tmp_path / "a.parquet")
    polars.DataFrame({"text": [1]}).write_parquet(tmp_path / "b.parquet")
    polars.DataFrame({"text": ["x", None]}).write_parquet(tmp_path / "c.parquet")
    (tmp_path / "d.parquet").write_bytes((tmp_path / "c.parquet").read_bytes()[:-20])
    for name, message in [
        ("a", "no column 'text'; the columns are 'body'"),
        ("b", "of type int64, wanted string"),
        ("c", "c.parquet: row 2: column 'text' is null"),
        ("d", "d.parquet: not a whole parquet file"),
    ]:
        with pytest.raises(InputError, match=message):
            list(read_documents([tmp_path / f"{name}.parquet"]))


def test_inputs_that_are_not_there_or_of_no_known_format_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "a.txt").write_text("x")
    for paths, message in [
        ([tmp_path / "none.jsonl"], "no such input file"),
        ([tmp_path / "a.csv"], "cannot tell the format of .*a.csv: wanted a name that ends in .jsonl"),
        ([tmp_path / "a.txt", tmp_path], "given more than once: .*a.txt"),
        (["nowhere://x/a.jsonl"], "cannot read nowhere://x/a.jsonl"),
        ([], "no input files"),
    ]:
        with pytest.raises(InputError, match=message):
            list(read_documents(paths))


def test_a_place_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoAnswer(Exception):
        """As httpx's, it is no OSError."""

    def fail(*_: object, **__: object) -> None:
        raise NoAnswer("name not known")

    place = UPath("memory://far/a.jsonl")
    with monkeypatch.context() as patched:
        patched.setattr(type(place.fs), "info", fail)
        patched.setattr(type(place.fs), "exists", fail)
        patched.setattr(type(place.fs), "isdir", fail)
        with pytest.raises(InputError, match="cannot read memory://far/a.jsonl: NoAnswer: name not known; check the"):
            find_files([place])
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(json_lines(TEXTS))
    files = find_files([place])
    monkeypatch.setattr(type(place.fs), "_open", fail)
    with pytest.raises(InputError, match="cannot read memory://far/a.jsonl: NoAnswer: name not known; check the"):
        list(read_documents(files))
