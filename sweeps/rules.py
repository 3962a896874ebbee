"""Rules that derive a recipe from a size, so that one dial makes a rung and everything else follows by named functions.

A sweep names a recipe rule (or its own) as `recipe=`; each takes (size, tokens, seed) and returns a `Recipe`. The other
rules are what papers fitted: a learning rate or a batch in tokens from parameters N, tokens D or compute C. Each holds
for AdamW in the standard parametrisation, in the range that its paper fitted; docs/recipes.md compares them.
"""

import math
from dataclasses import replace

from ladder.models.sizes import Size, parse_size
from ladder.sweeps.words import Recipe, RecipeRule


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


def lr_kaplan(params_non_embedding: float) -> float:
    """Peak learning rate 0.003239 - 0.0001395 ln N, N without embeddings (Kaplan et al. 2020, eq. D.1).

    At a fixed batch of 524,288 tokens; they expect it to fail above 1e10.
    """
    return 0.003239 - 0.0001395 * math.log(params_non_embedding)


def batch_kaplan(params_non_embedding: float, tokens: float) -> float:
    """Critical batch in tokens, 2e8 / L^(1 / 0.21), at the loss L that N and D come to (Kaplan et al. 2020, eq. 1.4).

    L = ((6.4e13 / N)^(0.076 / 0.103) + 1.8e13 / D)^0.103, N without embeddings (eq. 1.5, table 2). At the critical
    batch a run takes twice the fewest steps and twice the fewest tokens for its loss; far below it, hardly more than
    the fewest tokens.
    """
    loss = ((6.4e13 / params_non_embedding) ** (0.076 / 0.103) + 1.8e13 / tokens) ** 0.103
    return float(2e8 / loss ** (1 / 0.21))


def lr_deepseek(flops: float) -> float:
    """Peak learning rate 0.3118 C^-0.1250 (Bi et al. 2024, eq. 1), fitted from 1e17 to 2e19 FLOPs."""
    return float(0.3118 * flops**-0.1250)


def batch_deepseek(flops: float) -> float:
    """Batch in tokens 0.2920 C^0.3271 (Bi et al. 2024, eq. 1), fitted from 1e17 to 2e19 FLOPs.

    Their C is M D with M = 72 n_layer d^2 + 12 n_layer d context, the vocabulary left out (their eq. 2).
    """
    return float(0.2920 * flops**0.3271)


def lr_porian(params: float) -> float:
    """Peak learning rate 3.7 N^-0.36 at the batch of `batch_porian` (Porian et al. 2024, section 3.5, as Li et al. 2025
    tabulate it).

    N counts the head but not the positions; fitted to 108M and below at about 20 tokens a parameter, with beta2 tuned.
    """
    return float(3.7 * params**-0.36)


def batch_porian(params: float) -> float:
    """Batch in tokens 0.7576 N^0.703 (Porian et al. 2024); source, N and range as `lr_porian`."""
    return float(0.7576 * params**0.703)


def lr_step_law(params_non_embedding: float, tokens: float) -> float:
    """Peak learning rate 1.79 N^-0.713 D^0.307 (Li et al. 2025, eq. 1), N without embeddings.

    Fitted from 59M to 1.1B parameters and 2B to 100B tokens.
    """
    return float(1.79 * params_non_embedding**-0.713 * tokens**0.307)


def batch_step_law(tokens: float) -> float:
    """Batch in tokens 0.58 D^0.571 (Li et al. 2025, eq. 1); range as `lr_step_law`."""
    return float(0.58 * tokens**0.571)


def wsd_recipe(*, tokens: int, batch_tokens: int, lr_peak: float, warmup_tokens: int, seed: int) -> Recipe:
    """Warm-up, a stable rate, and the last fifth of the tokens to decay in (Haegele et al. 2024: 10 to 20 % suffice).

    Tokens are rounded up to whole batches. Where the warm-up does not depend on the budget, as in the rules below, the
    budgets of one size share a trunk: see `ladder.sweeps.trunks`.
    """
    tokens = ceil_to_multiple(tokens, batch_tokens)
    decay_tokens = share_of_tokens(0.2, tokens, batch_tokens)
    return Recipe(
        tokens=tokens,
        batch_tokens=batch_tokens,
        lr_peak=lr_peak,
        warmup_tokens=min(ceil_to_multiple(warmup_tokens, batch_tokens), tokens - decay_tokens),
        schedule="wsd",
        decay_tokens=decay_tokens,
        seed=seed,
    )


def small_recipe(size: Size, tokens: int, seed: int, *, batch_tokens: int = 2048) -> Recipe:
    """For runs of minutes on processor cores: `batch_tokens` tokens a step, as whole sequences, whatever the budget.

    So a longer run has more steps and not larger ones, which is what tokens are worth most in at hundreds of steps.
    """
    return wsd_recipe(
        tokens=tokens,
        batch_tokens=max(1, batch_tokens // size.context) * size.context,
        lr_peak=lr_by_width(size),
        warmup_tokens=40_000,
        seed=seed,
    )


PAPER_SEQUENCES = 512
"""Sequences in a batch of GPT-2 (Radford et al. 2019, section 2.3)."""


def gpt2_batch_sequences(size: Size) -> int:
    """Sequences in a batch: 512 for the paper's sizes, and below them the power of two nearest to `batch_porian`.

    512 sequences of 1024 at every size left 6x384 with 290 steps at 5 tokens a parameter, where a loss says more about
    the batch than about size and data, and a law fitted through it is bent at its small end. By this rule every rung
    has about a thousand steps there. It follows the size alone, so the budgets of a size differ in nothing else.
    """
    fitted = batch_porian(size.params_total - size.parameter_counts()["position_embedding"]) / size.context
    return max(1, min(PAPER_SEQUENCES, 2 ** round(math.log2(fitted)))) if size.d_model < 768 else PAPER_SEQUENCES


def gpt2_recipe(size: Size, tokens: int, seed: int) -> Recipe:
    """For the paper's sizes and rungs below them: the batch of `gpt2_batch_sequences`, and for the paper's widths the
    learning rates of GPT-3's table 2.1; the GPT-2 paper tuned them by hand and did not print them. Warm-up over 0.4
    tokens a parameter, 2 % of a run of 20."""
    return wsd_recipe(
        tokens=tokens,
        batch_tokens=gpt2_batch_sequences(size) * size.context,
        lr_peak={768: 6e-4, 1024: 3e-4, 1280: 2.5e-4, 1600: 2e-4}.get(size.d_model, lr_by_width(size)),
        warmup_tokens=round(0.4 * size.params_total),
        seed=seed,
    )


def transferring(rule: RecipeRule, *, base: str, lr_peak: float) -> RecipeRule:
    """A recipe rule as `rule`, but under CompleteP from the shape `base`, with the learning rate found there."""
    shape = parse_size(base)

    def transferred(size: Size, tokens: int, seed: int) -> Recipe:
        return replace(
            rule(size, tokens, seed),
            lr_peak=lr_peak,
            parametrization="completep",
            base_width=shape.d_model,
            base_layers=shape.n_layer,
        )

    return transferred
