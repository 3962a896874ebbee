"""How much of the benchmarks at hand a corpus holds: the study of `ladder overlap`, for the card."""

from collections.abc import Callable, Sequence
from typing import Any

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus

NGRAM = 8
"""The paper's (section 4)."""


def overlap_with(storage: UPath, names: Sequence[str]) -> Callable[[Corpus], list[dict[str, Any]]]:
    """Finds the overlap of a corpus with benchmarks of the storage: names, groups or files of a user's own.

    InputError for a benchmark that is unknown; one that is named and not at hand is a row that says what to do.
    """

    from ladder.platform.evaluation.selection import select
    from ladder.platform.overlap.plan import plan_filling
    from ladder.platform.overlap.study import study_overlap

    selection = select(names)

    def find(corpus: Corpus) -> list[dict[str, Any]]:
        texts, rows = {}, []
        for benchmark in selection.benchmarks:
            if benchmark.texts is None:
                continue
            missing = benchmark.missing(storage=storage, corpus=corpus, shots=0)
            if missing is None:
                try:
                    texts[benchmark.name] = benchmark.texts(storage, corpus)
                except InputError as error:
                    missing = str(error)
            if missing is not None and benchmark in selection.named:
                rows.append({"benchmark": benchmark.name, "missing": missing})
        if not texts:
            return rows
        plan = plan_filling(corpus, n=NGRAM, processes=None)
        plan.check_memory()
        study = study_overlap(corpus, texts, plan, lambda filled: None)
        found = study.to_json(threshold=0.15)["overlaps"]
        return [{**overlap, "missing": None} for overlap in found] + rows

    return find
