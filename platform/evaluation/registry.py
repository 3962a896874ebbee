"""The benchmarks by name. A new one is a file in `benchmarks/` and a line here."""

from collections.abc import Sequence

from ladder.models.errors import InputError
from ladder.platform.evaluation.benchmark import Benchmark
from ladder.platform.evaluation.benchmarks import heldout
from ladder.platform.evaluation.benchmarks.lambada import LAMBADA
from ladder.platform.evaluation.benchmarks.pages import PAGES_BYTES, PAGES_CLOZE, PAGES_LAST_WORD, PAGES_WORDS
from ladder.platform.evaluation.benchmarks.wikitext2 import WIKITEXT2

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (heldout.HELDOUT, PAGES_LAST_WORD, PAGES_CLOZE, PAGES_WORDS, PAGES_BYTES, LAMBADA, WIKITEXT2)
}

HELDOUT = heldout.HELDOUT.name
"""Name of the held-out loss, which every run is scored on."""


def find_benchmarks(names: Sequence[str]) -> list[Benchmark]:
    """The benchmarks of these names, in order, each once; InputError for an unknown name."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise InputError(f"unknown benchmark {', '.join(unknown)}: known are {', '.join(BENCHMARKS)}")
    return [BENCHMARKS[name] for name in dict.fromkeys(names)]
