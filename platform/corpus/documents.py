"""Documents as they come out of files: one noun for `.jsonl`, `.jsonl.zst`, `.jsonl.gz`, `.parquet` and `.txt`.

The one idea: reading and parsing are apart. `read_records` only cuts a stream of bytes into records, which is cheap and
sequential; `parse_record` turns one record into a document, which is dear and runs in many processes. Everything that
can be wrong with a file is an InputError that names file and line. The next step is `blocks.py`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.compression import read_chunks

SUFFIXES = (".jsonl", ".jsonl.zst", ".jsonl.gz", ".parquet", ".txt")
TEXT_FIELD = "text"
PARQUET_BATCH_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class DocumentFields:
    """Which fields of JSON lines and parquet make a document."""

    text: str = TEXT_FIELD
    """The field or column with the text."""


FIELDS = DocumentFields()


@dataclass(frozen=True, slots=True)
class Document:
    """A text to train on, and where it came from."""

    text: str
    """The whole document."""
    source: str
    """File and line (or row), for messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A document not yet parsed."""

    source: str
    """File and line (or row), for messages."""
    data: bytes
    """UTF-8 text, or one JSON object."""
    is_json: bool
    """Whether `data` is a JSON object with a field `text`, rather than the text itself."""
    position: int
    """Bytes of input read up to here over all files, as stored (compressed); drives the progress bar."""
    text_field: str = TEXT_FIELD
    """The field of the JSON object that holds the text."""
    split_key: bytes | None = None
    """What chooses the document's split instead of its text, such as its URL; None: the text."""


def read_documents(paths: Sequence[UPath | Path | str]) -> Iterator[Document]:
    """The documents of files and folders, in order. InputError names the file and line of what cannot be read."""
    return (parse_record(record) for record in read_records(find_files(paths)))


def find_files(paths: Sequence[UPath | Path | str]) -> list[UPath]:
    """The files at paths; a folder stands for every supported file in it, sorted. InputError if there are none."""
    files = [file for path in paths for file in _expand(path)]
    if not files:
        raise InputError(f"no input files: give files or folders of {', '.join(SUFFIXES)}")
    repeated = sorted({str(file) for file in files if files.count(file) > 1}) if len(set(files)) < len(files) else []
    if repeated:
        raise InputError(f"input file given more than once: {', '.join(repeated)}; name each file once")
    return files


def count_bytes(files: Iterable[UPath]) -> int:
    """The bytes of the files as stored."""
    return sum(file.stat().st_size for file in files)


def read_records(files: Iterable[UPath], fields: DocumentFields = FIELDS) -> Iterator[Record]:
    """The records of files, in order, holding at most one record and one chunk in memory."""
    start = 0
    for file in files:
        empty = True
        try:
            for record in _reader(file)(file, start, fields):
                empty = False
                yield record
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror or error}") from error
        except Exception as error:
            raise network_error(error, file) from error
        if empty:
            raise InputError(f"{file} holds no document: it is empty; remove it from the inputs")
        start += file.stat().st_size


def network_error(error: Exception, place: UPath | Path | str) -> Exception:
    """What a file elsewhere raised, as an InputError: each client of a network has errors of its own kind.

    The error itself where it is an InputError already or the file is on this machine.
    """
    if isinstance(error, InputError) or "://" not in str(place):
        return error
    return InputError(f"cannot read {place}: {type(error).__name__}: {error}; check the address and the network")


def parse_record(record: Record) -> Document:
    """The document of a record. InputError for invalid UTF-8 or JSON, and for a `text` that is missing or no text."""
    try:
        content = record.data.decode("utf-8-sig")  # a file from Windows may start with a byte order mark
    except UnicodeDecodeError as error:
        raise InputError(
            f"{record.source}: not valid UTF-8 at byte {error.start} (0x{record.data[error.start]:02x}); "
            "convert the file to UTF-8"
        ) from error
    text = _text_of_json(content, record.source, record.text_field) if record.is_json else content
    return Document(text=text, source=record.source)


def _text_of_json(line: str, source: str, name: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not valid JSON ({error}); each line must be one JSON object") from error
    if not isinstance(value, dict):
        raise InputError(f"{source}: got a JSON {type(value).__name__}, wanted an object with a field {name!r}")
    if name not in value:
        fields = ", ".join(map(repr, value)) or "none"
        raise InputError(
            f"{source}: no field {name!r}; the fields are {fields}; name the one with the text by --text-field"
        )
    text = value[name]
    if not isinstance(text, str):
        raise InputError(f"{source}: field {name!r} is a {type(text).__name__}, wanted a string")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{source}: field {name!r} holds half a surrogate pair at character {error.start}, "
            "which is no valid Unicode; remove it or replace it by \\ufffd"
        ) from error
    return text


def list_columns(file: UPath) -> tuple[str, ...]:
    """The columns of parquet, or the fields of the first JSON line, as they come; empty for a text file.

    InputError if the file cannot be read.
    """
    if file.name.endswith(".parquet"):
        import pyarrow
        import pyarrow.parquet

        try:
            with file.open("rb") as stream:
                return tuple(pyarrow.parquet.ParquetFile(stream).schema_arrow.names)
        except (OSError, pyarrow.ArrowException) as error:
            raise InputError(f"{file}: not a whole parquet file ({error})") from error
    first = next(read_records([file]))
    try:
        value = json.loads(first.data) if first.is_json else {}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{first.source}: not valid JSON ({error}); each line must be one JSON object") from error
    return tuple(value) if isinstance(value, dict) else ()


def _expand(place: UPath | Path | str) -> list[UPath]:
    try:
        return _files_at(UPath(place))
    except InputError:
        raise
    except (OSError, ImportError, ValueError) as error:  # no permission; a protocol that is unknown or not installed
        raise InputError(f"cannot read {place}: {error}") from error
    except Exception as error:
        raise network_error(error, place) from error


def _files_at(path: UPath) -> list[UPath]:
    if path.is_dir():
        files = sorted((file for file in path.rglob("*") if str(file).endswith(SUFFIXES)), key=str)
        if not files:
            raise InputError(f"no input in folder {path}: wanted files of {', '.join(SUFFIXES)}")
        return files
    if not path.exists():
        raise InputError(f"no such input file: {path}")
    if not path.name.endswith(SUFFIXES):
        raise InputError(f"cannot tell the format of {path}: wanted a name that ends in {', '.join(SUFFIXES)}")
    return [path]


def _reader(file: UPath) -> Callable[[UPath, int, DocumentFields], Iterator[Record]]:
    if file.name.endswith(".parquet"):
        return _read_parquet
    return _read_text if file.name.endswith(".txt") else _read_json_lines


def _read_text(file: UPath, start: int, fields: DocumentFields) -> Iterator[Record]:
    data = file.read_bytes()
    if data:
        yield Record(source=str(file), data=data, is_json=False, position=start + len(data))


def _read_json_lines(file: UPath, start: int, fields: DocumentFields) -> Iterator[Record]:
    """One record per line that is not blank; a line may be any number of chunks long."""
    partial: list[bytes] = []
    number = 1
    with file.open("rb") as stream:
        for chunk in read_chunks(stream, file):
            first, *others = chunk.split(b"\n")
            partial.append(first)
            for next_line in others:
                yield from _line_record(b"".join(partial), file, number, start + stream.tell(), fields.text)
                partial = [next_line]
                number += 1
        yield from _line_record(b"".join(partial), file, number, start + stream.tell(), fields.text)


def _line_record(line: bytes, file: UPath, number: int, position: int, text: str) -> Iterator[Record]:
    if line.strip():
        yield Record(source=f"{file}:{number}", data=line, is_json=True, position=position, text_field=text)


def _read_parquet(file: UPath, start: int, fields: DocumentFields) -> Iterator[Record]:
    import pyarrow  # late, because it is slow to import and only this format needs it
    import pyarrow.parquet

    size = file.stat().st_size
    if size == 0:
        return
    with file.open("rb") as stream:
        try:
            table = pyarrow.parquet.ParquetFile(stream)
            _check_schema(table, file, fields.text)
            row = 0
            for batch in table.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=[fields.text]):
                # As bytes, not str: the worker decodes, and names the row of text that is no UTF-8.
                for data in batch.column(0).cast(pyarrow.large_binary()).to_pylist():
                    row += 1
                    source = f"{file}: row {row}"
                    if data is None:
                        raise InputError(f"{source}: column {fields.text!r} is null, wanted a string")
                    position = start + size * row // table.metadata.num_rows
                    yield Record(source=source, data=data, is_json=False, position=position)
        except pyarrow.ArrowException as error:
            raise InputError(f"{file}: not a whole parquet file ({error})") from error


def _check_schema(table: "pyarrow.parquet.ParquetFile", file: UPath, text: str) -> None:  # type: ignore[name-defined] # noqa: F821
    import pyarrow.types

    schema = table.schema_arrow
    if text not in schema.names:
        columns = ", ".join(map(repr, schema.names)) or "none"
        raise InputError(
            f"{file}: no column {text!r}; the columns are {columns}; name the one with the text by --text-field"
        )
    kind = schema.field(text).type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        raise InputError(f"{file}: column {text!r} is of type {kind}, wanted string")
