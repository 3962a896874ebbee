"""Training speed on this processor, side by side: our bare loop, `transformers` and a plain PyTorch GPT-2 with SDPA
in loops of their own, of the same shape, batch, precision and threads; and our loop inside a run on Ray with tracking.

    make bench

The sides take turns in slices of about a second, so that a drift of the machine meets all of them; each ratio is
the median of the turns' ratios. Precisions are those that the processor has instructions for, the fastest first. What
other processes took of the processor is measured in every slice: where it is too much, the row says so in place of a
number.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import psutil  # noqa: E402
import torch  # noqa: E402
from plain import PlainGPT2, PlainLoop  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel  # noqa: E402
from upath import UPath  # noqa: E402

from ladder.models.sizes import Size  # noqa: E402
from ladder.platform.corpus.build import build_corpus  # noqa: E402
from ladder.platform.hardware import matrix_rate, resolve_precision  # noqa: E402
from ladder.platform.launching.sweep import run_sweep  # noqa: E402
from ladder.platform.processes import keep_large_buffers  # noqa: E402
from ladder.platform.runs.curve import read_curve  # noqa: E402
from ladder.platform.storage import run_folder  # noqa: E402
from ladder.platform.training.speed import BareLoop  # noqa: E402
from ladder.sweeps.words import Execution, Recipe, Run, Sweep, grid  # noqa: E402

CPU = torch.device("cpu")
CONTEXT = 256


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row: a shape, and how long it is measured."""

    size: Size
    sequences: int
    """Of a step."""
    seconds: float
    """Time for all its turns, after warming up."""


def case(name: str, shape: tuple[int, int, int], vocabulary: int, sequences: int, seconds: float) -> Case:
    """A case of a shape: layers, width, heads."""
    n_layer, d_model, n_head = shape
    size = Size(name=name, n_layer=n_layer, d_model=d_model, n_head=n_head, context=CONTEXT, vocabulary=vocabulary)
    return Case(size=size, sequences=sequences, seconds=seconds)


CASES = {
    "0.8M": case("0.8M", (4, 128, 2), 512, 32, 8),
    "11M": case("11M", (6, 384, 6), 512, 16, 12),
    "117M": case("117M", (12, 768, 12), 50257, 4, 16),
}
SLICE_SECONDS = 0.7
"""A side's turn lasts so long, or one step."""
MOST_OTHERS = 0.05
"""Share of the processor that others may take in a slice."""
LATEST_SECONDS = 120.0
"""Rows that would begin later than this are left out, so that all is over in three minutes."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """What a turn of one side gave."""

    rate: float
    """Tokens a second."""
    others: float
    """Share of the processor that other processes took meanwhile."""


class Loops:
    """The three sides of a case, ready to take turns."""

    def __init__(self, a_case: Case, precision: str) -> None:
        size = a_case.size
        self.tokens = a_case.sequences * size.context
        ours = BareLoop(
            size, batch_sequences=a_case.sequences, precision=precision, execution=Execution(), device=CPU  # type: ignore[arg-type]
        )  # fmt: skip
        plain = PlainLoop(
            PlainGPT2(
                n_layer=size.n_layer, d_model=size.d_model, n_head=size.n_head, context=size.context,
                vocabulary=size.vocabulary,
            ), precision=precision, device=CPU,
        )  # fmt: skip
        peer = make_peer(size, precision)
        batch = ours.batch
        self.sides = {"ladder": ours.step, "transformers": lambda: peer(batch), "plain": lambda: plain.step(batch)}
        for step in self.sides.values():
            started = time.perf_counter()
            step()  # the first steps allocate
            if time.perf_counter() - started < 2:
                step()

    def take_turns(self, seconds: float) -> Iterator[dict[str, Slice]]:
        """Turns of all sides until the time is over, at least two; the order turns too."""
        until = time.perf_counter() + seconds
        names = list(self.sides)
        turn = 0
        while turn < 2 or time.perf_counter() < until:
            order = names[turn % 3 :] + names[: turn % 3]
            yield {name: time_slice(self.sides[name], self.tokens) for name in order}
            turn += 1


def make_peer(size: Size, precision: str) -> Any:
    """A step of `transformers`' GPT-2 without its dropout, with PyTorch's AdamW as it comes."""
    config = GPT2Config(
        vocab_size=size.vocabulary, n_positions=size.context, n_embd=size.d_model, n_layer=size.n_layer,
        n_head=size.n_head, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel._from_config(config, attn_implementation="sdpa")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(batch: torch.Tensor) -> None:
        tokens = batch[:, :-1]
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def time_slice(step: Any, tokens: int) -> Slice:
    """Steps of one side for about SLICE_SECONDS, and what others took of the processor meanwhile."""
    started, own, all_of_it = time.perf_counter(), time.process_time(), busy_seconds()
    steps = 0
    while time.perf_counter() - started < SLICE_SECONDS:
        step()
        steps += 1
    wall = time.perf_counter() - started
    others = (busy_seconds() - all_of_it) - (time.process_time() - own)
    return Slice(rate=steps * tokens / wall, others=max(0.0, others) / (wall * (os.cpu_count() or 1)))


def busy_seconds() -> float:
    """Seconds that all processors together were busy since the start, what a hypervisor took included."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def measure(name: str, precision: str, table: Table) -> None:
    """Adds the row of a case."""
    a_case = CASES[name]
    loops = Loops(a_case, precision)
    turns = []
    for turn in loops.take_turns(a_case.seconds):
        turns.append(turn)
        told = ", ".join(f"{side} {turn[side].rate:,.0f}" for side in loops.sides)
        print(f"  {name} {precision} turn {len(turns)}: {told} tokens/s", file=sys.stderr, flush=True)
    quiet = [turn for turn in turns if all(part.others <= MOST_OTHERS for part in turn.values())]
    if 2 * len(quiet) < len(turns) or not quiet:
        others = statistics.median(part.others for turn in turns for part in turn.values())
        table.add_row(name, precision, f"too busy to tell: others took {others:.0%} of the processor")
        return
    median = {side: statistics.median(turn[side].rate for turn in quiet) for side in loops.sides}
    ratio = {side: statistics.median(turn["ladder"].rate / turn[side].rate for turn in quiet) for side in loops.sides}
    share = median["ladder"] * a_case.size.flops_per_token / matrix_rate(CPU, precision)
    table.add_row(
        name, precision, *(f"{rate:,.0f}" for rate in median.values()), f"{ratio['transformers']:.2f}",
        f"{ratio['plain']:.2f}", f"{share:.0%}", f"{len(quiet)} of {len(turns)}",
    )  # fmt: skip


def measure_on_ray(name: str, precision: str, threads: int, steps: int) -> str:
    """One sentence: tokens a second between the points of the curve of a run on Ray with MLflow, beside the bare loop's
    before and after it."""
    a_case = CASES[name]
    loop = BareLoop(
        a_case.size, batch_sequences=a_case.sequences, precision=precision, execution=Execution(), device=CPU  # type: ignore[arg-type]
    )  # fmt: skip
    batch = a_case.sequences * CONTEXT
    loop.step()
    bare = [time_slice(loop.step, batch) for _ in range(6)]
    with tempfile.TemporaryDirectory(prefix="ladder-bench-") as folder:
        inside = rates_on_ray(a_case, precision, threads, steps, UPath(Path(folder)))
    bare += [time_slice(loop.step, batch) for _ in range(6)]
    if statistics.median(part.others for part in bare) > MOST_OTHERS:
        return f"{name} {precision} on Ray: too busy to tell"
    rate, reference = statistics.median(inside), statistics.median(part.rate for part in bare)
    return (
        f"{name} {precision} in a run on Ray with tracking: {rate:,.0f} tokens/s, {rate / reference - 1:+.1%} of bare"
    )


def rates_on_ray(a_case: Case, precision: str, threads: int, steps: int, storage: UPath) -> list[float]:
    """Tokens a second at each point of the curve but the first."""
    for index in range(20):
        sentence = f"{index} All work and no play makes a dull corpus, says the bench. "
        (storage / f"text{index}.txt").write_text(sentence * 4000)
    corpus = build_corpus(storage, "bench", [storage], tokenizer="bytes", heldout=0.2, progress=False)
    batch = a_case.sequences * CONTEXT
    recipe = Recipe(tokens=steps * batch, batch_tokens=batch, lr_peak=1e-4, precision=precision)  # type: ignore[arg-type]
    run = Run(size=a_case.size, recipe=recipe, corpus=corpus.name, corpus_fingerprint=corpus.fingerprint)
    sweep = Sweep(
        name="bench",
        corpus=corpus.name,
        points=grid(sizes=("2x64",), tokens=(1,)),  # the runs are made by hand: 512 classes are no tokenizer's
        recipe=lambda size, tokens, seed: recipe,
        heldout_tokens=CONTEXT,
        execution=Execution(cpus_per_worker=threads, log_every_steps=10),
    )
    run_sweep(sweep, [run], corpus=corpus, storage=storage, tracking=f"sqlite:///{storage}/mlflow.db")
    curve = read_curve(run_folder(storage, "bench", run.key))
    return [point["train/tokens_per_second"] for point in curve[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument(
        "--precisions", nargs="+", choices=["bf16", "fp32"], help="default: fp32, and bf16 where it is faster"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-ray", action="store_true", help="leave the run on Ray out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_large_buffers()
    precisions = arguments.precisions or (["bf16", "fp32"] if resolve_precision("auto", CPU) == "bf16" else ["fp32"])
    table = Table(title=f"{arguments.threads} threads, context {CONTEXT}; tokens/s, and ours over theirs", box=None)
    names = ("shape", "precision", "ladder", "transformers", "plain", "over tf", "over plain", "matrix rate", "quiet")
    for name in names:
        table.add_column(name, justify="right")
    started = time.perf_counter()
    for precision in precisions:
        for shape in arguments.shapes:
            if time.perf_counter() - started > LATEST_SECONDS:
                table.add_row(shape, precision, "left out: the machine is slow or busy, and three minutes are over")
            else:
                measure(shape, precision, table)
    told = None
    if not arguments.no_ray and time.perf_counter() - started < LATEST_SECONDS:
        told = measure_on_ray("11M", precisions[0], arguments.threads, steps=60)
    Console(width=120).print(table)
    if told:
        print(told)
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
