"""text8 (Mahoney 2006): bits per character of the last 5 million characters of Wikipedia's text in 27 letters.

Lower-case a to z and single spaces, numbers spelled out, in one line without an end. The split is that of enwik8.
"""

import re

from ladder.platform.evaluation.benchmark import Benchmark
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.kinds.stream_bits import Stream

STREAM = Stream(benchmark="text8", unit="character", alphabet=re.compile("[a-z ]*"))

TEXT8 = Benchmark(
    name="text8",
    source="text8, the last 5,000,000 of its 100,000,000 characters",
    score=STREAM.score,
    reads=frozenset({"limit", "window", "stride"}),
    texts=STREAM.read_texts,
    citation="Mahoney 2006, About the test data, mattmahoney.net/dc/textdata.html",
    files=(
        BenchmarkFile(
            name="text8",
            sha256="6e890197040d37d85beb962ae1f041ff1d9a9ca8d20c7d99c85027eebf51dca7",
            address="https://mattmahoney.net/dc/text8.zip",
            member="text8",
            archive_sha256="a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
        ),
    ),
    paper_scores={"bits_per_character": {"117M": 1.17, "345M": 1.06, "762M": 1.02, "1542M": 0.98}},
)
