"""Texts that others extracted: JSON lines or parquet with the fields `text` and, where known, `url`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.documents import parse_record, read_records


@dataclass(frozen=True, slots=True)
class ExtractedText:
    """One document."""

    text: str
    """The whole text."""
    url: str | None
    """Where it was found; None where the file does not say."""
    source: str
    """File and line or row."""


def read_texts(file: UPath) -> Iterator[ExtractedText]:
    """The documents of a file, in order.

    InputError, naming file and line, for what is no document. Of parquet only `text` and `url` are read.
    """
    if file.name.endswith(".parquet"):
        yield from _read_parquet(file)
        return
    for record in read_records([file]):
        text = parse_record(record).text
        url = json.loads(record.data.decode("utf-8-sig")).get("url") if record.is_json else None
        if url is not None and not isinstance(url, str):
            raise InputError(f"{record.source}: field 'url' is a {type(url).__name__}, wanted a string")
        yield ExtractedText(text, url, record.source)


def _read_parquet(file: UPath) -> Iterator[ExtractedText]:
    import pyarrow
    import pyarrow.parquet

    texts = read_records([file])
    with file.open("rb") as stream:
        try:
            table = pyarrow.parquet.ParquetFile(stream)
            named = "url" in table.schema_arrow.names
            urls = (
                (
                    url
                    for batch in table.iter_batches(batch_size=256, columns=["url"])
                    for url in batch.column(0).to_pylist()
                )
                if named
                else iter(lambda: None, "")
            )
            for record, url in zip(texts, urls, strict=named):
                yield ExtractedText(parse_record(record).text, url, record.source)
        except pyarrow.ArrowException as error:
            raise InputError(f"{file}: not a whole parquet file ({error})") from error
