import datetime
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import zstandard
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext.archives import BrokenPage, BrokenRecord, Capture, read_captures, read_page
from ladder.platform.corpus.webtext.engine import Execution
from ladder.platform.corpus.webtext.links import LinkOptions, find_links
from ladder.platform.corpus.webtext.pages import PageInputs, find_pages
from ladder.platform.corpus.webtext.stages import read_table

Damage = Callable[[bytearray, list[int]], bytes]


def record(url: str, body: str = "<p>text</p>", *, head: str = "HTTP/1.1 200 OK", date: str = "2017-01-01") -> bytes:
    content = f"{head}\r\nContent-Type: text/html\r\n\r\n{body}".encode()
    return (
        (
            f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nWARC-Date: {date}T00:00:00Z\r\n"
            f"WARC-Record-ID: <urn:uuid:{abs(hash(url)):032x}>\r\nContent-Type: application/http; msgtype=response\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        ).encode()
        + content
        + b"\r\n\r\n"
    )


def write_archive(path: UPath, records: list[bytes]) -> UPath:
    path.write_bytes(b"".join(map(gzip.compress, records)))
    return path


def flip(place: int) -> Damage:
    return lambda data, starts: bytes(data[:place]) + bytes([data[place] ^ 255]) + bytes(data[place + 1 :])


def overwrite_head(data: bytearray, starts: list[int]) -> bytes:
    data[starts[50] : starts[50] + 10] = b"x" * 10
    return bytes(data)


def break_checksum(data: bytearray, starts: list[int]) -> bytes:
    data[starts[51] - 6] ^= 255
    return bytes(data)


def put_zeros_between(data: bytearray, starts: list[int]) -> bytes:
    return bytes(data[: starts[50]] + b"\0" * 5000 + data[starts[50] :])


def dig_hole(data: bytearray, starts: list[int]) -> bytes:
    data[starts[50] - 3000 : starts[53] + 2000] = bytes(starts[53] + 5000 - starts[50])
    return bytes(data)


DAMAGES: dict[str, tuple[Damage, set[int], int]] = {
    "a flipped byte": (flip(3_000_000), {83}, 83),
    "an overwritten header": (overwrite_head, {50}, 50),
    "a wrong checksum": (break_checksum, {50}, 50),
    "zeros between records": (put_zeros_between, set(), 50),
    "a hole over records": (dig_hole, {49, 50, 51, 52, 53}, 49),
    "a flipped byte in the last": (flip(-100), {180}, 180),
}
"""How a file is damaged, which pages are lost by it, and the first page that is."""


@pytest.fixture(scope="module")
def whole(webtext: UPath) -> list[Capture]:
    captures = list(read_captures(webtext / "article_extraction_benchmark.warc.gz"))
    assert all(isinstance(capture, Capture) for capture in captures)
    return captures  # type: ignore[return-value]


def test_every_record_has_its_place(webtext: UPath, whole: list[Capture]) -> None:
    file = webtext / "article_extraction_benchmark.warc.gz"
    truth = json.loads((webtext / "article_extraction_benchmark.truth.json").read_text())
    assert {capture.url for capture in whole} == {page["url"] for page in truth.values()}
    assert sum(capture.length for capture in whole) + whole[0].offset == file.stat().st_size
    for capture in (whole[0], whole[90], whole[-1]):
        page = read_page(file, capture.offset, capture.length)
        # The last place of a file reaches to its end; the record's own bytes are what a member holds.
        member = gzip.decompress(file.read_bytes()[capture.offset : capture.offset + capture.length])
        assert member.partition(b"\r\n\r\n")[2].partition(b"\r\n\r\n")[2] == page.body + b"\r\n\r\n"
    with pytest.raises(BrokenPage, match="no whole HTTP response"):
        read_page(file, whole[3].offset + 1, whole[3].length)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_all_other_records_are_read(
    webtext: UPath, whole: list[Capture], tmp_path: Path, damage: str
) -> None:
    spoil, lost, first = DAMAGES[damage]
    data = bytearray((webtext / "article_extraction_benchmark.warc.gz").read_bytes())
    path = UPath(tmp_path / "a.warc.gz")
    path.write_bytes(spoil(data, [capture.offset for capture in whole]))
    found = list(read_captures(path))
    broken = [item for item in found if isinstance(item, BrokenRecord)]
    assert {item.url for item in found if isinstance(item, Capture)} == {
        capture.url for number, capture in enumerate(whole) if number not in lost
    }
    assert len(broken) == 1
    assert (broken[0].file, broken[0].offset) == (str(path), whole[first].offset)
    assert f"a.warc.gz: record {first + 2} at offset {whole[first].offset:,}: " in str(broken[0])


@pytest.mark.parametrize(("cut", "pages"), [(3_000_000, 83), (1_722_463, 50), (1_722_558, 50)])
def test_a_file_that_was_cut_says_so(webtext: UPath, tmp_path: Path, cut: int, pages: int) -> None:
    path = UPath(tmp_path / "a.warc.gz")
    path.write_bytes((webtext / "article_extraction_benchmark.warc.gz").read_bytes()[:cut])
    found = list(read_captures(path))
    assert len(found) == pages + 1
    assert isinstance(found[-1], BrokenRecord) and "cut off" in found[-1].message


def test_a_page_that_was_clipped_in_its_record_is_broken(webtext: UPath) -> None:
    (only,) = read_captures(webtext / "one_page.warc.gz")
    assert isinstance(only, BrokenRecord) and only.message == "cut off: 74,970 bytes of 88,038 are there"


def test_plain_and_zstd_archives_give_the_same_pages(tmp_path: Path) -> None:
    records = [record(f"http://example.com/{n}", "<p>page</p>" * 5000) for n in range(20)]
    plain, packed = UPath(tmp_path / "a.warc"), UPath(tmp_path / "a.warc.zst")
    plain.write_bytes(b"".join(records))
    packed.write_bytes(b"".join(map(zstandard.compress, records)))
    for path in (plain, packed):
        captures = list(read_captures(path))
        assert [item.url for item in captures if isinstance(item, Capture)] == [
            f"http://example.com/{n}" for n in range(20)
        ]
        assert isinstance(captures[7], Capture)
        assert read_page(path, captures[7].offset, captures[7].length).body == b"<p>page</p>" * 5000
        data = bytearray(path.read_bytes())
        data[captures[7].offset + 8 : captures[7].offset + 30] = b"#" * 22
        path.write_bytes(bytes(data))
        found = list(read_captures(path))
        assert [isinstance(item, BrokenRecord) for item in found] == [n == 7 for n in range(20)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no WARC record"),
        (b"<html>" * 100, "holds no WARC record"),
        (gzip.compress(b"no archive" * 100, mtime=0), "holds no WARC record"),
        (gzip.compress(record("http://a.example/") + record("http://b.example/")), "record 2 is not compressed on its"),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = UPath(tmp_path / "a.warc.gz")
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        list(read_captures(path))


def linked(folder: UPath, urls: list[str], here: Execution, created: int = 1_483_228_800) -> dict[str, object]:
    file = folder.parent / "RS.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"url": url, "score": 9, "created_utc": created}) + "\n" for url in urls))
    return find_links(folder, [file], [], LinkOptions(), here)


def test_the_plan_has_one_good_capture_of_each_link(tmp_path: Path, here: Execution) -> None:
    links, folder = UPath(tmp_path / "links"), UPath(tmp_path / "pages")
    stage = linked(links, [f"http://www.example.com/{n}/" for n in range(6)], here)
    one = write_archive(
        UPath(tmp_path / "one.warc.gz"),
        [
            record("https://example.com/0", date="2012-01-01"),
            record("https://example.com/1", head="HTTP/1.1 404 Not Found"),
            record("https://example.com/2").replace(b"text/html", b"image/png"),
            record("https://example.com/3"),
            record("dns:example.com"),
            record("https://other.example/"),
        ],
    )
    two = write_archive(
        UPath(tmp_path / "two.warc.gz"),
        [record("https://example.com/0", date="2017-02-01"), record("http://example.com/0", date="2019-01-01")],
    )
    for files in ([one, two], [two, one]):
        done = find_pages(folder, links, stage, PageInputs(pages=files), here)
        plan = read_table(folder / "part-00000.parquet")
        assert plan.select("key", "url", "file", "captured").rows() == [
            ("example.com/3", "http://www.example.com/3/", str(one), 1483228800),
            ("example.com/0", "http://www.example.com/0/", str(two), 1485907200),
        ]
        counts = {name: n for name, n in done["counts"].items() if name not in ("records", "captures")}
        assert counts == {"found": 2, "not_found": 4, "not_linked": 1, "no_web_url": 1, "status 404": 1, "no_html": 1}
        assert done["samples"]["status 404"] == ["https://example.com/1"]


def test_an_index_makes_the_same_plan_as_its_archive(tmp_path: Path, here: Execution) -> None:
    links = UPath(tmp_path / "links")
    stage = linked(links, ["http://example.com/0", "http://example.com/1", "http://example.com/2"], here)
    records = [
        record(f"http://example.com/{n}", head="HTTP/1.1 301 Moved" if n == 1 else "HTTP/1.1 200 OK") for n in range(3)
    ]
    archive = (
        write_archive(UPath(tmp_path / "crawl" / "a.warc.gz"), records)
        if (tmp_path / "crawl").mkdir() is None
        else None
    )
    assert archive is not None
    captures = [item for item in read_captures(archive) if isinstance(item, Capture)]
    lines = [
        f"com,example)/{n} 20170101000000 "
        + json.dumps(
            {"url": item.url, "status": str(item.status), "mime": "text/html", "filename": "crawl/a.warc.gz"}
            | {"offset": str(item.offset), "length": str(item.length)}
        )
        for n, item in enumerate(captures)
    ]
    cdxj = UPath(tmp_path / "index.cdxj.gz")
    cdxj.write_bytes(gzip.compress("\n".join([*lines, "broken line"]).encode()))
    columnar = tmp_path / "index.parquet"
    time = datetime.datetime(2017, 1, 1, tzinfo=datetime.UTC)
    pl.DataFrame(
        [
            {"url": item.url, "fetch_time": time, "fetch_status": item.status, "content_mime_detected": "text/html"}
            | {"content_truncated": None, "warc_filename": "crawl/a.warc.gz"}
            | {"warc_record_offset": item.offset, "warc_record_length": item.length}
            for item in captures
        ]
    ).write_parquet(columnar)
    plans = []
    for number, inputs in enumerate(
        [
            PageInputs(pages=[archive]),
            PageInputs(index=[cdxj], archive_root=f"{tmp_path}/"),
            PageInputs(index=[UPath(columnar)], archive_root=f"{tmp_path}/"),
        ]
    ):
        folder = UPath(tmp_path / f"pages{number}")
        done = find_pages(folder, links, stage, inputs, here)
        assert (done["counts"]["found"], done["counts"]["status 301"]) == (2, 1)
        assert done["counts"].get("broken", 0) == (number == 1)
        plans.append(read_table(folder / "part-00000.parquet"))
    assert plans[1].equals(plans[0]) and plans[2].equals(plans[0])
    row = plans[1].row(1, named=True)
    assert read_page(UPath(row["file"]), row["offset"], row["length"]).body == b"<p>text</p>"


def test_links_and_pages_may_lie_elsewhere(tmp_path: Path, here: Execution) -> None:
    archive = write_archive(UPath(tmp_path / "a.warc.gz"), [record(f"http://example.com/{n}") for n in range(9)])
    far = UPath("memory://far-web/a.warc.gz")
    far.parent.mkdir(parents=True, exist_ok=True)
    far.write_bytes(archive.read_bytes())
    urls = [f"http://example.com/{n}" for n in range(7)]
    plans = []
    for file, folder in ((archive, UPath(tmp_path)), (far, UPath("memory://far-web/storage"))):
        stage = linked(folder / "links", urls, here)
        done = find_pages(folder / "pages", folder / "links", stage, PageInputs(pages=[file]), here)
        assert done["counts"]["found"] == 7
        again = find_pages(folder / "pages", folder / "links", stage, PageInputs(pages=[file]), here)
        assert again["output_sha256"] == done["output_sha256"]
        plans.append(read_table(folder / "pages" / "part-00000.parquet"))
    row = plans[1].row(3, named=True)
    assert row["file"] == "memory://far-web/a.warc.gz"
    assert read_page(UPath(row["file"]), row["offset"], row["length"]).body == b"<p>text</p>"
    assert plans[1].drop("file").equals(plans[0].drop("file"))


def test_pages_that_nobody_can_read_are_refused(tmp_path: Path, here: Execution) -> None:
    links = UPath(tmp_path / "links")
    stage = linked(links, ["http://example.com/0"], here)
    archive = write_archive(UPath(tmp_path / "a.warc.gz"), [record("http://other.example/")])
    with pytest.raises(InputError, match="none of the pages is linked .*'not_linked': 1"):
        find_pages(UPath(tmp_path / "pages"), links, stage, PageInputs(pages=[archive]), here)
    with pytest.raises(InputError, match="cannot tell the format of page.html"):
        PageInputs(pages=[UPath("page.html")])
    with pytest.raises(InputError, match="no pages: give --pages"):
        PageInputs()
    columns = tmp_path / "index.parquet"
    pl.DataFrame({"url": ["x"]}).write_parquet(columns)
    with pytest.raises(InputError, match="columns fetch_time.* are missing"):
        find_pages(UPath(tmp_path / "pages"), links, stage, PageInputs(index=[UPath(columns)]), here)
