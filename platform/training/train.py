"""The training loop, in plain PyTorch: it knows nothing of Ray, of MLflow or of folders.

A step takes the batch of that step, which is a pure function of corpus, seed and step; splits it over the workers and
into micro-batches; sums nats and gradients; clips; and updates. What is logged is the sum of nats over the tokens of
the steps since the last point, divided by those tokens: never a mean of means.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist

from ladder.models.gpt2 import GPT2
from ladder.platform.corpus.batches import Tokens
from ladder.platform.hardware import peak_flops
from ladder.platform.training.checkpoint import Snapshot, TrainingState, load_checkpoint, read_state, take_snapshot
from ladder.platform.training.feed import BatchFeed
from ladder.platform.training.optimizer import learning_rate
from ladder.platform.training.step import TrainingStep
from ladder.platform.training.worker import Worker
from ladder.sweeps.trunks import Relative, stable_steps
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
        self,
        run: Run,
        execution: Execution,
        *,
        stream: Tokens,
        worker: Worker,
        resume: Path | None = None,
        relatives: Sequence[Relative] = (),
    ) -> None:
        """A trainer at the beginning of a run, or where the checkpoint in the folder `resume` stands, one of the run's
        or of a relative that began alike.

        The first worker alone has to see the checkpoint; the others get what is in it from the first.
        """
        self.run, self.execution, self.stream, self.worker = run, execution, stream, worker
        others = [relative.run for relative in relatives]
        saved = worker.from_first(read_state(resume, runs=(run.key, *others)) if resume else None)
        self.branch_steps = {stable_steps(run.recipe), *(relative.shared_steps for relative in relatives)} - {0}
        """Where relatives branch off, those of this sweep and longer ones that may come: checkpoints to keep."""
        self.engine = TrainingStep(
            run,
            execution,
            worker,
            micro=saved.micro_batch_sequences if saved else None,
            attention=saved.attention if saved else None,
        )
        self.precision, self.attention = self.engine.precision, self.engine.attention
        self.model: GPT2 = self.engine.model
        self.optimizer = self.engine.optimizer
        self.step, self.seconds_before, self.shared_steps = 0, 0.0, 0
        if saved:
            mine = saved.run == run.key
            self.step, self.shared_steps = saved.step, saved.shared_steps if mine else saved.step
            self.seconds_before = saved.seconds_training if mine else 0.0
            load_checkpoint(resume, self.model, self.optimizer, worker)
        self.pending_nats = saved.pending_nats if saved else []
        self.peak, self.peak_source = peak_flops(worker.device, self.precision)
        self.started = time.perf_counter()

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
            attention=self.attention.backend,
            pending_nats=self.pending_nats,
            shared_steps=self.shared_steps,
        )

    def snapshot(self) -> Snapshot | None:
        """A copy of all that a checkpoint holds, on the first worker; None on the others, which make the call too."""
        return take_snapshot(self.model, self.optimizer, self.state, keep=self.worker.first)

    def train(self, *, log: Callable[[Metrics], None], save: Callable[[Snapshot], None]) -> None:
        """Train to the end of the recipe; `log` gets a point of the curve, and `save`, on the first worker, a snapshot
        when a checkpoint is due and where other runs branch off.

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

    def _train(self, feed: BatchFeed, log: Callable[[Metrics], None], save: Callable[[Snapshot], None]) -> None:
        recipe = self.run.recipe
        meter = Meter(self.run, self.worker, self.peak, self.pending_nats)
        saved = self.started = time.perf_counter()
        while self.step < recipe.steps:
            nats = self.engine.gradients(feed.take(self.step))
            norm = self.engine.update(learning_rate(recipe, self.step))
            meter.add(nats, norm)
            self.step += 1
            due = self.step in self.branch_steps
            if self.step % self.execution.log_every_steps == 0 or self.step == recipe.steps:
                log(meter.read(self.step))  # here, and to save, the processor waits for the GPU; otherwise never
                late = time.perf_counter() - saved > self.execution.checkpoint_seconds
                due |= self.worker.from_first(late or self.step == recipe.steps)
            if due:
                self.pending_nats = meter.pending(self.step)
                snapshot = self.snapshot()
                if snapshot is not None:
                    save(snapshot)
                saved = time.perf_counter()


class Meter:
    """What happened since the last point of the curve, kept on the device until it is read."""

    def __init__(self, run: Run, worker: Worker, peak: float, pending_nats: Sequence[float] = ()) -> None:
        self.run, self.worker, self.peak = run, worker, peak
        self.nats = [torch.tensor(nats if worker.first else 0.0, device=worker.device) for nats in pending_nats]
        """Of each step since the last point, this worker's sum."""
        self.norms: list[torch.Tensor] = []
        """Of each step since the last point that was made in this process."""
        self.since = time.perf_counter()

    def add(self, nats: torch.Tensor, norm: torch.Tensor) -> None:
        """Note one step: its sum of nats on this worker and its gradient's norm before clipping."""
        self.nats.append(nats)
        self.norms.append(norm)

    def read(self, step: int) -> Metrics:
        """The point at `step`, steps done; empties the meter."""
        nats, norms = self._checked(step)
        recipe = self.run.recipe
        tokens = recipe.batch_tokens * len(self.nats)
        now = time.perf_counter()
        rate = recipe.batch_tokens * len(self.norms) / (now - self.since)
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

    def pending(self, step: int) -> list[float]:
        """The sums of nats since the last point, over all workers, for a checkpoint at `step`."""
        return [float(nats) for nats in self._checked(step)[0]] if self.nats else []

    def _checked(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Nats over all workers and norms of gradients, step by step; raises Diverged where one is not finite."""
        nats, norms = torch.stack(self.nats), torch.stack(self.norms)
        if self.worker.world_size > 1:
            dist.all_reduce(nats)
        for what, values in (("the loss", nats), ("the gradient", norms)):
            bad = (~torch.isfinite(values)).nonzero()
            if len(bad):
                raise Diverged(step - len(values) + int(bad[0]) + 1, what)
        return nats, norms
