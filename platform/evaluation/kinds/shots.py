"""Few-shot prompts: which solved examples stand before an item.

They are from another split than the items, train or dev, as in lm-evaluation-harness: an item is never an example.
"""

import random


def draw_shots(item: int, n_examples: int, *, shots: int, seed: int) -> list[int]:
    """Indices of `shots` of the `n_examples` of another split for an item; fewer where there are too few.

    A pure function of its arguments: the draw has the seed and the item as its own seed, so that it is the same
    whatever else is scored and in whatever order.
    """
    return random.Random(f"{seed} {item}").sample(range(n_examples), min(shots, n_examples))


def describe_shots(shots: int, seed: int, source: str) -> str:
    """How many solved examples a prompt has and where they are from, for a protocol's words."""
    return f"{shots}-shot, examples drawn from {source} (seed {seed})" if shots else "zero-shot"
