"""Does held-out loss fall as a power law of size and of data, even for models of minutes on two processor cores?

Four sizes by three budgets of the embedded corpus, byte by byte, so that size and data are both varied. Prediction:
held-out loss falls with size at the largest budget and with tokens at every size; at the smallest budget the largest
size gains little, since it sees too few tokens for its parameters; the exponents' intervals are wide, as the range is
short.
"""

from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Execution, Sweep, grid

SWEEP = Sweep(
    name="demo",
    corpus="pydocs",
    context=128,
    points=grid(sizes=("2x32h1", "2x64h2", "3x96h3", "4x128h4"), tokens=(500_000, 1_000_000, 2_000_000)),
    recipe=small_recipe,
    benchmarks=("pages-last-word", "pages-cloze", "pages-words", "pages-bytes"),
    laws=("log-linear", "power-offset", "hoffmann"),
    heldout_tokens=131_072,
    execution=Execution(checkpoint_seconds=10.0),
)
