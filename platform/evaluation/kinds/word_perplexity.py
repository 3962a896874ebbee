"""Perplexity per original word of sets of tokenized text, as in the GPT-2 paper (Radford et al. 2019, section 3.1).

The text is de-tokenized without loss before it is scored, and the nats are divided by the number of original words,
line ends counted as words, as published perplexities of these sets are. `<unk>` and `N` stay as they are.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Setting, benchmark_folder, describe_windows
from ladder.platform.evaluation.item_scores import ItemScores, perplexity_of
from ladder.platform.evaluation.kinds.rolling_texts import PartNats
from ladder.platform.evaluation.text.detokenizer import Detokenizer
from ladder.platform.evaluation.text.lines import read_text_lines
from ladder.platform.evaluation.text.words import text_totals


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of tokenized text."""

    raw: str
    """The line as it stands in the file, its end not included."""
    tokens: tuple[str, ...]
    """Its words; none for an empty line."""


@dataclass(frozen=True, kw_only=True)
class WordSet:
    """A test split of tokenized text, how it is cut into items and how these are scored."""

    benchmark: str
    """Name of the benchmark."""
    file: str
    """Name of its file."""
    read: Callable[[UPath], list[list[Line]]]
    """Reads the lines of each item; InputError names a line that is not in the data set's format."""
    detokenizer: Detokenizer
    """Rules of the set's tokens."""
    n_words: int
    """Words of the split with line ends: another number is another split."""
    n_unknown: int | None = None
    """How many of its words are `<unk>`; None leaves it unchecked."""
    items: str
    """What an item is, in the plural and one word: articles."""
    nats: PartNats
    """How the items' texts are scored: as one stream or each alone."""
    manner: str
    """The same in words, for the protocol."""

    def score(self, setting: Setting) -> list[ItemScores]:
        """Perplexity of the de-tokenized text per original word."""
        items = self.read_items(setting.storage)[: setting.protocol.limit]
        texts = [self.detokenize(item) for item in items]
        words = np.array([count_words(item) for item in items])
        nats, tokens = self.nats(setting, texts)
        sums = [text_totals(text) for text in texts]  # of the text as scored; words are the original ones
        scores = ItemScores(
            benchmark=self.benchmark,
            protocol="de-tokenized text, nats / original words with line ends, "
            f"{self.manner}, {describe_windows(setting)}",
            metric="perplexity",
            unit="perplexity per original word",
            direction="lower",
            description="exp of nats per original word of the de-tokenized text; "
            f"standard error over {self.items}, delta method",
            estimate=perplexity_of(nats, words),
            counted=words,
            totals={
                "nats": nats,
                "tokens": tokens,
                "words": words,
                "characters": np.array([total["characters"] for total in sums]),
                "bytes": np.array([total["bytes"] for total in sums]),
                self.items.split(" ")[0]: np.ones(len(texts)),
            },
            items=[{"text": text} for text in texts],
        )
        return [scores]

    def read_texts(self, storage: UPath, corpus: Corpus | None) -> list[str]:
        """The de-tokenized text of each item."""
        return [self.detokenize(item) for item in self.read_items(storage)]

    def read_items(self, storage: UPath) -> list[list[Line]]:
        """The lines of each item of the split in storage; InputError where its counts are another split's."""
        path = benchmark_folder(storage, self.benchmark) / self.file
        items = self.read(path)
        n_words = sum(count_words(item) for item in items)
        n_unknown = sum(line.tokens.count("<unk>") for item in items for line in item)
        if n_words != self.n_words or self.n_unknown not in (None, n_unknown):
            wanted = f"{self.n_words} words" + ("" if self.n_unknown is None else f", {self.n_unknown} of them <unk>")
            raise InputError(
                f"{path} is not the split that {self.benchmark} scores: wanted {wanted} (line ends are words), "
                f"got {n_words}, {n_unknown} of them <unk>: fetch the benchmark again"
            )
        return items

    def detokenize(self, lines: Sequence[Line]) -> str:
        """Lines as ordinary text, a line end after each; `tokenize` is the inverse."""
        return "".join(self.detokenizer.join(list(line.tokens)) + "\n" for line in lines)

    def tokenize(self, text: str) -> list[tuple[str, ...]]:
        """The words of each line that `detokenize` made a text of."""
        return [tuple(self.detokenizer.undo(line)) for line in text.split("\n")[:-1]]


def count_words(lines: Sequence[Line]) -> int:
    """Words of some lines, their ends counted as words."""
    return sum(len(line.tokens) + 1 for line in lines)


def read_framed_lines(path: UPath) -> Iterator[Line]:
    """Lines of a space and tokens with one space after each, as in ` token token `; a single space is an empty line."""
    for number, raw in enumerate(read_text_lines(path), start=1):
        framed = raw == " " or (raw.startswith(" ") and raw.endswith(" ") and len(raw) > 2)
        if not framed or "  " in raw:
            wanted = "wanted ' token token ', one space around each token"
            raise InputError(f"{path}, line {number}: {wanted}, got {raw!r:.80}")
        yield Line(raw=raw, tokens=tuple(raw.split(" ")[1:-1]))


def read_spaced_lines(path: UPath) -> Iterator[Line]:
    """Lines of tokens with one space between two, none empty."""
    for number, raw in enumerate(read_text_lines(path), start=1):
        tokens = tuple(raw.split(" "))
        if "" in tokens:
            wanted = "wanted 'token token', one space between two tokens"
            raise InputError(f"{path}, line {number}: {wanted}, got {raw!r:.80}")
        yield Line(raw=raw, tokens=tokens)
