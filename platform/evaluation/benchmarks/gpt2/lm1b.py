"""One Billion Word Benchmark (Chelba et al. 2013): perplexity per original word of shuffled news sentences.

The part `news.en.heldout-00000-of-00050` is scored, as published results of the set are (Jozefowicz et al. 2016,
arXiv:1602.02410, and what followed); the GPT-2 paper does not say which part it scores. The sentences are in random
order, so nothing is to be learned from the one before: each is scored on its own after the start token. Its line end is
scored too and counted as a word, where the literature counts the end of a sentence. Words that the literature's
vocabulary of 793,471 lacks are `<UNK>` there and themselves here.
"""

from upath import UPath

from ladder.platform.evaluation.benchmark import Benchmark
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.kinds.rolling_texts import separate_nats
from ladder.platform.evaluation.kinds.word_perplexity import Line, WordSet, read_spaced_lines
from ladder.platform.evaluation.text.detokenizer import ONE_BILLION_WORDS

FILE = BenchmarkFile(
    name="news.en.heldout-00000-of-00050",
    sha256=None,
    address="https://www.statmt.org/lm-benchmark/1-billion-word-language-modeling-benchmark-r13output.tar.gz",
    member="1-billion-word-language-modeling-benchmark-r13output/heldout-monolingual.tokenized.shuffled/"
    "news.en.heldout-00000-of-00050",
    archive_sha256="01ba60381110baf7f189dfd2b8374de371e8c9a340835793f190bdae9e90a34e",
    most_bytes=1 << 31,
)


def read_sentences(path: UPath) -> list[list[Line]]:
    """The line of each sentence; InputError names a line that is not `token token`."""
    return [[line] for line in read_spaced_lines(path)]


WORDS = WordSet(
    benchmark="lm1b",
    file=FILE.name,
    read=read_sentences,
    detokenizer=ONE_BILLION_WORDS,
    n_words=159_658,  # 6,075 sentences of 153,583 words, as counted in tensor2tensor's lm_example.py
    items="sentences",
    nats=separate_nats,
    manner="each sentence alone after the start token",
)

LM1B = Benchmark(
    name="lm1b",
    source="One Billion Word Benchmark, part 0 of 50 of the held-out sentences: 159,658 words with ends of sentences",
    score=WORDS.score,
    reads=frozenset({"limit", "window", "stride"}),
    version=2,
    texts=WORDS.read_texts,
    citation="Chelba et al. 2013, One billion word benchmark for measuring progress, arXiv:1312.3005",
    files=(FILE,),
    paper_scores={"perplexity": {"117M": 75.20, "345M": 55.72, "762M": 44.575, "1542M": 42.16}},
)
