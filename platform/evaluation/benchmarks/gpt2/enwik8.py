"""enwik8 (Mahoney 2006): bits per byte of the last 5 million of the first 100 million bytes of a dump of Wikipedia.

The split is the usual one, 90 million bytes to train on, 5 to validate and 5 to test. The text is XML and wiki marks,
scored as it stands.
"""

from ladder.platform.evaluation.benchmark import Benchmark
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.kinds.stream_bits import Stream

STREAM = Stream(benchmark="enwik8", unit="byte")

ENWIK8 = Benchmark(
    name="enwik8",
    source="enwik8, the last 5,000,000 of its 100,000,000 bytes",
    score=STREAM.score,
    reads=frozenset({"limit", "window", "stride"}),
    texts=STREAM.read_texts,
    citation="Mahoney 2006, Large text compression benchmark, mattmahoney.net/dc/text.html",
    files=(
        BenchmarkFile(
            name="enwik8",
            sha256="2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8",
            address="https://mattmahoney.net/dc/enwik8.zip",
            member="enwik8",
            archive_sha256="547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
        ),
    ),
    paper_scores={"bits_per_byte": {"117M": 1.16, "345M": 1.01, "762M": 0.97, "1542M": 0.93}},
)
