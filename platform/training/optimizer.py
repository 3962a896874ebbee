"""The optimizer of a recipe, AdamW alone or Muon with AdamW, and its learning rate as a function of the step."""

import math
from collections import defaultdict
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.parametrization import HIDDEN_MATRICES, scales_of
from ladder.sweeps.words import Recipe

ADAMW_EPSILON = 1e-8
"""Added to the root of AdamW's second moment at the base shape (Kingma and Ba 2015, section 2)."""
MUON_MOMENTUM = 0.95
"""Decay of Muon's moment, with Nesterov's look-ahead (Jordan et al. 2024, as their five Newton-Schulz steps)."""


class MuonWithAdamW(torch.optim.Optimizer):
    """Two optimizers of different parameters as one: `param_groups` and `state` are shared with both."""

    def __init__(self, muon: torch.optim.Muon, adamw: torch.optim.AdamW) -> None:
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        self.parts = (muon, adamw)
        for part in self.parts:
            part.state = self.state

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of both."""
        assert closure is None, "the gradients are there before the step"
        for part in self.parts:
            part.step()  # type: ignore[no-untyped-call]


def build_optimizer(model: GPT2, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer, with a group for each combination of learning rate, weight decay and epsilon.

    AdamW (Loshchilov and Hutter 2019): biases and norms are not decayed, as in GPT-3 and its heirs. The fused kernel
    updates all the state in one pass over memory, on CUDA and on processors alike.

    Muon (Jordan et al. 2024) takes the matrices within blocks, and AdamW the rest. Its updates are given the root mean
    square of AdamW's, 0.2, so both share the learning rate and the weight decay (Liu et al. 2025, section 2.2). It
    needs whole gradients: under data parallelism every worker has the same ones after the all-reduce, so each does the
    same step by itself. Raises InputError for sharded parameters (FSDP), of which a worker has only some rows.
    """
    if recipe.optimizer == "muon" and any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        raise InputError(
            "optimizer: got muon with sharded parameters, wanted whole ones, as Muon makes each update of a whole "
            "matrix. Use data parallelism without sharding, or adamw."
        )
    of_adamw, of_muon = _groups(model, recipe)
    adamw = torch.optim.AdamW(of_adamw, betas=(recipe.beta1, recipe.beta2), fused=True)
    if recipe.optimizer == "adamw":
        return adamw
    muon = torch.optim.Muon(of_muon, momentum=MUON_MOMENTUM, adjust_lr_fn="match_rms_adamw")
    return MuonWithAdamW(muon, adamw)


def _groups(model: GPT2, recipe: Recipe) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The parameters of AdamW and of Muon, those with the same factors in one group; every matrix decays alike."""
    groups: dict[tuple[bool, float, float, float], list[torch.nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        scales = scales_of(name, model.size, recipe.base_shape)
        by_muon = recipe.optimizer == "muon" and name.endswith(HIDDEN_MATRICES)
        factor = scales.muon_lr if by_muon else scales.adam_lr
        decay = recipe.weight_decay / factor if parameter.dim() >= 2 else 0.0
        groups[by_muon, factor, decay, 1.0 if by_muon else scales.epsilon].append(parameter)
    made: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for (by_muon, factor, decay, epsilon), parameters in groups.items():
        group = {"params": parameters, "lr": factor * recipe.lr_peak, "lr_factor": factor, "weight_decay": decay}
        made[by_muon].append(group if by_muon else {**group, "eps": ADAMW_EPSILON * epsilon})
    return made


def empty_state(group: dict[str, Any], parameter: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the optimizer of a group keeps of one of its parameters before the first step, by name."""
    if "momentum" in group:  # Muon's
        return {"momentum_buffer": torch.zeros_like(parameter)}
    return {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group: `lr` times the factor of the group."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


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
