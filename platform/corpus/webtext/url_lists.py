"""Lists of URLs, as people publish them instead of submissions: with or without score and date.

One URL a line (`.txt`, and OpenWebText's `.deduped.txt`), `.tsv` or `.csv` with a header, `.jsonl`, `.parquet`; all
but parquet also as .gz, .zst, .xz or .bz2. Fields: `url`, and where given `score` and `created_utc`. A list without
scores can no longer be checked for karma: its URLs stay.
"""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.compression import read_chunks
from ladder.platform.corpus.webtext.submissions import LineCounts

FORMATS = (".txt", ".tsv", ".csv", ".jsonl", ".parquet")
_COMPRESSED = re.compile(r"\.(gz|zst|xz|bz2)$")


@dataclass(frozen=True, slots=True)
class UrlRow:
    """One line of a list."""

    url: str
    """As written."""
    score: int | None = None
    """Karma; None where the list has none."""
    created: int | None = None
    """Seconds since 1970; None where the list has none."""


def read_url_list(file: UPath, counts: LineCounts) -> Iterator[UrlRow]:
    """The rows of a list, in order; `counts` is kept up to date on the way.

    InputError if the file cannot be read, has another format or has no field `url`.
    """
    name = _COMPRESSED.sub("", file.name)
    suffix = next((suffix for suffix in FORMATS if name.endswith(suffix)), None)
    if suffix is None:
        raise InputError(f"cannot tell the format of {file}: wanted a name that ends in {', '.join(FORMATS)}")
    try:
        if suffix == ".parquet":
            yield from _read_parquet(file, counts)
        elif suffix in (".tsv", ".csv"):
            yield from _read_separated(file, "\t" if suffix == ".tsv" else ",", counts)
        else:
            yield from _read_plain(file, suffix == ".jsonl", counts)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error


def _read_plain(file: UPath, is_json: bool, counts: LineCounts) -> Iterator[UrlRow]:
    for number, line in enumerate(_lines(file), 1):
        counts.lines += 1
        if not line.strip():
            counts.empty += 1
        elif is_json:
            try:
                fields = json.loads(line)
                yield _row(fields)
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                counts.errors.add(f"{file}:{number}", f"no object with a field url ({error!r}): {line[:60]!r}")
        else:
            yield UrlRow(line.strip())


def _read_separated(file: UPath, separator: str, counts: LineCounts) -> Iterator[UrlRow]:
    rows = csv.reader(
        _lines(file), delimiter=separator, quoting=csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    )
    header = next(rows, [])
    if "url" not in header:
        raise InputError(
            f"{file}: no column 'url' in its first line, which has {', '.join(map(repr, header)) or 'nothing'}"
        )
    for number, values in enumerate(rows, 2):
        counts.lines += 1
        if not any(values):
            counts.empty += 1
            continue
        try:
            yield _row(dict(zip(header, values, strict=True)))
        except (ValueError, TypeError) as error:
            counts.errors.add(f"{file}:{number}", f"no row of the header's columns ({error})")


def _read_parquet(file: UPath, counts: LineCounts) -> Iterator[UrlRow]:
    import pyarrow
    import pyarrow.parquet

    with file.open("rb") as stream:
        try:
            table = pyarrow.parquet.ParquetFile(stream)
            names = table.schema_arrow.names
            if "url" not in names:
                raise InputError(f"{file}: no column 'url'; the columns are {', '.join(map(repr, names)) or 'none'}")
            columns = [name for name in ("url", "score", "created_utc") if name in names]
            for batch in table.iter_batches(columns=columns):
                for fields in batch.to_pylist():
                    counts.lines += 1
                    if fields["url"] is None:
                        counts.empty += 1
                    else:
                        yield _row(fields)
        except pyarrow.ArrowException as error:
            raise InputError(f"{file}: not a whole parquet file ({error})") from error


def _row(fields: dict[str, object]) -> UrlRow:
    url, score, created = fields["url"], fields.get("score"), fields.get("created_utc")
    if not isinstance(url, str):
        raise TypeError(f"url is {url!r}")
    return UrlRow(url, _integer(score), _integer(created))


def _integer(value: object) -> int | None:
    return None if value is None or value == "" else int(float(str(value)))


def _lines(file: UPath) -> Iterator[str]:
    """The lines of a text file, cut at line feeds only."""
    rest = b""
    with file.open("rb") as stream:
        for chunk in read_chunks(stream, file):
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            yield from (line.decode("utf-8", "replace").rstrip("\r") for line in lines)
    if rest:
        yield rest.decode("utf-8", "replace").rstrip("\r")
