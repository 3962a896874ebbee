"""How many tokens does Muon want to reach the loss that AdamW reaches? Both tuned, on a real corpus.

    python bench/muon.py [--sizes 4x128 6x192] [--tokens 256000]

For each size it finds the best learning rate of each optimizer at the full budget, by factors of two; then trains Muon,
at its best rate, on shares of the budget, each with a schedule of its own, and interpolates the share at which it has
AdamW's loss, in the logarithm of the tokens. Last it times steps of both in turns. Stopped and started again, it goes
on where it was.
"""

import math
import statistics

from short_runs import BATCH_TOKENS, CPU, ShortRuns, best_rate, make_recipe, parser

from ladder.platform.training.train import Metrics, Trainer
from ladder.platform.training.worker import Worker
from ladder.sweeps.words import Execution, Run

START = {"muon": 2.0**-7, "adamw": 2.0**-8}
SHARES = (0.75, 0.5, 0.375, 0.25)


def main() -> None:
    """Train what is missing, print what was found."""
    options = parser(__doc__)
    options.add_argument("--sizes", nargs="+", default=["4x128", "6x192"])
    options.add_argument("--tokens", type=int, default=256_000)
    options.add_argument("--turns", type=int, default=5, help="of timing")
    options = options.parse_args()
    runs = ShortRuns(options)
    for seed in options.seeds:
        for size in options.sizes:
            if not compare(runs, size, options.tokens, seed):
                print("no time left: start again to go on")
                return
    for size in options.sizes:
        time_steps(runs, size, options.turns)


def compare(runs: ShortRuns, size: str, tokens: int, seed: int) -> bool:
    """Print the best loss of both and the tokens that Muon wants for AdamW's; False where there is no time left."""
    best: dict[str, tuple[float, float]] = {}
    for optimizer, start in START.items():
        losses = best_rate(
            lambda rate, optimizer=optimizer: runs.loss(size, make_recipe(tokens, rate, seed, optimizer=optimizer)),
            start,
            around=1,
        )
        if losses is None:
            return False
        best[optimizer] = min((loss, rate) for rate, loss in losses.items())
        cells = "  ".join(f"2^{math.log2(rate):.0f} {loss:.4f}" for rate, loss in losses.items())
        print(f"{size} seed {seed} {optimizer:5}: {cells}")
    target, (at, rate) = best["adamw"][0], best["muon"]
    tokens_at = tokens
    for share in SHARES:
        if at > target:
            print(f"{size} seed {seed}: Muon has not AdamW's {target:.4f} at {tokens_at:,} tokens")
            return True
        fewer = round(share * tokens)
        loss = runs.loss(size, make_recipe(fewer, rate, seed, optimizer="muon"))
        if loss is None:
            return False
        print(f"{size} seed {seed} muon on {share:.0%} of the tokens: {loss:.4f}")
        if loss > target:
            # Between two budgets the loss is taken as linear in the logarithm of the tokens.
            within = (loss - target) / (loss - at)
            wanted = math.exp(math.log(fewer) + within * math.log(tokens_at / fewer))
            print(f"{size} seed {seed}: AdamW's {target:.4f} after {wanted / tokens:.0%} of its tokens")
            return True
        at, tokens_at = loss, fewer
    print(f"{size} seed {seed}: AdamW's {target:.4f} after less than {SHARES[-1]:.0%} of its tokens")
    return True


def time_steps(runs: ShortRuns, shape: str, turns: int) -> None:
    """Print the time of a step of each optimizer, in turns, and their ratio: the medians over turns."""
    rates: dict[str, list[float]] = {"adamw": [], "muon": []}
    for _ in range(turns):
        for optimizer, measured in rates.items():
            measured.append(tokens_per_second(runs, shape, optimizer))
    ratio = statistics.median(a / m for a, m in zip(rates["adamw"], rates["muon"], strict=True))
    milliseconds = {name: 1000 * BATCH_TOKENS / statistics.median(measured) for name, measured in rates.items()}
    print(
        f"{shape}: {milliseconds['adamw']:.1f} ms a step with AdamW, {milliseconds['muon']:.1f} with Muon: {ratio:.2f}"
    )


def tokens_per_second(runs: ShortRuns, shape: str, optimizer: str) -> float:
    """Median over a few points of the curve."""
    recipe = make_recipe(24 * BATCH_TOKENS, 1e-3, 0, optimizer=optimizer)
    run = Run(size=runs.size(shape), recipe=recipe, corpus=runs.corpus.name, corpus_fingerprint=None)
    points: list[Metrics] = []
    execution = Execution(log_every_steps=4)
    trainer = Trainer(run, execution, stream=runs.corpus.train, worker=Worker(device=CPU))
    trainer.train(log=points.append, save=lambda snapshot: None)
    return statistics.median(point["train/tokens_per_second"] for point in points[1:])


if __name__ == "__main__":
    main()
