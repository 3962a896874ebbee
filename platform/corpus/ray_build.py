"""A corpus' tokens made on Ray Data, a task for each input file, and put together in the order of the files.

A task reads its file with our own reader and writes its tokens to storage; only names pass through Ray. The corpus is
the one that a build without Ray gives, byte for byte. A build that was stopped goes on behind the files that are done.
Cut large inputs into files: a file is read by one task.
"""

import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from upath import UPath

from ladder.models.tokenizer import load_tokenizer
from ladder.platform.corpus.blocks import SPLITS, Counts, EncodedBlock, Encoder, cut_blocks
from ladder.platform.corpus.documents import DocumentFields, read_records
from ladder.platform.corpus.webtext.engine import Execution, make_parts
from ladder.platform.corpus.webtext.stages import Stage, Task, identify
from ladder.platform.corpus.webtext.workers import Watch
from ladder.platform.storage import read_json

CHUNK_BYTES = 1 << 24


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """The work of one part."""

    file: UPath
    """A file of documents."""
    tokenizer: str
    """Name of the tokenizer."""
    heldout: float
    """Share of documents to hold out."""
    fields: DocumentFields
    """Which column holds the text."""


def encode_on_ray(
    folder: UPath, files: Sequence[UPath], spec: dict[str, Any], execution: Execution
) -> Generator[EncodedBlock, None, None]:
    """The blocks of all files, in their order, with the parts kept in `folder`; `spec` has the fields of TokenFile.

    InputError as `build_corpus`, for the first file, in order, that cannot be read.
    """
    tokenizer = load_tokenizer(spec["tokenizer"])
    recipe = {"tokenizer": tokenizer.fingerprint, "heldout": spec["heldout"], "fields": asdict(spec["fields"])}
    stage = Stage(name="tokens", folder=folder, recipe=recipe)
    identities = [identify(file) for file in files]
    tasks = [
        stage.task(index, TokenFile(file=file, **spec), identity)
        for index, (file, identity) in enumerate(zip(files, identities, strict=True))
    ]
    make_parts("tokens", encode_file, tasks, execution, n_bytes=sum(each["bytes"] or 0 for each in identities))
    position = 0
    for task, identity in zip(tasks, identities, strict=True):
        position += identity["bytes"] or 0
        yield from _read_part(task, position)


def encode_file(task: Task, watch: Watch) -> dict[str, Any]:
    """Makes one part: the tokens of a file by split, its documents' hashes and lengths; what it counted."""
    spec: TokenFile = task.spec
    watch.report(str(spec.file))
    encoder = Encoder(load_tokenizer(spec.tokenizer), spec.heldout)
    counts = {split: Counts() for split in SPLITS}
    empty = 0
    outputs = {name: task.path(f".{name}").open("wb") for name in (*SPLITS, "hashes")}
    try:
        for block in cut_blocks(read_records([spec.file], spec.fields)):
            encoded = encoder.encode(block)
            for split in SPLITS:
                outputs[split].write(encoded.tokens[split])
                counts[split].add(encoded.counts[split])
            outputs["hashes"].write(encoded.hashes)
            empty += encoded.empty_documents
    finally:
        for output in outputs.values():
            output.close()
    return {"splits": {split: asdict(counts[split]) for split in SPLITS}, "empty": empty}


def _read_part(task: Task, position: int) -> Iterator[EncodedBlock]:
    """The part as blocks of bounded size; the last one has its counts."""
    for name in (*SPLITS, "hashes"):
        with task.path(f".{name}").open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                block = EncodedBlock(position=position, tokens=dict.fromkeys(SPLITS, b""))
                if name == "hashes":
                    block.hashes = chunk
                else:
                    block.tokens[name] = chunk
                yield block
    summary = read_json(task.path(".json"))
    assert isinstance(summary, dict), json.dumps(summary)
    counts = {split: Counts(**summary["splits"][split]) for split in SPLITS}
    tokens = dict.fromkeys(SPLITS, b"")
    yield EncodedBlock(position=position, tokens=tokens, counts=counts, empty_documents=summary["empty"])
