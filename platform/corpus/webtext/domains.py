"""The domains of a corpus beside those that were published with WebText."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import polars as pl
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext.packages import import_web
from ladder.platform.corpus.webtext.urls import host_of

DOMAINS_SHOWN = 50
COMPARED = 1000
PUBLISHED_AT = "https://github.com/openai/gpt-2/blob/master/domains.txt"


def read_published(file: UPath) -> dict[str, int]:
    """Domain (without suffix) to count, as OpenAI's `domains.txt` has them: a count and a name on each line.

    One of its lines has a count and no name; such lines are left out. InputError for a file of another kind.
    """
    try:
        lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the published domains {file}: {error}; the file is at {PUBLISHED_AT}") from error
    published = {}
    for number, fields in enumerate(lines, 1):
        if len(fields) != 2:
            continue
        if not fields[0].isdecimal():
            raise InputError(f"{file}:{number}: got {' '.join(fields)[:80]!r}, wanted a count and a domain")
        published[fields[1]] = int(fields[0])
    if not published:
        raise InputError(f"{file} holds no line of a count and a domain; the file is at {PUBLISHED_AT}")
    return published


def count_domains(documents: pl.DataFrame) -> pl.DataFrame:
    """Registered domain, its name without suffix, documents and tokens; the most documents first, then by name."""
    hosts = documents.select(
        pl.col("key").map_elements(host_of, return_dtype=pl.String).alias("host"), pl.col("tokens")
    )
    by_host = hosts.group_by("host").agg(documents=pl.len(), tokens=pl.col("tokens").sum())
    parts = [_split(host) for host in by_host["host"]]
    named = by_host.with_columns(
        domain=pl.Series([domain for domain, _ in parts], dtype=pl.String),
        name=pl.Series([name for _, name in parts], dtype=pl.String),
    )
    counted = named.group_by("domain", "name").agg(pl.col("documents").sum(), pl.col("tokens").sum())
    return counted.sort("documents", "domain", descending=[True, False])


def describe_domains(documents: pl.DataFrame, published: Mapping[str, int] | None) -> dict[str, Any]:
    """The largest domains by documents and by tokens, how many there effectively are, and how they lie beside
    WebText's; `webtext` is None where the published list is not at hand."""
    counted = count_domains(documents)
    by_name = (
        counted.group_by("name").agg(pl.col("documents").sum()).sort("documents", "name", descending=[True, False])
    )
    ranks = {} if published is None else _ranks(published)
    shown = counted.with_columns(webtext_rank=pl.col("name").replace_strict(ranks, default=None, return_dtype=pl.Int64))
    share = counted["documents"] / counted["documents"].sum()
    entropy = float(-(share * share.log()).sum())
    return {
        "domains": len(counted),
        "effective_domains": pl.Series([entropy]).exp()[0],
        "by_documents": shown.head(DOMAINS_SHOWN).to_dicts(),
        "by_tokens": shown.sort("tokens", "domain", descending=[True, False]).head(DOMAINS_SHOWN).to_dicts(),
        "webtext": None if published is None else _compare(by_name, published),
    }


def _compare(by_name: pl.DataFrame, published: Mapping[str, int]) -> dict[str, Any]:
    """How the names of this corpus lie beside the published ones."""
    first = by_name.head(COMPARED)
    known = first.filter(pl.col("name").is_in(list(published)))
    counts = known.with_columns(theirs=pl.col("name").replace_strict(dict(published), return_dtype=pl.Int64))
    correlation = None
    if len(counts) >= 3 and counts["documents"].n_unique() > 1:
        correlation = counts.select(pl.corr("documents", "theirs", method="spearman")).item()
    return {
        "published": len(published),
        "compared": len(first),
        "known": len(known),
        "share_known": len(known) / len(first),
        "documents_known": int(known["documents"].sum()) / int(by_name["documents"].sum()),
        "rank_correlation": correlation,
    }


def _ranks(published: Mapping[str, int]) -> dict[str, int]:
    ordered = sorted(published, key=lambda name: (-published[name], name))
    return {name: rank for rank, name in enumerate(ordered, 1)}


def _split(host: str) -> tuple[str, str]:
    """The registered domain of a host and its name without suffix; the host itself where it is an address."""
    found = _extract()(host)
    return (f"{found.domain}.{found.suffix}", found.domain) if found.domain and found.suffix else (host, host)


@cache
def _extract() -> Any:
    # Its list of suffixes is in the package; by default it would ask the network at first use.
    return import_web("tldextract", "telling domains apart").TLDExtract(suffix_list_urls=(), cache_dir=None)
