import bz2
import gzip
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import zstandard
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext import link_merge
from ladder.platform.corpus.webtext.engine import Execution
from ladder.platform.corpus.webtext.links import LinkOptions, find_links
from ladder.platform.corpus.webtext.stages import read_table, table_parts
from ladder.platform.corpus.webtext.submissions import LineCounts, read_submissions
from ladder.platform.corpus.webtext.urls import canonicalize

FUNNEL = {
    "lines": 244,
    "empty": 1,
    "broken": 1,
    "submissions": 242,
    "over_18": 10,
    "late": 10,
    "self": 2,
    "bad_url": 2,
    "domain wikipedia.org": 2,
    "domain wikiwand.com": 1,
    "domain youtube.com": 1,
    "domain imgur.com": 1,
    "extension pdf": 1,
    "links": 212,
    "urls": 162,
    "low_score": 42,
    "kept": 120,
}
"""What was put into the made-up month (WEBTEXT.md, section 2.5)."""


def submission(url: str, score: int = 5, **fields: Any) -> dict[str, Any]:
    return {"url": url, "score": score, "created_utc": 1_400_000_000, "is_self": False, **fields}


def write_lines(path: UPath, rows: list[dict[str, Any]]) -> UPath:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def links_of(folder: UPath, stage: dict[str, Any]) -> pl.DataFrame:
    return pl.concat([read_table(file) for file in table_parts(folder, stage)])


@pytest.fixture
def folder(tmp_path: Path) -> UPath:
    return UPath(tmp_path / "webtext" / "links")


@pytest.mark.parametrize(("score", "column"), [("max", "kept_by_maximum"), ("sum", "kept_by_sum")])
def test_the_made_up_month_gives_the_expected_links(
    webtext: UPath, folder: UPath, here: Execution, score: str, column: str
) -> None:
    stage = find_links(folder, [webtext / "RS_2017_made_up.zst"], [], LinkOptions(score=score), here)
    assert stage["counts"] == dict(sorted(FUNNEL.items()))
    assert len(stage["errors"]) == 1 and ":41: no submission" in stage["errors"][0]
    expected = pl.read_csv(str(webtext / "RS_2017_made_up.expected.tsv"), separator="\t")
    wanted = {canonicalize(url) for url in expected.filter(pl.col(column) == 1)["url"]}
    assert len(wanted) == 119
    assert set(links_of(folder, stage)["key"]) == wanted | {"example.com/never-crawled"}


def test_submissions_of_every_year_are_read(webtext: UPath, shared: Path) -> None:
    counts = LineCounts()
    file = webtext / "reddit_layouts_2005_2024.jsonl"
    rows = [row for batch in read_submissions(file, counts) for row in batch]
    plain = [json.loads(line) for line in file.read_text().splitlines()]
    assert (len(rows), counts.lines, counts.errors.n) == (23, 23, 0)
    assert {type(row.created_utc) for row in rows} == {int, float, str}
    for row, values in zip(rows, plain, strict=True):
        for name in ("url", "score", "created_utc", "retrieved_on", "is_self", "over_18", "subreddit", "id"):
            assert getattr(row, name) == values.get(name), name
    old = LineCounts()
    for path in sorted((shared / "benchmarks" / "reddit_urls").glob("*.jsonl")):
        assert all(batch is not None for batch in read_submissions(UPath(path), old))
    assert (old.lines, old.empty, old.errors.n) == (1182, 0, 0)


def test_real_links_of_2005_and_2018(webtext: UPath, shared: Path, folder: UPath, here: Execution) -> None:
    files = [UPath(path) for path in sorted((shared / "benchmarks" / "reddit_urls").glob("*.jsonl"))]
    stage = find_links(folder, files, [], LinkOptions(), here)
    assert stage["counts"]["submissions"] == 1182
    links = links_of(folder, stage)
    assert not links["url"].is_null().any() and links["key"].n_unique() == len(links)
    assert links["score"].min() == 3
    recent = webtext / "reddit_2018-02-01_first_seconds.jsonl"
    live = find_links(folder.parent / "live", [recent], [], LinkOptions(before=None), here)
    assert live["counts"]["self"] == sum(json.loads(line)["is_self"] for line in recent.read_text().splitlines()) == 90
    with pytest.raises(InputError, match=r"no link is left \(.*late 188.*--before"):
        find_links(folder, [recent], [], LinkOptions(), here)


def test_the_best_submission_speaks_for_its_url(tmp_path: Path, folder: UPath, here: Execution) -> None:
    rows = [
        submission("http://www.example.com/a/", 2, id="a", created_utc="1300000000", retrieved_on=1300000100),
        submission("https://example.com/a", 7, id="c", subreddit="later", created_utc=1400000000),
        submission("https://example.com/a#x", 7, id="b", subreddit="best", created_utc=1350000000.0),
        submission("https://example.com/b", 2, domain="example.com"),
        submission("https://example.com/b", 2, domain="example.com", is_self=None),
        submission("http://self.reddit.com", 50, domain="self.reddit.com"),
        submission("http://example.com/c", 50, domain="self.test"),
    ]
    file = write_lines(UPath(tmp_path / "RS_2014-01.jsonl"), rows)
    links = links_of(folder, find_links(folder, [file], [], LinkOptions(), here))
    assert links.select("key", "url", "score", "score_max", "score_sum", "submissions").rows() == [
        ("example.com/a", "https://example.com/a#x", 7, 7, 16, 3)
    ]
    assert links.select("subreddit", "created", "first_created", "delay").rows() == [
        ("best", 1350000000, 1300000000, None)
    ]
    summed = find_links(folder, [file], [], LinkOptions(score="sum"), here)
    assert set(links_of(folder, summed)["key"]) == {"example.com/a", "example.com/b"}
    assert set(links_of(folder, find_links(folder, [file], [], LinkOptions(min_score=7), here))["key"]) == {
        "example.com/a"
    }


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
    "": bytes,
}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_dumps_of_every_compression_hold_the_same(tmp_path: Path, suffix: str) -> None:
    lines = [json.dumps(submission(f"http://example.com/{n}", n)).encode() for n in range(3000)]
    lines[1000] = b"\0" * 70_000
    lines[2000] = b""
    path = UPath(tmp_path / f"RS_2011-01{suffix}")
    halves = [b"\n".join(lines[:1500]) + b"\n", b"\n".join(lines[1500:])]  # two frames, no line end at the end
    path.write_bytes(b"".join(map(COMPRESS[suffix], halves)))
    counts = LineCounts()
    scores = [row.score for batch in read_submissions(path, counts) for row in batch]
    assert scores == [n for n in range(3000) if n not in (1000, 2000)]
    assert (counts.lines, counts.empty, counts.errors.n) == (3000, 1, 1)
    assert counts.errors.first[0].startswith(f"{path}:1001: no submission")
    if suffix:
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(InputError, match=r"RS_2011-01.*(cut off|corrupt)"):
            list(read_submissions(path, LineCounts()))


def test_a_line_without_end_is_counted_and_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ladder.platform.corpus.webtext.submissions.LONGEST_LINE", 100_000)
    good = json.dumps(submission("http://example.com/")).encode()
    path = UPath(tmp_path / "RS.jsonl")
    path.write_bytes(good + b"\n" + b"x" * 900_000 + b"\n" + good + b"\n" + b"y" * 900_000)
    counts = LineCounts()
    assert sum(len(batch) for batch in read_submissions(path, counts)) == 2
    assert (counts.lines, counts.errors.n) == (4, 2)


def test_ranges_of_hashes_merge_to_the_same_links(
    tmp_path: Path, folder: UPath, here: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [
        write_lines(
            UPath(tmp_path / f"RS_{part}.jsonl"),
            [submission(f"http://example.com/{n % 700}", n % 9, id=f"{part}{n}") for n in range(1000)],
        )
        for part in range(3)
    ]
    whole = links_of(folder, find_links(folder, files, [], LinkOptions(), here))
    for name, value in {"ROWS_OF_A_RANGE": 400, "RANGES_AT_ONCE": 3, "ROWS_OF_A_PIECE": 50}.items():
        monkeypatch.setattr(link_merge, name, value)
    stage = find_links(folder, files[::-1], [], LinkOptions(), Execution(workers=2, progress=False))
    assert stage["parts"] == 8
    assert links_of(folder, stage).equals(whole)
    assert whole["hash"].is_sorted()
    assert np.load(folder / "hashes.npy").tolist() == whole["hash"].to_list()


def test_links_need_no_pandas(tmp_path: Path, folder: UPath) -> None:
    # Some of pyarrow's functions import it, which alone would take the memory of a worker beyond 200 MiB.
    file = write_lines(UPath(tmp_path / "RS.jsonl"), [submission("http://example.com/a", n) for n in range(10)])
    code = (
        "import sys; from upath import UPath\n"
        "from ladder.platform.corpus.webtext.links import Execution, LinkOptions, find_links\n"
        "files = [UPath(sys.argv[1])]\n"
        "find_links(UPath(sys.argv[2]), files, [], LinkOptions(), Execution(workers=1, progress=False))\n"
        "assert 'pandas' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(file), str(folder)], check=True)


def test_the_hash_that_two_urls_share_does_not_merge_them(
    tmp_path: Path, folder: UPath, here: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ladder.platform.corpus.webtext.links.hash_key", lambda key: (1 << 64) - 1)
    rows = [submission(f"http://example.com/{name}", 5, id=f"{n}") for n, name in enumerate("abcab")]
    links = links_of(folder, find_links(folder, [write_lines(UPath(tmp_path / "a"), rows)], [], LinkOptions(), here))
    assert links.select("key", "submissions").rows() == [
        (f"example.com/{name}", n) for name, n in {"a": 2, "b": 2, "c": 1}.items()
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("RS_2017-10.xz.deduped.txt", "http://example.com/a\nhttp://www.example.com/a/\n\nhttps://example.com/b\n"),
        ("list.tsv", "score\turl\n5\thttp://example.com/a\n\n2\thttp://example.com/c\n4\thttps://example.com/b\n"),
        ("list.csv", 'url,created_utc\n"http://example.com/a",1400000000\nhttps://example.com/b,1400000001.5\n'),
        (
            "list.jsonl",
            '{"url": "http://example.com/a", "score": 3}\n{"url": 5}\n{"url": "http://example.com/b", "score": null}\n',
        ),
    ],
)
def test_lists_of_urls_are_taken_too(tmp_path: Path, folder: UPath, here: Execution, name: str, text: str) -> None:
    path = UPath(tmp_path / name)
    path.write_text(text)
    stage = find_links(folder, [], [path], LinkOptions(), here)
    assert set(links_of(folder, stage)["key"]) == {"example.com/a", "example.com/b"}
    assert stage["counts"].get("broken", 0) == (1 if name.endswith("jsonl") else 0)


def test_a_list_in_parquet_and_lists_that_are_none(tmp_path: Path, folder: UPath, here: Execution) -> None:
    pl.DataFrame({"url": ["http://example.com/a", None], "score": [9, 1]}).write_parquet(tmp_path / "a.parquet")
    stage = find_links(folder, [], [UPath(tmp_path / "a.parquet")], LinkOptions(), here)
    assert links_of(folder, stage)["score"].to_list() == [9]
    for name, text, message in [
        ("a.doc", "x", "cannot tell the format"),
        ("a.tsv", "link\thost\nx\ty\n", "no column 'url'.*'link', 'host'"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=message):
            find_links(folder, [], [UPath(tmp_path / name)], LinkOptions(), here)
    with pytest.raises(InputError, match="cannot read .*absent.zst"):
        find_links(folder, [UPath(tmp_path / "absent.zst")], [], LinkOptions(), here)
    with pytest.raises(InputError, match="no links: give --submissions"):
        find_links(folder, [], [], LinkOptions(), here)
    with pytest.raises(InputError, match="got --karma 'mean', wanted max or sum"):
        LinkOptions(score="mean")
    with pytest.raises(InputError, match="got --before 'soon', wanted a day"):
        LinkOptions(before="soon")


def test_a_file_read_once_is_not_read_again(tmp_path: Path, folder: UPath, here: Execution) -> None:
    files = [write_lines(UPath(tmp_path / f"RS_{n}.jsonl"), [submission(f"http://example.com/{n}")]) for n in range(3)]
    first = find_links(folder, files, [], LinkOptions(), here)
    written = {path.name: path.stat().st_mtime_ns for path in (folder / "files").iterdir()}
    write_lines(files[1], [submission("http://example.com/other")])
    second = find_links(folder, files, [], LinkOptions(), here)
    changed = {path.name for path in (folder / "files").iterdir() if written[path.name] != path.stat().st_mtime_ns}
    assert changed == {"part-00001.arrow", "part-00001.json", "stage.json"}
    assert second["output_sha256"] != first["output_sha256"]
    fewer = find_links(folder, files[:1], [], LinkOptions(), here)
    assert set(links_of(folder, fewer)["key"]) == {"example.com/0"}
    assert not (folder / "files" / "part-00002.arrow").exists()


def test_a_damaged_part_is_named(tmp_path: Path, folder: UPath, here: Execution) -> None:
    (tmp_path / "a.txt").write_text("http://a.example/1\nhttp://a.example/2\n")
    find_links(folder, [], [UPath(tmp_path / "a.txt")], LinkOptions(), here)
    part = folder / "files" / "part-00000.arrow"
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"part-00000.arrow is missing or damaged .*run the stage again"):
        find_links(folder, [], [UPath(tmp_path / "a.txt")], LinkOptions(), here)


ROOT = Path(__file__).parents[4]
MEMORY = """
import os, sys
os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # as `ladder` sets it
from pathlib import Path
from upath import UPath
from ladder.platform.corpus.webtext import link_merge, links
from ladder.platform.corpus.webtext.engine import Execution

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

folder = UPath(sys.argv[1])
merge = link_merge.merge_links
def measured(*given):
    print(peak())
    return merge(*given)
link_merge.merge_links = measured
link_merge.ROWS_OF_A_RANGE = 100_000
options = links.LinkOptions(before=None)
links.find_links(folder / "links", [], [folder / "many.tsv"], options, Execution(workers=1, progress=False))
print(peak())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")
def test_dealing_links_out_twice_takes_little_memory(tmp_path: Path) -> None:
    with (tmp_path / "many.tsv").open("w") as file:
        file.write("url\tscore\n")
        file.writelines(
            f"http://site{n % 999}.example/2017/{n * 7919:012}/what-happened.html\t5\n" for n in range(300_000)
        )
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path], capture_output=True, text=True, check=True, cwd=ROOT
    )
    before, after = map(float, done.stdout.split())
    assert after - before < 20, (before, after)  # MiB; Arrow's own allocator took 38
