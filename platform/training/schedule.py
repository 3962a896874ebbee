"""The learning rate as a function of the tokens seen."""

import math

from ladder.sweeps.words import Recipe


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
