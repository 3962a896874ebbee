"""How much of benchmarks a corpus holds already.

The study of the GPT-2 paper (Radford et al. 2019, section 4): the share of a test set's 8-grams that are in the
training text. An item's n-grams are those of its own text as `Benchmark.texts` gives it, repeated ones counted as often
as they stand there. An item of less than n words has none, and so none that is found; it is counted.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.estimates import Estimate, estimate_mean, estimate_ratio
from ladder.platform.overlap.bloom import BloomFilter
from ladder.platform.overlap.filling import Filled, filled_filter
from ladder.platform.overlap.ngrams import hash_texts
from ladder.platform.overlap.plan import FillPlan

CHARACTERS_AT_ONCE = 1 << 20
"""Text of items hashed together, which bounds memory."""

PAPER_SHARES: Mapping[str, float] = {
    "lambada": 0.012,
    "wikitext2": 0.0163,
    "ptb": 0.0088,
    "enwik8": 0.0631,
    "text8": 0.0394,
    "wikitext103": 0.0242,
    "lm1b": 0.0375,
}
"""Shares of 8-grams found in WebText: the paper's table 6, and for LAMBADA its text, which says "average overlap"."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """The n-grams of a benchmark's items that are in a corpus."""

    benchmark: str
    """Name of the benchmark."""
    n: int
    """Words of an n-gram."""
    ngrams: np.ndarray
    """n-grams of each item, int64 [items]."""
    found: np.ndarray
    """Those of them that are in the corpus, int64 [items]."""

    @property
    def share(self) -> Estimate | None:
        """Share of all n-grams that are found, as in the paper's table 6; error over items. None without n-grams."""
        return estimate_ratio(self.found, self.ngrams) if self.ngrams.sum() else None

    @property
    def mean_share(self) -> Estimate | None:
        """Mean over the items that have n-grams of the share of theirs that are found."""
        has_any = self.ngrams > 0
        return estimate_mean(self.found[has_any] / self.ngrams[has_any]) if has_any.any() else None

    def items_above(self, threshold: float) -> np.ndarray:
        """Whether more than the share `threshold` of an item's n-grams is found, bool [items]; at 0, any."""
        return self.found > threshold * self.ngrams

    def to_json(self, *, threshold: float, rate: float) -> dict[str, Any]:
        """Its numbers; `rate` is the filter's of false positives."""
        n_ngrams, n_found = int(self.ngrams.sum()), int(self.found.sum())
        share, mean_share = self.share, self.mean_share
        return {
            "benchmark": self.benchmark,
            "items": len(self.ngrams),
            "ngrams": n_ngrams,
            "found": n_found,
            "share": share and share.value,
            "standard_error": share and share.standard_error,
            "mean_share_of_items": mean_share and mean_share.value,
            "mean_share_standard_error": mean_share and mean_share.standard_error,
            "items_with_any": int(self.items_above(0).sum()),
            "items_above_threshold": int(self.items_above(threshold).sum()),
            "items_without_ngrams": int((self.ngrams == 0).sum()),
            "expected_false_positives": rate * (n_ngrams - n_found),
            "paper_share": PAPER_SHARES.get(self.benchmark) if self.n == 8 else None,
        }


@dataclass(frozen=True, kw_only=True)
class Study:
    """The overlaps of benchmarks with a corpus, and what it took to find them."""

    corpus: str
    """Name of the corpus."""
    plan: FillPlan
    """The filter and its processes, as planned."""
    overlaps: tuple[Overlap, ...]
    """One a benchmark."""
    documents: int
    """Documents of the training split."""
    tokens: int
    """Its tokens."""
    ngrams: int
    """Its n-grams, repeated ones too."""
    distinct_ngrams: int
    """Its different n-grams, estimated by the bits that they set."""
    bits_set: float
    """Share of the filter's bits that are set."""
    rate: float
    """Rate of false positives of the filter as filled."""
    fill_seconds: float
    """Wall time of filling it, the start of processes included."""
    search_seconds: float
    """Wall time of looking up the benchmarks' n-grams."""

    def to_json(self, *, threshold: float) -> dict[str, Any]:
        """Its numbers."""
        size = self.plan.filter
        return {
            "corpus": self.corpus,
            "ngram": self.plan.n,
            "threshold": threshold,
            "filter": {
                "bytes": size.n_bytes,
                "bits": size.n_bits,
                "hash_functions": size.n_hashes,
                "false_positive_bound": size.bound,
                "planned_ngrams": size.keys,
                "false_positive_rate": self.rate,
                "bits_set": self.bits_set,
            },
            "processes": self.plan.processes,
            "memory_bytes": self.plan.n_bytes,
            "documents": self.documents,
            "tokens": self.tokens,
            "ngrams": self.ngrams,
            "distinct_ngrams": self.distinct_ngrams,
            "fill_seconds": self.fill_seconds,
            "search_seconds": self.search_seconds,
            "overlaps": [overlap.to_json(threshold=threshold, rate=self.rate) for overlap in self.overlaps],
        }


def study_overlap(
    corpus: Corpus, texts: Mapping[str, Sequence[str]], plan: FillPlan, report: Callable[[Filled], None]
) -> Study:
    """The overlap of the benchmarks of these texts, by item, with the corpus; `report` is told of the corpus' parts."""
    for benchmark, items in texts.items():
        if not items:
            raise InputError(f"benchmark {benchmark} has no item: fetch it again, or hold more of the corpus out")
    filled: list[Filled] = []

    def count(part: Filled) -> None:
        filled.append(part)
        report(part)

    started = time.perf_counter()
    with filled_filter(corpus, plan, count) as bloom:
        searched = time.perf_counter()
        overlaps = tuple(measure_overlap(name, items, bloom, plan.n) for name, items in texts.items())
        ended = time.perf_counter()
        rate, bits_set = bloom.measure_rate()
    assert rate <= plan.filter.bound, (rate, plan)
    return Study(
        corpus=corpus.name,
        plan=plan,
        overlaps=overlaps,
        documents=sum(part.documents for part in filled),
        tokens=sum(part.tokens for part in filled),
        ngrams=sum(part.ngrams for part in filled),
        distinct_ngrams=plan.filter.estimate_keys(bits_set),
        bits_set=bits_set,
        rate=rate,
        fill_seconds=searched - started,
        search_seconds=ended - searched,
    )


def measure_overlap(benchmark: str, texts: Sequence[str], bloom: BloomFilter, n: int) -> Overlap:
    """The overlap of items of these texts, at least one, with the n-grams that the filter holds."""
    ngrams, found = [], []
    for batch in _batches(texts):
        hashes, counts = hash_texts(batch, n)
        item = np.repeat(np.arange(len(batch)), counts)
        ngrams.append(counts)
        found.append(np.bincount(item[bloom.contains(hashes)], minlength=len(batch)))
    return Overlap(benchmark=benchmark, n=n, ngrams=np.concatenate(ngrams), found=np.concatenate(found))


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in their order, about CHARACTERS_AT_ONCE together."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= CHARACTERS_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
