"""Fetching installs all of a benchmark's files with the right content, or nothing, from a server on loopback."""

import contextlib
import errno
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.benchmark import Benchmark
from ladder.platform.evaluation.files import fetch as fetch_module
from ladder.platform.evaluation.files.download import ATTEMPTS, Download, DownloadError
from ladder.platform.evaluation.files.fetch import fetch
from ladder.platform.evaluation.files.published import BenchmarkFile, sha256_of
from ladder.platform.evaluation.registry import BENCHMARKS

CONTENT = bytes(range(256)) * 4096  # 1 MiB
CHUNK = 1 << 16  # a download is written in such pieces


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Server:
    """Serves `files` with ranges and ETags, and counts what it sends."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    answers: list[int] = field(default_factory=list)
    """Status codes to answer the next requests with, before the files."""
    cut_after: list[int] = field(default_factory=list)
    """Bytes of the body after which the next answers are cut."""
    sent: dict[str, int] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    ranges: bool = True


def handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            asked = self.headers.get("Range")
            server.requests.append((name, asked))
            if server.answers:
                return self.send_error(server.answers.pop(0))
            if name not in server.files:
                return self.send_error(404)
            body, tag, start = server.files[name], f'"{sha256(server.files[name])[:8]}"', 0
            if asked and server.ranges and self.headers.get("If-Range") == tag:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start:
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            part = body[start:]
            if server.cut_after:
                part = part[: server.cut_after.pop(0)]
                self.close_connection = True
            server.sent[name] = server.sent.get(name, 0) + len(part)
            with contextlib.suppress(OSError):
                self.wfile.write(part)

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler(served))
    served.address = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield served
    http.shutdown()
    http.server_close()


def add(monkeypatch: pytest.MonkeyPatch, name: str, *files: BenchmarkFile) -> None:
    """Puts a benchmark of these files into the registry."""
    made = Benchmark(name=name, source="made up", score=lambda setting: [], citation="none", files=files)
    monkeypatch.setitem(BENCHMARKS, name, made)


def plain(server: Server, content: bytes = CONTENT, name: str = "text.txt") -> BenchmarkFile:
    server.files[name] = content
    return BenchmarkFile(name=name, sha256=sha256(content), address=f"{server.address}/{name}")


def tar_gz(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return packed.getvalue()


def everything(folder: Path) -> list[str]:
    """The files below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def no_wait(seconds: float) -> None:
    pass


def test_a_file_is_downloaded_once_and_left_alone_afterwards(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add(monkeypatch, "made-up", plain(server))
    assert fetch(["made-up"], storage=UPath(tmp_path)) == [UPath(tmp_path / "benchmarks/made-up/text.txt")]
    assert (tmp_path / "benchmarks/made-up/text.txt").read_bytes() == CONTENT
    fetch(["made-up"], storage=UPath(tmp_path))
    assert server.sent == {"text.txt": len(CONTENT)}
    assert everything(tmp_path) == ["benchmarks/made-up/text.txt"]
    (tmp_path / "benchmarks/made-up/text.txt").write_bytes(b"damaged")
    fetch(["made-up"], storage=UPath(tmp_path))
    assert (tmp_path / "benchmarks/made-up/text.txt").read_bytes() == CONTENT


def test_a_cut_connection_goes_on_where_it_was(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add(monkeypatch, "made-up", plain(server))
    server.cut_after = [5 * CHUNK, 6 * CHUNK]
    waits: list[float] = []
    fetch(["made-up"], storage=UPath(tmp_path), wait=waits.append)
    assert (tmp_path / "benchmarks/made-up/text.txt").read_bytes() == CONTENT
    assert server.sent == {"text.txt": len(CONTENT)}, "every byte is sent once"
    assert [asked for _, asked in server.requests] == [None, f"bytes={5 * CHUNK}-", f"bytes={11 * CHUNK}-"]
    assert waits == [1.0, 1.0], "an attempt that brought something starts the waits anew"


def test_a_stopped_command_is_taken_up_by_the_next_call(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add(monkeypatch, "made-up", plain(server))
    server.cut_after = [5 * CHUNK + 1]

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(["made-up"], storage=UPath(tmp_path), wait=interrupt)
    assert not (tmp_path / "benchmarks/made-up").exists()
    fetch(["made-up"], storage=UPath(tmp_path))
    assert server.requests[-1] == ("text.txt", f"bytes={5 * CHUNK}-")
    assert everything(tmp_path) == ["benchmarks/made-up/text.txt"]


def test_two_commands_do_not_write_to_one_download(server: Server, tmp_path: Path) -> None:
    server.files["a.txt"] = CONTENT
    server.cut_after = [CHUNK]
    url, partial = f"{server.address}/a.txt", tmp_path / "a.partial"

    def second(seconds: float) -> None:
        with pytest.raises(DownloadError, match="another process is downloading it"):
            Download(partial, progress=lambda received, total: None, most_bytes=1 << 30)(url, str(tmp_path / "b.txt"))

    told: list[tuple[int, int | None]] = []
    download = Download(partial, progress=lambda *counts: told.append(counts), most_bytes=1 << 30, wait=second)
    download(url, str(tmp_path / "a.txt"))
    assert (tmp_path / "a.txt").read_bytes() == CONTENT
    assert (told[0], told[-1]) == ((CHUNK, len(CONTENT)), (len(CONTENT), len(CONTENT)))
    assert everything(tmp_path) == ["a.txt"]


def test_a_file_that_changed_or_a_server_without_ranges_begins_anew(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = plain(server, CONTENT[::-1])
    add(monkeypatch, "made-up", file)
    server.files["text.txt"] = CONTENT
    server.cut_after = [300_000, 100_000]

    def change(seconds: float) -> None:
        server.files["text.txt"] = CONTENT[::-1]

    fetch(["made-up"], storage=UPath(tmp_path), wait=change)
    assert (tmp_path / "benchmarks/made-up/text.txt").read_bytes() == CONTENT[::-1]
    server.ranges, server.cut_after, server.sent = False, [300_000], {}
    (tmp_path / "benchmarks/made-up/text.txt").unlink()
    fetch(["made-up"], storage=UPath(tmp_path), wait=no_wait)
    assert server.sent == {"text.txt": 300_000 + len(CONTENT)}


def test_a_server_in_trouble_is_asked_again_and_a_missing_file_is_not(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add(monkeypatch, "made-up", plain(server))
    server.answers = [500, 503]
    waits: list[float] = []
    fetch(["made-up"], storage=UPath(tmp_path), wait=waits.append)
    assert waits == [1.0, 2.0]
    add(monkeypatch, "gone", BenchmarkFile(name="a.txt", sha256="0" * 64, address=f"{server.address}/gone.txt"))
    server.requests.clear()
    wanted = "gone: a.txt was not installed: the server answered 404 Not Found. It is published at http.*gone.txt. With"
    with pytest.raises(InputError, match=wanted):
        fetch(["gone"], storage=UPath(tmp_path), wait=no_wait)
    assert len(server.requests) == 1
    server.answers = [500] * 10
    with pytest.raises(InputError, match="answered 500 Internal Server Error, 4 times in a row"):
        fetch(["gone"], storage=UPath(tmp_path), wait=no_wait)
    assert len(server.answers) == 10 - ATTEMPTS


def test_no_server_listening_says_so_and_how_to_do_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = BenchmarkFile(name="a.txt", sha256="0" * 64, address="http://127.0.0.1:9/a.txt")
    add(monkeypatch, "made-up", file)
    with pytest.raises(InputError, match="(?i)connection.*refused.*127.0.0.1:9/a.txt.*ladder fetch made-up --from DIR"):
        fetch(["made-up"], storage=UPath(tmp_path), wait=no_wait)
    assert not (tmp_path / "benchmarks/made-up").exists()
    add(monkeypatch, "other", replace(file, address="http://127.0.0.1:9/b.txt"))
    waits: list[float] = []
    with pytest.raises(InputError, match="2 of 2 benchmarks were not fetched"):
        fetch(["made-up", "other"], storage=UPath(tmp_path), wait=waits.append)
    assert waits == [1.0, 2.0, 4.0], "the second address is tried once"


def test_a_wrong_checksum_installs_nothing_and_is_not_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good, bad = plain(server, name="good.txt"), plain(server, name="bad.txt")
    server.files["bad.txt"] = CONTENT[:-1]
    add(monkeypatch, "made-up", good, bad)
    with pytest.raises(InputError, match=f"bad.txt was not installed.*{sha256(CONTENT)}.*{sha256(CONTENT[:-1])}"):
        fetch(["made-up"], storage=UPath(tmp_path))
    assert everything(tmp_path) == []
    server.files["bad.txt"] = CONTENT
    fetch(["made-up"], storage=UPath(tmp_path))
    assert everything(tmp_path) == ["benchmarks/made-up/bad.txt", "benchmarks/made-up/good.txt"]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_two_benchmarks_in_one_archive_download_it_once(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    members = {"top/one.txt": b"1" * 1000, "../../escape.txt": b"no", "top/two.txt": b"2" * 1000}
    packed = tar_gz(members) if kind == "tar" else zipped(members)
    server.files["pack.tgz"] = packed
    for name in ("one", "two"):
        file = BenchmarkFile(
            name=f"{name}.txt",
            sha256=sha256(members[f"top/{name}.txt"]),
            address=f"{server.address}/pack.tgz",
            member=f"top/{name}.txt",
            archive_sha256=sha256(packed),
        )
        add(monkeypatch, name, file)
    storage = tmp_path / "deep" / "storage"
    fetch(["one", "two"], storage=UPath(storage))
    assert server.requests == [("pack.tgz", None)]
    assert everything(tmp_path) == [f"deep/storage/benchmarks/{name}/{name}.txt" for name in ("one", "two")]


def test_a_folder_of_an_archive_becomes_one_file_of_json_lines(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    members = {
        "./R/test/high/2.txt": b"two\n",
        "./R/test/high/10.txt": "zehn \u00e4".encode(),
        "./R/train/1.txt": b"no",
    }
    server.files["pack.tar.gz"] = tar_gz(members)
    file = BenchmarkFile(name="test.jsonl", sha256=None, address=f"{server.address}/pack.tar.gz", member="R/test/")
    add(monkeypatch, "folder", file)
    fetch(["folder"], storage=UPath(tmp_path))
    lines = (tmp_path / "benchmarks/folder/test.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"file": "high/10.txt", "text": "zehn \u00e4"},
        {"file": "high/2.txt", "text": "two\n"},
    ]


def test_without_a_published_checksum_the_first_file_installed_is_held_to(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.files["a.txt"] = b"first"
    add(monkeypatch, "made-up", BenchmarkFile(name="a.txt", sha256=None, address=f"{server.address}/a.txt"))
    fetch(["made-up"], storage=UPath(tmp_path))
    assert (tmp_path / "benchmarks/made-up/SHA256SUMS").read_text() == f"{sha256(b'first')}  a.txt\n"
    server.files["a.txt"] = b"second"
    fetch(["made-up"], storage=UPath(tmp_path))
    (tmp_path / "benchmarks/made-up/a.txt").write_bytes(b"damaged")
    with pytest.raises(InputError, match="wanted .*, as the one installed first had"):
        fetch(["made-up"], storage=UPath(tmp_path))
    assert (tmp_path / "benchmarks/made-up/a.txt").read_bytes() == b"damaged"
    fetch(["made-up"], storage=UPath(tmp_path), again=True)
    assert (tmp_path / "benchmarks/made-up/a.txt").read_bytes() == b"second"
    assert (tmp_path / "benchmarks/made-up/SHA256SUMS").read_text() == f"{sha256(b'second')}  a.txt\n"


def test_what_a_published_archive_holds_takes_the_place_of_what_was_only_named_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    packed = tar_gz({"a.txt": b"right"})
    file = BenchmarkFile(
        name="a.txt",
        sha256=None,
        address="http://127.0.0.1:9/pack.tgz",
        member="a.txt",
        archive_sha256=sha256(packed),
    )
    add(monkeypatch, "made-up", file)
    installed, copies = tmp_path / "benchmarks/made-up/a.txt", tmp_path / "copies"
    copies.mkdir()
    (copies / "a.txt").write_bytes(b"wrong")
    fetch(["made-up"], storage=UPath(tmp_path), source_dir=copies)
    assert installed.read_bytes() == b"wrong"
    (copies / "pack.tgz").write_bytes(packed)
    installed.unlink()
    fetch(["made-up"], storage=UPath(tmp_path), source_dir=copies)
    assert installed.read_bytes() == b"right"
    assert installed.with_name("SHA256SUMS").read_text() == f"{sha256(b'right')}  a.txt\n"


def test_a_server_that_sends_more_than_the_file_has_is_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = BenchmarkFile(name="a.txt", sha256=None, address=f"{server.address}/a.txt", most_bytes=1000)
    server.files["a.txt"] = bytes(1001)
    add(monkeypatch, "made-up", file)
    with pytest.raises(InputError, match="the server sends 1,001 bytes or more, and the file has 1,000 at most"):
        fetch(["made-up"], storage=UPath(tmp_path), wait=no_wait)
    assert everything(tmp_path) == []
    server.files["a.txt"] = bytes(1000)
    assert fetch(["made-up"], storage=UPath(tmp_path))[0].stat().st_size == 1000


@pytest.mark.parametrize("member", ["a.txt", "folder/"])
@pytest.mark.parametrize("pack", [tar_gz, zipped])
def test_a_member_that_unpacks_to_more_than_it_may_have_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, member: str, pack: Callable[..., bytes]
) -> None:
    server.files["pack"] = pack({"a.txt": bytes(1 << 22), "folder/a.txt": bytes(1 << 22)})
    file = BenchmarkFile(name="a.txt", sha256=None, address=f"{server.address}/pack", member=member, most_bytes=1 << 21)
    add(monkeypatch, "made-up", file)
    with pytest.raises(InputError, match="a.txt has more than the 2,097,152 bytes that it may have"):
        fetch(["made-up"], storage=UPath(tmp_path))
    assert not list((tmp_path / "benchmarks").rglob("a.txt*"))


def test_a_file_is_never_away_while_it_is_replaced(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add(monkeypatch, "made-up", plain(server, b"right"))
    (tmp_path / "benchmarks/made-up").mkdir(parents=True)
    installed = tmp_path / "benchmarks/made-up/text.txt"
    installed.write_bytes(b"damaged")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        for name in ("replace", "rename"):
            patch.setattr(Path, name, fail)
        with pytest.raises(InputError, match="Input/output error"):
            fetch(["made-up"], storage=UPath(tmp_path))
    assert installed.read_bytes() == b"damaged"
    fetch(["made-up"], storage=UPath(tmp_path))
    assert installed.read_bytes() == b"right"


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: tar_gz({"a.txt": CONTENT})[:-2000], "pack.tgz is truncated or damaged"),
        (lambda: zipped({"a.txt": CONTENT})[:-2000], "pack.tgz is truncated or damaged"),
        (lambda: b"<html>not found</html>", "pack.tgz is truncated or damaged"),
        (lambda: tar_gz({"b.txt": b"other"}), "pack.tgz holds no a.txt"),
        (lambda: zipped({"b.txt": b"other"}), "pack.tgz holds no a.txt"),
        (lambda: zipped({"b.txt": b"other", "in/a.txt": CONTENT}), "pack.tgz holds no a.txt; it holds in/a.txt"),
        (lambda: tar_gz({"in/a.txt": CONTENT, "b/a.txt": b""}), "holds no a.txt; it holds in/a.txt, b/a.txt"),
        (lambda: tar_gz({"a.txt": b"other"}), "the a.txt in pack.tgz has sha256"),
    ],
)
def test_an_archive_that_does_not_hold_the_file_installs_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: object, problem: str
) -> None:
    server.files["pack.tgz"] = make()  # type: ignore[operator]
    file = BenchmarkFile(name="a.txt", sha256=sha256(CONTENT), address=f"{server.address}/pack.tgz", member="a.txt")
    add(monkeypatch, "made-up", file)
    with pytest.raises(InputError, match=f"made-up: a.txt was not installed: .*{problem}.*pack.tgz, member a.txt"):
        fetch(["made-up"], storage=UPath(tmp_path))
    assert everything(tmp_path) == []


def test_all_goes_past_what_fails_and_leaves_out_what_is_given_by_hand(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [*reversed(BENCHMARKS)]:  # what is undone comes back in the order that it had
        monkeypatch.delitem(BENCHMARKS, name)
    add(monkeypatch, "gone", BenchmarkFile(name="a", sha256=None, address=f"{server.address}/gone"))
    add(monkeypatch, "lost", BenchmarkFile(name="b", sha256=None, address=f"{server.address}/lost"))
    form = BenchmarkFile(name="c.csv", sha256=None, address="https://example.org/form", downloadable=False)
    add(monkeypatch, "form", form)
    add(monkeypatch, "good", plain(server))
    notes: list[str] = []

    class Display(fetch_module.Display):
        def note(self, text: str) -> None:
            notes.append(text)

    with pytest.raises(InputError, match="2 of 3 benchmarks were not fetched:\n  .*gone: .*404.*\n  .*lost: .*404"):
        fetch(["all"], storage=UPath(tmp_path), display=Display())
    assert everything(tmp_path) == ["benchmarks/good/text.txt"]
    assert notes == [
        "left out benchmark form. Ask for c.csv at https://example.org/form, put it into a folder DIR and run "
        "`ladder fetch form --from DIR`."
    ]
    with pytest.raises(InputError, match="form: c.csv was not installed: it cannot be downloaded by a program"):
        fetch(["form"], storage=UPath(tmp_path))
    (tmp_path / "copies").mkdir()
    with pytest.raises(InputError, match="2 of 4 benchmarks were not fetched:\n.*gone.*\n.*lost"):
        fetch(["all"], storage=UPath(tmp_path), source_dir=tmp_path / "copies", display=Display())
    assert any(note.startswith("benchmark form: c.csv was not installed: no c.csv in ") for note in notes)
    (tmp_path / "copies/c.csv").write_text("by hand")
    assert fetch(["form"], storage=UPath(tmp_path), source_dir=tmp_path / "copies")[0].read_text() == "by hand"


def test_local_copies_are_the_file_or_its_archive(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    packed = tar_gz({"x/a.txt": CONTENT})
    file = BenchmarkFile(
        name="a.txt",
        sha256=None,
        address="http://127.0.0.1:9/some%20pack.tgz",
        member="x/a.txt",
        archive_sha256=sha256(packed),
    )
    add(monkeypatch, "made-up", file)
    copies = tmp_path / "copies"
    copies.mkdir()
    with pytest.raises(InputError, match="no a.txt and no some pack.tgz in .*copies"):
        fetch(["made-up"], storage=UPath(tmp_path), source_dir=copies)
    (copies / "some pack.tgz").write_bytes(packed[:-1])
    with pytest.raises(InputError, match="some pack.tgz is not the published archive: sha256"):
        fetch(["made-up"], storage=UPath(tmp_path), source_dir=copies)
    (copies / "some pack.tgz").write_bytes(packed)
    assert fetch(["made-up"], storage=UPath(tmp_path), source_dir=copies)[0].read_bytes() == CONTENT
    assert server.requests == []
    with pytest.raises(InputError, match="no such folder"):
        fetch(["made-up"], storage=UPath(tmp_path), source_dir=tmp_path / "nowhere")


def test_a_file_of_another_benchmark_is_not_taken_where_no_checksum_is_published(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = "http://127.0.0.1:9/"
    add(monkeypatch, "two", BenchmarkFile(name="wiki", sha256=sha256(b"two"), address=here + "two"))
    add(monkeypatch, "three", BenchmarkFile(name="wiki", sha256=None, address=here + "z.zip", member="wiki"))
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies/wiki").write_bytes(b"two")
    with pytest.raises(InputError, match="is the file of benchmark two"):
        fetch(["three"], storage=UPath(tmp_path), source_dir=tmp_path / "copies")


def test_a_remote_storage_is_filled_the_same_way(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    packed = zipped({"x": CONTENT})
    server.files["pack.zip"] = packed
    file = BenchmarkFile(name="x.txt", sha256=None, address=f"{server.address}/pack.zip", member="x")
    add(monkeypatch, "made-up", file)
    storage = UPath("memory://bucket-of-fetch/ladder")
    fetch(["made-up"], storage=storage)
    fetch(["made-up"], storage=storage)
    assert (storage / "benchmarks/made-up/x.txt").read_bytes() == CONTENT
    assert sorted(path.name for path in (storage / "benchmarks/made-up").iterdir()) == ["SHA256SUMS", "x.txt"]
    assert len(server.requests) == 1
    assert everything(tmp_path) == []


def test_a_full_disk_leaves_nothing_behind(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add(monkeypatch, "made-up", plain(server))

    def full(found: Path, target: UPath) -> None:
        target.parent.mkdir(parents=True)
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch_module, "_copy", full)
    with pytest.raises(InputError, match="cannot write into .*: No space left on device; free space"):
        fetch(["made-up"], storage=UPath(tmp_path))
    assert everything(tmp_path) == []


def test_real_files_are_installed_from_local_copies_and_a_second_time_left_alone(shared: Path, tmp_path: Path) -> None:
    storage = UPath(tmp_path)
    installed = fetch(["lambada", "wikitext2"], storage=storage, source_dir=shared / "benchmarks")
    assert sorted(path.relative_to(storage).as_posix() for path in installed) == [
        "benchmarks/lambada/lambada_test.jsonl",
        "benchmarks/wikitext2/wiki.test.tokens",
    ]
    assert sha256_of(installed[0]) == BENCHMARKS["lambada"].files[0].sha256
    stamps = [path.stat().st_mtime_ns for path in installed]
    fetch(["lambada", "wikitext2"], storage=storage, source_dir=shared / "benchmarks")
    assert [path.stat().st_mtime_ns for path in installed] == stamps
    assert not list(tmp_path.rglob("*.partial"))


def test_what_cannot_be_fetched_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="heldout has no files"):
        fetch(["heldout"], storage=UPath(tmp_path), source_dir=tmp_path)
    with pytest.raises(InputError, match="unknown benchmark lamda"):
        fetch(["lamda"], storage=UPath(tmp_path), source_dir=tmp_path)


def test_the_split_that_examples_are_drawn_from_is_fetched_where_it_is_asked_for(shared: Path, tmp_path: Path) -> None:
    storage, source = UPath(tmp_path / "storage"), shared / "benchmarks"
    assert [path.name for path in fetch(["sst2"], storage=storage, source_dir=source)] == ["stsa.binary.dev"]
    benchmark = BENCHMARKS["sst2"]
    assert benchmark.missing(storage=storage, corpus=None) is None
    missing = benchmark.missing(storage=storage, corpus=None, shots=1)
    assert missing is not None and "`ladder fetch sst2 --examples`" in missing
    both = fetch(["sst2"], storage=storage, source_dir=source, examples=True)
    assert [path.name for path in both] == ["stsa.binary.dev", "stsa.binary.train"]
    assert benchmark.missing(storage=storage, corpus=None, shots=1) is None


def test_a_benchmark_with_examples_in_its_own_prompt_needs_their_split(tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks" / "natural-questions"
    folder.mkdir(parents=True)
    (folder / "NQ-open.dev.jsonl").write_text("{}")
    benchmark = BENCHMARKS["natural-questions"]
    missing = benchmark.missing(storage=UPath(tmp_path), corpus=None)
    assert missing is not None and "NQ-open.train.jsonl" in missing and "`ladder fetch natural-questions`" in missing
    assert benchmark.missing(storage=UPath(tmp_path), corpus=None, shots=0) is None


def test_a_group_is_fetched_as_all_is_and_one_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    (tmp_path / "storage").mkdir()
    with pytest.raises(
        InputError, match="5 of 6 benchmarks were not fetched:\n.*sst2.*\n.*copa.*\n.*race.*\n.*cola.*\n.*dprd"
    ):
        fetch(["gpt1"], storage=UPath(tmp_path / "storage"), source_dir=tmp_path / "copies")
    with pytest.raises(InputError, match="pages: no benchmark of it has files, they are made from a corpus"):
        fetch(["pages"], storage=UPath(tmp_path))
