"""`ladder corpus webtext` at the terminal: what it prints, and what it says of wrong input."""

import gzip
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ladder.models.errors import InputError
from ladder.platform.command.corpus import command
from ladder.platform.corpus.webtext import packages

ROOT = Path(__file__).parents[3]
WEB = importlib.util.find_spec("fastwarc") is not None
needs_web = pytest.mark.skipif(not WEB, reason="the extra `web` is not installed")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def write_inputs(folder: Path) -> tuple[list[Path], list[Path]]:
    """Two dumps and two archives of 20 pages each."""
    dumps, archives = [], []
    for part in range(2):
        urls = [f"http://site{part}.example/{n}" for n in range(20)]
        dumps.append(folder / f"RS_2014-0{part + 1}.jsonl.gz")
        lines = [json.dumps({"url": url, "score": 5, "created_utc": "1400000000"}) for url in urls]
        dumps[-1].write_bytes(gzip.compress("\n".join(lines).encode()))
        records = []
        for url in urls:
            body = f"<html><body><article><p>{url} is {'a page with words ' * 20}.</p></article></body></html>"
            content = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{body}".encode()
            head = (
                f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nContent-Length: {len(content)}\r\n\r\n"
            )
            records.append(gzip.compress(head.encode() + content + b"\r\n\r\n"))
        archives.append(folder / f"{part}.warc.gz")
        archives[-1].write_bytes(b"".join(records))
    return dumps, archives


OWN = ("--tokenizer", "bytes", "--heldout", "0.3", "--extractor", "resiliparse", "--near-duplicates", "none")


@needs_web
def test_lists_of_files_are_taken_as_a_shell_expands_them(tmp_path: Path) -> None:
    dumps, archives = write_inputs(tmp_path)
    given = ("--submissions", *dumps, "--pages", *archives, *OWN, "--workers", 1, "--storage", tmp_path / "a", "--json")
    result = run("webtext", "web", *given)
    assert result.exit_code == 0, result.output
    built = json.loads(result.stdout)
    assert sum(split["documents"] for split in built["splits"].values()) == 40
    patterns = ("--submissions", f"{tmp_path}/RS_*.gz", "--pages", f"{tmp_path}/*.warc.gz")
    again = run("webtext", "web", *patterns, *OWN, "--workers", 1, "--storage", tmp_path / "b", "--json")
    assert json.loads(again.stdout)["fingerprint"] == built["fingerprint"]
    shown = run("show", "web", "--storage", tmp_path / "a").stdout
    assert "found in the archives" in shown and "card.html" in shown
    assert json.loads(run("show", "web", "--storage", tmp_path / "a", "--json").stdout)["card"]["corpus"] == "web"
    stage = run("webtext", "web", *given[:-1], "--stage", "links", "--min-score", 5)
    assert "40  kept" in stage.output
    assert run("webtext", "web", *given).exception.args[0].startswith("corpus 'web' already exists")  # type: ignore[union-attr]
    assert run("webtext", "web", *given, "--overwrite").exit_code == 0


WRONG: dict[str, tuple[tuple[object, ...], str]] = {
    "no links": (("--pages", "0.warc.gz"), "no links: give --submissions"),
    "no pages": (("--submissions", "RS_2014-01.jsonl.gz"), "no pages: give --pages"),
    "absent": (("--submissions", "RS_1999-01.zst", "--pages", "0.warc.gz"), "--submissions: no such file: RS_1999-01"),
    "no match": (("--submissions", "RS_1999-*", "--pages", "0.warc.gz"), "--submissions: no file is called like"),
    "twice": (("--submissions", "RS_2014-01.jsonl.gz", "RS_2014-01.jsonl.gz"), "--submissions: given more than once"),
    "format": (("--submissions", "RS_2014-01.jsonl.gz", "--pages", "page.html"), "cannot tell the format of page.html"),
    "cut dump": (
        ("--submissions", "cut.jsonl.gz", "--pages", "0.warc.gz"),
        "cut.jsonl.gz: the compressed data is cut off",
    ),
    "no archive": (
        ("--submissions", "RS_2014-01.jsonl.gz", "--pages", "no.warc.gz"),
        "no.warc.gz holds no WARC record",
    ),
    "score": (("--submissions", "RS_2014-01.jsonl.gz", "--score", "mean"), "got --score 'mean', wanted max or sum"),
    "karma": (("--submissions", "RS_2014-01.jsonl.gz", "--pages", "0.warc.gz", "--min-score", "9"), "no link is left"),
    "threshold": (
        ("--submissions", "RS_2014-01.jsonl.gz", "--near-duplicates", "much"),
        "got --near-duplicates 'much'",
    ),
    "rules": (
        ("--submissions", "RS_2014-01.jsonl.gz", "--rules", "page.html"),
        "page.html:1: got '<html>', wanted a kind",
    ),
    "unlinked": (("--submissions", "RS_2014-01.jsonl.gz", "--pages", "1.warc.gz"), "none of the pages is linked"),
    "tokenizer": (("--submissions", "RS_2014-01.jsonl.gz", "--tokenizer", "gpt5"), "unknown tokenizer 'gpt5'"),
    "name": (("--submissions", "RS_2014-01.jsonl.gz"), "cannot name a corpus"),
}


@needs_web
@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_named_and_nothing_is_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    write_inputs(tmp_path)
    (tmp_path / "page.html").write_text("<html>")
    (tmp_path / "no.warc.gz").write_text("<html>")
    (tmp_path / "cut.jsonl.gz").write_bytes((tmp_path / "RS_2014-01.jsonl.gz").read_bytes()[:-30])
    monkeypatch.chdir(tmp_path)
    arguments, message = WRONG[case]
    name = "../web" if case == "name" else "web"
    defaults = () if "--tokenizer" in arguments else ("--tokenizer", "bytes")
    result = run("webtext", name, *arguments, *defaults, "--workers", 1, "--storage", tmp_path / "storage")
    assert isinstance(result.exception, InputError), result.output
    assert message in str(result.exception) and "Traceback" not in result.output
    assert not (tmp_path / "storage" / "corpora").exists()


def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(packages.importlib, "import_module", absent)
    (tmp_path / "RS.jsonl").write_text("{}\n")
    result = run(
        "webtext", "web", "--submissions", tmp_path / "RS.jsonl", "--pages", tmp_path / "RS.jsonl",
        "--tokenizer", "bytes", "--storage", tmp_path,
    )  # fmt: skip
    assert "needs the package msgspec" in str(result.exception)
    assert "pip install 'ladder[web]'" in str(result.exception)


def test_the_core_imports_none_of_the_extra(ladder_imports: Callable[[str], set[str]]) -> None:
    loaded = ladder_imports("ladder.platform.command.corpus, ladder.platform.corpus.webtext.pipeline")
    assert not loaded & {"msgspec", "fastwarc", "resiliparse", "trafilatura", "tldextract"}


@pytest.fixture
def ladder_imports() -> Callable[[str], set[str]]:
    def loaded(modules: str) -> set[str]:
        code = f"import sys, {modules}; print(*{{name.partition('.')[0] for name in sys.modules}})"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    return loaded


@needs_web
def test_exit_code_2_and_one_message(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ladder", "corpus", "webtext", "web", "--pages", "a.warc.gz"]
    done = subprocess.run([*command, "--storage", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("ladder: --pages: no such file: a.warc.gz")
    assert "Traceback" not in done.stderr
