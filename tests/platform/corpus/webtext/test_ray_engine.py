"""The same parts on Ray: bytes, poisoned pages, killed workers, one core and two."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from small_web import HERE, ROOT, build, make_inputs
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.build import build_corpus
from ladder.platform.corpus.documents import DocumentFields
from ladder.platform.corpus.webtext.engine import Execution
from ladder.platform.corpus.webtext.extraction import ExtractionOptions
from ladder.platform.corpus.webtext.stages import open_stage
from ladder.platform.corpus.webtext.text import TextOptions

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _own_parsers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(ROOT)]))
    yield
    ray.shutdown()


def on_ray(workers: int) -> Execution:
    return Execution(workers=workers, address="local", ray_from_bytes=0, progress=False)


@pytest.mark.endurance
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.timeout(240)
def test_ray_gives_the_same_bytes_and_names_the_poisoned_page(tmp_path: Path, workers: int) -> None:
    options = make_inputs(tmp_path, special={14: "POISON"})
    without = build(UPath(tmp_path / "without"), options)
    storage = UPath(tmp_path / "with")
    with_ray = build(storage, replace(options, execution=on_ray(workers), pages_of_a_part=7))
    assert with_ray.fingerprint == without.fingerprint
    stage = open_stage(storage / "webtext" / "web" / "text")
    assert stage["counts"]["poisoned"] == 1 and "(site0.example/page/14)" in stage["errors"][0]
    assert not ray.is_initialized()


@pytest.mark.timeout(240)
def test_a_ray_worker_that_is_killed_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    slow = TextOptions(extraction=ExtractionOptions(extractor="parsers:slow"))
    options = replace(make_inputs(tmp_path), text=slow)
    without = build(UPath(tmp_path / "without"), options)
    calls.unlink()
    killed: list[int] = []

    def kill() -> None:
        while not (calls.exists() and len(calls.read_text().splitlines()) >= 5):
            time.sleep(0.02)
        child = int(calls.read_text().split()[0])
        worker = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
        killed.append(worker)
        os.kill(worker, signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    with_ray = build(UPath(tmp_path / "with"), replace(options, execution=on_ray(2)))
    thread.join(1)
    assert killed and with_ray.fingerprint == without.fingerprint


@pytest.mark.timeout(240)
def test_what_a_user_got_wrong_comes_back_as_one_message(tmp_path: Path) -> None:
    options = make_inputs(tmp_path, n=20)
    (tmp_path / "one.warc.gz").write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"^\S+one.warc.gz holds no WARC record"):
        build(UPath(tmp_path / "storage"), replace(options, execution=on_ray(2)))


@pytest.mark.timeout(240)
def test_tokens_made_on_ray_are_those_made_without(tmp_path: Path) -> None:
    files = []
    for part in range(3):
        files.append(tmp_path / f"{part}.jsonl")
        lines = [json.dumps({"body": f"Text {n} of file {part}: \u2028 000{n} 1e5"}) for n in range(part * 100, 300)]
        files[-1].write_text("\n".join(lines) + "\n")
    storage = UPath(tmp_path / "storage")
    options = {"tokenizer": "bytes", "heldout": 0.2, "progress": False, "fields": DocumentFields(text="body")}
    without = build_corpus(storage, "without", files, **options)
    on_two = {**options, "address": "local", "ray_from_bytes": 1, "workers": 2}
    with_ray = build_corpus(storage, "with", files, **on_two)
    assert with_ray.splits == without.splits and with_ray.fingerprint == without.fingerprint
    assert (with_ray.duplicates, with_ray.empty_documents) == (without.duplicates, without.empty_documents)
    assert not (storage / "corpora" / ".parts-with").exists()
    # A broken file is named; the parts of the others stay for the next try.
    good = files[1].read_text()
    files[1].write_text(good + "{broken\n")
    with pytest.raises(InputError, match=r"^\S+1.jsonl:201: not valid JSON"):
        build_corpus(storage, "again", files, **on_two)
    parts = storage / "corpora" / ".parts-again"
    assert {path.name for path in parts.glob("*.json")} == {"part-00000.json", "part-00002.json"}
    files[1].write_text(good)
    written = (parts / "part-00000.train").stat().st_mtime_ns
    assert build_corpus(storage, "again", files, **on_two).fingerprint == without.fingerprint
    assert not parts.exists() and written
