"""`ladder finetune` as people call it."""

import json
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.command.finetune import command
from ladder.platform.command.main import main
from ladder.platform.finetuning.data import load_task
from ladder.platform.finetuning.local import JobState
from ladder.platform.finetuning.starting import largest_budgets, of_sizes, open_start
from ladder.platform.finetuning.summary import Transfer


@pytest.fixture(autouse=True)
def _fresh() -> None:
    load_task.cache_clear()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the runs that MLflow would be told of, without MLflow."""
    keys: list[str] = []
    summaries: list[str] = []

    class Listed:
        def __init__(self, uri: str, name: str, storage: UPath) -> None:
            assert name == "transfer" and uri.startswith("sqlite:")

        def write(self, states: Sequence[JobState]) -> None:
            keys.extend(state.job.run.key for state in states)

        def write_summary(self, rows: Sequence[Transfer]) -> None:
            summaries.append(json.dumps([row.to_json() for row in rows]))

    monkeypatch.setattr("ladder.platform.finetuning.records.Records", Listed)
    return keys


def call(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_it_tells_transfer_beside_scratch_and_trains_nothing_twice(
    checkpoint: Path, data: Path, tmp_path: Path, sent: list[str]
) -> None:
    words = (checkpoint, "--tasks", "sst2", "--seeds", 2, "--lr", 1e-3, "--epochs", 1, "--data", data, "--device",
             "cpu", "--precision", "fp32", "--storage", tmp_path / "storage")  # fmt: skip
    done = call(*words)
    assert done.exit_code == 0, done.output
    assert done.stderr.count(" in ") == 4 and "cut 0% of train, 0% of dev" in done.stderr
    assert all(word in done.stdout for word in ("sst2", "majority", "all positive", "bag of words", "over scratch"))
    assert "is not above" in done.stdout and "bag of words" in done.stdout
    assert len(sent) == 4
    again = call(*words, "--json")
    assert again.stderr.count("is there already") == 4
    rows = json.loads(again.stdout)
    assert [(row["layers"], row["metric"], row["seeds"]) for row in rows] == [
        ("all", "accuracy", 2), ("all", "cross_entropy", 2), ("nothing", "accuracy", 2),
        ("nothing", "cross_entropy", 2),
    ]  # fmt: skip
    beside = rows[0]["beside"]
    assert beside.keys() == {"majority", "all_positive", "bag_of_words", "scratch"}
    assert beside["scratch"]["difference"]["value"] == pytest.approx(rows[0]["value"] - rows[2]["value"])
    assert beside["bag_of_words"]["value"] == 1.0 and beside["all_positive"]["value"] == 0.5
    assert rows[1]["beside"].keys() == {"scratch"}, "a baseline has no cross-entropy"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tasks", "sst"), "unknown task sst: known are sst2"),
        (("--tasks", "cola"), "task cola: no files of its split train in .*CoLA"),
        (("--tasks", "sst2", "--lr-factors", "1,-2"), "--lr-factors: got '1,-2', wanted numbers above 0"),
        (("--tasks", "sst2", "--lm-weights", "-1"), "--lm-weights: got '-1', wanted numbers of at least 0"),
        (("--tasks", "sst2", "--layers", "most"), "layers: got 'most', wanted all, embeddings, nothing or a number"),
        (("--tasks", "sst2", "--dropout", "1"), "dropout: got 1.0, wanted a number of at least 0 and at most 0.9"),
        (("--tasks", "sst2", "--batch-examples", "97"), "96 training examples, wanted at least one batch of 97"),
    ],
)
def test_wrong_words_are_told(
    checkpoint: Path, data: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    done = call(checkpoint, "--lr", "1e-3", "--data", data, "--storage", tmp_path / "storage", *words)
    assert isinstance(done.exception, InputError)
    with pytest.raises(InputError, match=message):
        raise done.exception


def write_task(data: Path, train: str, dev: str = "sentence\tlabel\nfine\t1\n") -> None:
    for name, text in (("train", train), ("dev", dev)):
        (data / "SST-2" / f"{name}.tsv").write_text(text)


def write_race(data: Path) -> None:
    exam = {"article": "a", "questions": ["q"], "options": [["a", "b", "c"]], "answers": ["A"]}
    member = data / "RACE" / "train" / "high" / "1.txt"
    member.parent.mkdir(parents=True)
    member.write_text(json.dumps(exam))
    with tarfile.open(data / "RACE" / "RACE.tar.gz", "w:gz") as archive:
        archive.add(member, "RACE/train/high/1.txt")


HEAD = "sentence\tlabel\n"


@pytest.mark.parametrize(
    ("task", "write", "wanted"),
    [
        ("sst2", lambda data: write_task(data, HEAD + "good\t1\nfine\t1\n"),
         "train.tsv: no example of the class negative; wanted some of each of negative, positive"),
        ("sst2", lambda data: write_task(data, HEAD + "good\t1\nbad\t0\nfine\t2\n"),
         "train.tsv, line 4: wanted negative, positive, 0, 1 in the column label, got '2'"),
        ("sst2", lambda data: write_task(data, HEAD + "good\t1\nbad\t0\n", "text\tlabel\nfine\t1\n"),
         "dev.tsv, line 1: wanted the columns sentence, label, got no sentence in text, label"),
        ("sst2", lambda data: write_task(data, HEAD + "good\t1\nbad\t0\tmore\n"),
         "train.tsv, line 3: wanted 2 columns between tabs, got 3: 'bad\\t0\\tmore'"),
        ("sst2", lambda data: write_task(data, HEAD + "good\t1\n  \t0\n"),
         "train.tsv, line 3: wanted text in the column sentence, got none"),
        ("race", write_race, "RACE.tar.gz, RACE/train/high/1.txt: wanted a question, 4 options that are not empty, and "
         "an answer of ABCD; got 'q', ['a', 'b', 'c'], 'A'"),
    ],
)  # fmt: skip
def test_bad_input_ends_in_exit_code_2_and_one_message_with_file_line_and_what_was_wanted(
    checkpoint: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    task: str,
    write: Callable[[Path], None],
    wanted: str,
) -> None:
    write(data)
    storage = tmp_path / "storage"
    words = ["ladder", "finetune", checkpoint, "--tasks", task, "--lr", "1e-3", "--data", data, "--storage", storage]
    monkeypatch.setattr(sys, "argv", [*map(str, words), "--device", "cpu", "--precision", "fp32"])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert ended.value.code == 2 and told.out == ""
    assert told.err == f"ladder: {data}/{'SST-2' if task == 'sst2' else 'RACE'}/{wanted}\n"
    assert not storage.exists(), "nothing is left behind"


def test_a_checkpoint_of_ours_without_its_recipe_asks_for_a_rate(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    done = call(checkpoint, "--tasks", "sst2", "--data", data, "--storage", tmp_path / "storage")
    assert isinstance(done.exception, InputError) and "with --lr" in str(done.exception)


def test_of_each_shape_the_largest_budget_is_taken(checkpoint: Path) -> None:
    start = open_start(str(checkpoint))
    assert start.tokens is None and start.run is None
    few, most, twin = (replace(start, name=name, tokens=tokens) for name, tokens in (("a", 5), ("b", 9), ("c", 9)))
    other = replace(start, name="d", size=replace(start.size, n_layer=3), tokens=4)
    assert [one.name for one in largest_budgets([few, most, other, twin])] == ["b", "d", "c"]
    assert of_sizes([few, other, twin], [other.size.shape_name]) == [other]
    with pytest.raises(InputError, match="--sizes: got 9x9, wanted some of 2x32h2, 3x32h2"):
        of_sizes([few, other], ["9x9"])
    mark = {"run": "key", "step": 3, "recipe": {"lr_peak": 4e-3, "batch_tokens": 1024}}
    (checkpoint / "training.json").write_text(json.dumps(mark))
    trained = open_start(str(checkpoint))
    assert (trained.run, trained.tokens) == ("key", 3072)


def test_the_rate_is_a_quarter_of_the_peak_that_the_checkpoint_has_on_record(checkpoint: Path) -> None:
    assert open_start(str(checkpoint)).lr is None
    (checkpoint / "training.json").write_text(json.dumps({"recipe": {"lr_peak": 4e-3}}))
    assert open_start(str(checkpoint)).lr == 1e-3
    config = json.loads((checkpoint / "config.json").read_text())
    del config["ladder"]
    (checkpoint / "config.json").write_text(json.dumps(config))
    (checkpoint / "training.json").unlink()
    assert open_start(str(checkpoint)).lr == 6.25e-5, "GPT-1's, for a checkpoint that is not ours"
