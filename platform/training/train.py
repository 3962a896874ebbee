"""The training loop, in plain PyTorch: it knows nothing of Ray, of MLflow or of folders.

A step takes the batch of that step, which is a pure function of corpus, seed and step; splits it over the workers and
into micro-batches; sums nats and gradients; clips; and updates. What is logged is the sum of nats over the tokens of
the steps since the last point, divided by those tokens: never a mean of means.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from ladder.models.gpt2 import GPT2
from ladder.platform.corpus.batches import Tokens
from ladder.platform.hardware import peak_flops
from ladder.platform.training.checkpoint import TrainingState, load_checkpoint, make_optimizer_state, read_state
from ladder.platform.training.feed import BatchFeed
from ladder.platform.training.optimizer import learning_rate
from ladder.platform.training.step import TrainingStep
from ladder.platform.training.worker import Worker
from ladder.sweeps.words import Execution, Run

Metrics = dict[str, float]
"""One point of the curve: `step` and the metrics at it, by the names that MLflow gets."""


class Diverged(Exception):
    """The loss or the gradient is no longer a finite number."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"{what} is not finite at step {step}")


class Trainer:
    """A model on its way through a run: weights, optimizer and position."""

    def __init__(
        self, run: Run, execution: Execution, *, stream: Tokens, worker: Worker, resume: Path | None = None
    ) -> None:
        """A trainer at the beginning of a run, or where the checkpoint in the folder `resume` stands.

        The first worker alone has to see the checkpoint; the others get what is in it from the first.
        """
        self.run, self.execution, self.stream, self.worker = run, execution, stream, worker
        saved = worker.from_first(read_state(resume, run=run.key) if resume else None)
        self.engine = TrainingStep(run, execution, worker, micro=saved.micro_batch_sequences if saved else None)
        self.precision, self.attention = self.engine.precision, self.engine.attention
        self.model: GPT2 = self.engine.model
        self.optimizer = self.engine.optimizer
        self.step, self.seconds_before = 0, 0.0
        if saved:
            self.step, self.seconds_before = saved.step, saved.seconds_training
            self._load(resume)
        self.peak, self.peak_source = peak_flops(worker.device, self.precision)
        self.started = time.perf_counter()

    def _load(self, folder: Path | None) -> None:
        """Weights and optimizer of a checkpoint, read once by the first worker."""
        if folder is not None:
            load_checkpoint(folder, self.model, self.optimizer)
        if self.worker.world_size == 1:
            return
        tensors = make_optimizer_state(self.model, self.optimizer)
        torch.set_rng_state(self.worker.from_first(tensors.pop("random_state")))
        for tensor in (*self.model.state_dict().values(), *tensors.values()):
            dist.broadcast(tensor, src=0)

    @property
    def micro(self) -> int:
        """Sequences through the network at once on this worker."""
        return self.engine.micro

    @property
    def state(self) -> TrainingState:
        """Where training stands now."""
        return TrainingState(
            run=self.run.key,
            step=self.step,
            seconds_training=self.seconds_before + time.perf_counter() - self.started,
            precision=self.precision,
            micro_batch_sequences=self.micro,
        )

    def train(self, *, log: Callable[[Metrics], None], save: Callable[[], None]) -> None:
        """Train to the end of the recipe; `log` gets a point of the curve, `save` is called when a checkpoint is due.

        Raises Diverged at the first step whose loss or gradient is not finite; nothing is saved from then on.
        """
        recipe = self.run.recipe
        if self.step >= recipe.steps:
            return
        rows = range(self.worker.rank, self.run.batch_sequences, self.worker.world_size)
        feed = BatchFeed(self.stream, self.run, rows, self.worker.device)
        try:
            self.engine.start(feed.take(self.step))
            self._train(feed, log, save)
        finally:
            feed.close()

    def _train(self, feed: BatchFeed, log: Callable[[Metrics], None], save: Callable[[], None]) -> None:
        recipe = self.run.recipe
        meter = Meter(self.run, self.worker, self.peak)
        saved = self.started = time.perf_counter()
        while self.step < recipe.steps:
            nats = self.engine.gradients(feed.take(self.step))
            norm = self.engine.update(learning_rate(recipe, self.step))
            meter.add(nats, norm)
            self.step += 1
            if self.step % self.execution.log_every_steps and self.step < recipe.steps:
                continue
            log(meter.read(self.step))  # here, and only here, the processor waits for the GPU
            due = time.perf_counter() - saved > self.execution.checkpoint_seconds
            if self.worker.from_first(due or self.step == recipe.steps):
                save()
                saved = time.perf_counter()


class Meter:
    """What happened since the last point of the curve, kept on the device until it is read."""

    def __init__(self, run: Run, worker: Worker, peak: float) -> None:
        self.run, self.worker, self.peak = run, worker, peak
        self.nats: list[torch.Tensor] = []
        self.norms: list[torch.Tensor] = []
        self.since = time.perf_counter()

    def add(self, nats: torch.Tensor, norm: torch.Tensor) -> None:
        """Note one step: its sum of nats on this worker and its gradient's norm before clipping."""
        self.nats.append(nats)
        self.norms.append(norm)

    def read(self, step: int) -> Metrics:
        """The point at `step`, steps done; empties the meter."""
        nats, norms = torch.stack(self.nats), torch.stack(self.norms)
        if self.worker.world_size > 1:
            dist.all_reduce(nats)
        for what, values in (("the loss", nats), ("the gradient", norms)):
            bad = (~torch.isfinite(values)).nonzero()
            if len(bad):
                raise Diverged(step - len(values) + int(bad[0]) + 1, what)
        recipe = self.run.recipe
        tokens = recipe.batch_tokens * len(self.nats)
        now = time.perf_counter()
        rate = tokens / (now - self.since)
        self.nats, self.norms, self.since = [], [], now
        return {
            "step": step,
            "train/loss": float(nats.double().sum()) / tokens,
            "train/tokens": step * recipe.batch_tokens,
            "train/lr": learning_rate(recipe, step - 1),
            "train/grad_norm": float(norms[-1]),
            "train/tokens_per_second": rate,
            "train/mfu": rate * self.run.size.flops_per_token / (self.peak * self.worker.world_size),
        }
