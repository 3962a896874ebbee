"""The third stage: the text of every page of the plan, with its columns, and why a page gives no document.

A part is a run of the plan within one file. Each page is read by its place, extracted, looked through for junk,
measured and filtered; its row stays with the reason where it is left out, so that the card can show what each rule
removed. Beside the rows stand the MinHash keys of the texts, so that nobody has to read texts again to find similar
ones. The next stage is `duplicates.py`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from ladder.platform.corpus.webtext.archives import BrokenPage, read_page
from ladder.platform.corpus.webtext.engine import Execution, make_parts
from ladder.platform.corpus.webtext.extraction import ExtractionOptions, ParserFailed, extract_text
from ladder.platform.corpus.webtext.filters import FilterOptions
from ladder.platform.corpus.webtext.quality import Quality, find_junk, measure
from ladder.platform.corpus.webtext.shingles import BANDS, band_keys, hash_shingles
from ladder.platform.corpus.webtext.stages import SAMPLES_KEPT, Stage, Task, read_table, sha256_of, whole_or_absent
from ladder.platform.corpus.webtext.texts import read_texts
from ladder.platform.corpus.webtext.workers import TRIES, Watch

ROWS_AT_ONCE = 256
PAGES_OF_A_PART = 500
"""About ten seconds of extraction: what an interruption costs a worker at most."""

_KINDS: dict[Any, pa.DataType] = {int: pa.int64(), float: pa.float64(), str: pa.string()}
LINK_FIELDS = [
    ("key", pa.string()),
    ("url", pa.string()),
    ("file", pa.string()),
    ("offset", pa.int64()),
    *((name, pa.int64()) for name in ("score", "score_max", "score_sum", "submissions")),
    *((name, pa.int64()) for name in ("created", "first_created", "delay", "captured")),
    ("subreddit", pa.string()),
]
SCHEMA = pa.schema(
    [
        *LINK_FIELDS,
        ("dropped", pa.string()),
        ("text", pa.string()),
        ("bytes", pa.int64()),
        ("text_hash", pa.uint64()),
        *((field.name, _KINDS[field.type]) for field in fields(Quality)),
    ]
)
"""A page: its link and place, why it is left out (null: it stays), its text, UTF-8 bytes, 64 bits of the hash of its
words, and the columns of `quality.py`."""


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """How pages become documents."""

    extraction: ExtractionOptions = ExtractionOptions()
    """From HTML to text."""
    filters: FilterOptions = FilterOptions()
    """Which texts stay."""


@dataclass(frozen=True, kw_only=True)
class PlanSlice:
    """The work of one part."""

    plan: UPath
    """The plan's file."""
    start: int
    """Its first row."""
    rows: int
    """How many."""
    options: TextOptions
    """How pages become documents."""


def extract_texts(
    folder: UPath,
    pages: UPath,
    planned: Mapping[str, Any],
    options: TextOptions,
    execution: Execution,
    *,
    pages_of_a_part: int = PAGES_OF_A_PART,
) -> dict[str, Any]:
    """Runs the stage for the plan in `pages`, which says `planned` of itself; what its `stage.json` holds.

    InputError if an archive of the plan cannot be read. A page that cannot be is a counted row.
    """
    recipe = {
        "stage": "text",
        "version": 1,
        "pages": planned["recipe"],
        "extraction": options.extraction.to_json(),
        "filters": options.filters.to_json(),
    }
    stage = Stage(name="text", folder=folder, recipe=recipe)
    stage.folder.mkdir(parents=True, exist_ok=True)
    path = pages / "part-00000.parquet"
    plan = read_table(path)
    n_bytes = int(plan["length"].sum())
    tasks: list[Task] = []
    for start, rows in cut_plan(plan, pages_of_a_part):
        spec = PlanSlice(plan=path, start=start, rows=rows, options=options)
        identity = {"rows": sha256_of(plan.slice(start, rows).write_csv()), "inputs": planned["inputs_sha256"]}
        tasks.append(stage.task(len(tasks), spec, identity))
    make_parts("text", extract_part, tasks, execution, n_bytes=n_bytes, isolated=True)
    return stage.finish(tasks, made_of=planned["output_sha256"])


def cut_plan(plan: pl.DataFrame, pages_of_a_part: int) -> list[tuple[int, int]]:
    """Runs (first row, rows) of one file, of at most so many pages; a file of texts, read in one go, is one run."""
    runs: list[tuple[int, int]] = []
    start = 0
    for extracted, rows in (
        plan.select(run=pl.struct("file", "extracted").rle())
        .unnest("run")
        .select(pl.col("value").struct.field("extracted"), pl.col("len"))
        .rows()
    ):
        step = rows if extracted else pages_of_a_part
        runs += [(start + first, min(step, rows - first)) for first in range(0, rows, step)]
        start += rows
    return runs


def extract_part(task: Task, watch: Watch) -> dict[str, Any]:
    """Makes one part; its counts, errors and samples."""
    spec: PlanSlice = task.spec
    plan = read_table(spec.plan).slice(spec.start, spec.rows)
    maker = _RowMaker(spec.options, watch)
    rows = maker.read_texts(plan) if plan["extracted"][0] else maker.read_pages(plan)
    keys = _write_rows(task.path(".parquet"), rows)
    with task.path(".keys.npy").open("wb") as file:
        np.save(file, np.ascontiguousarray(keys.T))  # [bands, rows]: a band is read alone
    return {"counts": dict(maker.counts), "errors": maker.errors, "samples": maker.samples}


class _RowMaker:
    """Turns pages into rows of SCHEMA, each with the keys of its text."""

    def __init__(self, options: TextOptions, watch: Watch) -> None:
        self._options = options
        self._watch = watch
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self.samples: dict[str, list[dict[str, str]]] = {}

    def read_pages(self, plan: pl.DataFrame) -> Iterator[tuple[dict[str, Any], Any]]:
        """The rows of pages in archives, in order."""
        for page in plan.iter_rows(named=True):
            text, reason = self._extract(page)
            yield self._row(page, text, reason)

    def read_texts(self, plan: pl.DataFrame) -> Iterator[tuple[dict[str, Any], Any]]:
        """The rows of texts that others extracted, in order."""
        wanted = iter(plan.iter_rows(named=True))
        page = next(wanted, None)
        for number, document in enumerate(read_texts(UPath(plan["file"][0]))):
            if page is not None and page["offset"] == number:
                large = len(document.text.encode()) > self._options.extraction.max_text_bytes
                yield self._row(page, "" if large else document.text, "too_much_text" if large else None)
                page = next(wanted, None)

    def _extract(self, page: dict[str, Any]) -> tuple[str, str | None]:
        address = f"{page['file']} at offset {page['offset']:,} ({page['key']})"
        if not self._watch.may_parse(address):
            self.errors.append(f"{address}: killed its worker {TRIES} times; left out")
            return "", "poisoned"
        try:
            content = read_page(UPath(page["file"]), page["offset"], page["length"])
        except BrokenPage as error:
            self.errors.append(f"{address}: {error}")
            return "", "broken"
        try:
            return extract_text(content, page["url"], self._options.extraction)
        except ParserFailed as error:
            self.errors.append(f"{address}: {error}")
            return "", "parser_failed"

    def _row(self, page: dict[str, Any], text: str, reason: str | None) -> tuple[dict[str, Any], Any]:
        data = text.encode("utf-8")
        reason = reason or find_junk(text)
        quality = measure(text) if text and reason is None else None
        if quality is not None:
            reason = self._options.filters.find(quality)
        self.counts["pages"] += 1
        self.counts["bytes"] += len(data) if reason is None else 0
        self.counts["kept" if reason is None else reason] += 1
        if reason is not None and len(kept := self.samples.setdefault(reason, [])) < SAMPLES_KEPT:
            kept.append({"url": page["url"], "text": text[:500]})
        row = {name: page[name] for name, _ in LINK_FIELDS} | {"dropped": reason, "text": text, "bytes": len(data)}
        row["text_hash"] = hash_words(text) if reason is None else None
        row |= {field.name: None for field in fields(Quality)} if quality is None else asdict(quality)
        keys = band_keys(hash_shingles(text)) if reason is None else np.zeros(BANDS, dtype=np.uint64)
        return row, keys


def hash_words(text: str) -> int:
    """64 bits of BLAKE2b of a text with its white space made single spaces: equal for texts of equal words."""
    return int.from_bytes(hashlib.blake2b(" ".join(text.split()).encode(), digest_size=8).digest(), "little")


def _write_rows(path: UPath, rows: Iterator[tuple[dict[str, Any], Any]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Writes rows, ROWS_AT_ONCE in memory, to a file that is whole or absent; the keys of all, uint64 [rows, bands]."""
    all_keys: list[Any] = [np.empty((0, BANDS), dtype=np.uint64)]
    with whole_or_absent(path) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        group: list[dict[str, Any]] = []
        keys: list[Any] = []
        for row, of_row in rows:
            group.append(row)
            keys.append(of_row)
            if len(group) == ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(group, SCHEMA))
                all_keys.append(np.stack(keys))
                group, keys = [], []
        if group:
            writer.write_table(pa.Table.from_pylist(group, SCHEMA))
            all_keys.append(np.stack(keys))
    return np.concatenate(all_keys)


def kept_rows(parts: Sequence[UPath], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The rows that stay, of one part after the other, with some columns."""
    for part in parts:
        yield read_table(part, [*columns, "dropped"]).filter(pl.col("dropped").is_null()).drop("dropped")
