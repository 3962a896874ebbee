"""What `ladder overlap` shows: the plan before it starts, how far it is, and its tables."""

from collections.abc import Collection, Sequence
from types import TracebackType

import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.estimates import Estimate
from ladder.platform.evaluation.registry import known_benchmarks
from ladder.platform.overlap.comparison import Comparison
from ladder.platform.overlap.filling import Filled
from ladder.platform.overlap.plan import PROCESS_BYTES, FillPlan, format_bytes
from ladder.platform.overlap.study import PAPER_SHARES, Overlap, Study


def describe_plan(plan: FillPlan, corpus: Corpus) -> str:
    """The filter and the memory that it takes, before anything is read."""
    size = plan.filter
    processes = "1 process" if plan.processes == 1 else f"{plan.processes} processes"
    held = format_bytes(psutil.Process().memory_info().rss)
    return (
        f"Bloom filter for at most {size.keys:,} {plan.n}-grams of {corpus.name}: {size.n_bits:,} bits, "
        f"{size.n_hashes} hash functions, false positives at most {size.bound:g}\n"
        f"Memory: {format_bytes(plan.n_bytes)} more at most = filter {format_bytes(size.n_bytes)} + {processes} of "
        f"{format_bytes(PROCESS_BYTES)}; {held} are held already"
    )


class FillDisplay:
    """A bar on standard error over the tokens of the training split."""

    def __init__(self, corpus: Corpus) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[documents]:,} documents, {task.completed:,} tokens"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=Console(stderr=True))
        tokens = corpus.splits["train"].tokens
        self._task = self._bar.add_task(f"corpus {corpus.name}", total=tokens, documents=0)
        self._documents = 0

    def __enter__(self) -> "FillDisplay":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def add(self, filled: Filled) -> None:
        """A part of the corpus is in the filter."""
        self._documents += filled.documents
        self._bar.update(self._task, advance=filled.tokens, documents=self._documents)


def print_study(console: Console, study: Study, absent: Collection[str], threshold: float) -> None:
    """The overlap of each benchmark, the corpus and the filter as it was."""
    console.print(_overlap_table(study, absent, threshold))
    lost = sum(study.rate * float((overlap.ngrams - overlap.found).sum()) for overlap in study.overlaps)
    size = study.plan.filter
    lines = (
        f"Corpus {study.corpus}: {study.documents:,} documents, {study.ngrams:,} {study.plan.n}-grams, about "
        f"{study.distinct_ngrams:,} different, in {study.fill_seconds:.1f} s "
        f"({study.ngrams / study.fill_seconds:,.0f} a second); benchmarks looked up in {study.search_seconds:.1f} s",
        f"Filter: {format_bytes(size.n_bytes)}, {size.n_bits:,} bits of which {study.bits_set:.1%} are set, "
        f"{size.n_hashes} hash functions; false positives at most {size.bound:g}, as filled {study.rate:.1e}: "
        f"{lost:.1e} expected among those looked up",
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _overlap_table(study: Study, absent: Collection[str], threshold: float) -> Table:
    """One row a benchmark; what is absent is a row that says how to get it."""
    table = Table("benchmark", box=None, padding=(0, 2, 0, 0))
    titles = ("items", f"{study.plan.n}-grams", "found", "share", "std. error", "mean of items", "items with any")
    for title in (*titles, f"above {threshold:.0%}"):
        table.add_column(title, justify="right")
    table.add_column("note")
    for overlap in study.overlaps:
        table.add_row(overlap.benchmark, *_overlap_cells(overlap, threshold), _note(overlap))
    for name in absent:
        table.add_row(name, *[""] * (len(titles) + 1), _remedy(name))
    return table


def _overlap_cells(overlap: Overlap, threshold: float) -> list[str]:
    share, mean_share = overlap.share, overlap.mean_share
    return [
        f"{len(overlap.ngrams):,}",
        f"{int(overlap.ngrams.sum()):,}",
        f"{int(overlap.found.sum()):,}",
        "" if share is None else f"{share.value:.3%}",
        "" if share is None or share.standard_error is None else f"{share.standard_error:.3%}",
        "" if mean_share is None else f"{mean_share.value:.3%}",
        f"{int(overlap.items_above(0).sum()):,}",
        f"{int(overlap.items_above(threshold).sum()):,}",
    ]


def _note(overlap: Overlap) -> str:
    """The share in WebText as the paper gives it, and how many items have no n-gram."""
    parts = []
    if overlap.n == 8 and overlap.benchmark in PAPER_SHARES:
        parts.append(f"GPT-2 paper: {PAPER_SHARES[overlap.benchmark]:.2%}")
    short = int((overlap.ngrams == 0).sum())
    if short:
        parts.append(f"{short:,} items too short")
    return "; ".join(parts)


def _remedy(name: str) -> str:
    by_hand = any(not file.downloadable for file in known_benchmarks()[name].files)
    return f"absent: ladder fetch {name}" + (" --from DIR" if by_hand else "")


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Two rows a metric: without the items of which anything is found, and without those above the threshold."""
    table = Table("benchmark", "metric", "left out", box=None, padding=(0, 2, 0, 0))
    for title in ("kept", "of", "on all", "on kept", "difference", "std. error"):
        table.add_column(title, justify="right")
    for comparison in comparisons:
        left_out = f"above {comparison.threshold:.0%}" if comparison.threshold else "any overlap"
        table.add_row(
            comparison.on_all.benchmark,
            comparison.on_all.metric,
            left_out,
            f"{comparison.kept:,}",
            f"{comparison.items:,}",
            f"{comparison.on_all.value:.5g}",
            "none kept" if comparison.on_kept is None else f"{comparison.on_kept.value:.5g}",
            *_difference_cells(comparison.difference),
        )
    return table


def _difference_cells(difference: Estimate | None) -> tuple[str, str]:
    if difference is None:
        return "", ""
    error = "" if difference.standard_error is None else f"{difference.standard_error:.2g}"
    return f"{difference.value:+.3g}", error
