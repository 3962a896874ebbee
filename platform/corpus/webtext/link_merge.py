"""The submissions of all files merged by URL, range by range of the URL's hash.

A range is a part of the output. Its rows are first dealt out to pieces, smaller ranges of the hash, that wait in
temporary files: only a piece is in memory, however many submissions there are.
"""

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext.arrow_columns import read_integers, wrap_integers
from ladder.platform.corpus.webtext.links import SCHEMA
from ladder.platform.corpus.webtext.stages import SAMPLES_KEPT, Stage, sum_parts, write_tables
from ladder.platform.corpus.webtext.urls import HASH_BITS
from ladder.platform.storage import is_local

if TYPE_CHECKING:
    from ladder.platform.corpus.webtext.links import LinkOptions

ROWS_OF_A_RANGE = 1_000_000
"""Submissions of one part of the output."""
RANGES_AT_ONCE = 250
"""Temporary files open at once."""
ROWS_OF_A_PIECE = 8_000
"""Submissions merged at once: about 10 MB."""
BEST_FIRST = ("hash", "key", "score", "created", "id", "url")
NEVER = np.iinfo(np.int64).max
_SPILLED = pa.ipc.IpcWriteOptions(use_threads=False)
_READ = pa.ipc.IpcReadOptions(use_threads=False)


def merge_links(
    stage: Stage, read: Mapping[str, Any], files: Sequence[UPath], options: "LinkOptions"
) -> dict[str, Any]:
    """Writes the links of all files, each URL once, and completes the stage; what its `stage.json` holds.

    A link's URL, date, delay and subreddit are those of its best submission: the highest score, then the earliest, then
    the smallest name. InputError if none is left.
    """
    stage.reopen()
    n_links = read["counts"].get("links", 0)
    n_ranges = max(1, -(-n_links // ROWS_OF_A_RANGE))
    tasks = [stage.task(index, None, {"read": read["output_sha256"], "of": n_ranges}) for index in range(n_ranges)]
    counts: Counter[str] = Counter()
    samples: list[str] = []
    for some in (tasks[first : first + RANGES_AT_ONCE] for first in range(0, n_ranges, RANGES_AT_ONCE)):
        first, last = some[0].index, some[-1].index + 1
        groups = (group for file in files for group in _sorted_groups(file))
        with _deal_out(groups, _edges(first, last, n_ranges), stage.folder) as ranges:
            for task, rows in zip(some, ranges, strict=True):
                pieces = _in_pieces(rows, task.index, n_ranges, n_links, stage.folder)
                write_tables(task.path(".parquet"), _choose(pieces, options, counts, samples))
    if not counts["kept"]:
        for task in tasks:
            task.path(".parquet").unlink(missing_ok=True)
        reasons = ", ".join(f"{reason} {n}" for reason, n in {**read["counts"], **counts}.items() if n)
        raise InputError(f"no link is left ({reasons}); look at --before, --min-karma and --rules")
    _write_hashes(stage.folder, [task.path(".parquet") for task in tasks], counts["kept"])
    merged = {"counts": counts, "samples": {"low_score": samples}}
    # `links`, submissions that may stay, is also what files/ counts; each count is taken once.
    totals = sum_parts([read, merged])
    return stage.finish(tasks, inputs=read["inputs"], **totals)


def _edges(first: int, last: int, of: int) -> list[int]:
    """Where the ranges first..last of hashes begin, of so many of equal width."""
    return [(index << HASH_BITS) // of for index in range(first, last + 1)]


def _in_pieces(rows: Iterator[pa.Table], index: int, of: int, n_links: int, folder: UPath) -> Iterator[pa.Table]:
    """The rows of a range in pieces small enough to be merged."""
    n = max(1, -(-n_links // of // ROWS_OF_A_PIECE))
    with _deal_out(rows, _edges(index * n, (index + 1) * n, of * n), folder) as pieces:
        for piece in pieces:
            batches = [batch for group in piece for batch in group.to_batches()]
            yield pa.Table.from_batches(batches, schema=SCHEMA)


def _choose(
    pieces: Iterator[pa.Table], options: "LinkOptions", counts: Counter[str], samples: list[str]
) -> Iterator[pa.Table]:
    """The links of each piece with enough karma; counts them, and keeps samples of the others."""
    for rows in pieces:
        links = _merge(rows)
        links = links.append_column("score", links[f"score_{options.score}"])
        scores, known = read_integers(links["score"])
        # A URL without any score comes from a list that was filtered by its makers.
        high = ~known | (scores >= options.min_score)
        kept, low = (links.take(wrap_integers(np.flatnonzero(some))) for some in (high, ~high))
        counts.update({"urls": len(links), "low_score": len(low), "kept": len(kept)})
        samples += low["url"].slice(0, SAMPLES_KEPT - len(samples)).to_pylist()
        yield kept


def _write_hashes(folder: UPath, parts: Sequence[UPath], n: int) -> None:
    """Writes the sorted hashes of all links, which readers of archives map into memory, as `numpy.save` does."""
    with (folder / "hashes.npy").open("wb") as file:
        header = {"descr": "<u8", "fortran_order": False, "shape": (n,)}
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            with part.open("rb") as table:
                for batch in pq.ParquetFile(table).iter_batches(columns=["hash"]):
                    file.write(read_integers(batch.column(0))[0].astype("<u8").tobytes())


def _merge(rows: pa.Table) -> pa.Table:
    """The links of some submissions, each URL once, sorted by hash and URL; `score` is still to be chosen."""
    order = [(name, "descending" if name == "score" else "ascending") for name in BEST_FIRST]  # nulls come last
    rows = rows.take(pc.sort_indices(rows, order)).combine_chunks()
    starts = _starts_of_urls(rows)
    best = rows.take(wrap_integers(starts))
    columns = {name: best[name] for name in ("hash", "key", "url", "created", "delay", "subreddit", "id")}
    columns["score_max"] = best["score"]
    scores, created = read_integers(rows["score"])[0], read_integers(rows["created"], NEVER)[0]
    if len(starts):  # numpy reduces no empty array
        scores, created = np.add.reduceat(scores, starts), np.minimum.reduceat(created, starts)
    # The sum of no score at all is none, not 0.
    columns["score_sum"] = wrap_integers(scores, read_integers(best["score"])[1])
    columns["submissions"] = wrap_integers(np.diff(starts, append=len(rows)))
    columns["first_created"] = wrap_integers(created, created != NEVER)
    return pa.table(columns)


def _starts_of_urls(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Where the rows of each URL begin, in rows sorted by hash and URL."""
    hashes, keys = read_integers(rows["hash"])[0], rows["key"]
    other = hashes[1:] != hashes[:-1]
    for place in np.flatnonzero(~other).tolist():  # equal hashes are nearly always equal URLs
        other[place] = keys[place] != keys[place + 1]
    return np.flatnonzero(np.concatenate([np.ones(min(1, len(rows)), dtype=bool), other]))


@contextlib.contextmanager
def _deal_out(
    groups: Iterator[pa.Table], edges: Sequence[int], folder: UPath
) -> Iterator[Iterator[Iterator[pa.Table]]]:
    """The groups of each range of hashes between two edges, of groups that are each sorted by hash.

    The rows wait in temporary files, which have no names and so are gone even if the process is killed; they are on the
    folder's disk, as some machines keep the usual place in memory.
    """
    if edges == [0, 1 << HASH_BITS]:
        yield iter([groups])
        return
    directory = folder.path if is_local(folder) else None
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile(dir=directory)) for _ in edges[1:]]
        writers = [pa.ipc.new_stream(file, SCHEMA, options=_SPILLED) for file in files]
        starts, last = np.array(edges[:-1], dtype=np.uint64), np.uint64(edges[-1] - 1)
        for group in groups:
            hashes, _ = read_integers(group.column("hash"))
            places = [*np.searchsorted(hashes, starts).tolist(), int(np.searchsorted(hashes, last, side="right"))]
            for writer, begin, end in zip(writers, places, places[1:], strict=False):
                if begin < end:
                    writer.write_table(group.slice(begin, end - begin))
        for writer in writers:
            writer.close()
        yield map(_read_back, files)


def _read_back(file: IO[bytes]) -> Iterator[pa.Table]:
    file.seek(0)
    return (pa.Table.from_batches([batch]) for batch in pa.ipc.open_stream(file))


def _sorted_groups(file: UPath) -> Iterator[pa.Table]:
    """The groups of rows of a part, each sorted by hash; InputError if the part is missing or damaged."""
    try:
        with file.open("rb") as stream:
            table = pa.ipc.open_file(stream, options=_READ)
            for index in range(table.num_record_batches):
                yield pa.Table.from_batches([table.get_batch(index)])
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{file} is missing or damaged ({error}); remove its folder and run the stage again"
        ) from error
