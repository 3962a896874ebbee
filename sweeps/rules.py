"""Rules that derive a recipe from a size, so that one dial makes a rung and everything else follows by named functions.

A sweep names one of them (or its own) as `recipe=`; each takes (size, tokens, seed) and returns a `Recipe`.
"""

import math

from ladder.models.sizes import Size
from ladder.sweeps.words import Recipe


def ceil_to_multiple(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `value`."""
    return -(-value // multiple) * multiple


def share_of_tokens(share: float, tokens: int, batch_tokens: int) -> int:
    """A share of a run's tokens, rounded up to whole batches: for warm-up and decay."""
    return math.ceil(share * (tokens // batch_tokens)) * batch_tokens


def lr_by_width(size: Size) -> float:
    """Peak learning rate that falls with the width, from 6e-3 at 64 to 6e-4 at 768 (GPT-3 small's 6e-4 at 768: Brown
    et al. 2020, table 2.1; the inverse proportion to width is that of Yang et al. 2022 for Adam), at most 6e-3."""
    return min(6e-3, 6e-4 * 768 / size.d_model)


def small_recipe(size: Size, tokens: int, seed: int) -> Recipe:
    """For runs of minutes on processor cores: about 2,048 tokens a step whatever the budget, so that a longer run has
    more steps and not larger ones, which is what tokens are worth most in at hundreds of steps.

    Warm-up, a stable rate, and a fifth of the tokens to decay in (Haegele et al. 2024 find 10 to 20 % enough). The
    warm-up does not depend on the budget, so the budgets of one size share a trunk: see `ladder.sweeps.trunks`.
    """
    batch_tokens = max(1, 2048 // size.context) * size.context
    tokens = ceil_to_multiple(tokens, batch_tokens)
    decay_tokens = share_of_tokens(0.2, tokens, batch_tokens)
    return Recipe(
        tokens=tokens,
        batch_tokens=batch_tokens,
        lr_peak=lr_by_width(size),
        warmup_tokens=min(20 * batch_tokens, tokens - decay_tokens),
        schedule="wsd",
        decay_tokens=decay_tokens,
        seed=seed,
    )


def gpt2_recipe(size: Size, tokens: int, seed: int) -> Recipe:
    """For the paper's sizes: 512 sequences a step, as the paper's batch (Radford et al. 2019, section 2.3), with the
    learning rates of GPT-3's table 2.1 for its widths; the GPT-2 paper tuned them by hand and did not print them."""
    batch_tokens = 512 * size.context
    lr_peak = {768: 6e-4, 1024: 3e-4, 1280: 2.5e-4, 1600: 2e-4}.get(size.d_model, lr_by_width(size))
    tokens = ceil_to_multiple(tokens, batch_tokens)
    return Recipe(
        tokens=tokens,
        batch_tokens=batch_tokens,
        lr_peak=lr_peak,
        warmup_tokens=share_of_tokens(0.02, tokens, batch_tokens),
        seed=seed,
    )
