"""Training is exact: the same losses whatever is resumed, and the same up to rounding however it is split."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ladder.models.errors import InputError
from ladder.models.sizes import parse_size
from ladder.models.weights import load_weights
from ladder.platform.runs.checkpoints import MARK
from ladder.platform.training.checkpoint import make_optimizer_state, read_state, write_checkpoint
from ladder.platform.training.optimizer import learning_rate
from ladder.platform.training.train import Diverged, Metrics, Trainer
from ladder.platform.training.worker import Worker
from ladder.sweeps.words import Execution, Recipe, Run
from tests.platform.training.gang import run_gang

CPU = torch.device("cpu")
SIZE = parse_size("2x32h2", context=32, vocabulary=257)
RECIPE = Recipe(tokens=24 * 256, batch_tokens=256, lr_peak=3e-3, warmup_tokens=2 * 256, precision="fp32")
RUN = Run(size=SIZE, recipe=RECIPE, corpus="words", corpus_fingerprint="0")
EVERY_STEP = Execution(log_every_steps=1)


class Stream:
    """Repetitive text as a token stream in memory, so that the loss falls within a few steps."""

    def __init__(self) -> None:
        self.tokens = np.frombuffer(b"the quick brown fox jumps over the lazy dog. " * 400, dtype=np.uint8).astype(
            np.int64
        )
        self.n_tokens = len(self.tokens)

    def read(self, start: int, n: int) -> np.ndarray:
        return self.tokens[start : start + n]


def trainer(run: Run = RUN, execution: Execution = EVERY_STEP, resume: Path | None = None, **which: int) -> Trainer:
    worker = Worker(device=CPU, **which)
    return Trainer(run, execution, stream=Stream(), worker=worker, resume=resume if worker.first else None)


def save(a_trainer: Trainer, folder: Path) -> None:
    snapshot = a_trainer.snapshot()
    assert snapshot is not None
    (folder / MARK).write_text(json.dumps(write_checkpoint(folder, snapshot, tokenizer="bytes")))


def curve(a_trainer: Trainer, save_at: dict[int, Path] | None = None) -> list[Metrics]:
    """Train to the end, saving the state at some steps on the way."""
    points: list[Metrics] = []

    def log(point: Metrics) -> None:
        points.append(point)
        folder = (save_at or {}).get(int(point["step"]))
        if folder is not None:
            save(a_trainer, folder)

    a_trainer.train(log=log, save=lambda snapshot: None)
    return points


def losses(points: list[Metrics]) -> list[float]:
    return [point["train/loss"] for point in points]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Metrics], Path]:
    """The curve of a run that was not interrupted, and its checkpoint at step 10."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("checkpoint")
    return curve(trainer(), {10: folder}), folder


def test_the_loss_starts_at_the_logarithm_of_the_vocabulary_and_falls(unbroken: tuple[list[Metrics], Path]) -> None:
    points, _ = unbroken
    assert points[0]["train/loss"] == pytest.approx(math.log(257), abs=0.1)
    assert points[-1]["train/loss"] < points[0]["train/loss"] - 1
    assert [int(point["step"]) for point in points] == list(range(1, 25))
    assert points[-1]["train/tokens"] == RECIPE.tokens


COMPLETEP = {"parametrization": "completep", "base_width": 16, "base_layers": 1}
"""At half the width and depth of the runs here, so that every factor differs from 1."""


@pytest.mark.parametrize(
    "changes",
    [{}, {"precision": "bf16"}, {"optimizer": "muon"}, COMPLETEP, {"optimizer": "muon", **COMPLETEP}],
    ids=lambda changes: "-".join(map(str, changes.values())) or "default",
)
def test_a_resumed_run_has_bit_for_bit_the_losses_of_an_unbroken_one(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    run = replace(RUN, recipe=replace(RECIPE, **changes))  # type: ignore[arg-type]
    whole = trainer(run)
    points = curve(whole, {10: tmp_path})
    resumed = trainer(run, resume=tmp_path)
    assert resumed.step == 10
    assert losses(curve(resumed)) == losses(points)[10:]
    for name, parameter in whole.model.state_dict().items():
        assert torch.equal(parameter, resumed.model.state_dict()[name]), name
    moments, others = (make_optimizer_state(t.model, t.optimizer) for t in (whole, resumed))
    assert moments.keys() == others.keys()
    assert all(torch.equal(moments[name], others[name]) for name in moments)


def test_a_resumed_run_keeps_its_attention(tmp_path: Path) -> None:
    curve(trainer(execution=replace(EVERY_STEP, attention="sdpa")), {10: tmp_path})
    assert trainer(resume=tmp_path).attention.backend == "sdpa"


def test_the_batch_is_the_same_however_it_is_cut_into_micro_batches(unbroken: tuple[list[Metrics], Path]) -> None:
    cut = trainer(execution=replace(EVERY_STEP, micro_batch_tokens=64))
    assert cut.micro == 2
    np.testing.assert_allclose(losses(curve(cut)), losses(unbroken[0]), atol=1e-3)


def test_logging_seldom_reports_the_mean_over_the_tokens_between(unbroken: tuple[list[Metrics], Path]) -> None:
    seldom = curve(trainer(execution=Execution(log_every_steps=10)))
    assert [int(point["step"]) for point in seldom] == [10, 20, 24]
    assert seldom[-1]["train/loss"] == pytest.approx(np.mean(losses(unbroken[0])[20:24]), rel=1e-6)


def _train_in_process(worker: Worker, run: Run, out: Path) -> None:
    one = trainer(run, replace(EVERY_STEP, micro_batch_tokens=64), rank=worker.rank, world_size=worker.world_size)
    (out / f"{worker.rank}.json").write_text(json.dumps(curve(one)))
    torch.save(one.model.state_dict(), out / f"{worker.rank}.pt")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_workers_agree_with_one_to_a_thousandth(tmp_path: Path, optimizer: str) -> None:
    run = replace(RUN, recipe=replace(RECIPE, optimizer=optimizer))  # type: ignore[arg-type]
    run_gang(_train_in_process, 2, tmp_path, run, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert losses(first) == losses(second)
    np.testing.assert_allclose(losses(first), losses(curve(trainer(run))), atol=1e-3)
    weights, others = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(weights[name], others[name]) for name in weights), "each worker does the same step by itself"


def test_a_run_that_diverges_names_the_step_and_saves_nothing_after() -> None:
    saved: list[int] = []
    run = replace(RUN, recipe=replace(RECIPE, tokens=256 * 300, lr_peak=1e30, warmup_tokens=0))
    wild = trainer(run, Execution(log_every_steps=3, checkpoint_seconds=1e-9))
    with pytest.raises(Diverged, match="is not finite at step") as caught:
        wild.train(log=lambda point: None, save=lambda snapshot: saved.append(wild.step))
    step = int(str(caught.value).rsplit(" ", 1)[1])
    assert wild.step - 3 < step <= wild.step
    assert all(saved_at < step for saved_at in saved)


def test_a_checkpoint_loads_as_a_hugging_face_model(unbroken: tuple[list[Metrics], Path]) -> None:
    model = load_weights(unbroken[1])
    assert model.size.params_total == SIZE.params_total
    assert read_state(unbroken[1], runs=(RUN.key,)).step == 10


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # transformers' own
def test_transformers_gives_the_logits_of_a_checkpoint_trained_under_completep(tmp_path: Path) -> None:
    from transformers import GPT2LMHeadModel

    run = replace(RUN, recipe=replace(RECIPE, tokens=256 * 4, optimizer="muon", **COMPLETEP))  # type: ignore[arg-type]
    trained = trainer(run)
    curve(trained)
    save(trained, tmp_path)
    tokens = torch.from_numpy(Stream().read(0, 32))[None]
    with torch.no_grad():
        theirs, ours = GPT2LMHeadModel.from_pretrained(tmp_path)(tokens).logits, trained.model(tokens)
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    assert ours.std() > 0.01


def test_a_checkpoint_holds_no_pickle(unbroken: tuple[list[Metrics], Path]) -> None:
    names = {path.name for path in unbroken[1].rglob("*") if path.is_file()}
    assert "model.safetensors" in names
    assert {Path(name).suffix for name in names} <= {".safetensors", ".json", ".jsonl"}


def test_a_checkpoint_of_another_run_is_refused(unbroken: tuple[list[Metrics], Path]) -> None:
    other = replace(RUN, recipe=replace(RECIPE, seed=1))
    with pytest.raises(InputError, match="is of run .* wanted one of"):
        trainer(other, resume=unbroken[1])


def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="training.json"):
        trainer(resume=tmp_path)


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_the_learning_rate_rises_to_the_peak_and_ends_at_its_share(schedule: str) -> None:
    decay_tokens = 256 * 20 if schedule == "wsd" else 0
    recipe = replace(RECIPE, tokens=256 * 100, schedule=schedule, warmup_tokens=256 * 10, decay_tokens=decay_tokens)
    rates = [learning_rate(recipe, step) for step in range(100)]
    assert rates[0] == pytest.approx(recipe.lr_peak / 10)
    assert max(rates) == rates[9] == recipe.lr_peak
    assert rates[-1] == pytest.approx(0.1 * recipe.lr_peak)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))


def test_wsd_stays_at_the_peak_until_it_decays() -> None:
    recipe = replace(RECIPE, tokens=256 * 100, schedule="wsd", warmup_tokens=256 * 10, decay_tokens=256 * 20)
    rates = [learning_rate(recipe, step) for step in range(100)]
    assert rates[10:80] == [recipe.lr_peak] * 70 and rates[80] < recipe.lr_peak


def test_one_trunk_serves_several_horizons() -> None:
    near = replace(RECIPE, tokens=256 * 100, schedule="wsd", warmup_tokens=256 * 10, decay_tokens=256 * 20)
    far = replace(near, tokens=256 * 400, decay_tokens=256 * 80)
    assert [learning_rate(near, step) for step in range(80)] == [learning_rate(far, step) for step in range(80)]


def test_the_weights_follow_the_seed() -> None:
    first, second = (trainer(replace(RUN, recipe=replace(RECIPE, seed=seed))) for seed in (0, 1))
    assert not torch.equal(first.model.wte.weight, second.model.wte.weight)
