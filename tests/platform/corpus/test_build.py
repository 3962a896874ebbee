import errno
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.corpus import blocks as blocks_module
from ladder.platform.corpus import build as build_module
from ladder.platform.corpus.blocks import choose_split, encode_blocks, hash_document
from ladder.platform.corpus.build import BuildOptions, build_corpus, build_from_records
from ladder.platform.corpus.documents import DocumentFields, Record, find_files, read_records
from ladder.platform.corpus.store import Corpus, heldout_documents, list_corpora, open_corpus
from ladder.platform.corpus.writing import DuplicateCounter, ShardWriter

PAGES = [f"Page {n} of many.\n\nIts caf\u00e9 has {n * n} <|endoftext|> tables." for n in range(400)]


def write_pages(path: Path, pages: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": page}) + "\n" for page in pages))
    return path


def build(storage: UPath, file: Path, name: str = "pages", **options: object) -> Corpus:
    given = BuildOptions(**{"tokenizer": "bytes", "progress": False, **options})  # type: ignore[arg-type]
    files = find_files([file])
    records = read_records(files)
    return build_from_records(storage, name, records, source="pages", n_bytes=None, options=given)


def texts_of(corpus: Corpus, split: str) -> list[str]:
    stream = corpus.train if split == "train" else corpus.heldout
    data = stream.read(0, stream.n_tokens).tolist()
    texts: list[bytes] = [b""]
    for token in data:
        texts.append(b"") if token == 256 else texts.__setitem__(-1, texts[-1] + bytes([token]))
    assert texts.pop() == b""  # every document is ended
    return [text.decode() for text in texts]


def contents(folder: UPath) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def storage(tmp_path: Path) -> UPath:
    return UPath(tmp_path / "storage")


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    return write_pages(tmp_path / "pages.jsonl", PAGES)


def test_every_document_is_on_one_side_in_the_order_of_the_input(storage: UPath, pages: Path) -> None:
    corpus = build(storage, pages, shard_tokens=1000)
    train, heldout = texts_of(corpus, "train"), texts_of(corpus, "heldout")
    assert sorted(train + heldout) == sorted(PAGES)
    assert train == [page for page in PAGES if page in set(train)]
    assert list(heldout_documents(corpus)) == heldout
    assert len(corpus.splits["train"].shards) > 5
    assert {shard.tokens for shard in corpus.splits["train"].shards[:-1]} == {1000}


def test_counts_are_those_of_the_text(storage: UPath, pages: Path) -> None:
    corpus = build(storage, pages)
    for name, split in corpus.splits.items():
        texts = texts_of(corpus, name)
        assert split.documents == len(texts)
        assert split.characters == sum(map(len, texts))
        assert split.bytes == sum(len(text.encode()) for text in texts)
        assert split.words == sum(len(text.split()) for text in texts)
        assert split.tokens == split.bytes + split.documents


def test_gpt2_tokens_decode_to_the_documents(storage: UPath, pages: Path, gpt2_vocabulary: None) -> None:
    corpus = build(storage, pages, tokenizer="gpt2", heldout=0.3)
    tokenizer = load_tokenizer("gpt2")
    data = corpus.train.read(0, corpus.train.n_tokens).tolist()
    expected: list[int] = []
    for page in PAGES:
        if choose_split(hash_document(page.encode()), 0.3) == "train":
            expected += [*tokenizer.encode(page), tokenizer.end_of_text]
    assert data == expected
    assert set(heldout_documents(corpus)) <= set(PAGES)


def test_the_folder_is_the_same_whatever_the_workers(
    storage: UPath, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ladder.platform.corpus.blocks.BLOCK_BYTES", 1000)
    variants = [{"workers": 1}, {"workers": 3}, {"workers": 2, "processes": True}]
    folders = [contents(build(storage, pages, shard_tokens=999, overwrite=True, **given).folder) for given in variants]
    assert folders[0] == folders[1] == folders[2]


def test_the_split_depends_on_neither_order_nor_neighbours(storage: UPath, tmp_path: Path, pages: Path) -> None:
    shuffled = random.Random(0).sample(PAGES, 300)
    first = build(storage, pages, heldout=0.2)
    other = build(storage, write_pages(tmp_path / "other.jsonl", shuffled), "other", heldout=0.2)
    assert set(texts_of(other, "heldout")) == set(texts_of(first, "heldout")) & set(shuffled)


def test_a_larger_share_holds_out_the_same_documents_and_more(storage: UPath, pages: Path) -> None:
    small = texts_of(build(storage, pages, "small", heldout=0.05), "heldout")
    large = texts_of(build(storage, pages, "large", heldout=0.5), "heldout")
    assert set(small) < set(large)
    # 200 expected of 400, standard deviation 10.
    assert 150 < len(large) < 250


def test_duplicates_are_counted_and_stay_on_one_side(storage: UPath, tmp_path: Path) -> None:
    corpus = build(storage, write_pages(tmp_path / "twice.jsonl", PAGES + PAGES[:30]), heldout=0.3)
    assert corpus.duplicates == 30
    assert not set(texts_of(corpus, "train")) & set(texts_of(corpus, "heldout"))


def test_duplicates_are_counted_alike_in_many_passes() -> None:
    hashes = b"".join(hash_document(b"%d" % (n % 700)) for n in range(1000))
    for hashes_in_memory in (10, 999, 10_000):
        with DuplicateCounter(hashes_in_memory) as counter:
            counter.add(hashes[:80])
            counter.add(hashes[80:])
            assert counter.count() == 300


def test_empty_documents_are_left_out_and_counted(storage: UPath, tmp_path: Path) -> None:
    corpus = build(storage, write_pages(tmp_path / "gaps.jsonl", ["", " \n", *PAGES]))
    assert corpus.empty_documents == 2
    assert sum(split.documents for split in corpus.splits.values()) == len(PAGES)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["", " "], "would be empty: the input holds no document with text"),
        (["only one"], "the held-out split of corpus 'pages' would be empty: none of its 1 documents"),
    ],
)
def test_a_corpus_without_documents_on_both_sides_is_an_error(
    storage: UPath, tmp_path: Path, texts: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build(storage, write_pages(tmp_path / "few.jsonl", texts))
    assert list((storage / "corpora").iterdir()) == []


@pytest.mark.parametrize("processes", [False, True])
def test_a_corrupt_line_leaves_nothing_behind(storage: UPath, pages: Path, processes: bool) -> None:
    pages.write_text(pages.read_text() + '{"text": 7}\n')
    with pytest.raises(InputError, match=r"pages.jsonl:401: field 'text' is a int"):
        build(storage, pages, processes=processes, workers=1)
    assert list((storage / "corpora").iterdir()) == []


def test_wrong_options_are_errors(storage: UPath, pages: Path, tmp_path: Path) -> None:
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: build(storage, pages, heldout=0), "held-out share is 0; wanted more than 0 and less than 1"),
        (lambda: build(storage, pages, heldout=1.0), "held-out share is 1.0"),
        (lambda: build(storage, pages, workers=0), "got 0 processes"),
        (lambda: build(storage, pages, tokenizer="gpt9"), "unknown tokenizer 'gpt9'"),
        (lambda: build(storage, pages, name="../x"), "'../x' cannot name a corpus"),
        (lambda: build(UPath(pages), pages), "cannot write .*pages.jsonl"),
    ]
    for act, message in cases:
        with pytest.raises(InputError, match=message):
            act()


def test_an_existing_corpus_is_refused_and_can_be_overwritten(storage: UPath, tmp_path: Path, pages: Path) -> None:
    first = build(storage, pages)
    other = write_pages(tmp_path / "other.jsonl", PAGES[:200])
    with pytest.raises(InputError, match="corpus 'pages' already exists in .*; give --overwrite"):
        build(storage, other)
    assert open_corpus(storage, "pages").fingerprint == first.fingerprint
    second = build(storage, other, overwrite=True)
    assert open_corpus(storage, "pages").fingerprint == second.fingerprint != first.fingerprint
    assert [child.name for child in (storage / "corpora").iterdir()] == ["pages"]


def test_a_failed_overwrite_keeps_the_old_corpus(storage: UPath, tmp_path: Path, pages: Path) -> None:
    first = build(storage, pages)
    with pytest.raises(InputError):
        build(storage, write_pages(tmp_path / "few.jsonl", ["one"]), overwrite=True)
    corpus = open_corpus(storage, "pages")
    corpus.verify()
    assert corpus.fingerprint == first.fingerprint


def test_a_full_disk_is_named_and_leaves_nothing(storage: UPath, pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: ShardWriter, tokens: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ShardWriter, "write", fail)
    with pytest.raises(InputError, match="no space left on the disk of .*pages.*--storage"):
        build(storage, pages)
    assert list((storage / "corpora").iterdir()) == []


def test_an_interrupted_build_leaves_nothing(storage: UPath, pages: Path) -> None:
    def interrupted() -> Iterator[Record]:
        yield from read_records(find_files([pages]))
        raise KeyboardInterrupt

    options = BuildOptions(tokenizer="bytes", progress=False)
    with pytest.raises(KeyboardInterrupt):
        build_from_records(storage, "pages", interrupted(), source="", n_bytes=None, options=options)
    assert list((storage / "corpora").iterdir()) == []


SLOW_BUILD = """
import itertools, sys
from upath import UPath
from ladder.platform.corpus.build import BuildOptions, build_from_records
from ladder.platform.corpus.documents import Record
def endless():
    for n in itertools.count():
        yield Record(source="x", data=b"word " * 20_000 + b"%d" % n, is_json=False, position=n)
if __name__ == "__main__":
    options = BuildOptions(tokenizer="bytes", progress=False, workers=2, processes=True)
    build_from_records(UPath(sys.argv[1]), "pages", endless(), source="", n_bytes=None, options=options)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_build_leaves_no_process_and_no_corpus(
    storage: UPath, pages: Path, tmp_path: Path, how: signal.Signals
) -> None:
    script = tmp_path / "slow_build.py"
    script.write_text(SLOW_BUILD)
    process = subprocess.Popen(
        [sys.executable, str(script), str(storage)], start_new_session=True, stderr=subprocess.PIPE
    )
    staging = Path(storage.path) / "corpora" / ".building-pages"
    wait_until(lambda: any(file.stat().st_size > 0 for file in staging.glob("train-*.bin")), seconds=60)
    os.kill(process.pid, how)
    process.communicate(timeout=60)
    wait_until(lambda: not is_group_alive(process.pid), seconds=30)
    assert list_corpora(storage) == []
    assert staging.exists() == (how == signal.SIGKILL)
    build(storage, pages).verify()  # and what was left there is gone
    assert [child.name for child in (storage / "corpora").iterdir()] == ["pages"]


@pytest.mark.timeout(60)
def test_an_interrupt_while_a_process_starts_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[SpawnProcess] = []
    start = SpawnProcess.start

    def interrupted(process: SpawnProcess) -> None:
        start(process)
        started.append(process)
        if len(started) == 2:
            raise KeyboardInterrupt  # before the pool knows it

    monkeypatch.setattr(SpawnProcess, "start", interrupted)
    monkeypatch.setattr(blocks_module, "END_SECONDS", 1.0)
    blocks = ([Record(source="x", data=b"word", is_json=False, position=n)] for n in itertools.count())
    with pytest.raises(KeyboardInterrupt):
        list(encode_blocks(blocks, load_tokenizer("bytes"), 0.1, workers=2, processes=True))
    assert len(started) == 2 and not any(process.is_alive() for process in started)


def wait_until(true: Callable[[], bool], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def is_group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_object_storage_holds_the_same_corpus(storage: UPath, pages: Path, tmp_path: Path) -> None:
    remote = UPath("memory://ladder-test-build")
    local = build(storage, pages, shard_tokens=1000)
    corpus = build(remote, pages, shard_tokens=1000)
    assert contents(corpus.folder) == contents(local.folder)
    with pytest.raises(InputError, match="already exists"):
        build(remote, pages)
    with pytest.raises(InputError):
        build(remote, write_pages(tmp_path / "few.jsonl", ["one"]), overwrite=True)
    assert list_corpora(remote) == []
    build(remote, pages, overwrite=True)
    assert list_corpora(remote) == ["pages"]
    assert len(contents(remote / "corpora" / "pages")) == 3  # the smaller shards of the first build are gone


def test_input_is_read_from_object_storage(storage: UPath, pages: Path) -> None:
    remote = UPath("memory://ladder-test-input/pages.jsonl")
    remote.write_bytes(pages.read_bytes())
    corpus = build_corpus(storage, "pages", [remote.parent], tokenizer="bytes", progress=False)
    assert corpus.splits["train"].documents + corpus.splits["heldout"].documents == len(PAGES)
    assert corpus.source == str(remote)


def test_large_inputs_are_tokenized_by_processes(storage: UPath, pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    encode_blocks = build_module.encode_blocks
    monkeypatch.setattr(build_module, "PROCESSES_FROM_BYTES", 1000)
    monkeypatch.setattr(
        build_module,
        "encode_blocks",
        lambda *given, workers, processes: (
            asked.append(processes) or encode_blocks(*given, workers=workers, processes=False)
        ),
    )
    build_corpus(storage, "pages", [pages], tokenizer="bytes", progress=False)
    assert asked == [True]


def test_real_web_pages_become_the_tokens_of_tiktoken(storage: UPath, shared: Path, gpt2_vocabulary: None) -> None:
    corpus = build_corpus(storage, "web", [shared / "corpora" / "mdn-archive.jsonl.zst"], progress=False)
    assert corpus.splits["train"].documents + corpus.splits["heldout"].documents == 6413
    assert 0.04 < corpus.splits["heldout"].documents / 6413 < 0.06
    assert corpus.duplicates == 11
    tokenizer = load_tokenizer("gpt2")
    page = next(iter(heldout_documents(corpus)))
    tokens = tokenizer.encode(page)
    assert corpus.heldout.read(0, len(tokens) + 1).tolist() == [*tokens, 50256]


def test_a_ready_made_corpus_comes_from_any_place_and_column(storage: UPath, pages: Path) -> None:
    import polars as pl

    place = UPath("memory://ready-made/plain_text")
    place.mkdir(parents=True, exist_ok=True)
    for part in range(2):
        with (place / f"train-{part}.parquet").open("wb") as file:
            pl.DataFrame({"id": range(200), "body": PAGES[200 * part : 200 * (part + 1)]}).write_parquet(file)
    fields = DocumentFields(text="body")
    options = {"tokenizer": "bytes", "progress": False, "fields": fields}
    corpus = build_corpus(storage, "ready", [place], licence="cc0-1.0", **options)  # type: ignore[arg-type]
    assert corpus.fingerprint == build_corpus(storage, "plain", [pages], tokenizer="bytes", progress=False).fingerprint
    assert open_corpus(storage, "ready").licence == "cc0-1.0" and open_corpus(storage, "plain").licence is None
    assert open_corpus(storage, "ready").columns == ["id", "body"]
    assert "memory://ready-made/plain_text/train-0.parquet" in corpus.source
    with pytest.raises(InputError, match="no column 'text'; the columns are 'id', 'body'; name .* by --text-field"):
        build_corpus(storage, "other", [place], tokenizer="bytes", progress=False)


def test_a_corpus_of_an_earlier_version_opens(storage: UPath, pages: Path) -> None:
    corpus = build(storage, pages)
    path = corpus.folder / "corpus.json"
    content = json.loads(path.read_text())
    for name in ("heldout_by", "licence", "columns", "recipe", "recipe_sha256"):
        del content[name]
    path.write_text(json.dumps(content))
    assert open_corpus(storage, corpus.name).fingerprint == corpus.fingerprint
