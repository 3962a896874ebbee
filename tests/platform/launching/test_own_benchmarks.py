"""A benchmark of one's own in a sweep: on two Ray workers, in MLflow and in the report, like any other."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.weights import save_weights
from ladder.platform.corpus.store import open_corpus
from ladder.platform.evaluation.checkpoints.score import ScoringTask, score_checkpoint
from ladder.platform.evaluation.own.file import read_own_file
from ladder.platform.launching.scoring import score_all
from ladder.platform.launching.submission import stage
from ladder.platform.launching.sweep import choose_benchmarks
from ladder.sweeps.load import load_sweep
from tests.platform.launching.harness import ladder

SWEEP = '''"""Do small models know capitals? Prediction: they do not."""

from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Execution, Sweep, grid

SWEEP = Sweep(
    name="own",
    corpus="small",
    context=32,
    points=grid(sizes=("1x16", "1x32", "2x32"), tokens=(20_480,)),
    recipe=small_recipe,
    benchmarks=("mine/capitals.jsonl", "sums.py", "pages-bytes"),
    heldout_tokens=1024,
    execution=Execution(checkpoint_seconds=5),
)
'''

CAPITALS = """{"name": "capitals", "metric": "accuracy_per_token"}
{"prompt": "The capital of France is", "choices": ["Paris", "Rome"], "answer": 0}
{"prompt": "The capital of Italy is", "choices": ["Paris", "Rome"], "answer": "Rome"}
"""

SUMS = '''"""Sums of two digits."""
from ladder.platform.evaluation.own.rows import benchmark_of_rows

ROWS = [{"prompt": f"{a} + {b} =", "choices": [str(a + b), str(a - b)], "answer": 0} for a in (5, 7) for b in (2, 3)]
BENCHMARK = benchmark_of_rows("sums", ROWS, citation="made up")
'''


HARNESS = """task: said
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{prompt}}"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    (folder / "mine").mkdir(parents=True)
    (folder / "own.py").write_text(SWEEP)
    (folder / "mine" / "capitals.jsonl").write_text(CAPITALS)
    (folder / "sums.py").write_text(SUMS)
    return folder / "own.py"


def test_a_file_beside_the_sweeps_is_found_from_anywhere(sweep: Path) -> None:
    found = [str(sweep.parent / "mine/capitals.jsonl"), str(sweep.parent / "sums.py"), "pages-bytes"]
    assert list(load_sweep(str(sweep)).benchmarks) == found


def test_of_a_group_in_a_sweep_what_is_absent_is_left_out_with_a_warning(
    sweep: Path, storage: UPath, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = open_corpus(storage, "small")
    asked = replace(load_sweep(str(sweep)), benchmarks=("gpt1", "pages"))
    names, own = choose_benchmarks(asked, corpus, storage)
    assert names == ("pages-last-word", "pages-cloze", "pages-words", "pages-bytes") and own == ()
    assert "not scored, since absent: sst2, copa, race, story-cloze" in caplog.text
    with pytest.raises(InputError, match="benchmark copa is not at hand"):
        choose_benchmarks(replace(asked, benchmarks=("copa",)), corpus, storage)


def test_it_goes_with_the_sweep_to_a_cluster(sweep: Path, tmp_path: Path) -> None:
    stage(sweep, tmp_path / "job")
    there = load_sweep(str(tmp_path / "job" / "submitted" / "own.py"))
    contents = [Path(path).read_text() for path in there.benchmarks[:2]]
    assert contents == [CAPITALS, SUMS] and str(tmp_path / "job") in there.benchmarks[0]
    (tmp_path / "elsewhere.jsonl").write_text(CAPITALS)
    sweep.write_text(SWEEP.replace("mine/capitals", "../elsewhere"))
    with pytest.raises(InputError, match="elsewhere.jsonl: to be submitted it must stand beside .*own.py or below"):
        stage(sweep, tmp_path / "another")


@pytest.mark.endurance
@pytest.mark.timeout(300)
def test_in_a_sweep_on_two_workers_it_is_scored_tracked_and_reported(sweep: Path, storage: UPath) -> None:
    data = sweep.parent / "said.json"
    data.write_text("".join(CAPITALS.splitlines(keepends=True)[1:]).replace('"Rome"}', "1}"))
    (sweep.parent / "said.yaml").write_text(HARNESS.replace("DATA", str(data)))
    sweep.write_text(SWEEP.replace('"pages-bytes")', '"pages-bytes", "said.yaml")'))
    done = subprocess.run(ladder("run", sweep, "--storage", storage), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = subprocess.run(ladder("run", sweep, "--storage", storage), capture_output=True, text=True)
    assert again.returncode == 0 and "all 3 runs had ended before, nothing to train" in again.stderr
    client = MlflowClient(f"sqlite:///{storage}/mlflow.db")
    experiment = client.get_experiment_by_name("own")
    assert experiment is not None
    records = client.search_runs([experiment.experiment_id], "tags.`ladder.kind` = 'run'")
    assert len(records) == 3
    wanted = {"capitals/accuracy_per_token", "sums/accuracy", "harness-said/acc"}
    assert all(wanted <= set(record.data.metrics) for record in records)
    own = tuple(read_own_file(str(sweep.parent / name)) for name in ("mine/capitals.jsonl", "sums.py"))
    kept = [json.loads(path.read_text()) for path in (storage / "scores").glob("*/sums-*.json")]
    assert [record["key"]["data"] for record in kept] == [{"definition": own[1].fingerprint}] * 3
    report = subprocess.run(ladder("report", sweep, "--storage", storage), capture_output=True, text=True)
    assert report.returncode == 0, report.stderr
    page = (Path(str(storage)) / "reports" / "own" / "index.html").read_text()
    assert "capitals" in page and "sums" in page and "harness-said" in page


@pytest.mark.slow
@pytest.mark.timeout(170)
def test_on_two_workers_of_ray_the_scores_are_those_of_one_by_one(tmp_path: Path, storage: UPath, sweep: Path) -> None:
    files = ("mine/capitals.jsonl", "sums.py")
    own = tuple(read_own_file(str(sweep.parent / name)) for name in files)
    for name in files:  # only what travels is there on a worker
        (sweep.parent / name).unlink()
    tasks = []
    for name in ("1x16h1", "2x32h2"):
        save_weights(GPT2(parse_size(name, context=32, vocabulary=257), seed=1), tmp_path / name, tokenizer="bytes")
        task = ScoringTask(
            checkpoint=str(tmp_path / name),
            benchmarks=("sums", "capitals"),
            own=own,
            storage=str(storage),
            device="cpu",
        )
        tasks.append(replace(task, device="cpu", precision="fp32", use_cache=False))
    together = {(o.checkpoint, o.benchmark): o for o in score_all(tasks, concurrent=2)}
    alone = {(o.checkpoint, o.benchmark): o for task in tasks for o in score_checkpoint(task)}
    assert len(together) == 4 and together.keys() == alone.keys()
    for which, outcome in alone.items():
        assert outcome.problem is None and together[which].problem is None
        assert [m.value for m in together[which].measurements] == [m.value for m in outcome.measurements]
