"""How do held-out loss and zero-shot ability grow from 10M to 1.5B parameters, as in the GPT-2 paper, and with data?

The paper's four sizes and three rungs below them, each at 5, 20 and 80 tokens a parameter, so that size and data are
both varied (the paper varied size alone). Prediction: held-out perplexity falls log-linearly with size as in the
paper's figure 4, and still falls at 80 tokens a parameter; Hoffmann et al.'s law fits with exponents near a third.
`ladder plan gpt2 --gpu H100` tells the cost; the
corpus `webtext` must be built first, on a machine that has it.
"""

from dataclasses import replace

from ladder.models.sizes import Size
from ladder.sweeps.rules import gpt2_recipe
from ladder.sweeps.words import Execution, Sweep, grid


def gpt2_execution(size: Size) -> Execution:
    """Whole GPUs from the size on that fills one; more of them as the longest run, 80 tokens a parameter, would take
    weeks on one: on H100s at 35 % of peak about 7 hours at 117M, 1 day at 345M, 3 at 762M, 5 at 1542M."""
    execution = Execution(gpus_per_worker=1, compile=True, checkpoint_seconds=900.0)
    millions = size.params_non_embedding / 1e6
    if millions < 30:
        # Kernels this narrow leave most of a GPU idle, so runs share one. The micro-batch is named, since each would
        # otherwise take most of the memory that it finds free: 32,768 tokens take about 4 GB at width 512.
        return replace(execution, gpus_per_worker=0.25 if millions < 15 else 0.5, micro_batch_tokens=32_768)
    if millions < 100:
        return execution
    return replace(execution, workers=2 if millions < 400 else 4 if millions < 1000 else 8)


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
    execution=gpt2_execution,
)
