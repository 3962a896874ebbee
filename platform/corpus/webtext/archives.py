"""Web archives (WARC) record by record, and one record by its place: nothing broken ends a file silently.

FastWARC reads; this module adds what it leaves open. A record that cannot be read is reported with file, number and
offset, and reading goes on at the next one: the next gzip member or zstd frame, or in plain files the next header. A
payload shorter than its Content-Length and bytes after the last whole record are reported too: that is how a file
that was cut off looks.
"""

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import zstandard
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext.packages import import_web

SUFFIXES = (".warc", ".warc.gz", ".warc.zst")
_SEARCH_BYTES = 1 << 20
_HEAD_BYTES = 1 << 12
_GZIP, _ZSTD, _PLAIN = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"WARC/1."


@dataclass(frozen=True, kw_only=True, slots=True)
class Capture:
    """A response in an archive: what was asked for, when, and where it lies."""

    url: str
    """WARC-Target-URI."""
    offset: int
    """Bytes of the file before the record."""
    length: int
    """Bytes of the record as stored."""
    status: int | None
    """HTTP status code; None where the record has no HTTP header."""
    content_type: str | None
    """HTTP content type without parameters; None where absent."""
    captured: int | None
    """Seconds since 1970; None where the record has no date."""
    truncated: bool
    """Whether the crawler says that it kept only the beginning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokenRecord:
    """A place in an archive that cannot be read."""

    file: str
    """The archive."""
    number: int
    """Records read before it."""
    offset: int
    """Bytes of the file before the damage."""
    message: str
    """What is wrong."""

    def __str__(self) -> str:
        return f"{self.file}: record {self.number + 1} at offset {self.offset:,}: {self.message}"


@dataclass(frozen=True, slots=True)
class Page:
    """The body of an HTTP response."""

    body: bytes
    """Content, with transfer and content encodings undone."""
    charset: str | None
    """The charset that the HTTP header names, if it is one."""


def read_captures(file: UPath) -> Iterator[Capture | BrokenRecord]:
    """The responses of an archive and the places that cannot be read, in the order of the file.

    InputError if the file is missing, is no WARC at all, or is compressed as a whole instead of record by record: then
    its records have no places of their own.
    """
    try:
        with file.open("rb") as stream:
            yield from _Reader(file, stream).read()
    except (OSError, EOFError) as error:
        raise InputError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error


def read_page(file: UPath, offset: int, length: int) -> Page:
    """The page at a place of an archive, by one range of the file.

    Raises BrokenPage if there is no whole HTTP response at that place; InputError if the file cannot be read.
    """
    warc = import_web("fastwarc.warc", "reading web archives")
    try:
        data = file.fs.cat_file(file.path, start=offset, end=offset + length)
    except OSError as error:
        raise InputError(
            f"cannot read {file}: {error.strerror or error}; was it moved, or is --archive-root wrong?"
        ) from error
    try:
        record = next(iter(warc.ArchiveIterator(io.BytesIO(data), parse_http=False)))
        record.parse_http(auto_decode="all")
        body = record.reader.read()
    except (OSError, StopIteration) as error:
        raise BrokenPage(f"no whole HTTP response there ({str(error) or 'no record'})") from error
    return Page(body=body, charset=record.http_charset)


class BrokenPage(Exception):
    """There is no readable page at a place of an archive."""


class _Reader:
    """One pass over an archive."""

    def __init__(self, file: UPath, stream: IO[bytes]) -> None:
        self._warc: Any = import_web("fastwarc.warc", "reading web archives")
        self._file = file
        self._stream = stream
        self._size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        head = stream.read(4)
        self._magic = next((magic for magic in (_GZIP, _ZSTD) if head.startswith(magic)), _PLAIN)
        self._number = 0
        self._is_archive = False

    def read(self) -> Iterator[Capture | BrokenRecord]:
        """All captures and broken places, in order."""
        position: int | None = 0
        while position is not None:
            try:
                yield from self._read_from(position)
                position = None
            except _Damage as damage:
                if damage.before is not None:
                    yield damage.before
                yield BrokenRecord(file=str(self._file), number=self._number, offset=damage.offset, message=str(damage))
                position = self._find_next(damage.offset + 1)
        if not self._is_archive:
            raise InputError(f"{self._file} holds no WARC record: wanted a web archive ({', '.join(SUFFIXES)})")

    def _read_from(self, position: int) -> Iterator[Capture]:
        """The captures from a record's start to the end of the file; raises _Damage at what cannot be read."""
        self._stream.seek(position)
        last: int | None = None
        capture: Capture | None = None
        try:
            for record in self._warc.ArchiveIterator(self._stream, parse_http=False):
                if capture is not None:
                    yield _with_end(capture, record.stream_pos)
                    capture = None
                last = record.stream_pos
                self._is_archive = True
                self._check_start(last)
                try:
                    capture = self._read_record(record)
                except OSError as error:
                    raise _Damage(last, str(error)) from error
                self._number += 1
        except OSError as error:
            if last is None:
                raise _Damage(position, str(error)) from error
            raise self._place_damage(last, capture, str(error)) from error
        if last is None:
            return
        end = self._end_of(last)
        if capture is not None:
            yield _with_end(capture, end)
        self._stream.seek(end)
        rest = self._stream.read(_SEARCH_BYTES).strip(b"\r\n\0")
        if rest:
            raise _Damage(end, "bytes at the end that are no whole record: the file is cut off or damaged")

    def _place_damage(self, last: int, capture: Capture | None, message: str) -> "_Damage":
        """Where the reader failed after the record that starts at `last`: at its end, or in its own checksum."""
        try:
            end = self._end_of(last)
        except (zlib.error, zstandard.ZstdError) as error:
            self._number -= 1
            return _Damage(last, str(error))
        return _Damage(end, message, before=None if capture is None else _with_end(capture, end))

    def _read_record(self, record: Any) -> Capture | None:
        """The capture of a response, whose payload is read to its end; None for other records."""
        url = record.headers.get("WARC-Target-URI")
        is_response = record.record_type == self._warc.WarcRecordType.response and url
        if is_response:
            record.parse_http()
        wanted = record.content_length
        capture = None
        if is_response:
            date = record.record_date
            capture = Capture(
                url=url.strip("<>"),
                offset=record.stream_pos,
                length=0,
                status=record.http_headers.status_code if record.http_headers is not None else None,
                content_type=record.http_content_type,
                captured=None if date is None else int(date.timestamp()),
                truncated=record.headers.get("WARC-Truncated") is not None,
            )
        got = record.consume()
        if got < wanted:
            raise OSError(f"cut off: {got:,} bytes of {wanted:,} are there")
        return capture

    def _check_start(self, start: int) -> None:
        """InputError unless the record starts where a reader of ranges would look for it."""
        here = self._stream.tell()
        self._stream.seek(start)
        head = self._stream.read(len(self._magic))
        self._stream.seek(here)
        if head != self._magic:
            raise InputError(
                f"{self._file}: its record {self._number + 1} is not compressed on its own, so that it cannot be read "
                "by its place; compress the archive record by record (warcio recompress does)"
            )

    def _end_of(self, start: int) -> int:
        """Where the record that starts here ends; zlib.error or ZstdError if its checksum is wrong."""
        self._stream.seek(start)
        if self._magic == _PLAIN:
            return start + _plain_length(self._stream)
        frame = zlib.decompressobj(31) if self._magic == _GZIP else zstandard.ZstdDecompressor().decompressobj()
        while not frame.eof and (data := self._stream.read(_SEARCH_BYTES)):
            frame.decompress(data)
        return self._stream.tell() - len(frame.unused_data)

    def _find_next(self, start: int) -> int | None:
        """Where the next record starts at or after `start`; None if there is none."""
        overlap = len(self._magic) + 3
        while start < self._size:
            self._stream.seek(start)
            data = self._stream.read(_SEARCH_BYTES)
            found = data.find(self._magic)
            while found >= 0:
                if self._starts_record(start + found):
                    return start + found
                found = data.find(self._magic, found + 1)
            if start + len(data) >= self._size:
                return None
            start += len(data) - overlap
        return None

    def _starts_record(self, position: int) -> bool:
        """Whether a record's header can be read at this place."""
        self._stream.seek(max(0, position - 2))
        # zstd gives nothing out before a block, of up to 128 KiB, is whole.
        data = self._stream.read(1 << 18 if self._magic == _ZSTD else _HEAD_BYTES)
        before, data = (data[:2], data[2:]) if position >= 2 else (b"\r\n", data)
        if self._magic == _PLAIN:
            return before == b"\r\n" and data.startswith(_PLAIN)
        try:
            if self._magic == _GZIP:
                head = zlib.decompressobj(31).decompress(data, 16)
            else:
                head = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        except (zlib.error, zstandard.ZstdError):
            return False
        return head.startswith(_PLAIN)


class _Damage(Exception):
    """A place that cannot be read, and the capture that ends there."""

    def __init__(self, offset: int, message: str, before: Capture | None = None) -> None:
        super().__init__(message)
        self.offset = offset
        self.before = before


def _plain_length(stream: IO[bytes]) -> int:
    """Bytes of the uncompressed record at which the stream stands, with the two line ends behind it."""
    header = b""
    while b"\r\n\r\n" not in header and (data := stream.read(_HEAD_BYTES)):
        header += data
    header = header.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    lengths = [line for line in header.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(header) + int(lengths[0].partition(b":")[2]) + 4


def _with_end(capture: Capture, end: int) -> Capture:
    return Capture(**{name: getattr(capture, name) for name in Capture.__slots__} | {"length": end - capture.offset})
