"""Do held-out loss and zero-shot scores follow laws of size and data, even for models of minutes on two cores?

Six sizes by four budgets of the embedded corpus, byte by byte, so that size and data are both varied; the budgets of a
size share one trunk. Prediction: held-out loss falls as a power law of size and of data towards a floor (Hoffmann et
al. 2022), well enough for the largest run to be predicted from the others; the zero-shot scores improve with size.

Why it looks as it does: 64 bytes of context and 1,024 tokens a step, since with 128 and 2,048 all sizes stay at the
loss of byte pairs (2.45 nats) until 0.7M tokens and then fall at once, which no power law describes; with these they
leave it at 0.3M, before the smallest budget ends.
"""

from ladder.models.sizes import Size
from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Execution, Recipe, Sweep, grid


def demo_recipe(size: Size, tokens: int, seed: int) -> Recipe:
    """The small recipe with half its batch: what these budgets lack is steps."""
    return small_recipe(size, tokens, seed, batch_tokens=1024)


SWEEP = Sweep(
    name="demo",
    corpus="pydocs",
    context=64,
    points=grid(
        sizes=("2x16h1", "2x24h1", "2x32h1", "2x48h2", "3x64h2", "3x96h3"),
        tokens=(400_000, 800_000, 1_600_000, 3_200_000),
    ),
    recipe=demo_recipe,
    benchmarks=("pages-last-word", "pages-cloze", "pages-words", "pages-bytes"),
    laws=("log-linear", "power-offset", "hoffmann"),
    heldout_tokens=131_072,
    execution=Execution(checkpoint_seconds=30.0),
)
