"""Indexes of web archives: which file, offset and length hold a URL, without reading the archive.

CDXJ (`key timestamp {json}`, as Common Crawl's index server and pywb write it; also .gz and .zst) and the columnar
index (parquet). Both name a file relative to the archive's root, and both give what `archives.read_captures` gives.
The plan that is made of them is a table, which can be looked at and tested without a network.
"""

import datetime
import json
from collections.abc import Iterator

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.compression import read_chunks
from ladder.platform.corpus.webtext.archives import BrokenRecord, Capture

SUFFIXES = (".cdxj", ".cdxj.gz", ".cdxj.zst", ".cdx", ".cdx.gz", ".parquet")
COLUMNS = ("url", "fetch_time", "fetch_status", "content_mime_detected", "content_truncated")
PLACE = ("warc_filename", "warc_record_offset", "warc_record_length")


def read_index(file: UPath) -> Iterator[tuple[str, Capture] | BrokenRecord]:
    """The captures of an index with the archive each lies in, and lines that cannot be read, in order.

    InputError if the file cannot be read or has not the columns of the columnar index.
    """
    try:
        yield from _read_parquet(file) if file.name.endswith(".parquet") else _read_lines(file)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error


def _read_lines(file: UPath) -> Iterator[tuple[str, Capture] | BrokenRecord]:
    rest, number = b"", 0
    with file.open("rb") as stream:
        for chunk in read_chunks(stream, file):
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            for line in lines:
                number += 1
                if line.strip():
                    yield _parse_line(line, file, number)
    if rest.strip():
        yield _parse_line(rest, file, number + 1)


def _parse_line(line: bytes, file: UPath, number: int) -> tuple[str, Capture] | BrokenRecord:
    try:
        _, timestamp, fields = line.decode("utf-8").split(" ", 2)
        values = json.loads(fields)
        status = values.get("status", "-")
        return values["filename"], Capture(
            url=values["url"],
            offset=int(values["offset"]),
            length=int(values["length"]),
            status=int(status) if str(status).isdigit() else None,
            content_type=values.get("mime-detected") or values.get("mime"),
            captured=_seconds(datetime.datetime.strptime(timestamp, "%Y%m%d%H%M%S")),
            truncated=bool(values.get("truncated")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"no line of a CDXJ index ({error!r}): {line[:60]!r}"
        return BrokenRecord(file=str(file), number=number - 1, offset=0, message=message)


def _read_parquet(file: UPath) -> Iterator[tuple[str, Capture]]:
    import pyarrow
    import pyarrow.parquet

    wanted = [*COLUMNS, *PLACE]
    with file.open("rb") as stream:
        try:
            table = pyarrow.parquet.ParquetFile(stream)
            absent = [name for name in wanted if name not in table.schema_arrow.names]
            if absent:
                raise InputError(f"{file}: no columnar index of an archive: columns {', '.join(absent)} are missing")
            for batch in table.iter_batches(columns=wanted):
                for row in batch.to_pylist():
                    yield row["warc_filename"], _of_row(row)
        except pyarrow.ArrowException as error:
            raise InputError(f"{file}: not a whole parquet file ({error})") from error


def _of_row(row: dict[str, object]) -> Capture:
    time, status = row["fetch_time"], row["fetch_status"]
    return Capture(
        url=str(row["url"]),
        offset=int(str(row["warc_record_offset"])),
        length=int(str(row["warc_record_length"])),
        status=None if status is None else int(str(status)),
        content_type=None if row["content_mime_detected"] is None else str(row["content_mime_detected"]),
        captured=_seconds(time) if isinstance(time, datetime.datetime) else None,
        truncated=bool(row["content_truncated"]),
    )


def _seconds(time: datetime.datetime) -> int:
    return int((time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp())
