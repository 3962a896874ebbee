"""The plan of pages: one capture for each link that has any, in the order of files and offsets, cut into parts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext.stages import (
    SAMPLES_KEPT,
    Stage,
    read_table,
    sha256_of,
    sum_parts,
    table_parts,
    write_table,
)

LINK_COLUMNS = (
    "key",
    "url",
    "score",
    "score_max",
    "score_sum",
    "submissions",
    "created",
    "first_created",
    "delay",
    "subreddit",
)
EMPTY_LINKS = {
    "key": pl.String,
    "url": pl.String,
    "subreddit": pl.String,
    **dict.fromkeys(("score", "score_max", "score_sum", "submissions", "created", "first_created", "delay"), pl.Int64),
}


def write_plan(
    stage: Stage,
    read: Mapping[str, Any],
    files: Sequence[UPath],
    links: UPath | None,
    linked: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Joins the captures with the links and completes the stage, whose one part is the plan.

    InputError if no page is found. Memory: about 300 bytes a page.
    """
    stage.reopen()
    captures = pl.concat([read_table(file) for file in files])
    if links is None or linked is None:
        plan = _without_links(captures)
        counts = Counter({"found": len(plan), "captures": len(captures)})
        samples: list[str] = []
    else:
        tables = [read_table(file, LINK_COLUMNS) for file in table_parts(links, linked)]
        table = pl.concat(tables)
        plan = _nearest(captures.join(table, on="key", how="inner", maintain_order="left"))
        absent = table.join(plan.select("key"), on="key", how="anti", maintain_order="left")
        counts = Counter({"found": len(plan), "captures": len(captures), "not_found": len(absent)})
        samples = absent["url"].head(SAMPLES_KEPT).to_list()
    if not len(plan):
        raise InputError(
            f"none of the pages is linked ({dict(sorted(read['counts'].items()))}): give the archives of these links"
        )
    plan = plan.drop("hash").sort("file", "offset")
    task = stage.task(0, None, read["output_sha256"])
    write_table(task.path(".parquet"), plan)
    merged = {"counts": counts, "samples": {"not_found": samples} if samples else {}}
    # Of the inputs alone: texts need not be extracted again when only the links change.
    return stage.finish(
        [task],
        made_of=None if linked is None else linked["output_sha256"],
        inputs_sha256=sha256_of(read["inputs"]),
        inputs=read["inputs"],
        **sum_parts([read, merged]),
    )


def _nearest(captures: pl.DataFrame) -> pl.DataFrame:
    """One capture of each URL: the nearest to the link's first submission, of equal ones the first by file and offset;
    captures without a time come last."""
    distance = (pl.col("captured") - pl.col("first_created")).abs()
    ordered = captures.sort(distance, "file", "offset", nulls_last=True)
    return ordered.unique("key", keep="first", maintain_order=True)


def _without_links(captures: pl.DataFrame) -> pl.DataFrame:
    empty = {name: pl.lit(None, dtype=kind) for name, kind in EMPTY_LINKS.items() if name not in ("key", "url")}
    first = captures.sort("file", "offset").unique("key", keep="first", maintain_order=True)
    return first.with_columns(url=pl.col("key"), **empty)
