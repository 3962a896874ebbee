"""Documents to a corpus: read, tokenize in parallel, split by hash, write shards, and only then call it a corpus.

The same documents give the same folder, byte for byte, whatever the number of workers.
"""

import contextlib
import errno
import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.tokenizer import Tokenizer, load_tokenizer
from ladder.platform.corpus.blocks import SPLITS, Counts, EncodedBlock, cut_blocks, encode_blocks, token_dtype
from ladder.platform.corpus.documents import (
    FIELDS,
    DocumentFields,
    Record,
    count_bytes,
    find_files,
    list_columns,
    read_records,
)
from ladder.platform.corpus.staging import FolderExistsError, flush_to_disk, staged_folder
from ladder.platform.corpus.store import DESCRIPTION, Corpus, Split, corpus_folder, has_corpus
from ladder.platform.corpus.writing import DuplicateCounter, ShardWriter
from ladder.platform.processes import count_cores
from ladder.platform.storage import remove_folder

SHARD_TOKENS = 100_000_000
# A smaller input, as stored, is tokenized before processes would have paid for their start.
PROCESSES_FROM_BYTES = 50_000_000
# Ray's start and its workers take 13 to 20 s and 1 GiB (measured): a smaller input is done before.
RAY_FROM_BYTES = 1 << 30

ProgressReport = Callable[[EncodedBlock], None]


class Companion(Protocol):
    """Writes more into a corpus' folder than its shards, such as where its documents came from."""

    def add(self, block: EncodedBlock) -> None:
        """Takes note of a block, in the order of the corpus."""

    def finish(self, folder: UPath, splits: dict[str, Split]) -> dict[str, Any]:
        """Writes its files; optional fields of Corpus."""


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How documents become a corpus."""

    tokenizer: str = "gpt2"
    """Name of the tokenizer."""
    heldout: float = 0.05
    """Share of documents to hold out, chosen by hash: more than 0, less than 1."""
    workers: int | None = None
    """Threads or processes that tokenize; None means one per core."""
    processes: bool | None = None
    """Whether the workers are processes; None means for large inputs only."""
    progress: bool = True
    """Whether to show a progress bar on standard error."""
    overwrite: bool = False
    """Whether to replace a corpus of the same name."""
    shard_tokens: int = SHARD_TOKENS
    """Tokens in a full shard."""
    fields: DocumentFields = FIELDS
    """Which field or column holds the text."""
    licence: str | None = None
    """Under which licence the documents come; None: not said."""
    columns: tuple[str, ...] = ()
    """Columns or fields of the input, for the record."""
    address: str | None = None
    """A Ray cluster (`auto`, `local`, host:port) that tokenizes large inputs; None: this machine without Ray."""
    ray_from_bytes: int | None = None
    """Bytes of input from which Ray is used where an address is given; None: where it pays."""

    def __post_init__(self) -> None:
        if not 0 < self.heldout < 1:
            raise InputError(f"the held-out share is {self.heldout}; wanted more than 0 and less than 1, such as 0.05")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"got {self.workers} processes, wanted at least 1")


def build_corpus(
    storage: UPath,
    name: str,
    inputs: Sequence[UPath | Path | str],
    *,
    tokenizer: str = "gpt2",
    heldout: float = 0.05,
    workers: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
    **more: Any,
) -> Corpus:
    """The corpus made of files and folders of documents; the options, `more` included, are those of BuildOptions.

    InputError for anything wrong with the input, the name or the place, and if a split would be empty; then nothing is
    left in storage, and a corpus that was to be overwritten is as it was (on object storage it is gone).
    """
    options = BuildOptions(
        tokenizer=tokenizer, heldout=heldout, workers=workers, progress=progress, overwrite=overwrite, **more
    )
    files = find_files(inputs)
    source = ", ".join(map(str, files[:3])) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    options = replace(options, columns=list_columns(files[0]))
    n_bytes = count_bytes(files)
    if options.address is not None and n_bytes >= (options.ray_from_bytes or RAY_FROM_BYTES):
        return _build_on_ray(storage, name, files, source=source, n_bytes=n_bytes, options=options)
    records = read_records(files, options.fields)
    return build_from_records(storage, name, records, source=source, n_bytes=n_bytes, options=options)


def _build_on_ray(
    storage: UPath, name: str, files: Sequence[UPath], *, source: str, n_bytes: int, options: BuildOptions
) -> Corpus:
    """The same corpus, tokenized on Ray; its parts are removed when it is whole."""
    from ladder.platform.corpus.ray_build import encode_on_ray  # late: it is of use with Ray alone
    from ladder.platform.corpus.webtext.engine import Execution

    parts = corpus_folder(storage, name).with_name(f".parts-{name}")
    execution = Execution(workers=options.workers, address=options.address, ray_from_bytes=0, progress=options.progress)
    spec = {"tokenizer": options.tokenizer, "heldout": options.heldout, "fields": options.fields}
    blocks = encode_on_ray(parts, files, spec, execution)
    corpus = _build_from_blocks(storage, name, blocks, source=source, n_bytes=n_bytes, options=options)
    remove_folder(parts)
    return corpus


def build_from_records(
    storage: UPath,
    name: str,
    records: Iterable[Record],
    *,
    source: str,
    n_bytes: int | None,
    options: BuildOptions,
    companion: Companion | None = None,
) -> Corpus:
    """The corpus made of records, whose `position` goes up to `n_bytes` (None: unknown); errors as `build_corpus`."""
    blocks = encode_blocks(
        cut_blocks(records),
        load_tokenizer(options.tokenizer),
        options.heldout,
        workers=options.workers or count_cores(),
        processes=(n_bytes or 0) >= PROCESSES_FROM_BYTES if options.processes is None else options.processes,
    )
    return _build_from_blocks(
        storage, name, blocks, source=source, n_bytes=n_bytes, options=options, companion=companion
    )


def _build_from_blocks(
    storage: UPath,
    name: str,
    blocks: Generator[EncodedBlock, None, None],
    *,
    source: str,
    n_bytes: int | None,
    options: BuildOptions,
    companion: Companion | None = None,
) -> Corpus:
    """The corpus made of encoded blocks; nothing is drawn from them before the name is known to be free."""
    folder = corpus_folder(storage, name)
    if has_corpus(storage, name) and not options.overwrite:  # before the long work, and again when the name is ours
        raise FolderExistsError(f"corpus {name!r} already exists in {storage}; give --overwrite to build it again")
    tokenizer = load_tokenizer(options.tokenizer)
    try:
        with (
            staged_folder(folder, marker=DESCRIPTION, overwrite=options.overwrite) as staging,
            contextlib.closing(blocks),
            _progress_bar(f"corpus {name}", n_bytes, shown=options.progress) as report,
        ):
            noted = blocks if companion is None else _note(blocks, companion)
            splits, duplicates, empty = _write_shards(staging, noted, tokenizer, options.shard_tokens, report)
            _check_splits(name, splits, options.heldout)
            more = _notes(options) if companion is None else companion.finish(staging, splits)
            corpus = Corpus(
                name=name,
                tokenizer=tokenizer.name,
                tokenizer_fingerprint=tokenizer.fingerprint,
                vocabulary=tokenizer.vocabulary,
                dtype=token_dtype(tokenizer.vocabulary),
                heldout_share=options.heldout,
                duplicates=duplicates,
                empty_documents=empty,
                source=source,
                splits=splits,
                folder=folder,
                **more,
            )
            _write_description(staging, corpus)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    return corpus


def _write_shards(
    folder: UPath, blocks: Iterable[EncodedBlock], tokenizer: Tokenizer, shard_tokens: int, report: ProgressReport
) -> tuple[dict[str, Split], int, int]:
    """Writes the blocks; the splits, the number of duplicates and of empty documents."""
    itemsize = np.dtype(token_dtype(tokenizer.vocabulary)).itemsize
    counts = {split: Counts() for split in SPLITS}
    empty = 0
    with contextlib.ExitStack() as stack:
        writers = {split: stack.enter_context(ShardWriter(folder, split, itemsize, shard_tokens)) for split in SPLITS}
        duplicates = stack.enter_context(DuplicateCounter())
        for block in blocks:
            for split in SPLITS:
                writers[split].write(block.tokens[split])
                counts[split].add(block.counts[split])
            duplicates.add(block.hashes)
            empty += block.empty_documents
            report(block)
        shards = {split: writer.finish() for split, writer in writers.items()}
        splits = {split: Split(**asdict(counts[split]), shards=shards[split]) for split in SPLITS}
        return splits, duplicates.count(), empty


def _notes(options: BuildOptions) -> dict[str, Any]:
    """What the corpus says of its input beside the counts."""
    return {"licence": options.licence, "columns": list(options.columns)}


def _note(blocks: Iterable[EncodedBlock], companion: Companion) -> Iterator[EncodedBlock]:
    for block in blocks:
        companion.add(block)
        yield block


def _check_splits(name: str, splits: dict[str, Split], heldout: float) -> None:
    n_documents = sum(split.documents for split in splits.values())
    if n_documents == 0:
        raise InputError(f"corpus {name!r} would be empty: the input holds no document with text in it")
    for split in SPLITS:
        if splits[split].documents == 0:
            side, remedy = ("held-out", "a larger") if split == "heldout" else ("training", "a smaller")
            raise InputError(
                f"the {side} split of corpus {name!r} would be empty: none of its {n_documents} documents falls there "
                f"at a held-out share of {heldout}; give more documents (a .txt file is one) or {remedy} --heldout"
            )


def _write_description(folder: UPath, corpus: Corpus) -> None:
    with (folder / DESCRIPTION).open("wb") as file:
        file.write((json.dumps(corpus.to_json(), indent=2) + "\n").encode())
        flush_to_disk(file)


def _cannot_write(folder: UPath, error: OSError) -> InputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(f"no space left on the disk of {folder}: free some, or choose another place with --storage")
    return InputError(f"cannot write {folder}: {error.strerror or error}; choose another place with --storage")


@contextlib.contextmanager
def _progress_bar(title: str, n_bytes: int | None, *, shown: bool) -> Iterator[ProgressReport]:
    """A bar on standard error that is to be told of each block."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[documents]:,} documents, {task.fields[rate]:,.0f} tokens/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(title, total=n_bytes, documents=0, rate=0.0)
        start = time.monotonic()
        documents = tokens = 0

        def report(block: EncodedBlock) -> None:
            nonlocal documents, tokens
            documents += sum(counts.documents for counts in block.counts.values())
            tokens += sum(counts.tokens for counts in block.counts.values())
            rate = tokens / (time.monotonic() - start)
            bar.update(task, completed=block.position, documents=documents, rate=rate)

        yield report
