"""A fine-tuning run from its beginning to its result: it learns, goes on exactly, and is never trained twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ladder.models.errors import InputError
from ladder.platform.finetuning import job as module
from ladder.platform.finetuning.data import load_task
from ladder.platform.finetuning.grid import Cell, canonical, expand
from ladder.platform.finetuning.job import FineTuneJob
from ladder.platform.finetuning.local import JobState, run_here
from ladder.platform.finetuning.registry import TASKS
from ladder.platform.finetuning.starting import open_start
from ladder.platform.finetuning.summary import summarise
from ladder.platform.runs.checkpoints import list_checkpoints
from ladder.platform.runs.curve import read_curve
from ladder.platform.storage import read_json
from ladder.platform.training.train import Trainer
from ladder.sweeps.finetuning import FineTuning
from ladder.sweeps.words import Execution
from tests.platform.finetuning.conftest import write_sst2

CPU = torch.device("cpu")
RECIPE = FineTuning(lr_peak=1.0, precision="fp32", batch_examples=16)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    load_task.cache_clear()


def cells(checkpoint: Path, data: Path, storage: Path, recipe: FineTuning = RECIPE, **given: Any) -> list[Cell]:
    settings = {"lr": 3e-3, "lr_factors": [1.0], "layers": ["all"], "seeds": [0]} | given
    return expand(
        [open_start(str(checkpoint))],
        [TASKS["sst2"]],
        recipe=recipe,
        data=str(data),
        storage=str(storage),
        execution=Execution(log_every_steps=1),
        **settings,
    )


def run(jobs: list[FineTuneJob]) -> list[JobState]:
    return run_here(jobs, CPU, show=lambda state, known, total: None)


def test_a_result_tells_what_was_trained_and_scored(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    made = cells(checkpoint, data, tmp_path / "storage")
    states = run([cell.job for cell in made])
    assert [state.state for state in states] == ["finished", "finished"] and all(state.worked_on for state in states)
    result = made[0].job.result()
    assert result is not None
    assert result["step"] == 18 and result["train_examples"] == 96
    assert [one["metric"] for one in result["measurements"]] == ["accuracy", "cross_entropy"]
    assert all(one["count"] == 40 and one["standard_error"] is not None for one in result["measurements"])
    assert result["measurements"][0]["chance"] == 0.5
    assert result["cut_share"] == {"train": 0.0, "dev": 0.0} and 0 <= result["padding_share"] < 0.5
    assert result["tokens"] == 3 * sum(sum(one.lengths) for one in load_task("sst2", str(data), tokenizer="bytes",
                                                                            context=48).train)  # fmt: skip
    items = read_json(made[0].job.folder / "items.json")
    right = [a == b for a, b in zip(items["dev"]["labels"], items["dev"]["predictions"], strict=True)]
    assert sum(right) / 40 == pytest.approx(result["measurements"][0]["value"])
    assert [point["step"] for point in read_curve(made[0].job.folder)] == list(range(1, 19))
    assert not list_checkpoints(made[0].job.folder), "weights stay only where they are asked for"


def test_a_finished_run_is_never_trained_again(
    checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cells(checkpoint, data, tmp_path / "storage", replace(RECIPE, epochs=1))
    run([cell.job for cell in made])
    monkeypatch.setattr(module, "Trainer", None)
    states = run([cell.job for cell in [*made, *made]])
    assert [(state.state, state.worked_on) for state in states] == [("finished", False)] * 2


class Stop(KeyboardInterrupt):
    """What a Ctrl-C raises."""


@pytest.mark.parametrize("where", ["training", "scoring"])
def test_a_run_that_is_stopped_goes_on_to_the_very_same_result(
    checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def only(storage: str) -> FineTuneJob:
        made = cells(checkpoint, data, tmp_path / storage)[0].job
        return replace(made, execution=replace(made.execution, checkpoint_seconds=1e-9), keep_weights=True)

    straight, stopped = only("straight"), only("stopped")
    run([straight])
    steps: list[int] = []
    take, answer = Trainer.snapshot, module.answer

    def snapshot(trainer: Trainer) -> Any:
        steps.append(trainer.step)
        if where == "training" and len(steps) == 7:
            raise Stop
        return take(trainer)

    def stop(*_: Any, **__: Any) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "snapshot", snapshot)
        if where == "scoring":
            patch.setattr(module, "answer", stop)
        with pytest.raises(Stop):
            run([stopped])
    assert stopped.result() is None
    assert module.answer is answer
    run([stopped])
    for name in ("measurements", "collapsed", "tokens", "step"):
        assert (stopped.result() or {})[name] == (straight.result() or {})[name]
    assert read_json(stopped.folder / "items.json") == read_json(straight.folder / "items.json")
    losses = [[point["train/loss"] for point in read_curve(one.folder)] for one in (stopped, straight)]
    assert losses[0] == losses[1]


def test_a_key_follows_what_defines_the_result_and_scratch_is_shared(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    keys = {cell.layers: cell.job.run.key for cell in cells(checkpoint, data, tmp_path, layers=["all", "embeddings"])}
    assert set(keys) == {"all", "embeddings", "nothing"} and len(set(keys.values())) == 3
    twin = tmp_path / "twin"
    twin.mkdir()
    for file in checkpoint.iterdir():
        (twin / file.name).write_bytes(file.read_bytes())
    (twin / "config.json").write_text((checkpoint / "config.json").read_text() + " ")  # another checkpoint
    others = {cell.layers: cell.job.run.key for cell in cells(twin, data, tmp_path)}
    assert others["all"] != keys["all"] and others["nothing"] == keys["nothing"]
    write_sst2(data, train=95, dev=40)
    load_task.cache_clear()
    changed = {cell.layers: cell.job.run.key for cell in cells(checkpoint, data, tmp_path)}
    assert changed["nothing"] != keys["nothing"]


def test_layers_have_one_word_for_one_thing(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    size = open_start(str(checkpoint)).size
    assert [canonical(word, size) for word in ("2", "0", "01", "all", "nothing")] == [
        "all", "embeddings", "1", "all", "nothing",
    ]  # fmt: skip
    with pytest.raises(InputError, match="layers: got 3 of a checkpoint of 2 blocks, wanted 1 to 1, all"):
        cells(checkpoint, data, tmp_path, layers=["3"])


def test_examples_that_changed_are_not_mixed_with_a_run_of_others(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    made = cells(checkpoint, data, tmp_path / "storage")
    write_sst2(data, train=96, dev=39)
    load_task.cache_clear()
    with pytest.raises(InputError, match="are no longer those that the run is of"):
        run([made[0].job])


def test_a_run_that_diverges_is_marked_and_does_not_stop_the_others(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    made = cells(checkpoint, data, tmp_path / "storage", replace(RECIPE, clip_norm=1e30), lr_factors=[1e30])
    states = run([cell.job for cell in made])
    assert [state.state for state in states] == ["failed", "failed"]
    assert states[0].reason is not None and "is not finite at step" in states[0].reason
    again = run([cell.job for cell in made])
    assert [(state.state, state.worked_on) for state in again] == [("failed", False)] * 2


def test_a_learning_rate_is_chosen_on_examples_that_nobody_trains_on(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    write_sst2(data, train=640, dev=40)
    recipe = replace(RECIPE, batch_examples=32)
    made = cells(checkpoint, data, tmp_path / "storage", recipe, lr=6e-3, lr_factors=[1e-6, 1.0], seeds=[0, 1])
    run([cell.job for cell in made])
    results = [cell.job.result() for cell in made]
    assert all(result is not None and result["train_examples"] == 576 for result in results)
    assert all(result["choice"][0]["count"] == 64 for result in results if result is not None)
    rows = {(row.layers, row.metric): row for row in summarise(made)}
    assert {row.lr_factor for row in rows.values()} == {1.0}
    ours, scratch = rows["all", "accuracy"], rows["nothing", "accuracy"]
    assert ours.seeds == 2 and "scratch" not in scratch.beside
    difference = ours.beside["scratch"].difference
    assert difference.value == pytest.approx(ours.value - scratch.value)
    assert difference.error_items is not None and difference.error_seeds is not None


def test_a_seed_without_a_result_is_counted_and_a_rate_that_lost_one_is_not_chosen(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    made = cells(checkpoint, data, tmp_path / "storage", replace(RECIPE, epochs=1), lr_factors=[0.5, 1.0], seeds=[0, 1])
    taken = [cell for cell in made if cell.layers == "all"]
    run([cell.job for cell in taken if (cell.lr_factor, cell.seed) != (0.5, 1)])
    rows = summarise(made)
    assert {row.layers for row in rows} == {"all"}, "from scratch has no result yet"
    assert all((row.lr_factor, row.seeds, row.missing) == (1.0, 2, 0) for row in rows)
    rows = summarise([cell for cell in made if cell.lr_factor == 0.5])
    assert all((row.seeds, row.missing) == (1, 1) for row in rows)
    assert rows[0].beside["majority"].better("higher") is None, "one seed leaves it open"


def test_an_ablation_is_a_point_of_the_grid_beside_the_first_weight(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    given = {"lm_weights": [0.5, 0.0], "seeds": [0, 1]}
    made = cells(checkpoint, data, tmp_path / "storage", replace(RECIPE, epochs=1), **given)
    assert [(cell.layers, cell.lm_weight) for cell in made[::2]] == [
        ("all", 0.5), ("all", 0.0), ("nothing", 0.5), ("nothing", 0.0),
    ]  # fmt: skip
    run([cell.job for cell in made])
    rows = {(row.layers, row.lm_weight): row for row in summarise(made) if row.metric == "cross_entropy"}
    full, without = rows["all", 0.5], rows["all", 0.0]
    assert "first_lm_weight" not in full.beside
    assert without.beside["first_lm_weight"].difference.value == pytest.approx(without.value - full.value)
    assert without.beside["scratch"].value == pytest.approx(rows["nothing", 0.0].value)


def learned(tmp_path: Path, checkpoint: Path, *, shuffled: bool) -> float:
    data = write_sst2(tmp_path / "learn", train=1600, dev=200, shuffled=shuffled)
    load_task.cache_clear()
    made = cells(checkpoint, data, tmp_path / "storage", replace(RECIPE, batch_examples=32), lr=2e-3)
    scratch = next(cell for cell in made if cell.layers == "nothing")
    run([scratch.job])
    result = scratch.job.result()
    assert result is not None
    return float(result["measurements"][0]["value"])


def test_a_small_model_learns_a_task_that_its_text_tells(tmp_path: Path, checkpoint: Path) -> None:
    assert learned(tmp_path, checkpoint, shuffled=False) > 0.95


def test_labels_that_the_text_does_not_tell_stay_at_chance(tmp_path: Path, checkpoint: Path) -> None:
    assert abs(learned(tmp_path, checkpoint, shuffled=True) - 0.5) < 4 * (0.25 / 200) ** 0.5
