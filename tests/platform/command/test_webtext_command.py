"""`ladder corpus webtext` at the terminal: what it prints, and what it says of wrong input."""

import gzip
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from ladder.platform.command.corpus import command
from ladder.platform.command.main import main
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
    given = (
        "--submissions",
        *dumps,
        "--pages",
        *archives,
        *OWN,
        "--processes",
        1,
        "--storage",
        tmp_path / "a",
        "--json",
    )
    result = run("webtext", "web", *given)
    assert result.exit_code == 0, result.output
    built = json.loads(result.stdout)
    assert sum(split["documents"] for split in built["splits"].values()) == 40
    patterns = ("--submissions", f"{tmp_path}/RS_*.gz", "--pages", f"{tmp_path}/*.warc.gz")
    again = run("webtext", "web", *patterns, *OWN, "--processes", 1, "--storage", tmp_path / "b", "--json")
    assert json.loads(again.stdout)["fingerprint"] == built["fingerprint"]
    shown = run("show", "web", "--storage", tmp_path / "a").stdout
    assert "found in the archives" in shown and "card.html" in shown
    assert json.loads(run("show", "web", "--storage", tmp_path / "a", "--json").stdout)["card"]["corpus"] == "web"
    stage = run("webtext", "web", *given[:-1], "--stage", "links", "--min-karma", 5)
    assert "40  kept" in stage.output
    assert run("webtext", "web", *given).exception.args[0].startswith("corpus 'web' already exists")  # type: ignore[union-attr]
    assert run("webtext", "web", *given, "--overwrite").exit_code == 0


DUMP = ("--submissions", "RS_2014-01.jsonl.gz")
WHOLE = (*DUMP, "--pages", "0.warc.gz")
WRONG: dict[str, tuple[tuple[object, ...], str]] = {
    "no links": (("--pages", "0.warc.gz"), "no links: give --submissions"),
    "no pages": (DUMP, "no pages: give --pages"),
    "absent dump": (
        ("--submissions", "RS_1999-01.zst", "--pages", "0.warc.gz"),
        "--submissions: no such file: RS_1999",
    ),
    "absent archive": ((*DUMP, "--pages", "9.warc.gz"), "--pages: no such file: 9.warc.gz"),
    "absent index": ((*DUMP, "--index", "9.cdx.gz"), "--index: no such file: 9.cdx.gz"),
    "no match": (("--submissions", "RS_1999-*", "--pages", "0.warc.gz"), "--submissions: no file is called like"),
    "unknown place": ((*DUMP, "--pages", "nowhere://a/*.warc.gz"), "--pages: cannot read nowhere://a"),
    "twice": (("--submissions", "RS_2014-01.jsonl.gz", "RS_2014-01.jsonl.gz"), "--submissions: given more than once"),
    "cut dump": (("--submissions", "cut.jsonl.gz", "--pages", "0.warc.gz"), "cut.jsonl.gz: the compressed data is cut"),
    "damaged dump": (("--submissions", "odd.jsonl.zst", "--pages", "0.warc.gz"), "odd.jsonl.zst"),
    "list without urls": (("--urls", "list.tsv", "--pages", "0.warc.gz"), "list.tsv: no column 'url'"),
    "format of a list": (("--urls", "page.html", "--pages", "0.warc.gz"), "cannot tell the format of page.html"),
    "damaged list": (("--urls", "odd.parquet", "--pages", "0.warc.gz"), "odd.parquet: not a whole parquet file"),
    "format of pages": ((*DUMP, "--pages", "page.html"), "cannot tell the format of page.html"),
    "format of an index": ((*DUMP, "--index", "page.html"), "cannot tell the format of page.html"),
    "no archive": ((*DUMP, "--pages", "no.warc.gz"), "no.warc.gz holds no WARC record"),
    "compressed as a whole": ((*DUMP, "--pages", "whole.warc.gz"), "is not compressed on its own"),
    "damaged index": ((*DUMP, "--index", "odd.parquet"), "odd.parquet: not a whole parquet file"),
    "index of another kind": ((*DUMP, "--index", "other.parquet"), "other.parquet: no columnar index of an archive"),
    "archive of an index": ((*DUMP, "--index", "lost.cdxj"), "lost.warc.gz"),
    "texts": (("--pages", "texts.jsonl"), "texts.jsonl:2"),
    "damaged texts": (("--pages", "odd.parquet"), "odd.parquet"),
    "url of a text": (("--pages", "number.jsonl"), "number.jsonl:1: field 'url' is a int, wanted a string"),
    "unlinked": ((*DUMP, "--pages", "1.warc.gz"), "none of the pages is linked"),
    "low karma": ((*WHOLE, "--min-karma", "9"), "no link is left"),
    "late links": ((*WHOLE, "--before", "2001-01-01"), "no link is left"),
    "no document": ((*WHOLE, "--min-words", "1000"), "no document"),
    "nothing held out": ((*WHOLE, "--heldout", "0.000001"), "held"),
    "karma": ((*WHOLE, "--karma", "mean"), "got --karma 'mean', wanted max or sum"),
    "day": ((*WHOLE, "--before", "soon"), "got --before 'soon', wanted a day"),
    "threshold": ((*WHOLE, "--near-duplicates", "much"), "got --near-duplicates 'much'"),
    "low threshold": ((*WHOLE, "--near-duplicates", "0.3"), "got a near-duplicate threshold of 0.3, wanted 0.5 to 1"),
    "rules": ((*WHOLE, "--rules", "page.html"), "page.html:1: got '<html>', wanted a kind"),
    "absent rules": ((*WHOLE, "--rules", "no.tsv"), "cannot read the rules for links no.tsv"),
    "extractor": ((*WHOLE, "--extractor", "bs4"), "got --extractor 'bs4', wanted trafilatura"),
    "own extractor": ((*WHOLE, "--extractor", "no_such:parse"), "cannot import the extractor 'no_such:parse'"),
    "language": ((*WHOLE, "--language", "English"), "got --language English, wanted codes such as en"),
    "quality": ((*WHOLE, "--quality", "best"), "got --quality 'best', wanted gopher, fineweb"),
    "held out by": ((*WHOLE, "--heldout-by", "domain"), "got --heldout-by 'domain', wanted url or text"),
    "held-out share": ((*WHOLE, "--heldout", "2"), "held"),
    "tokenizer": ((*WHOLE, "--tokenizer", "gpt5"), "unknown tokenizer 'gpt5'"),
    "processes": ((*WHOLE, "--processes", "0"), "processes, wanted at least 1"),
    "tasks": ((*WHOLE, "--pages-at-once", "0"), "got 0 pages at once, wanted at least 1"),
    "stage": ((*WHOLE, "--stage", "tokens"), "got --stage 'tokens', wanted one of links"),
    "stage before": ((*WHOLE, "--stage", "text"), "the stage 'pages' of 'web' is not complete"),
    "domains": ((*WHOLE, "--webtext-domains", "no.txt"), "cannot read the published domains no.txt"),
    "other domains": (
        (*WHOLE, "--webtext-domains", "list.tsv"),
        "list.tsv:1: got 'link score', wanted a count and a domain",
    ),
    "benchmark": (
        (*WHOLE, "--benchmarks", "lambda"),
        "unknown benchmark lambda (did you mean lambada or lm1b?): known are",
    ),
    "number": ((*WHOLE, "--min-karma", "many"), "Invalid value for '--min-karma': 'many' is not a valid integer"),
    "option": ((*WHOLE, "--score", "3"), "No such option"),
    "name": (WHOLE, "cannot name a corpus"),
}


def write_wrong_inputs(folder: Path) -> None:
    """Files that are not what their names say."""
    (folder / "page.html").write_text("<html>")
    (folder / "no.warc.gz").write_text("<html>")
    (folder / "cut.jsonl.gz").write_bytes((folder / "RS_2014-01.jsonl.gz").read_bytes()[:-30])
    (folder / "odd.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd" + b"odd" * 40)
    (folder / "odd.parquet").write_bytes(b"PAR1 and no more")
    pl.DataFrame({"url": ["http://site0.example/1"]}).write_parquet(folder / "other.parquet")
    (folder / "list.tsv").write_text("link\tscore\nhttp://site0.example/1\t5\n")
    (folder / "texts.jsonl").write_text('{"text": "good", "url": "http://a.example"}\n{"body": "bad"}\n')
    (folder / "number.jsonl").write_text('{"text": "good", "url": 7}\n')
    (folder / "whole.warc.gz").write_bytes(gzip.compress(gzip.decompress((folder / "0.warc.gz").read_bytes())))
    place = {"url": "http://site0.example/1", "status": "200", "mime": "text/html", "filename": "lost.warc.gz"}
    entry = json.dumps(place | {"offset": "0", "length": "100"})
    (folder / "lost.cdxj").write_text(f"example,site0)/1 20170101000000 {entry}\n")


def half_written(storage: Path) -> list[str]:
    """What would mislead the next run: files under a temporary name, parts and stages that do not fit their marks."""
    files = [path for path in storage.rglob("*") if path.is_file()]
    wrong = [path for path in files if path.suffix == ".partial" or "staging" in str(path.relative_to(storage))]
    for mark in (path for path in files if path.suffix == ".json"):
        json.loads(mark.read_text())
    for part in (path for path in files if path.suffix in (".parquet", ".arrow") and path.name.startswith("part-")):
        complete = (part.parent / "stage.json").exists() or part.with_suffix(".json").exists()
        wrong += [] if complete else [part]
    return [str(path) for path in wrong]


@needs_web
@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_ends_in_exit_code_2_one_message_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    write_inputs(tmp_path)
    write_wrong_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    arguments, message = WRONG[case]
    defaults = {"--tokenizer": "bytes", "--extractor": "resiliparse", "--heldout": "0.3", "--processes": "1"}
    given = [str(value) for name, default in defaults.items() if name not in arguments for value in (name, default)]
    name = "../web" if case == "name" else "web"
    command = ["ladder", "corpus", "webtext", name, *map(str, arguments), *given, "--storage", "storage"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 2, printed
    assert printed.out == "" and "Traceback" not in printed.err
    messages = [line for line in printed.err.splitlines() if line.startswith(("ladder: ", "Error: "))]
    assert len(messages) == 1 and message in messages[0], printed.err
    assert not (tmp_path / "storage" / "corpora" / "web").exists() and not (tmp_path / "web").exists()
    assert half_written(tmp_path / "storage") == []
    if not (tmp_path / "storage").exists():
        return
    # What such a run left behind is in nobody's way.
    monkeypatch.setattr(sys, "argv", ["ladder", "corpus", "webtext", "web", *WHOLE, *OWN, "--storage", "storage"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, capsys.readouterr().err


@needs_web
def test_a_card_of_what_is_not_there_is_refused_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dumps, archives = write_inputs(tmp_path)
    given = ("--submissions", *dumps, "--pages", *archives, *OWN, "--processes", 1, "--storage", tmp_path / "storage")
    assert run("webtext", "web", *given).exit_code == 0
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": f"text {n}"}) + "\n" for n in range(50)))
    plain = (
        "--input",
        tmp_path / "a.jsonl",
        "--tokenizer",
        "bytes",
        "--heldout",
        0.3,
        "--storage",
        tmp_path / "storage",
    )
    assert run("build", "plain", *plain).exit_code == 0
    folder = tmp_path / "storage" / "corpora"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert folder / "web" / "card.html" in before
    for arguments, message in [
        (("web", "--webtext-domains", tmp_path / "no.txt"), "cannot read the published domains"),
        (("web", "--webtext-domains", tmp_path / "a.jsonl"), "no line of a count and a domain"),
        (("web", "--benchmarks", "lambda"), "unknown benchmark lambda (did you mean lambada or lm1b?)"),
        (("plain", "--benchmarks", "heldout"), "corpus 'plain' has no card"),
        (("none",), "none"),
    ]:
        command = ["ladder", "corpus", "show", *map(str, arguments), "--storage", str(tmp_path / "storage")]
        monkeypatch.setattr(sys, "argv", command)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert ended.value.code == 2 and printed.err.startswith("ladder: ") and message in printed.err, printed
        assert len(printed.err.splitlines()) == 1 and printed.out == ""
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


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


def test_arrow_takes_the_systems_memory() -> None:
    code = "import sys\nfrom ladder.platform.command.main import main\n"
    code += "sys.argv = ['ladder', '--version']\ntry:\n    main()\nexcept SystemExit: pass\n"
    code += "import pyarrow\nprint(pyarrow.default_memory_pool().backend_name)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "system"
