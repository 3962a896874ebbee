"""How fast a size trains on the processor at hand: real training steps on random tokens, without Ray or files."""

import resource
import statistics
import sys
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ladder.models.sizes import Size
from ladder.platform.training.train import Metrics, Trainer
from ladder.platform.training.worker import Worker
from ladder.sweeps.words import Execution, Precision, Recipe, Run


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
    tokens_per_second: float
    """Median over the measured steps."""
    mfu: float
    """FLOPs of those tokens (with attention and head) as a share of the peak rate of matrix products."""
    peak_source: str
    """Where the peak rate is from."""
    peak_memory_bytes: int
    """Largest memory: allocated by PyTorch on a GPU, resident in this process on a CPU."""
    batch_sequences: int
    """Sequences of a step."""

    def to_json(self) -> dict[str, Any]:
        """JSON's own types."""
        return asdict(self)


class RandomTokens:
    """A stream of uniformly random tokens, as long as asked for."""

    def __init__(self, n_tokens: int, vocabulary: int) -> None:
        self.n_tokens = n_tokens
        self.tokens = np.random.default_rng(0).integers(0, vocabulary, n_tokens, dtype=np.int64)

    def read(self, start: int, n: int) -> npt.NDArray[np.int64]:
        """Tokens start to start + n."""
        return self.tokens[start : start + n]


def measure_speed(
    size: Size, *, batch_sequences: int, steps: int, precision: Precision, execution: Execution, device: torch.device
) -> Speed:
    """Train for `steps` steps after three that warm up, and take the median rate."""
    batch = batch_sequences * size.context
    recipe = Recipe(tokens=(steps + 3) * batch, batch_tokens=batch, lr_peak=1e-4, precision=precision)
    run = Run(size=size, recipe=recipe, corpus="random tokens", corpus_fingerprint=None)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    trainer = Trainer(run, execution, stream=RandomTokens(4 * batch + 1, size.vocabulary), worker=Worker(device=device))
    points: list[Metrics] = []
    trainer.train(log=points.append, save=lambda snapshot: None)
    return Speed(
        size=size.name,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        precision=trainer.precision,
        attention=trainer.attention,
        tokens_per_second=statistics.median(point["train/tokens_per_second"] for point in points[3:]),
        mfu=statistics.median(point["train/mfu"] for point in points[3:]),
        peak_source=trainer.peak_source,
        peak_memory_bytes=_peak_memory(device),
        batch_sequences=batch_sequences,
    )


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
