"""Files that strangers made, and servers that do not know us: nothing leaves its folder, nothing runs, no secret shows.

docs/security.md says what is trusted; each of its promises has a test here, or is named there with its own.
"""

import json
import pickle
import struct
import threading
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from upath import UPath

from ladder.analysis.api import read_sweep
from ladder.analysis.laws.surfaces import Hoffmann
from ladder.models.errors import InputError, hide_credentials
from ladder.models.sizes import parse_size
from ladder.models.weights import SHARDS_FILE, WEIGHTS_FILE, load_weights, weight_files
from ladder.platform.command.report import command as report
from ladder.platform.corpus.store import Corpus, open_corpus
from ladder.platform.runs.checkpoints import MARK, DamagedCheckpoint, verify
from ladder.platform.runs.checkpoints import _download as download
from ladder.platform.tracking.database import open_tracking
from tests.platform.tracking.browser import Browser
from tests.platform.tracking.conftest import free_port, wait_for

LAW = Hoffmann(E=1.1, A=60.0, B=90.0, alpha=0.33, beta=0.32)
SCRIPTS = (
    "<script>window.ran=1</script>",
    '"><img src=x onerror=window.ran=1>',
    "</svg></style><script>ran=1</script>",
)
OUTSIDE = ("../../outside", "/etc/passwd", "a/../../b", "..", "")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_checkpoint_that_names_a_file_outside_its_folder_is_damaged(tmp_path: Path, name: str) -> None:
    (tmp_path / MARK).write_text(json.dumps({"files": {name: {"bytes": 1, "sha256": "0"}}}))
    with pytest.raises(DamagedCheckpoint, match="not in its folder"):
        verify(tmp_path)


def test_an_object_that_names_a_path_outside_its_checkpoint_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = UPath("memory://bucket/run/step-00000001.0001")
    (kept / "model.safetensors").write_bytes(b"weights")
    download(kept, tmp_path / "whole")
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == b"weights"
    monkeypatch.setattr("ladder.platform.runs.checkpoints.list_files", lambda folder: {"../../outside"})
    with pytest.raises(DamagedCheckpoint, match="not in its folder"):
        download(kept, tmp_path / "deep" / "copy")
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize("name", [*OUTSIDE, 7, None, []])
def test_an_index_of_shards_leads_nowhere_else(tmp_path: Path, name: Any) -> None:
    (tmp_path / SHARDS_FILE).write_text(json.dumps({"weight_map": {"wte": name}}))
    with pytest.raises(InputError, match="no file of its folder"):
        weight_files(tmp_path)


@pytest.mark.parametrize(("field", "value"), [("sha256", "../../outside"), ("name", "../../outside")])
def test_a_corpus_whose_shards_lead_elsewhere_is_damaged(
    storage: UPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, value: str
) -> None:
    content = json.loads((storage / "corpora" / "small" / "corpus.json").read_text())
    content["splits"]["train"]["shards"][0][field] = value
    monkeypatch.setattr(Corpus, "fingerprint", content["fingerprint"])  # whoever made it has computed the right one
    folder = tmp_path / "other" / "corpora" / "small"
    folder.mkdir(parents=True)
    (folder / "corpus.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="is damaged .shard"):
        open_corpus(UPath(tmp_path / "other"), "small")


def test_names_that_are_paths_are_refused(storage: UPath, tmp_path: Path) -> None:
    for name in ("../small", "a/b", "", ".hidden", "/etc"):
        with pytest.raises(InputError):
            open_corpus(storage, name)
    for name in ("../x", "/x", ".x", "a/b"):
        with pytest.raises(InputError, match="without / that does not start with"):
            CliRunner().invoke(
                report, ["--table", str(tmp_path / "t.csv"), "--score", "loss", "--name", name], catch_exceptions=False
            )


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with a header, which may lie about itself."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


TENSOR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HEADERS = {
    "a header longer than the file": safetensors({}, length=2**63 - 1),
    "a header of no JSON": safetensors(b"\xff" * 64),
    "a header that nests without end": safetensors(b"[" * 100_000),
    "a tensor beyond the end": safetensors({"wte": TENSOR | {"data_offsets": [0, 2**60]}}, b"1234"),
    "a tensor larger than memory": safetensors({"wte": TENSOR | {"shape": [2**31, 2**31]}}, b"1234"),
    "a shape that overflows": safetensors({"wte": TENSOR | {"shape": [2**63, 2, 2**63]}}, b"1234"),
    "two tensors of the same bytes": safetensors({"a": TENSOR, "b": TENSOR}, b"1234"),
    "a negative offset": safetensors({"wte": TENSOR | {"data_offsets": [-4, 0]}}, b"1234"),
    "a type that is none": safetensors({"wte": TENSOR | {"dtype": "PICKLE"}}, b"1234"),
    "a file of nothing": b"",
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_malicious_header_of_weights_is_one_message(tmp_path: Path, what: str) -> None:
    size = parse_size("1x16", context=8, vocabulary=257)
    fields = {"model_type": "gpt2", "n_layer": 1, "n_embd": 16, "n_head": size.n_head, "n_positions": 8}
    (tmp_path / "config.json").write_text(json.dumps(fields | {"vocab_size": 257}))
    (tmp_path / WEIGHTS_FILE).write_bytes(HEADERS[what])
    began = time.monotonic()
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_weights(tmp_path)
    assert time.monotonic() - began < 5


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """Weights as PyTorch pickles them are not looked at, and a pickle under another name is no safetensors file."""
    mark = tmp_path / "exploded"
    (tmp_path / "config.json").write_text(
        '{"model_type": "gpt2", "n_layer": 1, "n_embd": 16, "n_head": 1, "n_positions": 8, "vocab_size": 257}'
    )
    for name in ("pytorch_model.bin", "optimizer.pt", WEIGHTS_FILE):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb(mark)))
        with pytest.raises(InputError):
            load_weights(tmp_path)
    assert not mark.exists()
    pickle.loads((tmp_path / WEIGHTS_FILE).read_bytes())
    assert mark.exists(), "the bomb is one"


class Elements(HTMLParser):
    """The elements of a page and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a table whose columns, runs, sizes and families are scripts."""
    folder = tmp_path_factory.mktemp("hostile")
    N, D = (a.ravel() for a in np.meshgrid([1e6, 3e6, 1e7, 3e7], [2e7, 1e8, 5e8]))
    loss = LAW.score(N=N, D=D) * np.exp(0.002 * np.random.default_rng(0).standard_normal(12))
    names = [f"{SCRIPTS[i % 3]} {i}" for i in range(12)]
    columns = {SCRIPTS[0]: N, SCRIPTS[1]: D, f"loss {SCRIPTS[2]} $x^$": loss, "run": names, "size": names}
    table = folder / "runs.csv"
    pl.DataFrame(columns | {"family": [SCRIPTS[0]] * 12}).write_csv(table)
    options = ["--params", SCRIPTS[0], "--tokens", SCRIPTS[1], "--score", f"loss {SCRIPTS[2]} $x^$=loss"]
    options += ["--run", "run", "--size", "size", "--pool", "--name", "runs", "--storage", str(folder)]
    done = CliRunner().invoke(report, ["--table", str(table), *options], catch_exceptions=False)
    return Path(done.stdout.strip())


def test_a_report_of_hostile_names_holds_no_script(page: Path) -> None:
    html = page.read_text()
    elements = Elements()
    elements.feed(html)
    assert "window.ran" in html, "the names are shown"
    assert not [tag for tag, _ in elements.found if tag in ("script", "img", "iframe", "object", "embed")]
    for tag, attributes in elements.found:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert not str(attributes.get("href", "")).lower().startswith("javascript:")


@pytest.mark.slow
def test_no_script_of_a_report_runs_in_a_browser(page: Path, tmp_path: Path) -> None:
    browser = Browser(tmp_path / "profile", free_port(), wait_for)
    try:
        browser.open(page.as_uri())
        wait_for(lambda: browser.run("return document.readyState") == "complete")
        assert browser.run("return [window.ran ?? null, document.scripts.length]") == [None, 0]
        assert "window.ran" in browser.run("return document.body.innerText")
    finally:
        browser.close()


@pytest.fixture
def stranger() -> Iterator[str]:
    """The address of a server that wants to know who asks."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(401)
            self.end_headers()
            self.wfile.write(b"You are not authenticated.")

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://user:hunter2@127.0.0.1:{server.server_port}"
    server.shutdown()


def test_an_mlflow_without_our_token_is_told_at_once_and_shows_no_password(stranger: str) -> None:
    began = time.monotonic()
    with pytest.raises(InputError, match="MLFLOW_TRACKING_TOKEN") as told:
        open_tracking(stranger)
    assert "401" in str(told.value) and "hunter2" not in str(told.value) and "user:" not in str(told.value)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg2://me:hunter2@db:5432/mlflow", "postgresql+psycopg2://***@db:5432/mlflow"),
        ("two: http://a:b@c/d and s3://x:y@z", "two: http://***@c/d and s3://***@z"),
        ("postgresql://db/m?user=me&password=hunter2&x=1", "postgresql://db/m?user=me&password=***&x=1"),
        ("https://bucket/key?X-Amz-Signature=abc&X-Amz-Date=1", "https://bucket/key?X-Amz-Signature=***&X-Amz-Date=1"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("http://127.0.0.1:5000/#/experiments/1", "http://127.0.0.1:5000/#/experiments/1"),
    ],
)
def test_credentials_in_addresses_are_cut(text: str, shown: str) -> None:
    assert hide_credentials(text) == shown


def test_a_report_says_where_from_without_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_tracking(f"sqlite:///{tmp_path}/mlflow.db")
    client.create_experiment("mine")
    monkeypatch.setattr("mlflow.MlflowClient", lambda tracking_uri: client)
    origin = read_sweep("postgresql://me:hunter2@db/mlflow", "mine").provenance.origin
    assert origin["tracking store"] == "postgresql://***@db/mlflow"
