"""The batches of a run, each built while the step before it is computed.

The batch at a step is a pure function of the step, so what is ahead is no state: after a restart the feed begins
wherever training does. On a GPU a batch is built in pinned memory and copied while the host goes on.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ladder.sweeps.words import Run

if TYPE_CHECKING:
    from ladder.platform.corpus.batches import Tokens

Build = Callable[[int], Any]
"""Makes this worker's share of the batch at a step on the host, pinned where a GPU will copy it."""


class Feed(Protocol):
    """Where batches come from."""

    def take(self, step: int) -> Any:
        """This worker's share of the batch at a step, on its device."""

    def close(self) -> None:
        """End whatever reads ahead."""


class ReadAhead:
    """A worker's share of every batch of a run, made one step ahead in a thread of its own."""

    def __init__(self, build: Build, steps: int, device: torch.device) -> None:
        self.build, self.steps, self.device = build, steps, device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead: tuple[int, Future[Any]] | None = None

    def take(self, step: int) -> Any:
        """The share of the batch at a step, on the device; begins to make the next one. Raises what making raised."""
        ahead = self._ahead if self._ahead is not None and self._ahead[0] == step else None
        batch = ahead[1].result() if ahead else self.build(step)
        if step + 1 < self.steps:
            self._ahead = step + 1, self._thread.submit(self.build, step + 1)
        return batch.to(self.device, non_blocking=True)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)


class BatchFeed(ReadAhead):
    """Windows of a stream of tokens, int64 [share, context + 1]."""

    def __init__(self, stream: "Tokens", run: Run, rows: range, device: torch.device) -> None:
        """`rows` are the worker's rows of the whole batch."""
        self.stream, self.run, self.rows = stream, run, rows
        super().__init__(self._build, run.recipe.steps, device)

    def _build(self, step: int) -> torch.Tensor:
        from ladder.platform.corpus.batches import batch_at  # it needs numpy, and the engine nothing but torch

        batch = torch.from_numpy(
            batch_at(
                self.stream,
                step=step,
                rows=self.rows,
                batch_sequences=self.run.batch_sequences,
                context=self.run.size.context,
                seed=self.run.recipe.seed,
            )
        )  # [share, context + 1]
        return batch.pin_memory() if self.device.type == "cuda" else batch
