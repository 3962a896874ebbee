"""What each worker of a run holds of its network, and how workers exchange gradients.

    ddp     every worker holds all; one all-reduce a step averages the gradients (Li et al. 2020)
    fsdp2   every worker holds a share of each weight and of its moments; a block's weights are gathered when it runs,
            and one reduce-scatter a step leaves each worker the average of its share (Zhao et al. 2023)

Under fsdp2 (PyTorch's fully_shard) parameters, gradients and moments are DTensors under the same names. The functions
here take either kind, so nothing else in training has to know which one it has.
"""

import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from ladder.models.gpt2 import GPT2, Block
from ladder.platform.training.worker import Worker


def shard(loss: nn.Module, model: GPT2, worker: Worker, *, precision: str, compiled: bool) -> None:
    """Share out over the workers the parameters of `loss`, the root module, which holds `model`: rows of each tensor.

    In place, from whole weights that are alike on all workers; the module then is an FSDPModule, and moved to the
    worker's device. Embeddings and norms are gathered once a step in fp32. In bf16 the matrices of a block are
    gathered in bf16, half the bytes, and their gradients reduced in fp32: the roundings of autocast, which multiplies
    in bf16 too and adds gradients in fp32. Norms and embeddings in bf16 would round what autocast does not.

    Compiled blocks are gathered whole and in fp32: to gather matrices alone would cut their graphs at each of them.
    """
    if worker.device.type == "cuda":
        torch.cuda.set_device(worker.device)  # the mesh asks the process, not the worker, which GPU is its own
    mesh = init_device_mesh(worker.device.type, (worker.world_size,))
    policy = MixedPrecisionPolicy()
    if precision == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.h:
        assert isinstance(block, Block)
        if compiled:
            # Not the block itself: gathering happens outside of the graph.
            block.forward = torch.compile(block.forward)  # type: ignore[method-assign]
            fully_shard(block, mesh=mesh)
        else:
            fully_shard([block.attn, block.mlp], mesh=mesh, mp_policy=policy)
    fully_shard(loss, mesh=mesh)
    # It warns of changing such an output in place; the network adds it to the residual stream, out of place.
    warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module \(.*returned a view tensor", category=UserWarning)


def replicate(network: nn.Module, worker: Worker) -> nn.Module:
    """The network as every worker holds all of it; its gradients are averaged over the workers."""
    if worker.world_size == 1:
        return network
    devices = [worker.device] if worker.device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=devices, gradient_as_bucket_view=True)


def synchronised(network: nn.Module, last: bool) -> AbstractContextManager[object]:
    """Where a micro-batch goes through: workers exchange gradients at the last one of a step only."""
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(last)
    if isinstance(network, DistributedDataParallel) and not last:
        return network.no_sync()
    return nullcontext()


def clip_gradients(parameters: Iterable[nn.Parameter], norm: float) -> Tensor:
    """Scale gradients down to a global L2 norm where it is larger; returns what it was, the same on all workers."""
    return whole(nn.utils.clip_grad_norm_(parameters, norm))


def whole(tensor: Tensor) -> Tensor:
    """The tensor with what other workers hold of it; where it is shared out, a collective call and a new tensor."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def fill(tensor: Tensor, values: Tensor | None, worker: Worker) -> None:
    """Write the first worker's values, None on the others, into a tensor of all workers; a collective call.

    Where the tensor is shared out, each worker is sent its share only.
    """
    assert (values is not None) == worker.first, "the first worker has the values"
    if isinstance(tensor, DTensor):
        source = torch.empty(tensor.shape, dtype=tensor.dtype, device=worker.device)
        if values is not None:
            source.copy_(values)
        tensor.copy_(distribute_tensor(source, tensor.device_mesh, tensor.placements))
        return
    if values is not None:
        tensor.copy_(values)
    if worker.world_size > 1:
        dist.broadcast(tensor, src=0)
