"""The memory that is predicted is the memory that training takes."""

import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ladder.models.memory import Training, peak_bytes, tensor_bytes
from ladder.models.sizes import parse_size
from ladder.platform.training.step import TrainingStep
from ladder.platform.training.worker import Worker
from ladder.sweeps.words import Execution, Recipe, Run
from tests.platform.training.gang import run_gang

MEASURE = """
import gc, sys
import torch
from ladder.models.sizes import parse_size
from ladder.platform.processes import keep_large_buffers
from ladder.platform.training.speed import BareLoop
from ladder.sweeps.words import Execution

CPU = torch.device("cpu")

def train(name, context, vocabulary, sequences, micro, precision):
    size = parse_size(name, context=context, vocabulary=vocabulary)
    execution = Execution(micro_batch_tokens=micro * context)
    loop = BareLoop(size, batch_sequences=sequences, precision=precision, execution=execution, device=CPU)
    for _ in range(2):
        loop.step()

def status(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return int(line.split()[1]) * 1024

torch.set_num_threads(2)
keep_large_buffers()
name, context, vocabulary, sequences, micro, precision = sys.argv[1:]
train("1x64", 64, 257, 2, 2, precision)  # what the process takes without the model
gc.collect()
before = status("VmRSS")
train(name, int(context), int(vocabulary), int(sequences), int(micro), precision)
print(status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of a process")
@pytest.mark.parametrize(
    ("name", "context", "vocabulary", "sequences", "micro"),
    [("6x384", 256, 512, 16, 16), ("6x384", 256, 50257, 8, 4), ("8x512", 256, 50257, 4, 4)],
)
def test_the_predicted_peak_is_within_a_tenth_of_the_measured_one(
    name: str, context: int, vocabulary: int, sequences: int, micro: int
) -> None:
    """Of the resident memory of a process of its own, in fp32, which every processor has."""
    arguments = [name, *map(str, (context, vocabulary, sequences, micro)), "fp32"]
    ended = subprocess.run([sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=True)
    training = Training(sequences=micro, precision="fp32", device="cpu", accumulates=micro < sequences)
    size = parse_size(name, context=context, vocabulary=vocabulary)
    predicted, measured = peak_bytes(size, training), int(ended.stdout)
    print(f"{name}: predicted {predicted / 2**20:.0f} MiB, measured {measured / 2**20:.0f} MiB")
    assert predicted == pytest.approx(measured, rel=0.1)
    assert tensor_bytes(size, training) < measured


class LiveTensors(TorchDispatchMode):
    """The most bytes that tensors had at one time, of those that operations saw. What the allocator of a processor
    takes beside them depends on the order in which they come and go: with activation checkpointing as much again."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self.peak = 0

    def see(self, *things: Any) -> None:
        """Count these tensors, and what there is now."""
        for tensor in tree_leaves(things):
            if isinstance(tensor, DTensor):
                tensor = tensor.to_local()
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.storages[storage._cdata] = weakref.ref(storage)
        live = [storage for reference in self.storages.values() if (storage := reference()) is not None]
        self.peak = max(self.peak, sum(storage.nbytes() for storage in live))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.see(args, kwargs, made)
        return made


def measured_bytes(execution: Execution, worker: Worker, precision: str) -> tuple[int, int]:
    """Bytes of tensors at the peak of a second step over two sequences a worker, predicted and measured."""
    torch.set_num_threads(1)
    size = parse_size("8x256", context=64, vocabulary=512)
    batch_tokens = 2 * 64 * worker.world_size
    recipe = Recipe(tokens=2 * batch_tokens, batch_tokens=batch_tokens, lr_peak=1e-3, precision=precision)  # type: ignore[arg-type]
    run = Run(size=size, recipe=recipe, corpus="random", corpus_fingerprint="0")
    engine = TrainingStep(run, execution, worker)
    batch = torch.randint(512, (2, 65))
    engine.start(batch)
    engine.gradients(batch)
    engine.update(1e-3)
    live = LiveTensors()
    live.see(list(engine.model.parameters()), list(engine.optimizer.state.values()))
    with live:
        engine.gradients(batch)
        engine.update(1e-3)
    training = Training(
        sequences=engine.micro,
        precision=precision,
        device="cpu",
        accumulates=engine.micro < 2,
        workers=worker.world_size,
        strategy=engine.strategy,
        checkpointing=engine.activation_checkpointing,
    )
    return tensor_bytes(size, training), live.peak


@pytest.mark.parametrize("recomputes", [False, True])
def test_the_tensors_of_a_step_are_those_predicted(recomputes: bool) -> None:
    execution = Execution(activation_checkpointing=recomputes)
    predicted, measured = measured_bytes(execution, Worker(device=torch.device("cpu")), "fp32")
    assert predicted == pytest.approx(measured, rel=0.1)


WAYS = [
    (Execution(strategy=strategy, activation_checkpointing=recomputes, micro_batch_tokens=64 * micro), precision)
    for strategy, recomputes, micro, precision in [
        ("ddp", False, 2, "fp32"),
        ("fsdp2", False, 2, "fp32"),
        ("fsdp2", True, 2, "fp32"),
        ("fsdp2", False, 1, "fp32"),
        ("fsdp2", False, 2, "bf16"),
        ("fsdp2", False, 1, "bf16"),
    ]
]
"""Ways to train on four workers; with a micro-batch of 1 whole gradients add up before they are reduced."""


def _measure(worker: Worker, out: Path) -> None:
    measured = [measured_bytes(execution, worker, precision) for execution, precision in WAYS]
    if worker.first:
        out.write_text("\n".join(f"{one} {other}" for one, other in measured))


@pytest.mark.slow
def test_the_tensors_of_a_worker_of_four_are_those_predicted(tmp_path: Path) -> None:
    run_gang(_measure, 4, tmp_path, tmp_path / "measured")
    lines = (tmp_path / "measured").read_text().splitlines()
    for (execution, precision), line in zip(WAYS, lines, strict=True):
        predicted, measured = map(int, line.split())
        print(execution.strategy, precision, f"predicted {predicted / 2**20:.1f} MiB, measured {measured / 2**20:.1f}")
        assert predicted == pytest.approx(measured, rel=0.1), (execution, precision)
