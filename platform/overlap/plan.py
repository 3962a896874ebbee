"""What a study of a corpus takes, known before it starts: the filter, the processes that fill it, their memory."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus
from ladder.platform.overlap.bloom import FilterPlan, plan_filter
from ladder.platform.overlap.ngrams import check_length
from ladder.platform.processes import count_cores

BOUND = 1e-8
"""The paper's bound on the rate of false positives."""

PROCESS_BYTES = 256 << 20
"""Memory of a process that fills: interpreter, the tokenizer's vocabulary, words and n-grams of a part of the text.
Measured, with GPT-2's tokenizer and without the filter: 90 MB, and up to 50 more as words are met."""

PROCESSES_FROM_TOKENS = 20_000_000
"""A smaller corpus is done before processes would have paid for their start."""

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps shared memory, with a limit of its own; elsewhere it has none."""


@dataclass(frozen=True, kw_only=True)
class FillPlan:
    """A filter, and who fills it."""

    filter: FilterPlan
    """The filter."""
    n: int
    """Words of an n-gram."""
    processes: int
    """Processes that fill; with 1, this process does, and nothing is shared."""

    @property
    def n_bytes(self) -> int:
        """Memory in all beside what this process holds already: one filter, and each process' own."""
        return self.filter.n_bytes + self.processes * PROCESS_BYTES

    def check_memory(self) -> None:
        """InputError where it is more than this machine has free, as far as the system tells."""
        free = psutil.virtual_memory().available
        if self.n_bytes > free:
            fitting = (free - self.filter.n_bytes) // PROCESS_BYTES
            remedy = f"give --processes {fitting}" if fitting >= 1 else "take a machine with more, or a smaller corpus"
            raise InputError(
                f"{self.processes} processes ({format_bytes(PROCESS_BYTES)} each) and their filter "
                f"({format_bytes(self.filter.n_bytes)}) need {format_bytes(self.n_bytes)} of memory, and "
                f"{format_bytes(free)} are free: {remedy}"
            )
        if self.processes > 1 and SHARED_MEMORY.is_dir():
            shared = shutil.disk_usage(SHARED_MEMORY).free
            if self.filter.n_bytes > shared:
                raise InputError(
                    f"the filter needs {format_bytes(self.filter.n_bytes)} of shared memory, and {SHARED_MEMORY} has "
                    f"{format_bytes(shared)} free: enlarge it (docker run --shm-size), or give --processes 1, "
                    "which shares none"
                )


def plan_filling(corpus: Corpus, *, n: int, processes: int | None, bound: float = BOUND) -> FillPlan:
    """The filter and the processes for a corpus; `processes` None is one a core, or one where the corpus is small."""
    check_length(n)
    if processes is not None and processes < 1:
        raise InputError(f"got {processes} processes, wanted at least 1")
    if processes is None:
        processes = 1 if corpus.splits["train"].tokens < PROCESSES_FROM_TOKENS else count_cores()
    return FillPlan(filter=plan_filter(bound_ngrams(corpus), bound), n=n, processes=processes)


def bound_ngrams(corpus: Corpus) -> int:
    """An upper bound on the n-grams of the training split, from what corpus.json counts.

    A document has no more n-grams than words. Words have something between them: (characters + documents) / 2 at most.
    No token of GPT-2's vocabulary begins two words, and the end of text begins none: tokens - documents at most. (The
    words that corpus.json counts are runs without white space, which may hold several of ours.)
    """
    split = corpus.splits["train"]
    return max(1, min((split.characters + split.documents) // 2, split.tokens - split.documents))


def format_bytes(n_bytes: int) -> str:
    """Bytes as people read them."""
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"
