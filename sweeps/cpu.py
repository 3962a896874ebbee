"""How do held-out loss and zero-shot ability grow with size and data, on a corpus of one's own and two processor cores?

Four sizes from 0.1M to 10M parameters without embeddings by three budgets, under an hour on two cores with the GPT-2
tokenizer: `ladder run cpu --corpus NAME`. Prediction: held-out loss falls with tokens at every size; the gain from size
grows with the budget, since all but the smallest see less than a token a parameter; WikiText-2 follows held-out loss,
while LAMBADA accuracy stays near zero, being beyond models of this size and training.
"""

from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Execution, Sweep, grid

SWEEP = Sweep(
    name="cpu",
    corpus="web",
    context=256,
    points=grid(
        sizes=("2x64h2", "4x128h4", "6x192h6", "6x384"),
        tokens=(125_000, 250_000, 500_000),
    ),
    recipe=small_recipe,
    benchmarks=("lambada", "wikitext2", "pages-last-word", "pages-cloze"),
    laws=("log-linear", "power-offset", "hoffmann"),
    heldout_tokens=200_000,
    execution=Execution(checkpoint_seconds=60.0),
)
