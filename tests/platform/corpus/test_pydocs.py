import threading
from pathlib import Path

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus import pydocs
from ladder.platform.corpus.pydocs import ensure_corpus, find_prose, pydocs_documents
from ladder.platform.corpus.store import heldout_documents, open_corpus

DOCSTRING = """
Compute the :class:`~numpy.ndarray` of ``n`` *great* things, and then
return all of them in a new list.

Parameters
----------
n : int
    The number of things that are wanted by the caller of this function.

>>> compute(3)
[1, 2, 3]

The result is = f(x) + g(y) * h(z) / 2, x[0] != y[1], and so on {z: 1}.

- One thing is that lists are no prose, however long their items may be.
"""


@pytest.fixture
def few_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydocs, "PACKAGES", ("polars", "not_installed_anywhere"))


def test_only_prose_stays_without_its_markup() -> None:
    assert find_prose(DOCSTRING) == [
        "Compute the numpy.ndarray of n great things, and then return all of them in a new list."
    ]


def test_pages_are_the_same_each_time_and_hold_paragraphs(few_packages: None) -> None:
    pages = list(pydocs_documents())
    assert pages == list(pydocs_documents())
    assert len({page.source for page in pages}) == len(pages)
    assert any(page.source.startswith("polars/") for page in pages)
    assert all(len(page.text) >= 600 and "\n\n" in page.text.strip() for page in pages)
    paragraphs = [paragraph for page in pages for paragraph in page.text.strip().split("\n\n")]
    assert len(set(paragraphs)) == len(paragraphs)
    # English: "the" is its most frequent word, 5 to 7 % of running text.
    words = " ".join(paragraphs).lower().split()
    assert len(words) > 100_000
    assert 0.04 < words.count("the") / len(words) < 0.09


def test_the_embedded_corpus_is_built_once_at_first_use(storage_of_two: UPath) -> None:
    corpus = open_corpus(storage_of_two, "pydocs")
    written = (corpus.folder / "corpus.json").stat().st_mtime_ns
    assert ensure_corpus(storage_of_two, "pydocs").fingerprint == corpus.fingerprint
    assert (corpus.folder / "corpus.json").stat().st_mtime_ns == written
    assert corpus.tokenizer == "bytes"
    assert len(next(iter(heldout_documents(corpus)))) >= 600
    assert [child.name for child in (storage_of_two / "corpora").iterdir()] == ["pydocs"]


@pytest.fixture
def storage_of_two(tmp_path: Path, few_packages: None) -> UPath:
    """Storage where two sweeps asked for the embedded corpus at once."""
    storage = UPath(tmp_path / "storage")
    threads = [threading.Thread(target=ensure_corpus, args=(storage, "pydocs")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return storage


def test_other_corpora_and_tokenizers_are_not_made_up(storage_of_two: UPath) -> None:
    with pytest.raises(InputError, match="no corpus 'web'.*the corpora there: pydocs"):
        ensure_corpus(storage_of_two, "web")
    with pytest.raises(InputError, match="holds tokens of tokenizer 'bytes', wanted 'gpt2'"):
        ensure_corpus(storage_of_two, "pydocs", tokenizer="gpt2")
