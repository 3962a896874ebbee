"""The training loop, in plain PyTorch: it knows nothing of Ray, of MLflow or of folders.

A step takes the batch of that step, which is a pure function of corpus, seed and step; splits it over the workers and
into micro-batches; sums nats and gradients; clips; and updates. What is logged is the sum of nats over the tokens of
the steps since the last point, divided by those tokens: never a mean of means.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ladder.models.attention import choose_backend
from ladder.models.gpt2 import GPT2
from ladder.models.loss import next_token_nats
from ladder.platform.corpus.batches import Tokens, batch_at
from ladder.platform.hardware import peak_flops, resolve_precision
from ladder.platform.training.checkpoint import TrainingState, load_checkpoint, read_state
from ladder.platform.training.microbatch import micro_batch_sequences
from ladder.platform.training.optimizer import build_optimizer, set_learning_rate
from ladder.platform.training.place import Place
from ladder.platform.training.schedule import learning_rate
from ladder.sweeps.words import Execution, Run

Point = dict[str, float]
"""One point of the curve: `step` and the metrics at it, by the names that MLflow gets."""


class Diverged(Exception):
    """The loss or the gradient is no longer a finite number."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"{what} is not finite at step {step}")


class StepLoss(nn.Module):
    """The network and its loss as one module, so that data parallelism sees one forward pass."""

    def __init__(self, model: GPT2) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Sum of nats of the batch's next tokens; `batch` is [B, T + 1] int64."""
        return next_token_nats(self.model.hidden(batch[:, :-1]), self.model.wte.weight, batch[:, 1:])


class Trainer:
    """A model on its way through a run: weights, optimizer and position."""

    def __init__(self, run: Run, execution: Execution, *, stream: Tokens, place: Place, resume: Path | None) -> None:
        self.run, self.execution, self.stream, self.place = run, execution, stream, place
        wanted = read_state(resume).precision if resume else run.recipe.precision
        self.precision = resolve_precision(wanted, place.device)
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self.attention, _ = choose_backend(execution.attention, place.device, dtype)
        self.model = GPT2(run.size, attention=self.attention, seed=run.recipe.seed).to(place.device)
        self.optimizer = build_optimizer(self.model, run.recipe)
        self.step, self.seconds_before = 0, 0.0
        if resume:
            state = load_checkpoint(resume, self.model, self.optimizer, run=run.key)
            self.step, self.seconds_before = state.step, state.seconds_training
        self.peak, self.peak_source = peak_flops(place.device, self.precision)
        self.rows = range(place.rank, run.batch_sequences, place.world)  # of the global batch, this worker's
        self.micro = micro_batch_sequences(run, execution, place)
        self.loss = _parallel(StepLoss(self.model), execution, place)
        self.started = time.perf_counter()

    @property
    def state(self) -> TrainingState:
        """Where training stands now."""
        return TrainingState(
            run=self.run.key,
            step=self.step,
            seconds_training=self.seconds_before + time.perf_counter() - self.started,
            precision=self.precision,
        )

    def train(self, *, log: Callable[[Point], None], save: Callable[[], None]) -> None:
        """Train to the end of the recipe; `log` gets a point of the curve, `save` is called when a checkpoint is due.

        Raises Diverged at the first step whose loss or gradient is not finite; nothing is saved from then on.
        """
        recipe = self.run.recipe
        meter = Meter(self.run, self.place, self.peak)
        saved = self.started = time.perf_counter()
        while self.step < recipe.steps:
            set_learning_rate(self.optimizer, learning_rate(recipe, self.step))
            nats = self._accumulate()
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            meter.add(nats, norm)
            self.step += 1
            if self.step % self.execution.log_every_steps and self.step < recipe.steps:
                continue
            log(meter.read(self.step))  # here, and only here, the processor waits for the GPU
            due = time.perf_counter() - saved > self.execution.checkpoint_seconds
            if _agreed(due or self.step == recipe.steps, self.place):
                save()
                saved = time.perf_counter()

    def _accumulate(self) -> torch.Tensor:
        """Gradients of this step's batch, summed over micro-batches; returns this worker's sum of nats."""
        recipe, size = self.run.recipe, self.run.size
        total = torch.zeros((), device=self.place.device)
        for first in range(0, len(self.rows), self.micro):
            tokens = torch.from_numpy(
                batch_at(
                    self.stream,
                    step=self.step,
                    rows=self.rows[first : first + self.micro],
                    batch_sequences=self.run.batch_sequences,
                    context=size.context,
                    seed=recipe.seed,
                )
            )  # [micro-batch, context + 1]
            last = first + self.micro >= len(self.rows)
            with _synchronised(self.loss, last), _autocast(self.place.device, self.precision):
                nats = self.loss(tokens.to(self.place.device, non_blocking=True))
                # Data parallelism averages gradients over the workers; the mean over the tokens of the batch is meant.
                (nats * (self.place.world / recipe.batch_tokens)).backward()
            total += nats.detach()
        return total


class Meter:
    """What happened since the last point of the curve, kept on the device until it is read."""

    def __init__(self, run: Run, place: Place, peak: float) -> None:
        self.run, self.place, self.peak = run, place, peak
        self.nats: list[torch.Tensor] = []
        self.norms: list[torch.Tensor] = []
        self.since = time.perf_counter()

    def add(self, nats: torch.Tensor, norm: torch.Tensor) -> None:
        """Note one step: its sum of nats on this worker and its gradient's norm before clipping."""
        self.nats.append(nats)
        self.norms.append(norm)

    def read(self, step: int) -> Point:
        """The point at `step`, steps done; empties the meter."""
        nats, norms = torch.stack(self.nats), torch.stack(self.norms)
        if self.place.world > 1:
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
            "train/mfu": rate * self.run.size.flops_per_token / (self.peak * self.place.world),
        }


def _parallel(loss: StepLoss, execution: Execution, place: Place) -> nn.Module:
    network: nn.Module = loss
    if execution.compile:
        network = torch.compile(network)  # type: ignore[assignment]
    if place.world == 1:
        return network
    devices = [place.device] if place.device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=devices, gradient_as_bucket_view=True)


def _synchronised(network: nn.Module, last: bool) -> AbstractContextManager[object]:
    """Workers exchange gradients at the last micro-batch only."""
    if isinstance(network, DistributedDataParallel) and not last:
        return network.no_sync()
    return nullcontext()


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def _agreed(due: bool, place: Place) -> bool:
    """Rank 0's word on whether a checkpoint is due, the clocks of the workers being their own."""
    if place.world == 1:
        return due
    flag = torch.tensor([due], dtype=torch.uint8, device=place.device)
    dist.broadcast(flag, src=0)
    return bool(flag.item())
