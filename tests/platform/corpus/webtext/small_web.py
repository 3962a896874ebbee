"""A small web for tests: two archives, the submissions that link to them, and a build of them."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

from upath import UPath

from ladder.platform.corpus.build import BuildOptions
from ladder.platform.corpus.store import Corpus
from ladder.platform.corpus.webtext.corpus import CorpusOptions
from ladder.platform.corpus.webtext.engine import Execution
from ladder.platform.corpus.webtext.extraction import ExtractionOptions
from ladder.platform.corpus.webtext.pipeline import WebtextOptions, run_webtext
from ladder.platform.corpus.webtext.text import TextOptions

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
OPTIONS = WebtextOptions(
    text=TextOptions(extraction=ExtractionOptions(extractor="parsers:fragile")),
    corpus=CorpusOptions(build=BuildOptions(tokenizer="bytes", heldout=0.2, progress=False, workers=1)),
    execution=Execution(workers=1, progress=False),
    pages_of_a_part=10,
)


def record(url: str, body: str, status: str = "200 OK", kind: str = "text/html") -> bytes:
    content = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n\r\n{body}".encode()
    return (
        (
            f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2017-01-01T00:00:00Z\r\n"
            f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(content)}\r\n\r\n"
        ).encode()
        + content
        + b"\r\n\r\n"
    )


def make_inputs(folder: Path, n: int = 60, special: dict[int, str] | None = None) -> WebtextOptions:
    """Two archives of n pages and the submissions that link to them."""
    urls = [f"http://site{number % 7}.example/page/{number}" for number in range(n)]
    bodies = [
        f"<p>Page {number} has {(special or {}).get(number, 'words')}.</p>" + f"<p>{number * number} of them.</p>" * 9
        for number in range(n)
    ]
    records = [gzip.compress(record(url, body)) for url, body in zip(urls, bodies, strict=True)]
    (folder / "one.warc.gz").write_bytes(b"".join(records[::2]))
    (folder / "two.warc.gz").write_bytes(b"".join(records[1::2]))
    lines = [{"url": url, "score": 3 + number % 5, "created_utc": 1_400_000_000} for number, url in enumerate(urls)]
    (folder / "RS_2014-05.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return replace(
        OPTIONS,
        submissions=[UPath(folder / "RS_2014-05.jsonl")],
        pages=[UPath(folder / "two.warc.gz"), UPath(folder / "one.warc.gz")],
    )


def build(storage: UPath, options: WebtextOptions, name: str = "web") -> Corpus:
    corpus = run_webtext(storage, name, options)
    assert corpus is not None
    return corpus
