"""WikiText-103 (Merity et al. 2016): perplexity per original word of the test split.

The same articles as WikiText-2's with a larger vocabulary, hence fewer `<unk>`: another input and another number, which
is why the paper's WikiText-2 and WikiText-103 differ for one model. Scored as `wikitext2` is.
"""

from ladder.platform.evaluation.benchmark import Benchmark
from ladder.platform.evaluation.benchmarks.gpt2.wikitext import TEST_FILE, wikitext
from ladder.platform.evaluation.files.published import BenchmarkFile

WORDS = wikitext("wikitext103", n_unknown=2_492)

WIKITEXT103 = Benchmark(
    name="wikitext103",
    source="WikiText-103, word-level test split with <unk>: 245,569 words with line ends",
    score=WORDS.score,
    reads=frozenset({"limit", "window", "stride"}),
    version=2,
    texts=WORDS.read_texts,
    citation="Merity et al. 2016, Pointer sentinel mixture models, arXiv:1609.07843",
    files=(
        BenchmarkFile(
            name=TEST_FILE,
            sha256=None,
            address="https://wikitext.smerity.com/wikitext-103-v1.zip",
            member="wikitext-103/wiki.test.tokens",
            archive_sha256="242ba0f20b329cfdf1ccc61e9e9e5b59becf189db7f7a81cd2a0e2fc31539590",
        ),
    ),
    paper_scores={"perplexity": {"117M": 37.50, "345M": 26.37, "762M": 22.05, "1542M": 17.48}},
)
