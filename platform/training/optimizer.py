"""AdamW with weight decay on matrices only, and its learning rate as a function of the step."""

import math

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


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of step `step`, counted from 0, at which `step * batch_tokens` tokens were seen.

    Linear warm-up reaches the peak at its last step. `cosine` then falls to the final rate along half a cosine
    (Loshchilov and Hutter 2017); `wsd` stays, then falls linearly (Hu et al. 2024, with Haegele et al. 2024's linear
    cool-down): until it falls, its rate does not depend on the horizon.
    """
    warmup = recipe.warmup_tokens // recipe.batch_tokens
    if step < warmup:
        return recipe.lr_peak * (step + 1) / warmup
    lr_final = recipe.lr_final_fraction * recipe.lr_peak
    if recipe.schedule == "cosine":
        done = (step - warmup) / max(1, recipe.steps - 1 - warmup)
        return lr_final + (recipe.lr_peak - lr_final) * 0.5 * (1 + math.cos(math.pi * done))
    decay = recipe.decay_tokens // recipe.batch_tokens
    left = min(1.0, (recipe.steps - 1 - step) / decay)
    return lr_final + (recipe.lr_peak - lr_final) * left
