"""A filter filled with the n-grams of a corpus' training split, by this process or by many that share its memory.

The processes fill one filter in shared memory, so that one more costs its own working memory and no second filter. To
set a bit is to read a byte, change it and write it back: two processes at the same byte would lose a bit. So each holds
the lock of a stripe of the filter while it sets bits there (see `ladder.platform.overlap.bloom`), and they begin with
different stripes.
"""

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from ladder.models.errors import InputError
from ladder.models.tokenizer import Tokenizer, load_tokenizer
from ladder.platform.corpus.store import Corpus
from ladder.platform.corpus.stream import TokenStream
from ladder.platform.overlap.bloom import NO_LOCKS, STRIPES, BloomFilter
from ladder.platform.overlap.ngrams import MARK, NgramHasher
from ladder.platform.overlap.plan import FillPlan, format_bytes
from ladder.platform.overlap.stretches import Stretch, cut_stretches, read_text
from ladder.platform.processes import end_with_parent


@dataclass(frozen=True, kw_only=True)
class Filled:
    """A stretch of the corpus that is in the filter."""

    tokens: int
    """Its tokens."""
    documents: int
    """Documents that begin in it."""
    ngrams: int
    """Their n-grams, repeated ones too."""


@contextmanager
def filled_filter(corpus: Corpus, plan: FillPlan, report: Callable[[Filled], None]) -> Iterator[BloomFilter]:
    """The filter with every n-gram of the training split; `report` is told of each stretch.

    Its memory is given back when the block ends, however it ends. InputError, before anything is read, where it does
    not fit in memory.
    """
    plan.check_memory()
    tokenizer = corpus.load_tokenizer()
    stretches = cut_stretches(corpus.train.n_tokens)
    if plan.processes == 1:
        bloom = BloomFilter(plan.filter)
        filler = Filler(corpus.train, tokenizer, bloom, n=plan.n)
        for stretch in stretches:
            report(filler.fill(stretch))
        yield bloom
        return
    with _shared_memory(plan.filter.n_bytes) as memory:
        bloom = BloomFilter(plan.filter, np.ndarray(plan.filter.n_bytes, dtype=np.uint8, buffer=memory.buf))
        try:
            with closing(_fill_in_processes(corpus, plan, memory.name, stretches)) as done:
                for filled in done:
                    report(filled)
            yield bloom
        finally:
            bloom.release()


class Filler:
    """Puts the documents of stretches into a filter."""

    def __init__(
        self,
        stream: TokenStream,
        tokenizer: Tokenizer,
        bloom: BloomFilter,
        *,
        n: int,
        locks: Sequence[AbstractContextManager[Any]] = NO_LOCKS,
        first: int = 0,
    ) -> None:
        """`locks` and `first` as in `BloomFilter.insert`."""
        self._stream = stream
        self._tokenizer = tokenizer
        self._hasher = NgramHasher(n)
        self._bloom = bloom
        self._locks = locks
        self._first = first

    def fill(self, stretch: Stretch) -> Filled:
        """Puts in the n-grams of the documents that begin in the stretch."""
        documents = n_ngrams = 0
        for data in read_text(self._stream, self._tokenizer, stretch, MARK):
            ngrams = self._hasher.feed(data)
            self._bloom.insert(ngrams.hashes, locks=self._locks, first=self._first)
            documents += len(ngrams.words) - 1
            n_ngrams += ngrams.hashes.shape[1]
        return Filled(tokens=stretch.tokens, documents=documents, ngrams=n_ngrams)


@contextmanager
def _shared_memory(n_bytes: int) -> Iterator[SharedMemory]:
    """Zeros that other processes can open by name, gone when the block ends or this process dies."""
    try:
        memory = SharedMemory(create=True, size=n_bytes)
    except OSError as error:
        raise InputError(
            f"cannot get {format_bytes(n_bytes)} shared memory ({error.strerror}): give --processes 1, which shares "
            "none"
        ) from error
    try:
        yield memory
    finally:
        memory.unlink()
        memory.close()


def _fill_in_processes(
    corpus: Corpus, plan: FillPlan, memory: str, stretches: Sequence[Stretch]
) -> Generator[Filled, None, None]:
    """Fills the filter in the shared memory of that name; each stretch as it is done."""
    # Spawned, not forked: this process may hold threads (torch, pyarrow) whose locks a fork would copy for ever.
    spawn = multiprocessing.get_context("spawn")
    locks = [spawn.Lock() for _ in range(STRIPES)]
    started = spawn.Value("i", 0)
    pool = ProcessPoolExecutor(
        plan.processes,
        spawn,
        initializer=_start_worker,
        initargs=(corpus.train, corpus.tokenizer, plan, memory, locks, started),
    )
    try:
        with _interrupts_held():
            futures = [pool.submit(_fill_in_worker, stretch) for stretch in stretches]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise InputError(
            "a process that fills the filter died, perhaps for lack of memory: use fewer --processes; "
            "a script that does a study must do so under `if __name__ == '__main__':`"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Keeps Ctrl-C waiting until the end of the block, and for ever from processes started in it.

    It reaches the whole group and the parent alone is to answer it; a process that only ignored it once it runs would
    show a traceback while it starts.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_worker: tuple[Filler, SharedMemory] | None = None
"""What fills in this worker process, and the memory it fills; None in the process that started it."""


def _start_worker(
    stream: TokenStream, tokenizer: str, plan: FillPlan, name: str, locks: Sequence[Any], started: Any
) -> None:
    global _worker
    end_with_parent()
    with started.get_lock():
        first = started.value * STRIPES // plan.processes
        started.value += 1
    memory = SharedMemory(name=name)
    bloom = BloomFilter(plan.filter, np.ndarray(plan.filter.n_bytes, dtype=np.uint8, buffer=memory.buf))
    _worker = Filler(stream, load_tokenizer(tokenizer), bloom, n=plan.n, locks=locks, first=first), memory


def _fill_in_worker(stretch: Stretch) -> Filled:
    assert _worker is not None
    return _worker[0].fill(stretch)
