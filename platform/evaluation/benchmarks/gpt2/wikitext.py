"""The format of WikiText (Merity et al. 2016), in which WikiText-2 and WikiText-103 are published.

Their test splits are the same articles, word for word, but each replaces the words rare in its own training split by
`<unk>`: 15,218 of WikiText-2 and 2,492 of WikiText-103. They are different inputs, and neither is the text of the raw
character-level release, which has no `<unk>`.
"""

import re

from upath import UPath

from ladder.platform.evaluation.kinds.rolling_texts import stream_nats
from ladder.platform.evaluation.kinds.word_perplexity import Line, WordSet, read_framed_lines
from ladder.platform.evaluation.text.detokenizer import WIKITEXT

TEST_FILE = "wiki.test.tokens"

TITLE = re.compile(r" = [^=].* = ")


def read_articles(path: UPath) -> list[list[Line]]:
    """The lines of each article; InputError names a line that is not in the format."""
    articles: list[list[Line]] = [[]]
    for line in read_framed_lines(path):
        if TITLE.fullmatch(line.raw) and any(TITLE.fullmatch(earlier.raw) for earlier in articles[-1][:2]):
            articles.append([])
        articles[-1].append(line)
    return articles


def wikitext(benchmark: str, *, n_unknown: int) -> WordSet:
    """A release's test split of which `n_unknown` words are `<unk>`, scored article after article."""
    return WordSet(
        benchmark=benchmark,
        file=TEST_FILE,
        read=read_articles,
        detokenizer=WIKITEXT,
        n_words=245_569,
        n_unknown=n_unknown,
        items="articles",
        nats=stream_nats,
        manner="one stream",
    )
