"""One optimizer step of a run: the network, its loss and its optimizer, over a batch cut into micro-batches.

All that a step needs is PyTorch, so that its speed can be measured on a bare machine. Nothing in it waits for the
device: sums and norms stay there until somebody reads them.
"""

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import nn

from ladder.models.attention import choose_backend
from ladder.models.attention_choice import AttentionChoice, AttentionShape, choose_attention
from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.loss import next_token_nats
from ladder.models.memory import Training, largest_divisor
from ladder.platform.hardware import resolve_precision
from ladder.platform.training.optimizer import build_optimizer, set_learning_rate
from ladder.platform.training.parallel import clip_gradients, replicate, shard, synchronised
from ladder.platform.training.strategy import check_sharing, least_bytes, plan_training
from ladder.platform.training.worker import Worker
from ladder.sweeps.words import Execution, Run

logger = logging.getLogger(__name__)


class StepLoss(nn.Module):
    """The network and its loss as one module, so that data parallelism sees one forward pass."""

    def __init__(self, model: GPT2) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Sum of nats of the batch's next tokens; `batch` is [B, T + 1] int64."""
        return next_token_nats(self.model.hidden(batch[:, :-1]), self.model.wte.weight, batch[:, 1:])


class TrainingStep:
    """A model with its optimizer, and what one step does to them."""

    def __init__(
        self, run: Run, execution: Execution, worker: Worker, *, micro: int | None = None, attention: str | None = None
    ) -> None:
        """At the initial weights. `micro`, in sequences, and `attention` are a checkpoint's; None: found now.

        Raises InputError where not even one sequence fits, or the attention asked for cannot run here.
        """
        self.run, self.worker = run, worker
        self.precision = resolve_precision(run.recipe.precision, worker.device)
        self.share = len(range(worker.rank, run.batch_sequences, worker.world_size))
        training = worker.from_first(plan_here(run, execution, worker, self.precision, micro))
        self.strategy, self.activation_checkpointing = training.strategy, training.checkpointing
        self.micro = largest_divisor(self.share, training.sequences)
        self.attention = self._choose_attention(execution, attention)
        self.model = GPT2(
            run.size,
            attention=self.attention.backend,
            seed=run.recipe.seed,
            base=run.recipe.base_shape,
            activation_checkpointing=self.activation_checkpointing,
        )
        self.compile = execution.compile
        self.loss = StepLoss(self.model)
        if self.strategy == "fsdp2":
            shard(self.loss, self.model, worker, precision=self.precision, compiled=self.compile)
        else:
            self.loss.to(worker.device)
        self.optimizer = build_optimizer(self.model, run.recipe)
        self.network: nn.Module | None = None

    def _choose_attention(self, execution: Execution, before: str | None) -> AttentionChoice:
        """The first worker's choice, which the others make ready to use."""
        device, dtype = self.worker.device, torch.bfloat16 if self.precision == "bf16" else torch.float32
        shape = AttentionShape.of(self.run.size, self.micro)
        first = None
        if self.worker.first:
            first = choose_attention(execution.attention, shape, device, dtype, before=before)
        choice = self.worker.from_first(first)
        assert choice is not None, "the first worker has chosen"
        choose_backend(choice.backend, device, dtype, width=shape.width)
        return choice

    def start(self, batch: torch.Tensor) -> None:
        """Make ready to train, once the weights are those to start from; `batch` is one of those that will come."""
        network: nn.Module = self.loss
        if self.strategy == "ddp":
            if self.compile:
                network = torch.compile(self.loss, dynamic=False)  # type: ignore[assignment]
            network = replicate(network, self.worker)
        self.network = network
        if self.strategy == "ddp" and self.worker.world_size > 1:
            self._rehearse(batch)

    def _rehearse(self, batch: torch.Tensor) -> None:
        """Make sure that a micro-batch fits on all workers: one that ran out of memory later would leave the others
        waiting for its gradients."""
        while True:
            try:
                self._backward(batch[: self.micro], last=False)
                fits = True
            except torch.OutOfMemoryError:
                fits = False
            self.model.zero_grad()
            agreed = torch.tensor(int(fits), device=self.worker.device)
            dist.all_reduce(agreed, dist.ReduceOp.MIN)
            if agreed.item():
                return
            self._halve()

    def gradients(self, batch: torch.Tensor) -> torch.Tensor:
        """Gradients of this worker's share of the batch, [share, T + 1], summed over micro-batches; returns its sum of
        nats. Where memory runs out the micro-batch is halved and the share begun again."""
        while True:
            total = torch.zeros((), device=batch.device)
            try:
                for first in range(0, len(batch), self.micro):
                    last = first + self.micro >= len(batch)
                    total += self._backward(batch[first : first + self.micro], last=last)
                return total
            except torch.OutOfMemoryError:
                if self.strategy == "fsdp2":
                    raise InputError(
                        f"{self.run.size.name} ran out of memory with {self.micro} sequences at once and its weights "
                        f"shared out over {self.worker.world_size} workers. Ask for fewer with --micro-batch-tokens, "
                        "for --activation-checkpointing or for more workers."
                    ) from None
                if self.worker.world_size > 1:
                    raise  # the others are waiting in a collective: the lane starts all of them again
            self._halve()

    def _backward(self, batch: torch.Tensor, *, last: bool) -> torch.Tensor:
        """Adds the gradients of a micro-batch; workers exchange theirs at the last one only. Returns its nats."""
        assert self.network is not None, "start() comes first"
        with synchronised(self.network, last), autocast(self.worker.device, self.precision):
            nats: torch.Tensor = self.network(batch)
            # Data parallelism averages gradients over the workers; the mean over the tokens of the batch is meant.
            (nats * (self.worker.world_size / self.run.recipe.batch_tokens)).backward()  # type: ignore[no-untyped-call]
        return nats.detach()

    def _halve(self) -> None:
        """Half the micro-batch, or less if half does not divide the share. Raises InputError at one sequence."""
        if self.micro == 1:
            raise InputError(
                f"{self.run.size.name} does not fit {_device_name(self.worker.device)}: one sequence of "
                f"{self.run.size.context} tokens ran out of memory. Train it on a device with more."
            )
        self.model.zero_grad()
        if self.worker.device.type == "cuda":
            torch.cuda.empty_cache()
        before, self.micro = self.micro, largest_divisor(self.share, self.micro // 2)
        logger.warning("out of memory with %d sequences at once; going on with %d", before, self.micro)

    def update(self, lr: float) -> torch.Tensor:
        """Clip and apply the gradients; returns their norm before clipping."""
        set_learning_rate(self.optimizer, lr)
        norm = clip_gradients(self.model.parameters(), self.run.recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm


def plan_here(run: Run, execution: Execution, worker: Worker, precision: str, saved: int | None) -> Training:
    """How a run is trained on this worker's device, by the memory that it has; see `plan_training`.

    Raises InputError where the prediction of ladder.models.memory says that not even one sequence fits the device.
    """
    free, total = memory_of(worker.device)
    if worker.device.type == "cuda":  # a part of a GPU has that part of its memory
        total = int(total * (execution.gpus_per_worker or 1.0))
    training = plan_training(
        run,
        replace(execution, workers=worker.world_size),
        precision=precision,
        device=worker.device.type,
        memory_bytes=total,
        free_bytes=min(free, total),
        saved=saved,
    )
    needed = least_bytes(run, training)
    if needed > total:
        raise InputError(
            f"{run.size.name} does not fit {_device_name(worker.device)}: training one sequence of {run.size.context} "
            f"tokens at a time takes {needed / 2**30:,.1f} GiB with {training.strategy} on {worker.world_size} workers "
            f"and there are {total / 2**30:,.1f}. Train it on a device with more, share it out over more workers with "
            "--strategy fsdp2, or train a smaller size; `ladder sizes` shows what each takes."
        )
    check_sharing(run, training.strategy, worker.world_size)
    return training


def memory_of(device: torch.device) -> tuple[int, int]:
    """Bytes of a device's memory: free, and in all; of a processor what the machine has, for both."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total, total


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "this machine's memory"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Where matrix products are in a precision."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
