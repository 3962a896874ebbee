"""Blocks of records turned into tokens, in as many threads or processes as asked for, in the order of the input.

What a block becomes depends on nothing but its records, the tokenizer and the held-out share; so shards are the same,
byte for byte, whatever the number of workers. Memory is bounded by the few blocks under way.
"""

import hashlib
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

import numpy as np

from ladder.models.errors import InputError
from ladder.models.tokenizer import Tokenizer, load_tokenizer
from ladder.platform.corpus.documents import Record, parse_record
from ladder.platform.processes import end_with_parent

SPLITS = ("train", "heldout")
# A tenth of a second of tokenizing: large beside the cost of handing it over, small beside memory and patience.
BLOCK_BYTES = 1 << 20
HASH_BYTES = 8
END_SECONDS = 10.0
"""For a worker process to end the block that it is at, many times what that takes."""


@dataclass(slots=True)
class Counts:
    """How much text a split holds."""

    documents: int = 0
    """Documents."""
    tokens: int = 0
    """Tokens, the end-of-text token after each document included."""
    bytes: int = 0
    """Bytes of UTF-8 text."""
    words: int = 0
    """Words: runs of characters that are not white space."""
    characters: int = 0
    """Unicode characters."""

    def add(self, other: "Counts") -> None:
        """Adds the counts of more text."""
        self.documents += other.documents
        self.tokens += other.tokens
        self.bytes += other.bytes
        self.words += other.words
        self.characters += other.characters


@dataclass(slots=True)
class EncodedBlock:
    """What one block of records became."""

    position: int
    """Bytes of input read up to the end of this block."""
    tokens: dict[str, bytes] = field(default_factory=dict)
    """Per split, little-endian tokens as they go to the shard."""
    counts: dict[str, Counts] = field(default_factory=lambda: {split: Counts() for split in SPLITS})
    """Per split, how much text."""
    hashes: bytes = b""
    """HASH_BYTES of each document's hash, to count duplicates."""
    documents: list[tuple[str, int]] = field(default_factory=list)
    """Split and tokens, the end of text included, of each document that is not empty."""
    empty_documents: int = 0
    """Documents with nothing but white space, left out."""


def hash_document(text: bytes) -> bytes:
    """The hash that chooses a document's split: of its text (equal documents fall on one side) or of another key."""
    return hashlib.blake2b(text, digest_size=HASH_BYTES).digest()


def choose_split(digest: bytes, heldout: float) -> str:
    """The split of a document: held out where its hash, as a fraction of the largest, is below `heldout`."""
    return "heldout" if int.from_bytes(digest, "big") < heldout * 2.0 ** (8 * HASH_BYTES) else "train"


def token_dtype(vocabulary: int) -> str:
    """The type of tokens in shards: two little-endian bytes where the vocabulary fits, otherwise four."""
    return "<u2" if vocabulary <= 1 << 16 else "<u4"


class Encoder:
    """Turns blocks of records into tokens."""

    def __init__(self, tokenizer: Tokenizer, heldout: float) -> None:
        self.tokenizer = tokenizer
        self.heldout = heldout
        self.dtype = token_dtype(tokenizer.vocabulary)

    def encode(self, block: list[Record]) -> EncodedBlock:
        """The tokens and counts of a block; InputError names the record that cannot be parsed."""
        result = EncodedBlock(position=block[-1].position)
        tokens: dict[str, list[bytes]] = {split: [] for split in SPLITS}
        hashes = []
        for record in block:
            text = parse_record(record).text
            if not text or text.isspace():
                result.empty_documents += 1
                continue
            data = text.encode("utf-8")
            hashes.append(hash_document(data))
            key = hashes[-1] if record.split_key is None else hash_document(record.split_key)
            split = choose_split(key, self.heldout)
            ids = self._tokenize(text)
            result.documents.append((split, len(ids)))
            tokens[split].append(ids.tobytes())
            result.counts[split].add(Counts(1, len(ids), len(data), len(text.split()), len(text)))
        result.hashes = b"".join(hashes)
        result.tokens = {split: b"".join(parts) for split, parts in tokens.items()}
        return result

    def _tokenize(self, text: str) -> np.ndarray:
        # Straight to an array: a list of integers costs a third more time. Special tokens in the text are plain text.
        body = self.tokenizer.encoding.encode_to_numpy(text, disallowed_special=())
        ids = np.empty(len(body) + 1, dtype=self.dtype)
        ids[:-1] = body
        ids[-1] = self.tokenizer.end_of_text
        return ids


def cut_blocks(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Consecutive records in blocks of about BLOCK_BYTES."""
    block: list[Record] = []
    size = 0
    for record in records:
        block.append(record)
        size += len(record.data)
        if size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def encode_blocks(
    blocks: Iterable[list[Record]], tokenizer: Tokenizer, heldout: float, *, workers: int, processes: bool
) -> Generator[EncodedBlock, None, None]:
    """The blocks encoded, in their order, by `workers` threads of this process or by as many processes.

    Threads are there at once, and tokenizing lets go of the interpreter's lock; but parsing does not, a seventh of the
    work, so that only processes fill many cores. They take half a second to start.
    """
    if workers == 1 and not processes:  # tiktoken is a quarter slower in another thread than the main one
        yield from map(Encoder(tokenizer, heldout).encode, blocks)
        return
    pool: Executor
    others = multiprocessing.active_children()
    if processes:
        # Spawned, not forked: this process may hold threads (torch, pyarrow) whose locks a fork would copy for ever.
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, spawn, initializer=_start_worker, initargs=(tokenizer.name, heldout))
        encode = _encode_in_worker
    else:
        pool = ThreadPoolExecutor(workers)
        encode = Encoder(tokenizer, heldout).encode
    pending: deque[Future[EncodedBlock]] = deque()
    try:
        for block in blocks:
            pending.append(pool.submit(encode, block))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise InputError(
            "a tokenizing process died, perhaps for lack of memory: use fewer --processes; "
            "a script that builds a corpus must do so under `if __name__ == '__main__':`"
        ) from error
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        _end_stragglers([process for process in multiprocessing.active_children() if process not in others])
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_stragglers(processes: Sequence[BaseProcess]) -> None:
    """Wait for worker processes that were told to end, and kill those that did not.

    Ctrl-C while the pool starts a process leaves one that the pool does not know; it takes the word to end that was for
    another, which then waits for ever. Not killed at once: a process that dies while it writes a result leaves half of
    it in the pool's pipe, and the pool waits for the rest for ever.
    """
    left = {process.sentinel: process for process in processes}
    deadline = time.monotonic() + END_SECONDS
    while left and (seconds := deadline - time.monotonic()) > 0:
        for sentinel in wait(list(left), timeout=seconds):
            del left[sentinel]  # type: ignore[arg-type]  # of the three kinds that `wait` takes, those are numbers
    for process in left.values():
        process.kill()
        process.join()


_worker: Encoder | None = None
"""The encoder of this worker process; None in the process that started it."""


def _start_worker(tokenizer: str, heldout: float) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent alone answers it
    end_with_parent()
    _worker = Encoder(load_tokenizer(tokenizer), heldout)


def _encode_in_worker(block: list[Record]) -> EncodedBlock:
    assert _worker is not None
    return _worker.encode(block)
