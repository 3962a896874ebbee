"""The page's server: its answers, its headers, and what it refuses."""

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.explore.catalogue import find_entries
from ladder.platform.explore.page import page_state
from ladder.platform.explore.server import open_socket
from ladder.platform.explore.shelf import Shelf
from tests.platform.explore.conftest import CPU, SIZES, Site, save_run

LARGEST = "3x48h3-40-s0/40"


def asked(**fields: Any) -> dict[str, Any]:
    return {"text": "because it was too", "model": LARGEST, "candidates": [" tired", " wide"], **fields}


def rows_of(site: Site, question: dict[str, Any]) -> list[dict[str, Any]]:
    status, body, _ = site.ask("/api/ladder", question)
    assert status == 200
    return [json.loads(line) for line in body.splitlines()]


def test_the_ladder_has_a_row_for_each_checkpoint_by_size_and_says_who_leads(site: Site, shelf: Shelf) -> None:
    *rows, last = rows_of(site, asked())
    assert [row["name"] for row in rows] == list(shelf.entries)
    for row in rows:
        _, body, _ = site.ask("/api/next", asked(model=row["name"], own=" tired"))
        answer = json.loads(body)
        assert row["top"]["p"] == pytest.approx(answer["options"][0]["p"], abs=1e-5)
        assert row["candidates"][0] == pytest.approx(answer["own"]["p"], rel=1e-4)
    assert '"tired"' in last["lead"] and '"wide"' in last["lead"]


@pytest.mark.parametrize("view", ["next", "endings", "surprise", "attention", "lens", "ladder"])
@pytest.mark.parametrize(
    "text",
    ["", "\x00\x01\x1b[31m", "<script>alert(1)</script>", "\udcc3\ud800", "\u202e\u200b", "x" * 20_000],
    ids=["empty", "controls", "script", "halves", "directions", "long"],
)
def test_any_text_has_an_answer(site: Site, view: str, text: str) -> None:
    status, body, headers = site.ask(f"/api/{view}", asked(text=text))
    assert status == 200 and body
    assert headers["content-type"].startswith(("application/json", "application/x-ndjson"))


@pytest.mark.parametrize("view", ["next", "ladder"])
@pytest.mark.parametrize("characters", [30_000, 1_000_000])
def test_a_text_that_is_too_long_is_a_message(site: Site, view: str, characters: int) -> None:
    status, body, _ = site.ask(f"/api/{view}", asked(text="x" * characters))
    told = body.decode()
    assert "wanted" in told and ("20,000" in told or "200,000" in told)
    assert status == 422 or view == "ladder"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"null", b"\xff", b"[" * 100_000, b'{"model": 3}', b'{"model": "m", "strange": 1}',
     b'{"model": "m", "candidates": 7}', b'{"model": "m", "candidates": ["a", "b", "c"]}',
     b'{"model": "m", "top_k": 1e9}', b'{"model": "m", "top_k": 1000}', b'{"model": "m", "temperature": NaN}',
     b'{"model": "m", "temperature": -1}', b'{"model": "m", "position": "x"}', b'{"model": "../../etc"}'],
)  # fmt: skip
def test_what_is_no_question_is_a_message(site: Site, body: bytes) -> None:
    status, told, _ = site.ask("/api/next", body)
    assert status == 422 and json.loads(told)["problem"]


def test_a_position_or_a_view_that_is_not_there_is_a_message(site: Site) -> None:
    for position in (-1, 10**30, 99):
        assert site.ask("/api/attention", asked(position=position))[0] == 422
    assert site.ask("/api/secrets", asked())[0] == 422
    assert site.ask("/../server.py")[0] == 404


def test_only_this_server_and_its_own_page_may_ask(site: Site) -> None:
    port = site.address.rpartition(":")[2]
    assert site.ask("/api/state", Host=f"localhost:{port}")[0] == 200
    assert site.ask("/api/next", asked(), Origin=site.address)[0] == 200
    for host in ("evil.example", f"127.0.0.1.evil.example:{port}"):
        assert site.ask("/api/next", asked(), Host=host)[0] == 403
    for origin in ("http://evil.example", "null"):
        assert site.ask("/api/next", asked(), Origin=origin)[0] == 403


def test_the_page_may_load_nothing_from_elsewhere(site: Site) -> None:
    for path in ("/", "/page.css", "/text.js", "/drawing.js", "/panels.js", "/page.js"):
        status, body, headers = site.ask(path)
        policy = headers["content-security-policy"]
        assert status == 200 and "default-src 'none'" in policy and "unsafe" not in policy
        assert "access-control-allow-origin" not in headers
        assert b"https://" not in body and b"innerHTML" not in body and b"eval(" not in body
        assert body.count(b"http://") == body.count(b"http://www.w3.org/2000/svg")


def test_a_checkpoint_deleted_meanwhile_is_a_row_with_its_problem(tmp_path: Path) -> None:
    storage = UPath(tmp_path)
    folders = [save_run(storage, "1x16", steps) for steps in (10, 20)]
    entries = find_entries(["mine"], storage)
    site = Site(Shelf(entries, device=CPU), page_state("mine", entries))
    shutil.rmtree(folders[0].path)
    gone, there, last = rows_of(site, asked())
    site.close()
    assert "is gone" in gone["problem"] and there["top"]["p"] > 0 and "lead" in last


def test_a_port_in_use_is_a_message() -> None:
    with open_socket("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(InputError, match="cannot be used.*--port"):
            open_socket("127.0.0.1", taken.getsockname()[1])


def test_a_keystroke_through_twelve_checkpoints_takes_under_200_ms_of_processor(site: Site) -> None:
    """Server and client are one process here, so its time is that of both."""
    assert len(rows_of(site, asked())) == 3 * len(SIZES) + 1
    taken = []
    for end in ("t", "ti", "tir", "tire", "tired"):
        began = time.process_time()
        site.ask("/api/next", asked(text=f"The animal didn't cross the street because it was {end}"))
        rows_of(site, asked(text=f"The animal didn't cross the street because it was {end}"))
        taken.append(time.process_time() - began)
    print(f"a keystroke: {1000 * min(taken):.0f} ms")
    assert min(taken) < 0.2


@pytest.mark.slow
def test_the_command_answers_within_five_seconds_of_processor_and_ends_at_an_interrupt(swept: UPath) -> None:
    command = [sys.executable, "-m", "ladder", "explore", "mine", "--storage", str(swept), "--port", "0", "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.readline()
    assert "12 checkpoints: http://127.0.0.1:" in said
    request = urllib.request.Request(said.split()[-1] + "/api/ladder", json.dumps(asked()).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert len(answer.read().splitlines()) == 13
    seconds = sum(psutil.Process(process.pid).cpu_times()[:2])
    print(f"the first answer: {seconds:.1f} s of processor")
    assert seconds < 5
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def test_the_saved_copy_holds_every_answer_and_no_text_ends_its_script(site: Site) -> None:
    question = asked(text="</script><script>alert(1)</script>", other="1x16-10-s0/10")
    status, body, headers = site.ask("/api/save/lens", question)
    assert status == 200 and "attachment" in headers["content-disposition"]
    page = body.decode()
    data = page.partition('id="saved">')[2].partition("</script>")[0]
    saved = json.loads(data)
    assert set(saved["answers"]) == {"next", "endings", "ladder", "surprise", "attention", "lens"}
    assert saved["question"]["text"] == question["text"] and saved["view"] == "lens"
    assert "alert(1)</script>" not in page and "default-src 'none'" in page and "unsafe-inline" not in page
    assert saved["answers"]["ladder"][:-1] == rows_of(site, question)[:-1]
