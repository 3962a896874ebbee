"""The memory that is predicted is the memory that training takes."""

import subprocess
import sys
from pathlib import Path

import pytest

from ladder.models.memory import Training, peak_bytes, tensor_bytes
from ladder.models.sizes import parse_size

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
