"""WikiText-2 (Merity et al. 2016): perplexity per original word of the test split.

The articles are one stream of text in plain windows of the model's context, or in sliding ones. For the text, `<unk>`
and what the perplexities divide by see `ladder.platform.evaluation.kinds.word_perplexity`.
"""

from ladder.platform.evaluation.benchmark import Benchmark
from ladder.platform.evaluation.benchmarks.gpt2.wikitext import TEST_FILE, wikitext
from ladder.platform.evaluation.files.published import BenchmarkFile

WORDS = wikitext("wikitext2", n_unknown=15_218)

WIKITEXT2 = Benchmark(
    name="wikitext2",
    source="WikiText-2, word-level test split with <unk>: 245,569 words with line ends, 62 articles",
    score=WORDS.score,
    reads=frozenset({"limit", "window", "stride"}),
    version=2,
    texts=WORDS.read_texts,
    citation="Merity et al. 2016, Pointer sentinel mixture models, arXiv:1609.07843",
    files=(
        BenchmarkFile(
            name=TEST_FILE,
            sha256="d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
            address="https://raw.githubusercontent.com/pytorch/examples/77f55b912142e11fcfdf5b530231fb9c52f181e8/"
            "word_language_model/data/wikitext-2/test.txt",
        ),
    ),
    paper_scores={"perplexity": {"117M": 29.41, "345M": 22.76, "762M": 19.93, "1542M": 18.34}},
)
