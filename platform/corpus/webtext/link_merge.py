"""The submissions of all files merged by URL, range by range of the URL's hash."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext.stages import SAMPLES_KEPT, Stage, read_table, sum_parts, write_table
from ladder.platform.corpus.webtext.urls import HASH_BITS
from ladder.platform.storage import is_local

if TYPE_CHECKING:
    from ladder.platform.corpus.webtext.links import LinkOptions

ROWS_OF_A_RANGE = 1_000_000
"""Submissions merged at once: about 500 MB."""


def merge_links(
    stage: Stage, read: Mapping[str, Any], files: Sequence[UPath], options: "LinkOptions"
) -> dict[str, Any]:
    """Writes the links of all files, each URL once, and completes the stage; what its `stage.json` holds.

    A link's URL, date, delay and subreddit are those of its best submission: the highest score, then the earliest, then
    the smallest name. InputError if none is left.
    """
    stage.reopen()
    n_ranges = max(1, -(-read["counts"].get("links", 0) // ROWS_OF_A_RANGE))
    tasks = [stage.task(index, None, {"read": read["output_sha256"], "of": n_ranges}) for index in range(n_ranges)]
    counts: Counter[str] = Counter()
    samples: list[str] = []
    for task in tasks:
        first = (task.index << HASH_BITS) // n_ranges
        last = ((task.index + 1 << HASH_BITS) // n_ranges) - 1
        links = _merge_range(files, first, last)
        score = pl.col("score_max" if options.score == "max" else "score_sum")
        # A URL without any score comes from a list that was filtered by its makers.
        high = score.is_null() | (score >= options.min_score)
        kept = links.filter(high).with_columns(score=score)
        low = links.filter(~high)
        counts.update({"urls": len(links), "low_score": len(low), "kept": len(kept)})
        samples += low["url"].head(SAMPLES_KEPT - len(samples)).to_list()
        write_table(task.path(".parquet"), kept)
    if not counts["kept"]:
        reasons = ", ".join(f"{reason} {n}" for reason, n in {**read["counts"], **counts}.items() if n)
        raise InputError(f"no link is left ({reasons}); look at --before, --min-score and --rules")
    write_hashes(stage.folder, [read_table(task.path(".parquet"), ["hash"])["hash"] for task in tasks])
    merged = {"counts": counts, "samples": {"low_score": samples}}
    # `links`, submissions that may stay, is also what files/ counts; each count is taken once.
    totals = sum_parts([read, merged])
    return stage.finish(tasks, inputs=read["inputs"], **totals)


def write_hashes(folder: UPath, hashes: Sequence[pl.Series]) -> None:
    """Writes the sorted hashes of all links, which readers of archives map into memory."""
    with (folder / "hashes.npy").open("wb") as file:
        np.save(file, np.concatenate([part.to_numpy() for part in hashes]))


def _merge_range(files: Sequence[UPath], first: int, last: int) -> pl.DataFrame:
    """The links whose hash is in first..last, each URL once, sorted by hash and URL."""
    in_range = pl.col("hash").is_between(pl.lit(first, dtype=pl.UInt64), pl.lit(last, dtype=pl.UInt64))
    rows = pl.concat([_read_range(file, in_range) for file in files])
    best_first = ["hash", "key", "score", "created", "id", "url"]
    descending = [False, False, True, False, False, False]
    rows = rows.sort(best_first, descending=descending, nulls_last=True)
    of_best = [pl.col(name).first() for name in ("url", "created", "delay", "subreddit", "id")]
    return rows.group_by("hash", "key", maintain_order=True).agg(
        *of_best,
        score_max=pl.col("score").max(),
        # The sum of no score at all is none, not 0.
        score_sum=pl.when(pl.col("score").is_not_null().any()).then(pl.col("score").sum()),
        submissions=pl.len().cast(pl.Int64),
        first_created=pl.col("created").min(),
    )


def _read_range(file: UPath, in_range: pl.Expr) -> pl.DataFrame:
    """The rows of a part in a range. On this machine only the groups of rows that can hold any are read; elsewhere the
    part is read whole, through fsspec, which knows the storage's credentials."""
    if is_local(file):
        return pl.scan_parquet(file.path).filter(in_range).collect()
    return read_table(file).filter(in_range)
