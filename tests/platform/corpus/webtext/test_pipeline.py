"""Whole builds: what they give, and that nothing but the input and the recipe decides about it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from small_web import HERE, OPTIONS, ROOT, build, make_inputs
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.build import BuildOptions
from ladder.platform.corpus.store import heldout_documents, open_corpus
from ladder.platform.corpus.webtext import extraction
from ladder.platform.corpus.webtext.corpus import CorpusOptions
from ladder.platform.corpus.webtext.duplicates import DuplicateOptions
from ladder.platform.corpus.webtext.engine import Execution
from ladder.platform.corpus.webtext.extraction import ExtractionOptions
from ladder.platform.corpus.webtext.links import LinkOptions
from ladder.platform.corpus.webtext.pipeline import WebtextOptions, run_webtext
from ladder.platform.corpus.webtext.stages import open_stage, read_table
from ladder.platform.corpus.webtext.text import TextOptions
from ladder.platform.corpus.webtext.urls import canonicalize
from ladder.platform.corpus.webtext.workers import TRIES


@pytest.fixture(autouse=True)
def _own_parsers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture
def storage(tmp_path: Path) -> UPath:
    return UPath(tmp_path / "storage")


@pytest.mark.parametrize(("score", "column"), [("max", "kept_by_maximum"), ("sum", "kept_by_sum")])
def test_the_sample_end_to_end_gives_exactly_the_expected_pages(
    webtext: UPath, storage: UPath, gpt2_vocabulary: None, score: str, column: str
) -> None:
    options = WebtextOptions(
        submissions=[webtext / "RS_2017_made_up.zst"],
        pages=[webtext / "article_extraction_benchmark.warc.gz"],
        links=LinkOptions(score=score),
        corpus=CorpusOptions(build=BuildOptions(progress=False)),
        execution=Execution(workers=1, progress=False),
    )
    corpus = build(storage, options)
    expected = pl.read_csv(str(webtext / "RS_2017_made_up.expected.tsv"), separator="\t").filter(pl.col(column) == 1)
    assert len(expected) == 119
    documents = pl.read_parquet(str(corpus.folder / "documents.parquet"))
    assert sorted(documents["key"]) == sorted(str(canonicalize(url)) for url in expected["url"])
    assert sum(split.documents for split in corpus.splits.values()) == 119
    counts = {name: open_stage(storage / "webtext" / "web" / name)["counts"] for name in ("links", "pages", "text")}
    assert (counts["links"]["submissions"], counts["links"]["urls"], counts["links"]["kept"]) == (242, 162, 120)
    assert (counts["pages"]["found"], counts["pages"]["not_found"], counts["text"]["kept"]) == (119, 1, 119)
    for name, split in corpus.splits.items():
        rows = documents.filter(pl.col("split") == name)
        assert (len(rows), rows["tokens"].sum(), rows["bytes"].sum()) == (split.documents, split.tokens, split.bytes)
    heldout = documents.filter(pl.col("split") == "heldout")
    texts = list(heldout_documents(corpus))
    assert [len(text.encode()) for text in texts] == heldout["bytes"].to_list()
    assert open_corpus(storage, "web").to_json() == corpus.to_json()
    corpus.verify()


def test_the_same_bytes_whatever_the_workers_and_the_tasks(tmp_path: Path, storage: UPath) -> None:
    options = make_inputs(tmp_path)
    first = build(storage, options)
    for workers, pages_of_a_part in [(2, 3), (3, 7), (1, 1000)]:
        other = build(
            UPath(tmp_path / f"storage{workers}"),
            replace(
                options,
                execution=Execution(workers=workers, progress=False),
                pages_of_a_part=pages_of_a_part,
                pages=options.pages[::-1],
            ),
        )
        assert other.fingerprint == first.fingerprint
        for name in ("train-00000.bin", "heldout-00000.bin", "documents.parquet"):
            same = (first.folder / name).read_bytes() == (other.folder / name).read_bytes()
            rows = (
                [pl.read_parquet(str(corpus.folder / name)) for corpus in (first, other)] if "parquet" in name else []
            )
            assert rows[0].equals(rows[1]) if rows else same


def test_another_recipe_has_another_fingerprint(
    tmp_path: Path, storage: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = make_inputs(tmp_path, n=30)
    own = replace(OPTIONS.corpus.build, overwrite=True)  # one name, so that only what changed is made again
    options = replace(options, corpus=replace(options.corpus, build=own))
    prints = {"as it was": build(storage, options).fingerprint}
    for change, changed in {
        "threshold": replace(options, duplicates=DuplicateOptions(threshold=0.7)),
        "karma": replace(options, links=LinkOptions(min_score=4)),
        "held out by text": replace(options, corpus=replace(options.corpus, heldout_by="text")),
        "held-out share": replace(options, corpus=replace(options.corpus, build=replace(own, heldout=0.3))),
    }.items():
        prints[change] = build(storage, changed).fingerprint
    version_of = extraction.version_of
    monkeypatch.setattr(extraction, "version_of", lambda name: "9.9" if name == "fastwarc" else version_of(name))
    corpus = build(storage, options)
    assert corpus.recipe is not None
    assert corpus.recipe["stages"]["text"]["extraction"]["versions"]["fastwarc"] == "9.9"
    prints["version"] = corpus.fingerprint
    assert len(set(prints.values())) == len(prints) == 6


def test_a_poisoned_page_is_named_and_left_out(tmp_path: Path, storage: UPath) -> None:
    options = make_inputs(tmp_path, special={14: "POISON", 15: "RAISE"})
    corpus = build(storage, options)
    text = open_stage(storage / "webtext" / "web" / "text")
    assert (text["counts"]["poisoned"], text["counts"]["parser_failed"], text["counts"]["kept"]) == (1, 1, 58)
    killed, raised = text["errors"]
    assert "one.warc.gz at offset" in killed and "(site0.example/page/14)" in killed
    assert f"killed its worker {TRIES} times; left out" in killed
    assert "(site1.example/page/15): the parser failed (ValueError: odd page)" in raised
    clean = build(UPath(tmp_path / "clean"), make_inputs(tmp_path))
    documents = [pl.read_parquet(str(each.folder / "documents.parquet")) for each in (corpus, clean)]
    wanted = documents[1].filter(~pl.col("key").is_in(["site0.example/page/14", "site1.example/page/15"]))
    assert documents[0]["key"].to_list() == wanted["key"].to_list()


@pytest.mark.slow
def test_a_worker_killed_by_hand_changes_nothing(
    tmp_path: Path, storage: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    slow = TextOptions(extraction=ExtractionOptions(extractor="parsers:slow"))
    options = replace(make_inputs(tmp_path), text=slow, execution=Execution(workers=2, progress=False))
    whole = build(UPath(tmp_path / "whole"), options)
    calls.unlink()
    script = (
        "import sys; from pathlib import Path; from upath import UPath\n"
        "import small_web as t; from dataclasses import replace\n"
        "o = replace(t.make_inputs(Path(sys.argv[1])), text=t.TextOptions(extraction=t.ExtractionOptions("
        "extractor='parsers:slow')), execution=t.Execution(workers=2, progress=False))\n"
        "print(t.build(UPath(sys.argv[2]), o).fingerprint)\n"
    )
    # The inputs are written again, so their time of change differs: parts are told apart by it, corpora are not.
    run = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), str(storage)],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)])},
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: calls.exists() and len(calls.read_text().splitlines()) >= 12)
    os.kill(int(calls.read_text().split()[0]), signal.SIGKILL)
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0 and output.strip() == whole.fingerprint
    numbers = {line.split()[0] for line in calls.read_text().splitlines()}
    assert len(numbers) == 3  # two workers, and the one that took the place of the killed


@pytest.mark.slow
def test_an_interrupted_build_goes_on_and_gives_the_same(
    tmp_path: Path, storage: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    slow = TextOptions(extraction=ExtractionOptions(extractor="parsers:slow"))
    options = replace(make_inputs(tmp_path), text=slow)
    command = [
        sys.executable,
        "-m",
        "ladder",
        "corpus",
        "webtext",
        "web",
        "--submissions",
        *map(str, options.submissions),
    ]
    command += ["--pages", *map(str, options.pages), "--extractor", "parsers:slow", "--tokenizer", "bytes"]
    command += ["--heldout", "0.2", "--storage", str(storage), "--processes", "2", "--pages-at-once", "10"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)])}
    run = subprocess.Popen(command, cwd=HERE, env=environment, stderr=subprocess.PIPE, text=True)
    text = storage / "webtext" / "web" / "text"
    wait_for(lambda: len(list(text.glob("part-*.json"))) >= 2 if text.exists() else False)
    run.send_signal(signal.SIGINT)
    _, message = run.communicate(timeout=60)
    assert (run.returncode, message.strip().splitlines()[-1]) == (130, "ladder: interrupted")
    assert not (storage / "corpora").exists()
    done = len(list(text.glob("part-*.json")))
    assert 2 <= done < 6
    wait_for(lambda: not alive(calls))
    before = len(calls.read_text().splitlines())
    again = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert len(calls.read_text().splitlines()) - before == 60 - 10 * done
    whole = build(UPath(tmp_path / "whole"), options)
    assert open_corpus(storage, "web").fingerprint == whole.fingerprint


def alive(calls: Path) -> set[int]:
    """The worker processes that still run."""
    numbers = {int(line.split()[0]) for line in calls.read_text().splitlines()}
    found = set()
    for number in numbers:
        try:
            os.kill(number, 0)
            found.add(number)
        except ProcessLookupError:
            pass
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited a minute in vain"
        time.sleep(0.02)


def test_each_stage_runs_alone_and_wants_the_one_before(tmp_path: Path, storage: UPath) -> None:
    options = make_inputs(tmp_path, n=30)
    over = replace(options.corpus, build=replace(OPTIONS.corpus.build, overwrite=True))
    with pytest.raises(InputError, match=r"the stage 'pages' of 'web' is not complete.*--stage pages"):
        run_webtext(storage, "web", options, "text")
    with pytest.raises(InputError, match=r"the stage 'links' of 'web' is not complete.*--stage links"):
        run_webtext(storage, "web", replace(options, submissions=[]), "pages")
    for stage in ("links", "pages", "text", "duplicates"):
        assert run_webtext(storage, "web", options, stage) is None
    alone = run_webtext(storage, "web", options, "corpus")
    assert alone is not None and alone.fingerprint == build(storage, options, "whole").fingerprint
    run_webtext(storage, "web", replace(options, links=LinkOptions(min_score=4)), "links")
    with pytest.raises(InputError, match="the stage 'pages' in .* was not made of the stage before it.*--stage pages"):
        run_webtext(storage, "web", replace(options, corpus=over), "corpus")
    run_webtext(storage, "web", options, "pages")
    with pytest.raises(InputError, match="the stage 'text' in .* was not made of the stage before"):
        run_webtext(storage, "web", replace(options, corpus=over), "corpus")
    with pytest.raises(InputError, match="got --stage 'tokens', wanted one of links, pages"):
        run_webtext(storage, "web", options, "tokens")
    with pytest.raises(InputError, match="already exists"):
        run_webtext(storage, "web", options)
    table = storage / "webtext" / "web" / "text" / "part-00000.parquet"
    table.write_bytes(table.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"part-00000.parquet is missing or damaged.*run the stage again"):
        run_webtext(storage, "web", options, "duplicates")


def test_only_one_process_works_on_a_name(tmp_path: Path, storage: UPath) -> None:
    from ladder.platform.corpus.staging import locked_folder

    with locked_folder(storage / "webtext" / "web"), pytest.raises(InputError, match="another process is at work"):
        build(storage, make_inputs(tmp_path, n=20))


def test_what_cannot_be_read_leaves_no_corpus(tmp_path: Path, storage: UPath) -> None:
    options = make_inputs(tmp_path, n=20)
    for changed, message in [
        (replace(options, submissions=[]), "no links: give --submissions"),
        (replace(options, pages=[]), "no pages: give --pages"),
        (replace(options, pages=[UPath(tmp_path / "no.warc.gz")]), "cannot read .*no.warc.gz"),
    ]:
        with pytest.raises(InputError, match=message):
            build(storage, changed)
    (tmp_path / "one.warc.gz").write_bytes(b"<html>")
    with pytest.raises(InputError, match="one.warc.gz holds no WARC record"):
        build(storage, options)
    with pytest.raises(InputError, match="cannot import the extractor 'parsers:none'"):
        good = make_inputs(tmp_path, n=20)
        build(storage, replace(good, text=TextOptions(extraction=ExtractionOptions(extractor="parsers:none"))))
    assert not (storage / "corpora").exists()


def test_texts_of_the_duplicates_are_gone(tmp_path: Path, storage: UPath) -> None:
    long = " ".join(f"word{n}" for n in range(300))
    options = make_inputs(tmp_path, special={4: long, 8: long, 12: long + " more", 9: "other words"})
    corpus = build(storage, options)
    documents = pl.read_parquet(str(corpus.folder / "documents.parquet"))
    removed = read_table(corpus.folder / "removed.parquet")
    assert len(documents) == 60 - len(removed) and set(removed["reason"]) == {"near"}
    kept = {4: "site4.example/page/4", 8: "site1.example/page/8", 12: "site5.example/page/12"}
    # Scores are 3 + n % 5: 7 for page 4, 6 for 8, 5 for 12.
    assert {number for number, key in kept.items() if key in set(documents["key"])} == {4}
