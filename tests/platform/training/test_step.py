"""A step waits for nothing, fits its memory, and is compiled once."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ladder.models.errors import InputError
from ladder.models.sizes import parse_size
from ladder.platform.corpus.batches import batch_at
from ladder.platform.training import step as module
from ladder.platform.training.checkpoint import Snapshot
from ladder.platform.training.feed import BatchFeed
from ladder.platform.training.objective import StepLoss
from ladder.platform.training.step import TrainingStep
from ladder.platform.training.train import Metrics, Trainer
from ladder.platform.training.worker import Worker
from ladder.sweeps.words import Execution, Recipe, Run
from tests.platform.training.gang import run_gang

CPU = torch.device("cpu")
SIZE = parse_size("2x32h2", context=32, vocabulary=257)
RECIPE = Recipe(tokens=12 * 256, batch_tokens=256, lr_peak=3e-3, precision="fp32")
RUN = Run(size=SIZE, recipe=RECIPE, corpus="words", corpus_fingerprint="0")


class Stream:
    """Tokens in memory; `reads` are the places read from."""

    def __init__(self) -> None:
        self.tokens = np.random.default_rng(0).integers(0, 257, 20_000)
        self.n_tokens = len(self.tokens)
        self.reads: list[int] = []

    def read(self, start: int, n: int) -> np.ndarray:
        self.reads.append(start)
        return self.tokens[start : start + n]


def trainer(run: Run = RUN, **execution: object) -> Trainer:
    settings = Execution(**{"log_every_steps": 1, **execution})  # type: ignore[arg-type]
    return Trainer(run, settings, stream=Stream(), worker=Worker(device=CPU))


def losses(a_trainer: Trainer) -> list[float]:
    points: list[Metrics] = []
    a_trainer.train(log=points.append, save=lambda snapshot: None)
    return [point["train/loss"] for point in points]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Waits(TorchDispatchMode):
    """Counts the operations for which a host has to wait for its GPU, since their result is a number or a shape."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero", "item", "bincount")

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.overloadpacket.__name__
        if name.startswith(self.WAITS):
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


def test_between_points_of_the_curve_nothing_waits_for_the_device() -> None:
    waits = Waits()
    at_points: list[int] = []
    in_points: list[int] = []
    a_trainer = trainer(log_every_steps=4, micro_batch_tokens=64)

    def log(_: Metrics) -> None:
        in_points.append(waits.seen.total())

    update = a_trainer.engine.update

    def watched(lr: float) -> torch.Tensor:
        norm = update(lr)
        at_points.append(waits.seen.total())
        return norm

    a_trainer.engine.update = watched  # type: ignore[method-assign]
    with waits:
        a_trainer.train(log=log, save=lambda snapshot: None)
    assert len(at_points) == 12 and len(in_points) == 3
    assert in_points[0] > 0, "reading a point has to wait, or nothing was counted"
    for first in (0, 4, 8):
        assert len(set(at_points[first : first + 4])) == 1, "no step waited"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_a_gpu_no_step_waits_for_the_device() -> None:
    cuda = torch.device("cuda")
    run = replace(RUN, recipe=replace(RECIPE, precision="bf16"))
    engine = TrainingStep(run, Execution(), Worker(device=cuda))
    feed = BatchFeed(Stream(), run, range(run.batch_sequences), cuda)
    engine.start(feed.take(0))
    engine.gradients(feed.take(0))
    engine.update(1e-3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(1, 5):
            engine.gradients(feed.take(step))
            engine.update(1e-3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        feed.close()


def test_the_batch_of_the_next_step_is_read_while_this_one_is_computed() -> None:
    stream = Stream()
    feed = BatchFeed(stream, RUN, range(8), CPU)
    first = feed.take(0)
    feed._thread.submit(int).result()  # the reading thread has caught up
    assert len(stream.reads) == 16, "the whole share of this step and of the next"
    assert torch.equal(feed.take(1), expected(1)) and torch.equal(first, expected(0))
    assert torch.equal(feed.take(7), expected(7)), "another step than the one ahead is read when it is asked for"
    feed.close()


def expected(step: int) -> torch.Tensor:
    return torch.from_numpy(
        batch_at(Stream(), step=step, rows=range(8), batch_sequences=8, context=32, seed=RECIPE.seed)
    )


def test_what_reading_raises_reaches_the_loop() -> None:
    a_trainer = trainer()
    read = a_trainer.stream.read

    def fail_late(start: int, n: int) -> np.ndarray:
        if len(a_trainer.stream.reads) >= 24:  # type: ignore[attr-defined]
            raise OSError("the storage is gone")
        return read(start, n)

    a_trainer.stream.read = fail_late  # type: ignore[method-assign]
    with pytest.raises(OSError, match="the storage is gone"):
        a_trainer.train(log=lambda _: None, save=lambda snapshot: None)
    assert 1 <= a_trainer.step < 12


@pytest.mark.parametrize(("asked", "sequences"), [(32, 1), (64, 2), (3 * 32, 2), (7 * 32, 4), (10**6, 8)])
def test_the_micro_batch_divides_the_share(asked: int, sequences: int) -> None:
    assert trainer(micro_batch_tokens=asked).micro == sequences


class OutOfMemory:
    """StepLoss.forward that has no memory for more than some sequences."""

    def __init__(self, most: int) -> None:
        self.most, self.tried = most, list[int]()
        self.forward = StepLoss.forward

    def __call__(self, loss: StepLoss, batch: torch.Tensor) -> torch.Tensor:
        self.tried.append(len(batch))
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.forward(loss, batch)


def test_out_of_memory_halves_the_micro_batch_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unbroken = losses(trainer(micro_batch_tokens=2 * 32))
    small = OutOfMemory(2)
    monkeypatch.setattr(StepLoss, "forward", lambda loss, batch: small(loss, batch))
    a_trainer = trainer()
    key = a_trainer.run.key
    with caplog.at_level(logging.WARNING):
        assert losses(a_trainer) == unbroken, "bit for bit what the smaller micro-batch gives from the start"
    assert small.tried[:3] == [8, 4, 2] and set(small.tried[3:]) == {2}, "found once"
    assert a_trainer.micro == a_trainer.state.micro_batch_sequences == 2 and a_trainer.run.key == key
    assert "out of memory with 8 sequences at once; going on with 4" in caplog.text


def test_out_of_memory_in_the_middle_of_a_step_begins_its_batch_again(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trainer(micro_batch_tokens=2 * 32)
    batch = expected(0)
    whole.engine.start(batch)
    wanted = whole.engine.gradients(batch)
    forward, calls = StepLoss.forward, list[int]()

    def once(loss: StepLoss, part: torch.Tensor) -> torch.Tensor:
        calls.append(len(part))
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(loss, part)

    monkeypatch.setattr(StepLoss, "forward", once)
    broken = trainer(micro_batch_tokens=4 * 32)
    broken.engine.start(batch)
    assert broken.engine.gradients(batch) == wanted and calls == [4, 4, 2, 2, 2, 2]
    for got, other in zip(broken.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(got.grad, other.grad)  # type: ignore[arg-type]


def test_a_sequence_that_does_not_fit_is_the_user_s_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = OutOfMemory(0)
    monkeypatch.setattr(StepLoss, "forward", lambda loss, batch: nothing(loss, batch))
    with pytest.raises(InputError, match="one sequence of 32 tokens ran out of memory"):
        losses(trainer())


def test_out_of_memory_under_fsdp2_says_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers gather weights together, so that one of them cannot try again alone."""
    small = OutOfMemory(2)
    monkeypatch.setattr(StepLoss, "forward", lambda loss, batch: small(loss, batch))
    a_trainer = trainer()
    a_trainer.engine.strategy = "fsdp2"
    with pytest.raises(InputError, match="out of memory with 8 sequences at once.*--micro-batch-tokens"):
        losses(a_trainer)
    assert small.tried == [8]


def test_a_run_that_cannot_fit_is_told_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "memory_of", lambda device: (10**7, 10**7))
    monkeypatch.setattr(module, "GPT2", None)  # nothing is built
    with pytest.raises(InputError, match=r"2x32h2 does not fit .*GiB.*ladder sizes"):
        trainer()


def _rehearse(worker: Worker, out: Path) -> None:
    if not worker.first:
        small = OutOfMemory(2)
        StepLoss.forward = lambda loss, batch: small(loss, batch)  # type: ignore[method-assign,assignment]
    a_trainer = Trainer(RUN, Execution(log_every_steps=1), stream=Stream(), worker=worker)
    a_trainer.train(log=lambda _: None, save=lambda snapshot: None)
    (out / str(worker.rank)).write_text(str(a_trainer.micro))


def test_workers_agree_on_what_fits_the_smallest_of_them(tmp_path: Path) -> None:
    run_gang(_rehearse, 2, tmp_path, tmp_path)
    assert [(tmp_path / str(rank)).read_text() for rank in (0, 1)] == ["2", "2"]


@pytest.fixture
def counters() -> Iterator[Counter]:  # type: ignore[type-arg]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield torch._dynamo.utils.counters  # type: ignore[misc]
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_steps_with_evaluation_and_checkpoints_compile_at_most_two_graphs(
    counters: dict[str, Counter[str]],
) -> None:
    """With the real compiler, on batches whose share a micro-batch of the size asked for would not divide."""
    recipe = replace(RECIPE, tokens=100 * 256)
    run = replace(RUN, recipe=recipe, size=parse_size("1x32h2", context=32, vocabulary=257))
    compiled = trainer(run, compile=True, micro_batch_tokens=3 * 32, checkpoint_seconds=1e-9, log_every_steps=10)
    points: list[float] = []

    def evaluate(_: Snapshot) -> None:
        with torch.no_grad():
            StepLoss(compiled.model)(torch.zeros(5, 33, dtype=torch.int64))

    compiled.train(log=lambda point: points.append(point["train/loss"]), save=evaluate)
    assert 1 <= counters["stats"]["unique_graphs"] <= 2
    assert not counters["graph_break"], "the network is one graph"
    plain = trainer(run, micro_batch_tokens=3 * 32, log_every_steps=10)
    np.testing.assert_allclose(points, losses(plain), atol=1e-3)
