"""How do held-out loss and zero-shot ability grow from 10M to 1.5B parameters, as in the GPT-2 paper, and with data?

The paper's four sizes and three rungs below them, each at 5, 20 and 80 tokens a parameter, so that size and data are
both varied (the paper varied size alone). Prediction: held-out perplexity falls log-linearly with size as in the
paper's figure 4, and still falls at 80 tokens a parameter; Hoffmann et al.'s law fits with exponents near a third.
`ladder plan gpt2 --device H100` tells the cost; the
corpus `webtext` must be built first, on a machine that has it.
"""

from ladder.sweeps.rules import gpt2_recipe
from ladder.sweeps.words import Execution, Sweep, grid

SWEEP = Sweep(
    name="gpt2",
    corpus="webtext",
    context=1024,
    points=grid(
        sizes=("6x384", "8x512", "10x640", "117M", "345M", "762M", "1542M"),
        tokens_per_parameter=(5, 20, 80),
    ),
    recipe=gpt2_recipe,
    benchmarks=("lambada", "wikitext2"),
    laws=("log-linear", "power-offset", "hoffmann"),
    heldout_tokens=10_000_000,
    execution=Execution(workers=8, gpus_per_worker=1, compile=True, checkpoint_seconds=900.0),
)
