"""Processor seconds of the steps of `ladder corpus webtext`, beside bare libraries: python bench/webtext.py [STEP...]

Real data is found in ../shared or LADDER_SHARED. Times are of processors, not of the clock: the machine may be busy.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # as the command does

import numpy as np  # noqa: E402
from upath import UPath  # noqa: E402

SHARED = Path(os.environ.get("LADDER_SHARED", Path(__file__).parents[2] / "shared")).resolve()
WEBTEXT = UPath(SHARED / "webtext")
MDN = SHARED / "corpora" / "mdn-archive.jsonl.zst"
KEYS = 10_000_000
LINKS = 3_000_000


def cpu(work: Callable[[], object]) -> float:
    """Processor seconds of this process that the work takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def show(step: str, figure: float, unit: str) -> None:
    """One line of the result."""
    print(f"{step:<58} {figure:>12,.1f} {unit}", flush=True)


def peak_mib() -> float:
    """Most memory that this process held at once.

    Not getrusage's: a child process begins with its parent's maximum there.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def submissions() -> None:
    """Lines of a dump, real ones of 2018 over and over, in a zstd file of half a gigabyte of text."""
    import msgspec
    import zstandard

    from ladder.platform.corpus.webtext.engine import Execution
    from ladder.platform.corpus.webtext.links import LinkFile, LinkOptions, find_links, read_links
    from ladder.platform.corpus.webtext.stages import Stage
    from ladder.platform.corpus.webtext.submission import Submission
    from ladder.platform.corpus.webtext.submissions import LineCounts, read_submissions
    from ladder.platform.corpus.webtext.workers import Watch

    lines = (WEBTEXT / "reddit_2018-02-01_first_seconds.jsonl").read_bytes()
    with tempfile.TemporaryDirectory() as scratch:
        file = UPath(scratch) / "RS_2018-02.zst"
        with file.open("wb") as stream, zstandard.ZstdCompressor().stream_writer(stream) as writer:
            for n in range(1500):  # other URLs each time, as in a dump
                writer.write(lines.replace(b'"url":"http', b'"url":"http://a%d.example/http' % n))
        counts = LineCounts()
        seconds = cpu(lambda: [None for _ in read_submissions(file, counts)])
        show("submissions read and parsed", counts.lines / seconds, "lines/cpu-s")
        folder, options = UPath(scratch) / "links", LinkOptions(before=None)
        task = Stage(name="links", folder=folder / "files", recipe={}).task(
            0, LinkFile(file=file, is_list=False, options=options), {}
        )
        show("links of a dump that may stay", counts.lines / cpu(lambda: read_links(task, Watch())), "lines/cpu-s")
        show("most memory for it, 407 MB of text", peak_mib(), "MiB")
        seconds = cpu(lambda: find_links(folder, [file], [], options, Execution(workers=1, progress=False)))
        show("the whole stage, with merging by URL", counts.lines / seconds, "lines/cpu-s")
        show("most memory for it, 138,000 URLs", peak_mib(), "MiB")
    plain, decode = lines.splitlines() * 20, msgspec.json.Decoder(Submission).decode
    show("  peer: json.loads", len(plain) / cpu(lambda: [json.loads(line) for line in plain]), "lines/cpu-s")
    show("  peer: msgspec alone", len(plain) / cpu(lambda: [decode(line) for line in plain]), "lines/cpu-s")


def links() -> None:
    """Millions of links of one dump, so many that they are dealt out twice before they are merged by URL."""
    import zstandard

    from ladder.platform.corpus.webtext import link_merge
    from ladder.platform.corpus.webtext.engine import Execution
    from ladder.platform.corpus.webtext.links import LinkOptions, find_links

    with tempfile.TemporaryDirectory() as scratch:
        file = UPath(scratch) / "RS_2017-01.zst"
        with file.open("wb") as stream, zstandard.ZstdCompressor().stream_writer(stream) as writer:
            for n in range(LINKS):  # every third URL was posted before
                page = n - n % 3 % 2
                host = f"site{page % 9973}.example"
                url = f"https://{host}/2017/01/{page * 7919:012}/what-happened-that-day.html"
                post = {"id": f"{n:x}", "url": url, "score": n % 9, "created_utc": 1483228800 + n % 2678400}
                post |= {"is_self": False, "over_18": False, "domain": host, "subreddit": "news"}
                writer.write(json.dumps(post | {"retrieved_on": 1490000000}).encode() + b"\n")
        options, here = LinkOptions(), Execution(workers=1, progress=False)
        show("most memory before", peak_mib(), "MiB")
        seconds = cpu(lambda: find_links(UPath(scratch) / "ranges", [file], [], options, here))
        show(f"{LINKS:,} links of one dump, dealt out twice", LINKS / seconds, "links/cpu-s")
        show("most memory for it", peak_mib(), "MiB")
        # As many ranges at once as there may be, which real constants reach at 250 million links.
        link_merge.ROWS_OF_A_RANGE = LINKS // link_merge.RANGES_AT_ONCE
        find_links(UPath(scratch) / "more", [file], [], options, here)
        show(f"most memory with {link_merge.RANGES_AT_ONCE} ranges at once", peak_mib(), "MiB")


def archives() -> None:
    """Records of the benchmark's archive, unread."""
    import fastwarc.warc

    from ladder.platform.corpus.webtext.archives import read_captures

    file = WEBTEXT / "article_extraction_benchmark.warc.gz"
    data = file.read_bytes()
    list(read_captures(file))
    show(
        "records of an archive found",
        5 * 182 / cpu(lambda: [list(read_captures(file)) for _ in range(5)]),
        "records/cpu-s",
    )
    peer = cpu(lambda: [[r.consume() for r in fastwarc.warc.ArchiveIterator(io.BytesIO(data))] for _ in range(5)])
    show("  peer: FastWARC alone", 5 * 182 / peer, "records/cpu-s")


def extraction() -> None:
    """181 pages to text, and to whole rows of the stage."""
    from ladder.platform.corpus.webtext.archives import Capture, read_captures, read_page
    from ladder.platform.corpus.webtext.extraction import ExtractionOptions, extract_text
    from ladder.platform.corpus.webtext.quality import find_junk, measure
    from ladder.platform.corpus.webtext.shingles import band_keys, hash_shingles

    file = WEBTEXT / "article_extraction_benchmark.warc.gz"
    captures = [item for item in read_captures(file) if isinstance(item, Capture)]
    pages = [read_page(file, item.offset, item.length) for item in captures]
    for name in ("trafilatura", "resiliparse"):
        options = ExtractionOptions(extractor=name)
        extract_text(pages[0], "", options)
        texts: list[str] = []
        seconds = cpu(lambda: texts.extend(extract_text(page, "", options)[0] for page in pages))  # noqa: B023
        show(f"text by {name}", len(pages) / seconds, "pages/cpu-s")
        rest = cpu(lambda: [(find_junk(text), measure(text), band_keys(hash_shingles(text))) for text in texts])  # noqa: B023
        show(f"  with columns and keys, {name}", len(pages) / (seconds + rest), "pages/cpu-s")


def duplicates() -> None:
    """The MDN pages to keys, and ten million synthetic keys to clusters."""
    from ladder.platform.corpus.documents import read_documents
    from ladder.platform.corpus.webtext.clusters import candidate_pairs, find_clusters
    from ladder.platform.corpus.webtext.shingles import BANDS, band_keys, hash_shingles

    texts = [document.text for document in read_documents([MDN])]
    seconds = cpu(lambda: [band_keys(hash_shingles(text)) for text in texts])
    show("text to MinHash keys", len(texts) / seconds, "documents/cpu-s")
    texts.clear()

    def bands() -> object:
        for band in range(BANDS):  # one at a time, as they are read from the parts
            keys = np.random.default_rng(band).integers(0, 1 << 64, KEYS, dtype=np.uint64)
            keys[::20] = keys[1::20]  # every twentieth document has a twin in every band
            yield keys

    found: list[int] = []

    def cluster() -> None:
        pairs = candidate_pairs(bands())  # type: ignore[arg-type]
        found.append(len(np.unique(find_clusters(KEYS, pairs))))

    show(f"{KEYS:,} keys of {BANDS} bands clustered, drawn included", cpu(cluster), "cpu-s")
    assert found == [KEYS - KEYS // 20], found
    show("most memory", peak_mib(), "MiB")


def tokens() -> None:
    """The MDN pages tokenized with and without Ray; 300 MiB of JSON lines in one worker."""
    import psutil
    import ray

    from ladder.platform.corpus.build import build_corpus
    from ladder.platform.corpus.documents import read_documents

    with tempfile.TemporaryDirectory() as scratch:
        texts = [json.dumps({"text": document.text}) + "\n" for document in read_documents([MDN])]
        files = []
        for part in range(16):
            files.append(Path(scratch) / f"{part:02}.jsonl")
            files[-1].write_text("".join(texts[len(texts) * part // 16 : len(texts) * (part + 1) // 16]))
        storage = UPath(scratch) / "storage"
        fingerprints = []
        without = cpu(
            lambda: fingerprints.append(build_corpus(storage, "a", files, workers=1, progress=False).fingerprint)
        )
        show("MDN pages tokenized, one thread", without, "cpu-s")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=256 << 20)
        on_ray = {"address": "local", "ray_from_bytes": 1, "progress": False, "workers": 2}
        build_corpus(storage, "warm", files[:2], **on_ray)  # the workers' imports are Ray's start, not the work

        def of_workers() -> float:
            children = psutil.Process().children(recursive=True)
            return sum(sum(child.cpu_times()[:2]) for child in children if child.name().startswith("ray::"))

        before = of_workers()
        driver = cpu(lambda: fingerprints.append(build_corpus(storage, "b", files, **on_ray).fingerprint))
        show("  on Ray, 2 workers, started: workers and driver", of_workers() - before + driver, "cpu-s")
        ray.shutdown()
        assert fingerprints[0] == fingerprints[1]
        big = UPath(scratch) / "big.jsonl"
        with big.open("w") as stream:
            size = 0
            while size < 300 << 20:
                size += sum(map(len, texts))
                stream.writelines(texts)
        texts.clear()
        code = (
            "import sys; sys.path.append(sys.argv[3]); from webtext import peak_mib; from upath import UPath\n"
            "from ladder.platform.corpus.ray_build import *\n"
            "spec = TokenFile(file=UPath(sys.argv[1]), tokenizer='gpt2', heldout=0.05, fields=DocumentFields())\n"
            "folder = UPath(sys.argv[2]); folder.mkdir(exist_ok=True)\n"
            "encode_file(Task(index=0, folder=folder, key='', spec=spec), Watch())\n"
            "print(peak_mib())\n"
        )
        here = str(Path(__file__).parent)
        done = subprocess.run(
            [sys.executable, "-c", code, str(big), scratch + "/p", here], capture_output=True, text=True, check=True
        )
        show("most memory of a worker, 300 MiB of JSON lines", float(done.stdout), "MiB")


STEPS = {step.__name__: step for step in (submissions, links, archives, extraction, duplicates, tokens)}

if __name__ == "__main__":
    chosen = sys.argv[1:] or list(STEPS)
    if len(chosen) == 1:
        STEPS[chosen[0]]()
    else:  # a process each, so that the memory of one is not that of another
        for name in chosen:
            subprocess.run([sys.executable, __file__, name], check=True)
