"""A small corpus in a storage, and a job on it."""

from pathlib import Path

import pytest
from upath import UPath

from ladder.platform.corpus.build import build_corpus
from ladder.platform.corpus.store import Corpus

SENTENCES = (
    "The ladder stood against the wall of the old house near the river.",
    "A small boat went down the river, and nobody in the house saw it.",
    "When the rain came, the river rose and the boat was carried away.",
    "Somebody had painted the wall of the house in the colour of the river.",
)


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The corpus `small` of bytes, 20 pages of a few sentences; its storage is two folders up from its folder."""
    folder = tmp_path_factory.mktemp("small")
    texts = folder / "texts"
    texts.mkdir()
    for page in range(20):
        lines = [f"Page {page}, line {line}: {SENTENCES[(page + line) % 4]}" for line in range(12)]
        (texts / f"{page:02}.txt").write_text("\n".join(lines) + "\n")
    return build_corpus(UPath(folder / "storage"), "small", [texts], tokenizer="bytes", heldout=0.25, progress=False)


@pytest.fixture
def storage(small_corpus: Corpus, tmp_path: Path) -> UPath:
    """A fresh storage that holds the corpus `small`."""
    corpora = tmp_path / "storage" / "corpora"
    corpora.mkdir(parents=True)
    (corpora / "small").symlink_to(Path(str(small_corpus.folder)))
    return UPath(tmp_path / "storage")
