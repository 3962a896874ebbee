"""Training speed, side by side: tokens a second inside a Ray run with tracking on, and of `transformers`' GPT-2 in a
bare loop of the same shape, batch, precision and threads.

    make bench

The two take turns, so that a drift of the machine's speed meets both; a ratio of medians is printed for each shape and
precision, with the share of the machine's measured matrix rate that ours reaches.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import GPT2Config, GPT2LMHeadModel
from upath import UPath

from ladder.models.sizes import Size
from ladder.platform.corpus.build import build_corpus
from ladder.platform.corpus.store import Corpus
from ladder.platform.hardware import matrix_rate
from ladder.platform.launching.sweep import run_sweep
from ladder.platform.runs.curve import read_curve
from ladder.platform.storage import run_folder
from ladder.sweeps.words import Execution, Recipe, Run, Sweep, grid

SHAPES = {
    # name: layers, width, heads, sequences in a batch (context 256, 512 classes)
    "0.8M": (4, 128, 2, 32),
    "11M": (6, 384, 6, 16),
}
CONTEXT, VOCABULARY = 256, 512


def peer_rates(shape: str, precision: str, steps: int, threads: int) -> list[float]:
    """Tokens a second of each step of a bare loop around `transformers`' GPT-2, without its dropout."""
    n_layer, d_model, n_head, sequences = SHAPES[shape]
    torch.set_num_threads(threads)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=d_model, n_layer=n_layer, n_head=n_head,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel._from_config(config, attn_implementation="sdpa")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    tokens = torch.randint(0, 257, (sequences, CONTEXT))
    rates = []
    for _ in range(steps):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        rates.append(tokens.numel() / (time.perf_counter() - started))
    return rates[2:]  # the first steps allocate


def our_rates(
    shape: str, precision: str, steps: int, threads: int, corpus: Corpus, storage: UPath, turn: int
) -> list[float]:
    """Tokens a second between the points of the curve of a run on Ray, with MLflow."""
    n_layer, d_model, n_head, sequences = SHAPES[shape]
    size = Size(name=shape, n_layer=n_layer, d_model=d_model, n_head=n_head, context=CONTEXT, vocabulary=VOCABULARY)
    batch = sequences * CONTEXT
    recipe = Recipe(tokens=steps * batch, batch_tokens=batch, lr_peak=1e-4, precision=precision, seed=turn)  # type: ignore[arg-type]
    run = Run(size=size, recipe=recipe, corpus=corpus.name, corpus_fingerprint=corpus.fingerprint)
    sweep = Sweep(
        name="bench",
        corpus=corpus.name,
        points=grid(sizes=("2x64",), tokens=(1,)),  # the runs are made by hand: 512 classes are no tokenizer's
        recipe=lambda size, tokens, seed: recipe,
        heldout_tokens=CONTEXT,
        execution=Execution(cpus_per_worker=threads, log_every_steps=5),
    )
    run_sweep(sweep, [run], corpus=corpus, storage=storage, tracking=f"sqlite:///{storage}/mlflow.db")
    curve = read_curve(run_folder(storage, "bench", run.key))
    return [point["train/tokens_per_second"] for point in curve[1:]]  # the first steps allocate


def make_corpus(storage: UPath) -> Corpus:
    """A corpus of a few megabytes, larger than the longest run."""
    for index in range(20):
        sentence = f"{index} All work and no play makes a dull corpus, says the bench. "
        (storage / f"text{index}.txt").write_text(sentence * 4000)
    return build_corpus(storage, "bench", [storage], tokenizer="bytes", heldout=0.2, progress=False)


def measure(shapes: Sequence[str], precisions: Sequence[str], turns: int, threads: int) -> Table:
    """The table of ratios."""
    table = Table(
        title=f"{threads} threads, context {CONTEXT}, {VOCABULARY} classes, {turns} turns", title_justify="left"
    )
    for name in ("shape", "precision", "ladder tokens/s", "transformers tokens/s", "ratio", "of matrix rate"):
        table.add_column(name, justify="right")
    with tempfile.TemporaryDirectory(prefix="ladder-bench-") as folder:
        storage = UPath(Path(folder))
        corpus = make_corpus(storage)
        for shape in shapes:
            n_layer, d_model, n_head, _ = SHAPES[shape]
            size = Size(
                name=shape, n_layer=n_layer, d_model=d_model, n_head=n_head, context=CONTEXT, vocabulary=VOCABULARY
            )
            for precision in precisions:
                ours: list[float] = []
                peers: list[float] = []
                for turn in range(turns):
                    peers += peer_rates(shape, precision, 22, threads)
                    ours += our_rates(shape, precision, 30, threads, corpus, storage, turn)
                rate, peer = statistics.median(ours), statistics.median(peers)
                share = rate * size.flops_per_token / matrix_rate(torch.device("cpu"), precision)
                table.add_row(shape, precision, f"{rate:,.0f}", f"{peer:,.0f}", f"{rate / peer:.2f}", f"{share:.0%}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp32"], choices=["bf16", "fp32"])
    parser.add_argument("--turns", type=int, default=3, help="how often each side has its turn")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    Console(width=110).print(measure(arguments.shapes, arguments.precisions, arguments.turns, arguments.threads))


if __name__ == "__main__":
    main()
