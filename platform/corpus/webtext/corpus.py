"""The last stage: the documents that are left become a corpus, with where each came from beside the shards.

`documents.parquet` has one row for each document in the order of the shards: link, place in the archive, split,
tokens and the columns of `quality.py`. `stages.json` keeps what every stage counted, and `corpus.json` the recipe,
so that the card can be made and checked from the corpus' folder alone.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import metadata
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.blocks import SPLITS, EncodedBlock
from ladder.platform.corpus.build import BuildOptions, build_from_records
from ladder.platform.corpus.documents import Record
from ladder.platform.corpus.store import Corpus, Split
from ladder.platform.corpus.webtext.quality import Quality
from ladder.platform.corpus.webtext.stages import read_table, table_parts
from ladder.platform.corpus.webtext.text import LINK_FIELDS, kept_rows

DOCUMENTS = "documents.parquet"
PAIRS = "pairs.parquet"
REMOVED = "removed.parquet"
STAGES = "stages.json"
HELDOUT_BY = ("url", "text")


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """How documents become a corpus."""

    build: BuildOptions = BuildOptions()
    """Tokenizer, held-out share and the like."""
    heldout_by: str = "url"
    """`url`: a document keeps its side when extraction changes; `text`: when its link does."""
    licence: str | None = (
        "texts and pages remain their publishers'; take-down: remove the URL by a rule and build again"
    )
    """What the corpus says of its licence."""

    def __post_init__(self) -> None:
        if self.heldout_by not in HELDOUT_BY:
            raise InputError(f"got --heldout-by {self.heldout_by!r}, wanted {' or '.join(HELDOUT_BY)}")


def build_webtext(
    storage: UPath,
    name: str,
    folders: Mapping[str, UPath],
    stages: Mapping[str, Mapping[str, Any]],
    options: CorpusOptions,
) -> Corpus:
    """The corpus of the stages' folders, which say `stages` of themselves; errors as `build_corpus`."""
    parts = table_parts(folders["text"], stages["text"])
    removed = read_table(table_parts(folders["duplicates"], stages["duplicates"])[0])
    gone = removed["number"].to_numpy()
    recipe = {
        "made_by": "ladder corpus webtext",
        "version": metadata.version("ladder"),
        "stages": stages["duplicates"]["recipe"],
        "tokenizer": options.build.tokenizer,
        "heldout": options.build.heldout,
        "heldout_by": options.heldout_by,
    }
    companion = _Provenance(parts, gone, folders, stages, options, recipe)
    records = _records(parts, gone, by_url=options.heldout_by == "url")
    inputs = [place["file"] for place in _inputs(stages)]
    source = ", ".join(inputs[:3]) + (f" and {len(inputs) - 3} more" if len(inputs) > 3 else "")
    n_bytes = stages["text"]["counts"].get("bytes")
    return build_from_records(
        storage, name, records, source=source, n_bytes=n_bytes, options=options.build, companion=companion
    )


def _inputs(stages: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [place for name in ("links", "pages") if name in stages for place in stages[name]["inputs"]]


def _staying(parts: Sequence[UPath], gone: np.ndarray[Any, Any], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The rows of the documents of the corpus, part by part."""
    first = 0
    for rows in kept_rows(parts, columns):
        inside = gone[(gone >= first) & (gone < first + len(rows))] - first
        stays = np.ones(len(rows), dtype=bool)
        stays[inside] = False
        first += len(rows)
        yield rows.filter(pl.Series(stays))


def _records(parts: Sequence[UPath], gone: np.ndarray[Any, Any], *, by_url: bool) -> Iterator[Record]:
    position = 0
    for rows in _staying(parts, gone, ["key", "url", "text"]):
        for key, url, text in rows.select("key", "url", "text").iter_rows():
            data = text.encode("utf-8")
            position += len(data)
            split_key = key.encode("utf-8") if by_url else None
            yield Record(source=url, data=data, is_json=False, position=position, split_key=split_key)


class _Provenance:
    """Writes the documents' rows, the duplicates and what the stages counted beside the shards."""

    def __init__(
        self,
        parts: Sequence[UPath],
        gone: np.ndarray[Any, Any],
        folders: Mapping[str, UPath],
        stages: Mapping[str, Mapping[str, Any]],
        options: CorpusOptions,
        recipe: dict[str, Any],
    ) -> None:
        self._parts, self._gone, self._folders, self._stages = parts, gone, folders, stages
        self._options, self._recipe = options, recipe
        self._splits: list[int] = []
        self._tokens: list[int] = []

    def add(self, block: EncodedBlock) -> None:
        """Takes note of each document's split and tokens."""
        for split, tokens in block.documents:
            self._splits.append(SPLITS.index(split))
            self._tokens.append(tokens)

    def finish(self, folder: UPath, splits: dict[str, Split]) -> dict[str, Any]:
        """Writes the files; the fields of the corpus."""
        self._write_documents(folder / DOCUMENTS)
        for name, path in {
            PAIRS: self._folders["duplicates"] / PAIRS,
            REMOVED: table_parts(self._folders["duplicates"], self._stages["duplicates"])[0],
        }.items():
            (folder / name).write_bytes(path.read_bytes())
        (folder / STAGES).write_text(json.dumps(self._stages, indent=1) + "\n")
        return {
            "heldout_by": self._options.heldout_by,
            "licence": self._options.licence,
            "columns": [],
            "recipe": self._recipe,
        }

    def _write_documents(self, path: UPath) -> None:
        columns = [name for name, _ in LINK_FIELDS] + ["bytes"] + [field.name for field in fields(Quality)]
        names = pl.Series(SPLITS)
        done = 0
        with path.open("wb") as file:
            writer = None
            for rows in _staying(self._parts, self._gone, columns):
                end = done + len(rows)
                table = rows.with_columns(
                    split=names.gather(self._splits[done:end]),
                    tokens=pl.Series(self._tokens[done:end], dtype=pl.Int64),
                ).to_arrow()
                done = end
                writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
                writer.write_table(table)
            assert writer is not None and done == len(self._tokens), f"{done} documents, {len(self._tokens)} tokenized"
            writer.close()
