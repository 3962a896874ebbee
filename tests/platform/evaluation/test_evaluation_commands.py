"""The commands `evaluate`, `fetch` and `generate`."""

import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import PAPER_SIZES
from ladder.models.weights import save_weights
from ladder.platform.command import scores
from ladder.platform.command.evaluate import command as evaluate_command
from ladder.platform.command.fetch import command as fetch_command
from ladder.platform.command.generate import command as generate_command
from ladder.platform.command.main import main
from ladder.platform.command.scores import paper_scores, scores_table, short_names
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Benchmark, Setting
from ladder.platform.evaluation.checkpoints.score import Outcome
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.item_scores import ItemScores, mean_of
from ladder.platform.evaluation.measurement import Measurement
from ladder.platform.evaluation.registry import BENCHMARKS
from ladder.platform.identity import mark_schema


def run(command: click.Command, *arguments: str) -> tuple[str, str]:
    """What a command writes to standard output and to standard error."""
    result = CliRunner().invoke(command, list(arguments), standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout, result.stderr


def run_to_error(command: click.Command, *arguments: str) -> tuple[str, str]:
    """What a command that ends with an InputError writes to standard output, and the error."""
    result = CliRunner().invoke(command, list(arguments), standalone_mode=False)
    assert isinstance(result.exception, InputError), result.exception
    return result.stdout, str(result.exception)


@pytest.fixture
def checkpoint(byte_gpt2: GPT2, tmp_path: Path) -> str:
    save_weights(byte_gpt2, tmp_path / "checkpoint", tokenizer="bytes")
    return str(tmp_path / "checkpoint")


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage that holds the data of the benchmarks `good` and `bad`, whose second item cannot be read."""

    def score(setting: Setting) -> list[ItemScores]:
        hits = np.array([1.0, 0.0, 1.0, 1.0])[: setting.protocol.limit]
        ones = np.ones(len(hits))
        scores = ItemScores(
            benchmark="good",
            protocol="made up",
            metric="accuracy",
            unit="share of items",
            direction="higher",
            description="",
            estimate=mean_of(hits),
            counted=ones,
            totals={"hits": hits},
        )
        return [scores]

    def fail(setting: Setting) -> list[ItemScores]:
        raise InputError("a.txt, line 2: wanted a number, got 'x'")

    folder = tmp_path / "storage" / "benchmarks"
    functions: dict[str, Callable[[Setting], list[ItemScores]]] = {"bad": fail, "good": score, "gone": score}
    for name, function in functions.items():
        file = BenchmarkFile(name="a.txt", sha256=None, address="http://127.0.0.1:9/a.txt")
        made = Benchmark(
            name=name,
            source="made up",
            score=function,
            citation="none",
            files=(file,),
            paper_scores={"accuracy": {"117M": 0.25, "345M": 0.5, "762M": 0.75}},
        )
        monkeypatch.setitem(BENCHMARKS, name, made)
        if name != "gone":
            (folder / name).mkdir(parents=True)
            (folder / name / "a.txt").write_text("data")
    return str(tmp_path / "storage")


def test_evaluate_writes_measurements_as_json_and_nothing_else(checkpoint: str, small_corpus: Corpus) -> None:
    storage = str(small_corpus.folder.parent.parent)
    asked = ["--heldout-corpus", "pages", "--storage", storage, "--heldout-tokens", "600", "--precision", "fp32"]
    stdout, _ = run(evaluate_command, checkpoint, *asked, "--benchmarks", "heldout,pages-bytes", "--json")
    measurements = json.loads(stdout)
    assert {m["benchmark"] for m in measurements} == {"heldout", "pages-bytes"}
    wanted = {"benchmark", "protocol", "metric", "value", "standard_error", "count", "seconds"}
    assert all(wanted <= set(m) for m in measurements)
    assert all(m["seconds"] >= 0 and m["value"] > 0 for m in measurements)
    assert all(m["checkpoint"] == checkpoint for m in measurements)


def test_evaluate_says_what_is_from_the_cache(checkpoint: str, storage: str) -> None:
    asked = [checkpoint, "--storage", storage, "--benchmarks", "good"]
    first, _ = run(evaluate_command, *asked, "--json")
    second, _ = run(evaluate_command, *asked, "--json")
    assert [m["cached"] for m in json.loads(first)] == [False]
    assert json.loads(second) == [json.loads(first)[0] | {"cached": True}]
    assert "from cache" in run(evaluate_command, *asked)[0]
    assert "from cache" not in run(evaluate_command, *asked, "--no-cache")[0]
    (limited,) = json.loads(run(evaluate_command, *asked, "--limit", "2", "--json")[0])
    assert (limited["value"], limited["count"], limited["cached"]) == (0.5, 2, False)


def test_evaluate_scores_a_file_of_ones_own_and_keeps_the_score_under_its_content(
    checkpoint: str, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.jsonl"
    asked = [checkpoint, "--storage", str(tmp_path / "storage"), "--benchmarks", str(mine)]
    values = []
    for answer, is_cached in ((0, False), (0, True), (1, False)):
        row = {"prompt": "a", "choices": ["b", "c"], "answer": answer}
        mine.write_text(f'{{"name": "mine", "citation": "me"}}\n{json.dumps(row)}\n')
        (score,) = json.loads(run(evaluate_command, *asked, "--json")[0])
        assert (score["benchmark"], score["cached"]) == ("mine", is_cached)
        values.append(score["value"])
    assert values[0] == values[1] == 1 - values[2]
    samples = tmp_path / "samples.jsonl"
    run(evaluate_command, *asked, "--samples", str(samples))
    (sample,) = map(json.loads, samples.read_text().splitlines())
    assert (sample["prompt"], sample["candidates"], sample["answer"]) == ("a", [" b", " c"], 1)
    mine.write_text('{"name": "mine"}\n{"prompt": "a"}\n')
    _, error = run_to_error(evaluate_command, *asked)
    assert error.startswith(f"{mine}, line 2: wanted")


def test_evaluate_shows_of_a_group_what_is_absent(checkpoint: str, tmp_path: Path) -> None:
    folder = tmp_path / "storage" / "benchmarks" / "sst2"
    folder.mkdir(parents=True)
    (folder / "stsa.binary.dev").write_text("1 good film .\n0 bad film .\n")
    asked = [checkpoint, "--storage", str(tmp_path / "storage"), "--benchmarks", "gpt1"]
    stdout = " ".join(run(evaluate_command, *asked)[0].split())
    assert "sst2" in stdout and "absent: ladder fetch copa" in stdout and "lambada" not in stdout


def test_evaluate_all_shows_absent_data_as_a_row_and_by_name_refuses(checkpoint: str, small_corpus: Corpus) -> None:
    storage = ["--storage", str(small_corpus.folder.parent.parent), "--heldout-corpus", "pages"]
    stdout, _ = run(evaluate_command, checkpoint, *storage, "--heldout-tokens", "600", "--benchmarks", "all")
    assert "ladder fetch lambada" in " ".join(stdout.split())
    assert "pages-cloze" in stdout
    assert "cbt-cn-test" not in stdout, "what is on request is not part of all"
    with pytest.raises(InputError, match="ladder fetch lambada"):
        run(evaluate_command, checkpoint, *storage, "--benchmarks", "heldout", "lambada")
    with pytest.raises(InputError, match="unexpected lambada"):
        run(evaluate_command, checkpoint, "lambada")
    with pytest.raises(InputError, match="--limit, --shots changes nothing in heldout: leave it out"):
        run(evaluate_command, checkpoint, *storage, "--benchmarks", "heldout", "--limit", "3", "--shots", "2")
    some = run(evaluate_command, checkpoint, *storage, "--benchmarks", "heldout,pages-bytes", "--heldout-tokens", "600")
    assert "--heldout-tokens changes nothing in pages-bytes\n" in some[1]
    with pytest.raises(InputError, match="unknown benchmark nothing"):
        run(evaluate_command, checkpoint, *storage, "--benchmarks", "nothing")


def test_evaluate_tells_how_far_a_benchmark_is(
    checkpoint: str, small_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "SAY_SECONDS", 0.0)
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"name": "mine"}\n' + '{"prompt": "a", "choices": ["b", "c"], "answer": 0}\n' * 3)
    _, stderr = run(evaluate_command, checkpoint, "--storage", str(tmp_path / "storage"), "--benchmarks", str(mine))
    assert re.search(r"\[ +\d+ s\] scoring mine: 6 of 6 requests, [\d,]+ tokens/s\n", stderr)
    pages = ["--heldout-corpus", "pages", "--storage", str(small_corpus.folder.parent.parent)]
    with pytest.raises(InputError, match="--heldout-corpus changes nothing in mine: leave it out"):
        run(evaluate_command, checkpoint, "--benchmarks", str(mine), *pages)


def test_evaluate_goes_past_a_benchmark_that_fails(checkpoint: str, storage: str) -> None:
    stdout, problem = run_to_error(
        evaluate_command, checkpoint, "--storage", storage, "--benchmarks", "bad,good", "--json"
    )
    assert [m["benchmark"] for m in json.loads(stdout)] == ["good"]
    assert problem == f"could not be scored: {checkpoint}, bad: a.txt, line 2: wanted a number, got 'x'"
    table, _ = run_to_error(evaluate_command, checkpoint, "--storage", storage)
    lines = [" ".join(line.split()) for line in table.splitlines()]
    assert "bad failed, see below" in lines
    assert "good accuracy 0.75 0.25 share of items higher 4 from cache 117M 0.25 345M 0.5" in lines
    assert "gone absent: ladder fetch gone" in lines
    assert "story-cloze absent: ladder fetch story-cloze --from DIR" in lines


def test_the_exit_code_is_1_where_a_part_was_scored_and_2_where_nothing_was(
    checkpoint: str, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = []
    for benchmarks in ("bad,good", "bad", "good"):
        monkeypatch.setattr(
            "sys.argv", ["ladder", "evaluate", checkpoint, "--storage", storage, "--benchmarks", benchmarks]
        )
        with pytest.raises(SystemExit) as ended:
            main()
        codes.append(ended.value.code)
    assert codes == [1, 2, 0]


def test_evaluate_goes_past_a_checkpoint_that_fails(checkpoint: str, storage: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    asked = [str(broken), checkpoint, "--storage", storage, "--benchmarks", "good", "--concurrent-checkpoints", "1"]
    table, problem = run_to_error(evaluate_command, *asked)
    assert "broken" in table and "checkpoint" in table
    assert problem.startswith(f"could not be scored: {broken}, checkpoint: no config.json in")
    stdout, _ = run_to_error(evaluate_command, *asked, "--json")
    assert [(m["checkpoint"], m["cached"]) for m in json.loads(stdout)] == [(checkpoint, True)]


def test_evaluate_scores_the_newest_checkpoint_of_each_finished_run(
    byte_gpt2: GPT2, storage: str, tmp_path: Path
) -> None:
    mark_schema(UPath(storage))
    for key, step, finished in (("a-1", 5, True), ("b-2", 7, True), ("c-3", 9, False)):
        folder = tmp_path / "storage/sweeps/wide" / key
        for name in ("step-00000001", f"step-0000000{step}"):
            save_weights(byte_gpt2, folder / name, tokenizer="bytes")
            (folder / name / "training.json").write_text("{}")
        if finished:
            (folder / "result.json").write_text("{}")
    asked = ["--sweep", "wide", "--storage", storage, "--benchmarks", "good", "--concurrent-checkpoints", "1"]
    stdout, _ = run(evaluate_command, *asked, "--json")
    steps = [UPath(m["checkpoint"]).parts[-2:] for m in json.loads(stdout)]
    assert steps == [("a-1", "step-00000005"), ("b-2", "step-00000007")]
    assert [line.split()[0] for line in run(evaluate_command, *asked)[0].splitlines()[1:]] == ["a-1", "b-2"]
    assert json.loads((tmp_path / "storage/sweeps/wide/a-1/result.json").read_text()) == {}
    with pytest.raises(InputError, match="no finished run of sweep narrow in .*: sweeps there are wide"):
        run(evaluate_command, "--sweep", "narrow", "--storage", storage)
    with pytest.raises(InputError, match="name a checkpoint"):
        run(evaluate_command, "--storage", storage)


def test_the_papers_scores_are_of_the_sizes_around() -> None:
    measurement = Measurement(
        benchmark="b",
        protocol="",
        metric="m",
        value=0.0,
        unit="",
        direction="higher",
        count=1,
        paper_scores={"117M": 1.0, "345M": 2.0, "762M": 3.0, "1542M": 4.0},
    )

    def sizes(params: float) -> list[str]:
        return [name for name, _ in paper_scores(measurement, int(params))]

    assert sizes(1e6) == ["117M", "345M"]
    assert sizes(PAPER_SIZES["117M"].params_total) == ["117M", "345M"]
    assert sizes(math.nextafter(PAPER_SIZES["762M"].params_total, 0)) == ["345M", "762M"]
    assert sizes(1e9) == ["762M", "1542M"]
    assert sizes(1e12) == ["762M", "1542M"]


def test_the_table_says_unit_direction_chance_and_how_many_items_were_cut() -> None:
    scored = {"benchmark": "b", "protocol": "", "unit": "share of questions", "count": 1200}
    measurements = (
        Measurement(metric="m", value=0.5, direction="higher", chance=0.25, totals={"items_cut": 1012.0}, **scored),
        Measurement(metric="n", value=0.5, direction="lower", totals={"items_cut": 0.0}, **scored),
    )
    outcome = Outcome(checkpoint="c", benchmark="b", measurements=measurements, params_total=10)
    console = Console(width=200, file=io.StringIO())
    console.print(scores_table([outcome], {}, ["c"]))
    titles, first, second = (re.split(r"\s{2,}", line.strip()) for line in console.file.getvalue().splitlines())
    assert titles == [
        "benchmark", "metric", "value", "std. error", "chance", "unit", "better", "items", "cut", "seconds",
        "GPT-2 paper",
    ]  # fmt: skip
    assert first == ["b", "m", "0.5", "0.25", "share of questions", "higher", "1,200", "1,012", "0.0"]
    assert second == ["b", "n", "0.5", "share of questions", "lower", "1,200", "0.0"]


def test_a_narrow_terminal_gets_whole_numbers_and_is_told_what_is_left_out() -> None:
    measured = Measurement(
        benchmark="natural-questions", protocol="", metric="accuracy_last_token", value=0.012345, unit="share",
        direction="higher", count=5153, standard_error=0.00123, paper_scores={"117M": 0.4599, "345M": 0.5548},
    )  # fmt: skip
    outcome = Outcome(checkpoint="c", benchmark="b", measurements=(measured,), params_total=10)
    console = Console(width=80, file=io.StringIO())
    absent = {"story-cloze": "absent: ladder fetch story-cloze --from DIR"}
    console.print(scores_table([outcome], absent, ["c"], width=80))
    written = console.file.getvalue()
    assert max(map(len, written.splitlines())) <= 80 and "\u2026" not in written
    assert {"accuracy_last_token", "0.012345", "0.00123", "0.4599", "0.5548"} <= set(written.split())
    assert "unit, better, items, cut, seconds: in a terminal of 120 columns, or with --json" in " ".join(
        written.split()
    )


def test_checkpoints_are_told_apart_by_short_names() -> None:
    assert short_names(["a/run-1/step-5", "a/run-2/step-5"]) == {"a/run-1/step-5": "run-1", "a/run-2/step-5": "run-2"}
    assert list(short_names(["run/step-1", "run/step-2"]).values()) == ["step-1", "step-2"]
    assert list(short_names(["a/x/m", "b/x/m", "gpt2"]).values()) == ["a/x/m", "b/x/m", "gpt2"]


def test_generate_continues_the_prompt_the_same_way_twice(checkpoint: str) -> None:
    first, _ = run(generate_command, checkpoint, "--prompt", "Ab", "--max-new-tokens", "9", "--device", "cpu")
    assert first.startswith("Ab")
    assert run(generate_command, checkpoint, "--prompt", "Ab", "--max-new-tokens", "9", "--device", "cpu")[0] == first


def test_fetch_writes_where_the_files_are(shared: Path, tmp_path: Path) -> None:
    stdout, _ = run(fetch_command, "lambada", "--from", str(shared / "benchmarks"), "--storage", str(tmp_path))
    assert Path(stdout.strip()).is_file()


def test_fetch_lists_what_is_in_storage_and_what_is_not(storage: str) -> None:
    stdout, _ = run(fetch_command, "--list", "--storage", storage)
    lines = {line.split()[0]: " ".join(line.split()) for line in stdout.splitlines() if line[:1].strip()}
    assert lines["good"] == "good made up a.txt 4 yes none"
    assert lines["gone"] == "gone made up a.txt no none"
    assert "made from a corpus" in lines["heldout"]
    assert "no; by hand, --from DIR" in lines["story-cloze"]
    only, _ = run(fetch_command, "good", "--list", "--storage", storage)
    assert len(only.splitlines()) == 2
    with pytest.raises(click.UsageError, match="name benchmarks, or `all`"):
        run(fetch_command, "--storage", storage)


def test_fetch_tells_what_failed_after_what_was_installed(shared: Path, storage: str, tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    name = "lambada_test.jsonl"
    (tmp_path / "copies" / name).write_bytes((shared / "benchmarks/lambada" / name).read_bytes())
    asked = ["gone", "lambada", "--from", str(tmp_path / "copies"), "--storage", storage]
    stdout, problem = run_to_error(fetch_command, *asked)
    assert stdout.splitlines() == [f"{storage}/benchmarks/lambada/{name}"]
    assert problem.startswith("benchmark gone: a.txt was not installed: no a.txt in ")
    assert "It is published at http://127.0.0.1:9/a.txt." in problem


@pytest.mark.parametrize("command", [evaluate_command, fetch_command, generate_command])
def test_help_shows_an_example(command: click.Command) -> None:
    assert "Example" in CliRunner().invoke(command, ["--help"]).stdout


def test_samples_are_a_line_for_every_item_with_what_became_of_it(checkpoint: str, tmp_path: Path) -> None:
    for name, content in (
        ("lambada/lambada_test.jsonl", '{"text": "aa bb"}\n{"text": "ab b\u00e4"}\n'),
        ("sst2/stsa.binary.dev", "1 a good film .\n0 a bad film .\n1 a film .\n"),
    ):
        (tmp_path / "benchmarks" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "benchmarks" / name).write_text(content, encoding="utf-8")
    path = tmp_path / "samples.jsonl"
    asked = [checkpoint, "--storage", str(tmp_path), "--benchmarks", "lambada,sst2", "--device", "cpu", "--json"]
    for _ in range(2):  # the second time with scores in the cache, which have no items
        measured = json.loads(run(evaluate_command, *asked, "--samples", str(path))[0])
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert [(line["benchmark"], line["item"]) for line in lines] == [
            ("lambada", 0), ("lambada", 1), ("sst2", 0), ("sst2", 1), ("sst2", 2),
        ]  # fmt: skip
    assert all(line["checkpoint"] == checkpoint for line in lines)
    assert (lines[1]["prompt"], lines[1]["answer"]) == ("ab", " b\u00e4")
    film = lines[2]
    assert film["prompt"] == "a good film. very"
    assert film["candidates"] == [" negative", " positive"]
    assert (film["answer"], film["chosen"]) == (1, int(film["nats"][0] > film["nats"][1]))
    values = {f"{m['benchmark']}/{m['metric']}": m["value"] for m in measured}
    assert np.mean([line["right"] for line in lines[2:]]) == pytest.approx(values["sst2/accuracy"])
    assert math.exp(sum(line["nats"] for line in lines[:2]) / 2) == pytest.approx(values["lambada/perplexity"])
    with pytest.raises(InputError, match="cannot write .*: No such file or directory; name another"):
        run(evaluate_command, *asked, "--samples", str(tmp_path / "nowhere" / "a.jsonl"))
