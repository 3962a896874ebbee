"""AdamW with weight decay on matrices only."""

import torch
from torch import nn

from ladder.sweeps.words import Recipe


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); biases and norms are not decayed, as in GPT-3 and its heirs.

    The fused kernel updates all the state in one pass over memory, on CUDA and on processors alike.
    """
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.lr_peak,
        betas=(recipe.beta1, recipe.beta2),
        eps=1e-8,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
