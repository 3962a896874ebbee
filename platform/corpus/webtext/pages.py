"""The second stage: where the page of each link lies, a plan of (URL, file, offset, length) for the third to read.

Archives are read through once for it, which is cheap beside extraction; an index (CDXJ or columnar) saves even that.
Files of texts that others extracted (JSON lines, parquet) are planned in the same table, with the number of the
document instead of an offset. Of several captures of a URL the one nearest in time to the link's first submission is
taken. Order: by file and offset, so that a corpus does not depend on how the work was cut. The next stage is
`text.py`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus import documents
from ladder.platform.corpus.webtext import archives, indexes
from ladder.platform.corpus.webtext.archives import BrokenRecord, Capture
from ladder.platform.corpus.webtext.engine import Execution, make_parts
from ladder.platform.corpus.webtext.plan import write_plan
from ladder.platform.corpus.webtext.stages import SAMPLES_KEPT, Stage, Task, identify, write_table
from ladder.platform.corpus.webtext.texts import read_texts
from ladder.platform.corpus.webtext.urls import canonicalize, hash_key
from ladder.platform.corpus.webtext.workers import Watch

ERRORS_KEPT = 100
HTML_TYPES = ("text/html", "application/xhtml+xml", "text/plain", "application/octet-stream")
"""Content types that may hide a page: servers often name the last two for HTML; absent or empty ones may as well."""

CAPTURES = {
    "hash": pl.UInt64,
    "key": pl.String,
    "file": pl.String,
    "offset": pl.Int64,
    "length": pl.Int64,
    "captured": pl.Int64,
    "extracted": pl.Boolean,
}
"""A usable capture of a wanted URL. `extracted`: `file` holds texts, `offset` is the document's number in it."""


@dataclass(frozen=True, kw_only=True)
class PageInputs:
    """Where pages may be found."""

    pages: Sequence[UPath] = ()
    """Archives (.warc, .warc.gz, .warc.zst) and files of extracted texts (.jsonl, .parquet ...)."""
    index: Sequence[UPath] = ()
    """Indexes of archives."""
    archive_root: str = ""
    """What stands before the names of archives in an index: a folder or a URI."""

    def __post_init__(self) -> None:
        for file in self.pages:
            if not str(file).endswith((*archives.SUFFIXES, *documents.SUFFIXES)):
                wanted = ", ".join((*archives.SUFFIXES, *documents.SUFFIXES))
                raise InputError(f"cannot tell the format of {file}: wanted a name that ends in {wanted}")
        for file in self.index:
            if not str(file).endswith(indexes.SUFFIXES):
                raise InputError(f"cannot tell the format of {file}: wanted {', '.join(indexes.SUFFIXES)}")
        if not self.pages and not self.index:
            raise InputError("no pages: give --pages with archives or extracted texts, or --index")


@dataclass(frozen=True, kw_only=True)
class PageFile:
    """The work of one part."""

    file: UPath
    """An archive, an index or a file of texts."""
    is_index: bool
    """Whether it is an index."""
    archive_root: str
    """Stands before the names of archives in an index."""
    hashes: UPath | None
    """The sorted hashes of the wanted links; None: every page is wanted."""


def find_pages(
    folder: UPath, links: UPath | None, linked: Mapping[str, Any] | None, inputs: PageInputs, execution: Execution
) -> dict[str, Any]:
    """Runs the stage for the links of a folder, which says `linked` of itself; without links every page is taken.

    What its `stage.json` holds. InputError for files that cannot be read, and if no page is found.
    """
    upstream = None if linked is None else linked["recipe"]
    recipe = {"stage": "pages", "version": 1, "links": upstream, "types": list(HTML_TYPES)}
    files = [(file, False) for file in sorted(inputs.pages, key=str)]
    files += [(file, True) for file in sorted(inputs.index, key=str)]
    stage = Stage(name="pages", folder=folder, recipe=recipe)
    parts = Stage(name="pages", folder=folder / "files", recipe=recipe)
    hashes = None if links is None else links / "hashes.npy"
    before = None if linked is None else linked["output_sha256"]
    tasks, n_bytes = [], 0
    identities = []
    for index, (file, is_index) in enumerate(files):
        identity = identify(file)
        identities.append(identity)
        n_bytes += identity["bytes"] or 0
        spec = PageFile(file=file, is_index=is_index, archive_root=inputs.archive_root, hashes=hashes)
        tasks.append(parts.task(index, spec, {**identity, "links": before, "root": inputs.archive_root}))
    make_parts("pages", index_pages, tasks, execution, n_bytes=n_bytes)
    read = parts.finish(tasks, inputs=identities)
    return write_plan(stage, read, [task.path(".parquet") for task in tasks], links, linked)


def index_pages(task: Task, watch: Watch) -> dict[str, Any]:
    """Makes one part: the usable captures of wanted URLs in a file; its counts and errors."""
    spec: PageFile = task.spec
    watch.report(str(spec.file))
    finder = _Finder(None if spec.hashes is None else _load_hashes(spec.hashes))
    rows = list(finder.find(spec))
    write_table(task.path(".parquet"), pl.DataFrame(rows, schema=CAPTURES, orient="row"))
    return {"counts": dict(finder.counts), "errors": finder.errors, "samples": finder.samples}


class _Finder:
    """Picks the wanted captures of a file."""

    def __init__(self, hashes: npt.NDArray[np.uint64] | None) -> None:
        self._hashes = hashes
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self.samples: dict[str, list[str]] = {}

    def find(self, spec: PageFile) -> Iterator[tuple[Any, ...]]:
        """The rows of CAPTURES of one file."""
        file = str(spec.file)
        if spec.is_index:
            for item in indexes.read_index(spec.file):
                if isinstance(item, BrokenRecord):
                    self._broken(item)
                else:
                    yield from self._choose(f"{spec.archive_root}{item[0]}", item[1])
        elif file.endswith(archives.SUFFIXES):
            for record in archives.read_captures(spec.file):
                if isinstance(record, BrokenRecord):
                    self._broken(record)
                else:
                    yield from self._choose(file, record)
        else:
            for number, text in enumerate(read_texts(spec.file)):
                self.counts["records"] += 1
                key = canonicalize(text.url) if text.url is not None else None
                if key is None and self._hashes is not None:
                    self._drop("text_without_url", text.source)
                    continue
                key = key or text.source
                if self._wanted(hash_key(key)):
                    yield hash_key(key), key, file, number, 0, None, True

    def _choose(self, file: str, capture: Capture) -> Iterator[tuple[Any, ...]]:
        self.counts["records"] += 1
        key = canonicalize(capture.url)
        if key is None:
            self._drop("no_web_url", capture.url)
            return
        hashed = hash_key(key)
        if not self._wanted(hashed):
            self.counts["not_linked"] += 1
        elif capture.status is not None and capture.status != 200:
            self._drop(f"status {capture.status}", capture.url)
        elif capture.content_type and capture.content_type.lower() not in HTML_TYPES:
            self._drop("no_html", capture.url)
        elif capture.truncated:
            self._drop("truncated", capture.url)
        else:
            yield hashed, key, file, capture.offset, capture.length, capture.captured, False

    def _wanted(self, hashed: int) -> bool:
        if self._hashes is None:
            return True
        place = int(np.searchsorted(self._hashes, np.uint64(hashed)))
        return place < len(self._hashes) and int(self._hashes[place]) == hashed

    def _broken(self, record: BrokenRecord) -> None:
        self.counts["broken"] += 1
        if len(self.errors) < ERRORS_KEPT:
            self.errors.append(str(record))

    def _drop(self, reason: str, url: str) -> None:
        self.counts[reason] += 1
        kept = self.samples.setdefault(reason, [])
        if len(kept) < SAMPLES_KEPT:
            kept.append(url[:300])


def _load_hashes(path: UPath) -> npt.NDArray[np.uint64]:
    """The sorted hashes, mapped into memory where the file is on this machine."""
    if path.protocol in ("", "file", "local"):
        return cast(npt.NDArray[np.uint64], np.load(path.path, mmap_mode="r", allow_pickle=False))
    with path.open("rb") as file:
        return cast(npt.NDArray[np.uint64], np.load(file, allow_pickle=False))
