"""The memory that training a size takes at its peak, from its shape and how it is carried out.

Counted as PyTorch keeps it: weights, gradients and AdamW's moments in fp32; what each block keeps for its backward
pass; the loss, chunk by chunk. Nothing here needs torch. The counts follow Korthikanti et al. 2022, section 4.1, with
what this network keeps in place of what theirs does.

Letters: N parameters, d width, T context, H heads, V classes, M tokens of a micro-batch.
"""

from dataclasses import dataclass, replace
from typing import Literal

from ladder.models.sizes import MLP_RATIO, Size

Strategy = Literal["ddp", "fsdp2"]
STRATEGIES: tuple[Strategy, ...] = ("ddp", "fsdp2")

CHUNK_LOGITS, MOST_CHUNKS, FEWEST_CLASSES = 1 << 25, 8, 4096
"""How ladder.models.loss cuts the logits and pads the classes; a test holds the two together."""
BLOCK, BF16_BLOCK = 64, 256
"""Queries of a block of the CPU's attention, which keeps its probabilities."""

CPU_LIBRARY_BYTES = 240 << 20
"""What a process takes on a CPU beside its tensors: oneDNN's kernels with their scratch, and memory that the allocator
has not given back. Measured over six shapes as 208 to 300 MiB."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a size is trained, as far as memory goes."""

    sequences: int
    """Sequences through the network at once on one worker: the micro-batch."""
    precision: str
    """bf16 or fp32."""
    device: str
    """cuda or cpu."""
    accumulates: bool = False
    """Whether a step has several micro-batches, so that gradients are there while the network runs."""
    workers: int = 1
    """Processes that train together."""
    strategy: Strategy = "ddp"
    """ddp: each worker has all weights and moments; fsdp2: they are shared out."""
    checkpointing: bool = False
    """Whether a block keeps its input only and is computed again in the backward pass."""


def peak_bytes(size: Size, training: Training) -> int:
    """Bytes on one worker at the peak of a step, beyond what the process takes without a model."""
    libraries = CPU_LIBRARY_BYTES if training.device == "cpu" else 0
    return libraries + tensor_bytes(size, training)


def tensor_bytes(size: Size, training: Training) -> int:
    """Bytes of tensors on one worker at the peak of a step."""
    return _state_bytes(size, training) + max(_loss_bytes(size, training), _backward_end_bytes(size, training))


def largest_micro_batch(size: Size, training: Training, *, memory_bytes: float, share: int) -> int:
    """The most sequences, of a worker's `share` of the batch, that fit a memory at once and divide the share; 0: not
    even one fits. `training.sequences` is not looked at."""
    fitting = (
        sequences
        for sequences in divisors(share)
        if peak_bytes(size, replace(training, sequences=sequences, accumulates=sequences < share)) <= memory_bytes
    )
    return next(fitting, 0)


def largest_divisor(share: int, limit: int) -> int:
    """The largest number that divides a share and is not over a limit of at least 1."""
    return next(divisor for divisor in divisors(share) if divisor <= max(1, limit))


def divisors(number: int) -> list[int]:
    """All that divide a number, the largest first."""
    return [n for n in range(number, 0, -1) if number % n == 0]


def _state_bytes(size: Size, training: Training) -> int:
    """Weights and two moments."""
    return 12 * size.params_total // _shards(training)


def _gradient_bytes(size: Size, training: Training) -> int:
    """In fp32; shared out once they are reduced, so not while micro-batches are added up before the one reduction."""
    return 4 * size.params_total // (1 if training.accumulates else _shards(training))


def _shards(training: Training) -> int:
    return training.workers if training.strategy == "fsdp2" else 1


def _working_weights_bytes(size: Size, training: Training) -> int:
    """Weights in the precision of the products: all of them under autocast; of fsdp2, two gathered blocks, and the
    embeddings in fp32."""
    block = 12 * size.d_model**2
    each = 2 if training.precision == "bf16" else 0
    if training.strategy == "fsdp2" and training.workers > 1:
        return 2 * block * (each or 4) + 4 * (size.vocabulary + size.context) * size.d_model
    return size.n_layer * block * each


def activation_bytes(size: Size, training: Training) -> int:
    """What all blocks keep for the backward pass of a micro-batch."""
    tokens = training.sequences * size.context
    if training.checkpointing:
        return tokens * 4 * size.d_model * size.n_layer + _block_bytes(size, training)
    return size.n_layer * _block_bytes(size, training)


def _block_bytes(size: Size, training: Training) -> int:
    """What one block keeps: per token and channel two residual streams in fp32; in the precision of the products the
    two norms' outputs, queries, keys and values, attention's output, and GELU's slope or input with its output."""
    tokens = training.sequences * size.context
    each = 2 if training.precision == "bf16" else 4
    channels = 2 + 3 + 1 + 2 * MLP_RATIO
    kept = tokens * size.d_model * (2 * 4 + channels * each)
    return kept + (_probability_bytes(size, training, each) if training.device == "cpu" else 0)


def _probability_bytes(size: Size, training: Training, each: int) -> int:
    """The probabilities of the CPU's attention in blocks: each query's over the keys up to the end of its block."""
    block = BF16_BLOCK if training.precision == "bf16" else BLOCK
    starts = range(0, size.context, block)
    pairs = sum(min(block, size.context - start) * min(start + block, size.context) for start in starts)
    return training.sequences * size.n_head * pairs * each


def _loss_bytes(size: Size, training: Training) -> int:
    """What there is while the loss is computed: all activations, and a chunk of logits."""
    tokens = training.sequences * size.context
    each = 2 if training.precision == "bf16" else 4
    gradients = _gradient_bytes(size, training) if training.accumulates or training.workers > 1 else 0
    chunks = min(MOST_CHUNKS, -(-tokens * size.vocabulary // CHUNK_LOGITS))
    rows = -(-tokens // max(1, chunks))
    logits = rows * size.vocabulary * each
    # The final norm's input, output and gradient, and copies of the last two where the products are in 16 bits.
    states = tokens * size.d_model * (3 * 4 if each == 4 else 2 * 4 + 3 * each)
    # The head's gradient in fp32; in 16 bits a copy of the head and what a chunk adds; a copy where it is padded.
    padded = size.vocabulary > FEWEST_CLASSES and training.device == "cuda"
    copies = 2 * each if each == 2 else each * padded
    heads = size.vocabulary * size.d_model * (4 + copies)
    working = _working_weights_bytes(size, training)
    return activation_bytes(size, training) + working + gradients + logits + states + heads


def _backward_end_bytes(size: Size, training: Training) -> int:
    """What there is at the end of the backward pass: all gradients, and the token embedding's from both of its ends."""
    head = 4 * size.vocabulary * size.d_model
    return _gradient_bytes(size, training) + head * (2 if training.accumulates or training.workers > 1 else 1)
