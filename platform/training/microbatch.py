"""How many sequences a worker puts through the network at once."""

import torch

from ladder.platform.training.place import Place
from ladder.sweeps.words import Execution, Run

CPU_TOKENS = 8192
"""On a processor, larger micro-batches only leave its caches."""
GPU_MEMORY_SHARE = 0.6
"""Of the free memory, for activations; the rest is room for gradients, the optimizer and fragmentation."""


def micro_batch_sequences(run: Run, execution: Execution, place: Place) -> int:
    """Sequences of one micro-batch: what was asked for, or what fits."""
    share = -(-run.batch_sequences // place.world)
    tokens = execution.micro_batch_tokens or _fitting_tokens(run, place.device)
    return max(1, min(share, tokens // run.size.context))


def _fitting_tokens(run: Run, device: torch.device) -> int:
    if device.type != "cuda":
        return CPU_TOKENS
    # Activations kept for the backward pass are about 34 bytes a layer, channel and token in 16 bits (Korthikanti et
    # al. 2022, eq. 2, without the attention scores that memory-efficient attention does not keep).
    bytes_per_token = 34 * run.size.n_layer * run.size.d_model
    free, _ = torch.cuda.mem_get_info(device)
    return int(GPU_MEMORY_SHARE * max(0, free - run.size.training_bytes)) // bytes_per_token
