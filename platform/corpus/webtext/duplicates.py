"""The fourth stage: documents that are there before, word for word or nearly, each cluster reduced to its best.

Exact first, by the hash of the words; then pairs that share a MinHash key are checked by the exact Jaccard
similarity of their word 5-grams, and clusters are what verified pairs connect. (Unchecked, the same keys remove
several times as many documents, and clusters grow through pairs that are not alike.) The best has the highest score,
then the smallest URL: never the first to arrive. The next stage is `corpus.py`.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import polars as pl
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext.clusters import Numbers, candidate_pairs, find_clusters
from ladder.platform.corpus.webtext.shingles import BANDS, NGRAM, ROWS, Hashes, hash_shingles, jaccard
from ladder.platform.corpus.webtext.stages import Stage, table_parts, write_table
from ladder.platform.corpus.webtext.text import kept_rows

PAIRS_SHOWN = 5
SHOWN_CHARACTERS = 400


@dataclass(frozen=True, kw_only=True)
class DuplicateOptions:
    """What counts as a duplicate."""

    threshold: float | None = 0.8
    """Jaccard similarity of word 5-grams from which two texts are near-duplicates; None: only equal texts are."""

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0.5 <= self.threshold <= 1:
            raise InputError(
                f"got a near-duplicate threshold of {self.threshold}, wanted 0.5 to 1: the keys miss most pairs below"
            )

    def to_json(self) -> dict[str, Any]:
        """The options as a recipe records them."""
        return {**vars(self), "ngram": NGRAM, "bands": BANDS, "rows": ROWS, "best": "highest score, then smallest URL"}


def find_duplicates(
    folder: UPath, text: UPath, extracted: Mapping[str, Any], options: DuplicateOptions
) -> dict[str, Any]:
    """Runs the stage over the texts of a folder, which says `extracted` of itself; what its `stage.json` holds.

    Its one part lists the removed documents by their number among the rows that stay, with the reason, the survivor and
    the similarity; `pairs.parquet` lists every verified pair. Memory: about 250 bytes a document.
    """
    recipe = {"stage": "duplicates", "version": 1, "text": extracted["recipe"], **options.to_json()}
    stage = Stage(name="duplicates", folder=folder, recipe=recipe)
    folder.mkdir(parents=True, exist_ok=True)
    stage.reopen()
    parts = table_parts(text, extracted)
    documents = pl.concat(kept_rows(parts, ["key", "score", "text_hash"]), rechunk=True).with_row_index("number")
    exact = _exact_duplicates(documents)
    unique = documents.join(exact, on="number", how="anti", maintain_order="left")
    of_rank = _rank(unique)["number"].to_numpy().astype(np.int64)
    counts = Counter({"documents": len(documents), "exact": len(exact)})
    pairs = pl.DataFrame(schema={"number": pl.Int64, "other": pl.Int64, "similarity": pl.Float64})
    near = exact.clear()
    if options.threshold is not None and len(unique):
        found = candidate_pairs(_bands(text, parts), of_rank)
        similarities = _verify(parts, of_rank, found)
        alike = similarities >= options.threshold
        clusters = find_clusters(len(of_rank), found[alike])
        near = _near_duplicates(clusters, of_rank)
        pairs = _table_of_pairs(found, similarities, of_rank)
        counts.update({"candidates": len(found), "pairs": int(alike.sum()), "near": len(near)})
    removed = pl.concat([_final_survivors(exact, near), near]).sort("number")
    counts["kept"] = len(documents) - len(removed)
    task = stage.task(0, None, extracted["output_sha256"])
    write_table(task.path(".parquet"), removed)
    write_table(folder / "pairs.parquet", pairs)
    examples = _examples(parts, pairs, options.threshold)
    made_of = extracted["output_sha256"]
    return stage.finish([task], made_of=made_of, counts=dict(sorted(counts.items())), examples=examples)


def _exact_duplicates(documents: pl.DataFrame) -> pl.DataFrame:
    """All but the best of each set of equal texts: number, reason, survivor."""
    ranked = _rank(documents).with_columns(survivor=pl.col("number").first().over("text_hash"))
    others = ranked.filter(pl.col("survivor") != pl.col("number"))
    return others.select(
        pl.col("number").cast(pl.Int64), pl.lit("exact").alias("reason"), pl.col("survivor").cast(pl.Int64)
    )


def _final_survivors(exact: pl.DataFrame, near: pl.DataFrame) -> pl.DataFrame:
    """The exact duplicates, with the survivor of their survivor where that one is itself nearly another text."""
    final = near.select(survivor="number", final="survivor")
    joined = exact.join(final, on="survivor", how="left", maintain_order="left")
    return joined.select("number", "reason", pl.coalesce("final", "survivor").alias("survivor"))


def _rank(documents: pl.DataFrame) -> pl.DataFrame:
    """The documents, the best first."""
    return documents.sort("score", "key", "number", descending=[True, False, False], nulls_last=True)


def _bands(text: UPath, parts: Sequence[UPath]) -> Iterator[npt.NDArray[np.uint64]]:
    """The keys of each band, of all documents that stay, in their order."""
    stays = [read["dropped"].is_null().to_numpy() for read in map(_dropped, parts)]
    for band in range(BANDS):
        yield np.concatenate([_band(part, band)[stay] for part, stay in zip(parts, stays, strict=True)])


def _dropped(part: UPath) -> pl.DataFrame:
    with part.open("rb") as file:
        return pl.read_parquet(file, columns=["dropped"])


def _band(part: UPath, band: int) -> npt.NDArray[np.uint64]:
    path = part.with_name(part.name.replace(".parquet", ".keys.npy"))
    try:
        if path.protocol in ("", "file", "local"):
            return np.asarray(np.load(path.path, mmap_mode="r", allow_pickle=False)[band])
        with path.open("rb") as file:
            return np.asarray(np.load(file, allow_pickle=False)[band])
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is missing or damaged ({error}); run the stage `text` again") from error


def _verify(parts: Sequence[UPath], of_rank: Numbers, pairs: Numbers) -> npt.NDArray[np.float64]:
    """The exact similarity of each pair of ranks; shingles of the documents wait on disk, not in memory."""
    numbers = np.unique(of_rank[pairs])
    with tempfile.TemporaryFile() as file:
        shingles = _Shingles(file, parts, numbers)
        similarities = np.empty(len(pairs))
        for index, (one, other) in enumerate(of_rank[pairs].tolist()):
            similarities[index] = jaccard(shingles.of(one), shingles.of(other))
    return similarities


class _Shingles:
    """The shingles of some documents, in a file."""

    def __init__(self, file: IO[bytes], parts: Sequence[UPath], numbers: Numbers) -> None:
        self._numbers = numbers
        ends = [0]
        first = 0
        for rows in kept_rows(parts, ["text"]):
            inside = numbers[(numbers >= first) & (numbers < first + len(rows))] - first
            for text in rows["text"].gather(inside).to_list():
                shingles = hash_shingles(text)
                file.write(shingles.tobytes())
                ends.append(ends[-1] + len(shingles))
            first += len(rows)
        file.flush()
        self._ends = np.array(ends)
        self._map = np.memmap(file, dtype=np.uint64, mode="r") if ends[-1] else np.empty(0, dtype=np.uint64)

    def of(self, number: int) -> Hashes:
        """The sorted shingles of a document, uint64 [shingles]."""
        place = int(np.searchsorted(self._numbers, number))
        return np.asarray(self._map[self._ends[place] : self._ends[place + 1]])


def _near_duplicates(clusters: Numbers, of_rank: Numbers) -> pl.DataFrame:
    """All but the best of each cluster of ranks: number, reason, survivor."""
    removed = np.flatnonzero(clusters != np.arange(len(clusters)))
    return pl.DataFrame(
        {"number": of_rank[removed], "reason": ["near"] * len(removed), "survivor": of_rank[clusters[removed]]},
        schema={"number": pl.Int64, "reason": pl.String, "survivor": pl.Int64},
    )


def _table_of_pairs(pairs: Numbers, similarities: npt.NDArray[np.float64], of_rank: Numbers) -> pl.DataFrame:
    numbers = np.sort(of_rank[pairs], axis=1)
    table = pl.DataFrame({"number": numbers[:, 0], "other": numbers[:, 1], "similarity": similarities})
    return table.sort("number", "other")


def _examples(parts: Sequence[UPath], pairs: pl.DataFrame, threshold: float | None) -> list[dict[str, Any]]:
    """Pairs spread evenly over the similarities that count as near-duplicates, with the beginnings of their texts."""
    alike = pairs.filter(pl.col("similarity") >= (threshold or 2.0)).sort("similarity", "number", "other")
    if not len(alike):
        return []
    places = sorted({round(place) for place in np.linspace(0, len(alike) - 1, PAIRS_SHOWN)})
    chosen = alike[places]
    wanted = set(chosen["number"]) | set(chosen["other"])
    found: dict[int, dict[str, str]] = {}
    first = 0
    for rows in kept_rows(parts, ["url", "text"]):
        for number in wanted & set(range(first, first + len(rows))):
            row = rows.row(number - first, named=True)
            found[number] = {"url": row["url"], "text": row["text"][:SHOWN_CHARACTERS]}
        first += len(rows)
    return [
        {"similarity": pair["similarity"], "one": found[pair["number"]], "other": found[pair["other"]]}
        for pair in chosen.iter_rows(named=True)
    ]
