"""What of a search is refused before anything is trained."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.command.chosen import begin, choose
from ladder.platform.command.tune import command
from ladder.platform.launching.cluster import Cluster
from ladder.platform.launching.nodes import NodeType
from ladder.platform.launching.sweep import make_job
from ladder.platform.storage import write_json
from ladder.platform.tracking.records import TrackedSweep
from ladder.platform.training.job import Job
from ladder.platform.tuning.tuner import count_slots
from ladder.sweeps.expand import CorpusFacts, expand
from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import SCHEMA, Execution, Sweep, grid

TINY = '''"""Question."""
from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Sweep, grid
POINTS = grid(sizes=("1x16",), tokens=(8192,))
SWEEP = Sweep(name="tiny", corpus="small", context=32, points=POINTS, recipe=small_recipe)
'''


def jobs(execution: Execution) -> Mapping[str, Job]:
    sweep = Sweep(
        name="tiny",
        corpus="small",
        context=32,
        points=grid(sizes=("1x16", "1x32"), tokens=(8192,)),
        recipe=small_recipe,
        execution=execution,
    )
    runs = expand(sweep, CorpusFacts(name="small", vocabulary=257, fingerprint="f"), precision="fp32")
    tracked = TrackedSweep(uri="", experiment="1", parent="p", store="s")
    return {run.key: make_job(sweep, run, UPath("memory://s"), tracked, ()) for run in runs}


FOUND = {
    "sweep": "tiny", "corpus": "small", "corpus_fingerprint": "another", "date": "2026-11-21", "searched_batch": False,
    "winners": [
        {"size": "1x16", "params_non_embedding": 3104, "tokens": 8192, "lr": 0.0123, "batch_tokens": 2048, "loss": 3.0,
         "run": "r", "edge": None}
    ],
}  # fmt: skip


@pytest.fixture
def tuned_sweep(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.py"
    rule = 'recipe=tuned("tiny", small_recipe)'
    file.write_text(
        TINY.replace("recipe=small_recipe", rule).replace("SWEEP", "from ladder.sweeps.tuned import tuned\nSWEEP", 1)
    )
    return file


def test_a_tuned_sweep_takes_the_winner_and_says_so_and_of_which_corpus(
    tuned_sweep: Path, storage: UPath, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(storage / "sweeps" / "tiny" / "tuned.json", FOUND)
    write_json(storage / "ladder.json", {"schema": SCHEMA})
    chosen = begin(str(tuned_sweep), storage, None, {})
    assert [run.recipe.lr_peak for run in chosen.runs] == [0.0123]
    told = capsys.readouterr().err
    assert "recipe: small_recipe, tuned by `ladder tune tiny` of 2026-11-21 on corpus small: 1x16 as measured" in told
    assert "The search was on another corpus than small as it is now" in told
    untuned = choose(str(tuned_sweep), storage, None, untuned=True)
    assert [run.recipe.lr_peak for run in untuned.runs] == [6e-3], "what `ladder tune` searches around"


def test_a_tuned_sweep_without_a_search_says_to_search(tuned_sweep: Path, storage: UPath) -> None:
    with pytest.raises(InputError, match="has none. Run `ladder tune tiny` first"):
        choose(str(tuned_sweep), storage, None)


HERE = Cluster(local=True, types=(NodeType(name="this machine", cpus=4),))
GPUS = Cluster(local=False, types=(NodeType(name="node", cpus=8, gpus=1, count=2),))


@pytest.mark.parametrize(
    ("execution", "cluster", "slots"),
    [
        (Execution(), HERE, 4),
        (Execution(cpus_per_worker=3), HERE, 1),
        (Execution(concurrent_runs=2), HERE, 2),
        (Execution(), GPUS, 2),
        (Execution(gpus_per_worker=0.25), GPUS, 8),
        (Execution(gpus_per_worker=0), GPUS, 16),
    ],
)
def test_as_many_trials_go_on_at_a_time_as_there_is_room_for(
    execution: Execution, cluster: Cluster, slots: int
) -> None:
    assert count_slots(jobs(execution), cluster) == slots


def test_a_trial_of_several_workers_is_refused() -> None:
    with pytest.raises(InputError, match="trained by 2 workers, wanted 1.* ask for --workers 1"):
        count_slots(jobs(Execution(workers=2)), HERE)


def test_a_trial_that_never_fits_is_refused() -> None:
    with pytest.raises(InputError, match="Ask for less with --cpus-per-worker"):
        count_slots(jobs(Execution(cpus_per_worker=5)), HERE)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--lr-factor", "1"), "lr_factor: got 1.0, wanted a number above 1"),
        (("--reduction", "1"), "reduction: got 1, wanted at least 2"),
        (("--rungs", "9"), "two rungs of size 1x16 are the same run"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(
    tmp_path: Path, storage: UPath, option: tuple[str, ...], message: str
) -> None:
    file = tmp_path / "tiny.py"
    file.write_text(TINY)
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(command, [str(file), "--storage", str(storage), *option], catch_exceptions=False)
    assert not (storage / "mlflow.db").exists()
