"""Strategies, numbers of workers and activation checkpointing are execution: they change no loss and no weight."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ladder.models.sizes import parse_size
from ladder.platform.runs.checkpoints import MARK
from ladder.platform.training.checkpoint import Snapshot, write_checkpoint
from ladder.platform.training.train import Metrics, Trainer
from ladder.platform.training.worker import Worker
from ladder.sweeps.words import Execution, Recipe, Run, Strategy
from tests.platform.training.gang import run_gang
from tests.platform.training.test_train import Stream

pytestmark = pytest.mark.timeout(600)  # nearly all of it is seven processes that start

STEPS, HALF, SEQUENCES = 6, 3, 8
SIZE = parse_size("2x32", context=32, vocabulary=257)
RECIPE = Recipe(
    tokens=STEPS * SEQUENCES * 32, batch_tokens=SEQUENCES * 32, lr_peak=3e-3, clip_norm=0.5, precision="fp32"
)
RUN = Run(size=SIZE, recipe=RECIPE, corpus="words", corpus_fingerprint="0")
STRATEGIES: tuple[Strategy, ...] = ("ddp", "fsdp2")
FOUR = pytest.param(4, marks=pytest.mark.slow)
WAYS = tuple(product(STRATEGIES, (False, True)))
"""Strategies with and without activation checkpointing."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training, or a half of it, and the folder for what it leaves."""

    folder: Path
    strategy: Strategy
    activation_checkpointing: bool = False
    resume: Path | None = None
    precision: str = "fp32"
    clip_norm: float = RECIPE.clip_norm
    compile: bool = False


def make_trainer(case: Case, worker: Worker) -> Trainer:
    """With two micro-batches a step, whatever the number of workers."""
    execution = Execution(
        workers=worker.world_size,
        strategy=case.strategy,
        activation_checkpointing=case.activation_checkpointing,
        micro_batch_tokens=SEQUENCES // worker.world_size // 2 * 32,
        log_every_steps=1,
        checkpoint_seconds=1e9,
        compile=case.compile,
    )
    recipe = replace(RECIPE, precision=case.precision, clip_norm=case.clip_norm)  # type: ignore[arg-type]
    run = replace(RUN, recipe=recipe)
    return Trainer(run, execution, stream=Stream(), worker=worker, resume=case.resume if worker.first else None)


def save(snapshot: Snapshot | None, folder: Path) -> None:
    if snapshot is not None:
        (folder / MARK).write_text(json.dumps(write_checkpoint(folder, snapshot, tokenizer="bytes")))


def train(case: Case, worker: Worker) -> None:
    """Train to the end; the first worker leaves losses, and what is in the checkpoints in the middle and at the end."""
    trainer = make_trainer(case, worker)
    trainer.branch_steps = {HALF}
    losses: list[float] = []
    norms: list[float] = []
    for name in ("middle", "end"):
        (case.folder / name).mkdir(parents=True, exist_ok=True)

    def keep(snapshot: Snapshot) -> None:
        save(snapshot, case.folder / ("middle" if snapshot.state.step == HALF else "end"))

    def log(point: Metrics) -> None:
        losses.append(point["train/loss"])
        norms.append(point["train/grad_norm"])

    reductions = Reductions()
    with nullcontext() if case.compile else reductions:  # what is dispatched one by one is not compiled
        trainer.train(log=log, save=keep)
    held = sum(local(t).numel() for group in trainer.optimizer.state.values() for t in group.values() if t.dim())
    left = {"losses": losses, "norms": norms, "reductions": reductions.count, "moments_held": held}
    (case.folder / f"{worker.rank}.json").write_text(json.dumps(left))


def local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class Reductions(TorchDispatchMode):
    """Counts the messages in which gradients are summed over the workers; those of a few numbers are something else."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d" and "reduce" in func.name():
            self.count += sum(t.numel() for t in tree_leaves(args) if isinstance(t, torch.Tensor)) > 32
        return func(*args, **(kwargs or {}))


def _train_cases(worker: Worker, cases: list[Case]) -> None:
    torch.compile = partial(torch.compile, backend="aot_eager", fullgraph=True)  # type: ignore[assignment]
    for case in cases:
        train(case, worker)


def train_all(cases: list[Case], workers: int, folder: Path) -> None:
    """Train the cases with a number of processes."""
    if workers > 1:
        run_gang(_train_cases, workers, folder, cases)
        return
    for case in cases:
        train(case, Worker(device=torch.device("cpu")))


def folder_of(folder: Path, workers: int, strategy: str, activation_checkpointing: bool) -> Path:
    return folder / f"{workers}-{strategy}-{activation_checkpointing}"


def cases_of(folder: Path, workers: int) -> list[Case]:
    """What a number of workers train; two of them first, since 1 and 4 go on from what two saved."""
    cases = [
        Case(folder=folder_of(folder, workers, *way), strategy=way[0], activation_checkpointing=way[1]) for way in WAYS
    ]
    for strategy, other in product(STRATEGIES, STRATEGIES) if workers != 2 else ():
        name, saved = f"{workers}-{strategy}-from-{other}", folder_of(folder, 2, other, False) / "middle"
        cases.append(Case(folder=folder / name, strategy=strategy, activation_checkpointing=False, resume=saved))
    if workers == 2:
        plain = Case(folder=folder / "bf16-ddp", strategy="ddp", precision="bf16", clip_norm=1e3)
        cases += [plain, replace(plain, folder=folder / "bf16-fsdp2", strategy="fsdp2", activation_checkpointing=True)]
        blocks = Case(folder=folder / "compiled-False", strategy="fsdp2", compile=True)
        cases += [blocks, replace(blocks, folder=folder / "compiled-True", activation_checkpointing=True)]
    return cases


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of what all ways leave with some numbers of workers, trained at the first call."""
    torch.set_num_threads(1)
    folder, done = tmp_path_factory.mktemp("parallel"), set[int]()

    def by(*numbers: int) -> Path:
        for workers in (2, *numbers):
            if workers not in done:
                train_all(cases_of(folder, workers), workers, folder)
                done.add(workers)
        return folder

    return by


def left_by(folder: Path, rank: int = 0) -> dict[str, list[float]]:
    left: dict[str, list[float]] = json.loads((folder / f"{rank}.json").read_text())
    return left


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "end" / "model.safetensors")


def assert_same(folder: Path, other: Path, *, steps: slice = slice(None), weights: float = 1e-4) -> None:
    """Losses to 1e-3 and weights to 1e-4."""
    np.testing.assert_allclose(left_by(folder)["losses"], left_by(other)["losses"][steps], atol=1e-3)
    one, two = weights_of(folder), weights_of(other)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=weights, err_msg=name)


@pytest.mark.parametrize(("strategy", "activation_checkpointing"), WAYS)
@pytest.mark.parametrize("workers", [1, 2, FOUR])
def test_all_ways_come_to_the_same_losses_and_weights(
    trained: Callable[..., Path], workers: int, strategy: str, activation_checkpointing: bool
) -> None:
    folder = trained(1, workers)
    reference = folder_of(folder, 1, "ddp", False)
    way = folder_of(folder, workers, strategy, activation_checkpointing)
    assert_same(way, reference)
    np.testing.assert_allclose(left_by(way)["norms"], left_by(reference)["norms"], rtol=1e-4)
    assert left_by(reference)["losses"][-1] < left_by(reference)["losses"][0] - 0.1
    assert all(left_by(way, rank)["losses"] == left_by(way)["losses"] for rank in range(workers))


@pytest.mark.parametrize("saved", STRATEGIES)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("workers", [1, FOUR])
def test_what_two_workers_saved_goes_on_with_one_and_four_under_either_strategy(
    trained: Callable[..., Path], workers: int, strategy: str, saved: str
) -> None:
    folder = trained(1, workers)
    went_on = folder / f"{workers}-{strategy}-from-{saved}"
    assert len(left_by(went_on)["losses"]) == STEPS - HALF
    assert_same(went_on, folder_of(folder, 1, "ddp", False), steps=slice(HALF, None))


def test_a_checkpoint_does_not_tell_how_it_was_trained(trained: Callable[..., Path]) -> None:
    folder = trained(1)
    shapes = [
        {
            path.name: {name: (tensor.dtype, tensor.shape) for name, tensor in load_file(path).items()}
            for path in (folder_of(folder, workers, *way) / "middle").glob("*.safetensors")
        }
        for workers, way in product((1, 2), WAYS)
    ]
    assert shapes[0] and all(shape == shapes[0] for shape in shapes)


@pytest.mark.parametrize(("strategy", "messages"), [("ddp", 1), ("fsdp2", 1 + SIZE.n_layer)])
def test_gradients_go_over_the_wire_once_a_step(trained: Callable[..., Path], strategy: str, messages: int) -> None:
    """One message of each group of parameters, though a step has two micro-batches."""
    for activation_checkpointing in (False, True):
        left = left_by(folder_of(trained(2), 2, strategy, activation_checkpointing))
        assert left["reductions"] == STEPS * messages  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("workers", [2, FOUR])
def test_under_fsdp2_each_worker_holds_its_share_of_the_moments(trained: Callable[..., Path], workers: int) -> None:
    folder = trained(1, workers)
    held = [left_by(folder_of(folder, workers, "fsdp2", False), rank)["moments_held"] for rank in range(workers)]
    everything = left_by(folder_of(folder, 1, "ddp", False))["moments_held"]
    assert sum(held) == everything  # type: ignore[arg-type]
    assert max(held) < 1.1 * everything / workers  # type: ignore[operator,type-var]


def test_in_bf16_gathered_matrices_round_as_autocast_does(trained: Callable[..., Path]) -> None:
    """Bit for bit, where no gradient is clipped: their norm is summed in another order."""
    shared_out, whole = trained(2) / "bf16-fsdp2", trained(2) / "bf16-ddp"
    one, two = weights_of(shared_out), weights_of(whole)
    assert left_by(shared_out)["losses"] == left_by(whole)["losses"]
    assert all(torch.equal(one[name], two[name]) for name in two)


@pytest.mark.parametrize("activation_checkpointing", [False, True])
def test_under_fsdp2_each_block_compiles_into_one_graph_that_trains_alike(
    trained: Callable[..., Path], activation_checkpointing: bool
) -> None:
    folder = trained(1)
    assert_same(folder / f"compiled-{activation_checkpointing}", folder_of(folder, 1, "ddp", False))
