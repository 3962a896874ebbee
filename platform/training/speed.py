"""How fast a size trains on the processor at hand: real training steps on random tokens, with PyTorch alone."""

import resource
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ladder.models.memory import Training, peak_bytes
from ladder.models.sizes import Size
from ladder.platform.hardware import matrix_rate, peak_flops
from ladder.platform.training.step import TrainingStep
from ladder.platform.training.worker import Worker
from ladder.sweeps.words import Execution, Precision, Recipe, Run

WARM_UP_STEPS = 3
"""Steps that allocate, and compile where asked to."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What one size reached."""

    size: str
    """Name of the size."""
    device: str
    """Name of the processor."""
    precision: str
    """bf16 or fp32."""
    attention: str
    """Attention back end."""
    operator: str
    """The attention kernel that it dispatched to."""
    compiled: bool
    """Whether the network went through torch.compile."""
    tokens_per_second: float
    """Median over the measured steps."""
    mfu: float
    """FLOPs of those tokens (with attention and head) as a share of the peak rate of matrix products."""
    peak_source: str
    """Where the peak rate is from."""
    matrix_share: float
    """The same FLOPs as a share of the rate of matrix products measured here."""
    peak_memory_bytes: int
    """Largest memory: allocated by PyTorch on a GPU, resident in this process on a CPU."""
    predicted_memory_bytes: int
    """What ladder.models.memory predicts, without what the process takes before there is a model."""
    batch_sequences: int
    """Sequences of a step."""
    micro_batch_sequences: int
    """Sequences through the network at once."""

    def to_json(self) -> dict[str, Any]:
        """JSON's own types."""
        return asdict(self)


class BareLoop:
    """Training steps of a size on random tokens, without Ray, files or a log."""

    def __init__(
        self, size: Size, *, batch_sequences: int, precision: Precision, execution: Execution, device: torch.device
    ) -> None:
        batch = batch_sequences * size.context
        recipe = Recipe(tokens=batch, batch_tokens=batch, lr_peak=1e-4, precision=precision)
        run = Run(size=size, recipe=recipe, corpus="random tokens", corpus_fingerprint=None)
        self.size, self.device = size, device
        self.engine = TrainingStep(run, execution, Worker(device=device))
        self.batch = torch.randint(size.vocabulary, (batch_sequences, size.context + 1)).to(device)
        self.engine.start(self.batch)

    def step(self) -> None:
        """One step; on a GPU it may still be under way when this returns."""
        self.engine.gradients(self.batch)
        self.engine.update(1e-4)

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def measure_speed(
    size: Size, *, batch_sequences: int, steps: int, precision: Precision, execution: Execution, device: torch.device
) -> Speed:
    """Train for `steps` steps after three that warm up, and take the median rate."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    loop = BareLoop(size, batch_sequences=batch_sequences, precision=precision, execution=execution, device=device)
    seconds = []
    for _ in range(WARM_UP_STEPS + steps):
        started = time.perf_counter()
        loop.step()
        loop.wait()
        seconds.append(time.perf_counter() - started)
    memory = _peak_memory(device)
    engine = loop.engine
    rate = batch_sequences * size.context / statistics.median(seconds[WARM_UP_STEPS:])
    peak, peak_source = peak_flops(device, engine.precision)
    training = Training(
        sequences=engine.micro,
        precision=engine.precision,
        device=device.type,
        accumulates=engine.micro < batch_sequences,
        checkpointing=engine.activation_checkpointing,
    )
    return Speed(
        size=size.name,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        precision=engine.precision,
        attention=engine.attention.backend,
        operator=engine.attention.operator,
        compiled=execution.compile,
        tokens_per_second=rate,
        mfu=rate * size.flops_per_token / peak,
        peak_source=peak_source,
        matrix_share=rate * size.flops_per_token / matrix_rate(device, engine.precision),
        peak_memory_bytes=memory,
        predicted_memory_bytes=peak_bytes(size, training),
        batch_sequences=batch_sequences,
        micro_batch_sequences=engine.micro,
    )


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
