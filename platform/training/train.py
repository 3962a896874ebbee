"""The training loop, in plain PyTorch: it knows nothing of Ray, of MLflow or of folders.

A step takes the batch of that step, which is a pure function of corpus, seed and step; splits it over the workers and
into micro-batches; sums nats and gradients; clips; and updates. What is logged is the sum of nats over the tokens of
the steps since the last point, divided by those tokens: never a mean of means.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from ladder.models.attention import choose_backend
from ladder.models.gpt2 import GPT2
from ladder.models.loss import next_token_nats
from ladder.platform.corpus.batches import Tokens, batch_at
from ladder.platform.hardware import peak_flops, resolve_precision
from ladder.platform.training.checkpoint import Snapshot, TrainingState, load_checkpoint, read_state, take_snapshot
from ladder.platform.training.optimizer import build_optimizer, learning_rate, set_learning_rate
from ladder.platform.training.parallel import clip_gradients, replicate, shard, synchronised
from ladder.platform.training.worker import Worker
from ladder.sweeps.trunks import Relative, stable_steps
from ladder.sweeps.words import Execution, Run

Metrics = dict[str, float]
"""One point of the curve: `step` and the metrics at it, by the names that MLflow gets."""

CPU_TOKENS = 8192
"""On a processor, larger micro-batches only leave its caches."""
GPU_MEMORY_SHARE = 0.6
"""Of the free memory, for activations; the rest is room for gradients, the optimizer and fragmentation."""


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
        keys = (run.key, *(relative.run for relative in relatives))
        saved = worker.from_first(read_state(resume, runs=keys) if resume else None)
        self.branch_steps = {stable_steps(run.recipe), *(relative.shared_steps for relative in relatives)} - {0}
        """Where relatives branch off, those of this sweep and longer ones that may come: checkpoints to keep."""
        self.precision = resolve_precision(run.recipe.precision, worker.device)
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self.attention, _ = choose_backend(execution.attention, worker.device, dtype)
        self.strategy = "fsdp2" if execution.strategy == "fsdp2" and worker.world_size > 1 else "ddp"
        self.activation_checkpointing = bool(execution.activation_checkpointing)
        self.model = GPT2(
            run.size,
            attention=self.attention,
            seed=run.recipe.seed,
            activation_checkpointing=self.activation_checkpointing,
        )
        self.loss = self._distributed(StepLoss(self.model))
        self.optimizer = build_optimizer(self.model, run.recipe)
        self.step, self.seconds_before, self.shared_steps = 0, 0.0, 0
        if saved:
            mine = saved.run == run.key
            self.step, self.shared_steps = saved.step, saved.shared_steps if mine else saved.step
            self.seconds_before = saved.seconds_training if mine else 0.0
            load_checkpoint(resume, self.model, self.optimizer, worker)
        self.pending_nats = saved.pending_nats if saved else []
        self.peak, self.peak_source = peak_flops(worker.device, self.precision)
        self.rows = range(worker.rank, run.batch_sequences, worker.world_size)  # of the global batch, this worker's
        self.micro = worker.from_first(
            _micro_batch_sequences(run, execution, worker, saved.micro_batch_sequences if saved else None)
        )
        self.started = time.perf_counter()

    def _distributed(self, loss: "StepLoss") -> nn.Module:
        """The loss as this worker runs it, on its device: whole, or sharing its parameters with the other workers."""
        if self.strategy == "fsdp2":
            compiled = self.execution.compile
            shard(loss, self.model, self.worker, precision=self.precision, compiled=compiled)
            return loss
        network: nn.Module = loss.to(self.worker.device)
        if self.execution.compile:
            network = torch.compile(network)  # type: ignore[assignment]
        return replicate(network, self.worker)

    @property
    def state(self) -> TrainingState:
        """Where training stands now."""
        return TrainingState(
            run=self.run.key,
            step=self.step,
            seconds_training=self.seconds_before + time.perf_counter() - self.started,
            precision=self.precision,
            micro_batch_sequences=self.micro,
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
        meter = Meter(self.run, self.worker, self.peak, self.pending_nats)
        saved = self.started = time.perf_counter()
        while self.step < recipe.steps:
            set_learning_rate(self.optimizer, learning_rate(recipe, self.step))
            nats = self._accumulate()
            norm = clip_gradients(self.model.parameters(), recipe.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
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

    def _accumulate(self) -> torch.Tensor:
        """Gradients of this step's batch, summed over micro-batches; returns this worker's sum of nats."""
        recipe, size = self.run.recipe, self.run.size
        total = torch.zeros((), device=self.worker.device)
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
            with synchronised(self.loss, last), _autocast(self.worker.device, self.precision):
                nats = self.loss(tokens.to(self.worker.device, non_blocking=True))
                # Data parallelism averages gradients over the workers; the mean over the tokens of the batch is meant.
                (nats * (self.worker.world_size / recipe.batch_tokens)).backward()
            total += nats.detach()
        return total


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


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def _micro_batch_sequences(run: Run, execution: Execution, worker: Worker, saved: int | None) -> int:
    """Sequences through the network at once: as asked for, as the checkpoint has it, or as many as fit, in this order;
    how many fit depends on the memory that happens to be free, and other sums round differently."""
    share = -(-run.batch_sequences // worker.world_size)
    if execution.micro_batch_tokens is None and saved is not None:
        return min(share, saved)
    tokens = execution.micro_batch_tokens or _fitting_tokens(run, worker.device)
    return max(1, min(share, tokens // run.size.context))


def _fitting_tokens(run: Run, device: torch.device) -> int:
    if device.type != "cuda":
        return CPU_TOKENS
    # Activations kept for the backward pass are about 34 bytes a layer, channel and token in 16 bits (Korthikanti et
    # al. 2022, eq. 2, without the attention scores that memory-efficient attention does not keep).
    bytes_per_token = 34 * run.size.n_layer * run.size.d_model
    free, _ = torch.cuda.mem_get_info(device)
    return int(GPU_MEMORY_SHARE * max(0, free - run.size.training_bytes)) // bytes_per_token
