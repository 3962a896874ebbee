"""The card of a corpus: what it holds, what was left out and why, and what a reader should beware of.

Every number is computed from the corpus' folder: `documents.parquet`, `pairs.parquet`, `removed.parquet`,
`stages.json` and the shards. `card_page.py` draws it.
"""

import datetime
import json
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.blocks import SPLITS, hash_document
from ladder.platform.corpus.store import Corpus
from ladder.platform.corpus.webtext.corpus import DOCUMENTS, PAIRS, REMOVED, STAGES
from ladder.platform.corpus.webtext.domains import describe_domains
from ladder.platform.corpus.webtext.funnel import make_funnel
from ladder.platform.corpus.webtext.stages import read_table, whole_or_absent
from ladder.platform.storage import read_json

CARD = "card.json"
DECILES = tuple(share / 10 for share in range(11))
SHORT_TOKENS = 128
"""OpenWebText left out shorter documents; here they stay and are counted."""
DOCUMENTS_SHOWN = 20
SHOWN_TOKENS = 120
ALIKE = (0.8, 0.5)


def has_card(corpus: Corpus) -> bool:
    """Whether a corpus has what a card is made of."""
    return (corpus.folder / STAGES).exists() and (corpus.folder / DOCUMENTS).exists()


def make_card(
    corpus: Corpus, *, published: Mapping[str, int] | None, overlap: Callable[[Corpus], list[dict[str, Any]]] | None
) -> dict[str, Any]:
    """The card's numbers, as JSON.

    `published` are the counts of OpenAI's list of WebText's domains, `overlap` finds how much of benchmarks the corpus
    holds; what is None stays out of the card, which says so. InputError if the corpus was not made by `ladder corpus
    webtext`.
    """
    if not has_card(corpus):
        raise InputError(
            f"corpus {corpus.name!r} has no card: only `ladder corpus webtext` records where documents came from"
        )
    stages = read_json(corpus.folder / STAGES)
    assert isinstance(stages, dict)
    documents = read_table(corpus.folder / DOCUMENTS)
    splits = {name: _describe_split(documents.filter(pl.col("split") == name)) for name in SPLITS}
    return {
        "corpus": corpus.name,
        "fingerprint": corpus.fingerprint,
        "recipe_sha256": corpus.recipe_sha256,
        "recipe": corpus.recipe,
        "tokenizer": corpus.tokenizer,
        "heldout": {"share": corpus.heldout_share, "by": corpus.heldout_by},
        "licence": corpus.licence,
        "funnel": make_funnel(stages, {name: split["documents"] for name, split in splits.items()}),
        "archives": stages["pages"]["counts"],
        "splits": splits,
        "lengths": _describe_lengths(documents["tokens"]),
        "domains": describe_domains(documents, published),
        "languages": _count(documents["language"]),
        "years": _count(documents["first_created"].map_elements(_year, return_dtype=pl.Int64)),
        "scores": _deciles(documents["score"]),
        "delay_days": _deciles(documents["delay"] / 86_400),
        "duplicates": _describe_duplicates(corpus, stages["duplicates"]),
        "leakage": find_leakage(corpus, documents),
        "overlap": None if overlap is None else overlap(corpus),
        "documents": _show_documents(corpus, documents),
        "left_out": {name: stage["samples"] for name, stage in stages.items() if stage.get("samples")},
        "errors": {name: stage["errors"] for name, stage in stages.items() if stage.get("errors")},
    }


def find_leakage(corpus: Corpus, documents: pl.DataFrame) -> list[dict[str, Any]]:
    """Held-out documents with a training document of some similarity, among the pairs that share a MinHash key.

    The keys find 99.8 % of the pairs at .8 and 27 % at .5 (`shingles.py`): the second count is a lower bound.
    """
    numbers = _numbers_of(corpus, documents)
    pairs = read_table(corpus.folder / PAIRS)
    side = numbers.select("number", heldout=pl.col("split") == "heldout")
    joined = pairs.join(side, on="number").join(side.rename({"number": "other", "heldout": "of_other"}), on="other")
    across = joined.filter(pl.col("heldout") != pl.col("of_other"))
    heldout = across.select(
        pl.when("heldout").then("number").otherwise("other").alias("document"), pl.col("similarity")
    )
    total = int((documents["split"] == "heldout").sum())
    found = []
    for similarity in ALIKE:
        n = heldout.filter(pl.col("similarity") >= similarity)["document"].n_unique()
        found.append({"similarity": similarity, "documents": n, "share": n / total})
    return found


def _numbers_of(corpus: Corpus, documents: pl.DataFrame) -> pl.DataFrame:
    """The split of each document by its number before duplicates were removed."""
    removed = set(read_table(corpus.folder / REMOVED)["number"])
    n = len(documents) + len(removed)
    numbers = [number for number in range(n) if number not in removed]
    return pl.DataFrame({"number": numbers, "split": documents["split"]}, schema_overrides={"number": pl.Int64})


def _describe_split(documents: pl.DataFrame) -> dict[str, Any]:
    totals = {name: int(documents[name].sum()) for name in ("tokens", "bytes", "words", "characters")}
    # The end-of-text token that closes a document stands for no bytes.
    text_tokens = totals["tokens"] - len(documents)
    return {"documents": len(documents), **totals, "bytes_per_token": totals["bytes"] / max(1, text_tokens)}


def _describe_lengths(tokens: pl.Series) -> dict[str, Any]:
    short = int((tokens < SHORT_TOKENS).sum())
    return {"deciles": _deciles(tokens), "mean": tokens.mean(), "short": short, "share_short": short / len(tokens)}


def _deciles(values: pl.Series) -> list[float] | None:
    """Minimum, deciles and maximum; None where there is no value."""
    known = values.drop_nulls()
    return [float(known.quantile(share, "nearest") or 0) for share in DECILES] if len(known) else None


def _count(values: pl.Series) -> list[dict[str, Any]]:
    """Each value with its documents, the most first; null is a value too."""
    counted = values.value_counts().rename({values.name: "value", "count": "documents"})
    return counted.sort("documents", "value", descending=[True, False], nulls_last=True).to_dicts()


def _year(seconds: int) -> int:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).year


def _describe_duplicates(corpus: Corpus, stage: Mapping[str, Any]) -> dict[str, Any]:
    removed = read_table(corpus.folder / REMOVED)
    sizes = removed.group_by("survivor").agg(size=pl.len() + 1)["size"]
    return {
        "counts": stage["counts"],
        "threshold": stage["recipe"]["threshold"],
        "clusters": _count(sizes.cast(pl.Int64)),
        "examples": stage["examples"],
    }


def _show_documents(corpus: Corpus, documents: pl.DataFrame) -> list[dict[str, Any]]:
    """The beginnings of some documents, drawn by a hash of their URL, read from the shards.

    Not by the hash that chooses the split: the first by that one are all held out.
    """
    starts = documents.with_columns(start=pl.col("tokens").cum_sum().over("split") - pl.col("tokens"))
    order = sorted(range(len(starts)), key=lambda row: hash_document(b"card " + starts["key"][row].encode()))
    tokenizer = corpus.load_tokenizer()
    shown = []
    for row in order[:DOCUMENTS_SHOWN]:
        document = starts.row(row, named=True)
        stream = corpus.train if document["split"] == "train" else corpus.heldout
        # All but the end-of-text token.
        tokens = stream.read(document["start"], min(SHOWN_TOKENS, document["tokens"] - 1))
        shown.append(
            {name: document[name] for name in ("url", "split", "tokens", "language", "score")}
            | {"text": tokenizer.decode(tokens.tolist()), "whole": len(tokens) == document["tokens"] - 1}
        )
    return shown


def write_card(corpus: Corpus, card: Mapping[str, Any]) -> UPath:
    """Writes `card.json` and `card.html` into the corpus' folder; the page."""
    from ladder.platform.corpus.webtext.card_page import draw_card

    page = corpus.folder / "card.html"
    numbers = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    for path, text in ((corpus.folder / CARD, numbers), (page, draw_card(card))):
        with whole_or_absent(path) as file:
            file.write(text.encode("utf-8"))
    return page
