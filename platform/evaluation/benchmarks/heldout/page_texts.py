"""Pages held out of a corpus, as the benchmarks made from them read them, under limits that keep scoring short.

The limits are deterministic and do not depend on the model: the first pages in the order of the corpus, so that all
runs on a corpus are scored on the same text.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TypeVar

import numpy as np

from ladder.models.errors import InputError
from ladder.models.tokenizer import Tokenizer
from ladder.platform.corpus.store import Corpus, heldout_documents
from ladder.platform.evaluation.protocol import Limits
from ladder.platform.evaluation.scorer import Scorer

Item = TypeVar("Item")


class Pages:
    """The pages held out of one corpus, and their rolling score under one model, each made once."""

    def __init__(self, corpus: Corpus, *, limits: Limits, scorer: Scorer, tokenizer: Tokenizer) -> None:
        self.corpus = corpus
        self.limits = limits
        self._scorer = scorer
        self._tokenizer = tokenizer

    @cached_property
    def texts(self) -> list[str]:
        """The whole text of each page."""
        texts = list(itertools.islice(heldout_documents(self.corpus), self.limits.pages))
        if not texts:
            raise InputError(f"corpus {self.corpus.name} holds no page out: build it with a larger --heldout")
        return texts

    @cached_property
    def openings(self) -> list[str]:
        """The start of each page, cut at a word's end."""
        return [opening(text, self.limits.page_characters) for text in self.texts]

    @cached_property
    def opening_nats(self) -> np.ndarray:
        """-ln p of each page's start under the model, in nats, float64 [pages]; the end of text is not predicted."""
        scored = self._scorer.rolling(self._tokenizer.encode_batch(self.openings))
        return np.array([nats.sum(dtype=np.float64) for nats in scored])

    def items(self, find: Callable[[str], Iterable[Item]], limit: int) -> list[Item]:
        """Up to `limit` items that `find` makes of the pages: the first of every page, then the second of each."""
        rounds = itertools.zip_longest(*(itertools.islice(find(text), limit) for text in self.texts))
        found: Iterator[Item] = (item for items in rounds for item in items if item is not None)
        return list(itertools.islice(found, limit))


def opening(text: str, characters: int) -> str:
    """The first `characters` of a text, or a few less so that no word is cut."""
    if len(text) <= characters:
        return text
    start = text[: characters + 1]
    words_end = max((index for index, character in enumerate(start) if character.isspace()), default=characters)
    return text[:words_end] if words_end else text[:characters]
