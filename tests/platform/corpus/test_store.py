import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.build import BuildOptions, build_from_records
from ladder.platform.corpus.documents import Record
from ladder.platform.corpus.store import Corpus, heldout_documents, list_corpora, open_corpus

TEXTS = [f"This is document {n}, of {'very ' * (n % 30)}many." for n in range(200)]


def build_texts(storage: UPath, name: str = "texts") -> Corpus:
    records = [Record(source="x", data=text.encode(), is_json=False, position=0) for text in TEXTS]
    options = BuildOptions(tokenizer="bytes", heldout=0.2, progress=False, shard_tokens=700)
    return build_from_records(storage, name, records, source="texts", n_bytes=None, options=options)


@pytest.fixture
def storage(tmp_path: Path) -> UPath:
    return UPath(tmp_path / "storage")


def test_a_built_corpus_opens_as_it_was_built(storage: UPath) -> None:
    built = build_texts(storage)
    opened = open_corpus(storage, "texts", tokenizer="bytes")
    assert opened == built
    assert opened.to_json() == json.loads((built.folder / "corpus.json").read_text())
    opened.verify()


def test_reading_crosses_shard_borders(storage: UPath) -> None:
    stream = build_texts(storage).train
    whole = np.concatenate([np.fromfile(file, dtype="<u2") for file in sorted(Path(str(storage)).rglob("train-*.bin"))])
    assert stream.n_tokens == len(whole)
    for start, n in [(0, len(whole)), (699, 2), (700, 700), (650, 1600), (len(whole), 0), (len(whole) - 1, 1)]:
        tokens = stream.read(start, n)
        assert tokens.dtype == np.int64
        assert np.array_equal(tokens, whole[start : start + n])
    with pytest.raises(AssertionError):
        stream.read(len(whole) - 1, 2)


def test_heldout_documents_come_back_whole_over_any_chunk(storage: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = build_texts(storage)
    whole = list(heldout_documents(corpus))
    assert len(whole) == corpus.splits["heldout"].documents > 20
    assert set(whole) < set(TEXTS)
    for chunk_tokens in (1, 7, 100):
        monkeypatch.setattr("ladder.platform.corpus.store.CHUNK_TOKENS", chunk_tokens)
        assert list(heldout_documents(corpus)) == whole


def test_a_corpus_pickles_as_its_place(storage: UPath) -> None:
    corpus = build_texts(storage)
    tokens = corpus.train.read(0, 2000)
    data = pickle.dumps(corpus)
    assert len(data) < 5000
    assert np.array_equal(pickle.loads(data).train.read(0, 2000), tokens)


def test_an_unknown_corpus_is_an_error_that_lists_the_known(storage: UPath) -> None:
    with pytest.raises(InputError, match="no corpus 'web' in .*; the corpora there: none"):
        open_corpus(storage, "web")
    build_texts(storage, "b")
    build_texts(storage, "a")
    (storage / "corpora" / "half").mkdir()
    (storage / "corpora" / ".building-c").mkdir()
    assert list_corpora(storage) == ["a", "b"]
    with pytest.raises(InputError, match="the corpora there: a, b; build it with: ladder corpus build web --input"):
        open_corpus(storage, "web")


def test_another_tokenizer_than_wanted_is_an_error(storage: UPath) -> None:
    corpus = build_texts(storage)
    with pytest.raises(InputError, match="corpus 'texts' holds tokens of tokenizer 'bytes', wanted 'gpt2'"):
        open_corpus(storage, "texts", tokenizer="gpt2")
    with pytest.raises(InputError, match="made with another vocabulary called 'bytes'"):
        replace(corpus, tokenizer_fingerprint="0" * 64).load_tokenizer()


def test_a_missing_shard_is_an_error(storage: UPath) -> None:
    corpus = build_texts(storage)
    (corpus.folder / "train-00002.bin").unlink()
    with pytest.raises(InputError, match="shard .*train-00002.bin is missing; .*ladder corpus build texts"):
        open_corpus(storage, "texts")


def test_a_truncated_shard_is_an_error(storage: UPath) -> None:
    shard = build_texts(storage).folder / "heldout-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(InputError, match="shard .*heldout-00000.bin has 1398 bytes, wanted 1400"):
        open_corpus(storage, "texts")


def test_a_changed_shard_is_found_by_its_hash(storage: UPath) -> None:
    corpus = build_texts(storage)
    shard = corpus.folder / "train-00001.bin"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(InputError, match="shard .*train-00001.bin was changed"):
        open_corpus(storage, "texts").verify()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "is damaged"),
        (lambda text: "[]", "is damaged"),
        (lambda text: text.replace('"vocabulary"', '"words"'), "is damaged"),
        (lambda text: text.replace('"format": 1', '"format": 9'), "is of format 9, this version reads 1"),
        (lambda text: text.replace("train-00000.bin", "train-99999.bin"), "train-99999.bin is missing"),
        (lambda text: text.replace('"fingerprint": "', '"fingerprint": "0'), "was changed since it was built"),
    ],
)
def test_a_damaged_description_is_an_error(storage: UPath, damage: object, message: str) -> None:
    path = build_texts(storage).folder / "corpus.json"
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        open_corpus(storage, "texts")


def test_a_remote_corpus_reads_like_a_local_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADDER_CACHE", str(tmp_path / "cache"))
    remote = UPath("memory://ladder-test-store")
    build_texts(remote)
    corpus = open_corpus(remote, "texts")
    local = build_texts(UPath(tmp_path / "storage"))
    assert np.array_equal(corpus.train.read(650, 100), local.train.read(650, 100))
    corpus.verify()
    assert list(heldout_documents(corpus)) == list(heldout_documents(local))
