"""Scoring speed, side by side: ours and lm-evaluation-harness' `hf` model on the same checkpoint, text and precision.

    make bench-eval

A 30M-parameter GPT-2 (6 layers of 384, 50,257 classes, untrained: speed does not depend on the weights) scores
LAMBADA, WikiText-2 as one rolling text, and cloze questions of ten candidates in the form of the Children's Book Test,
whose own files need a download: twenty sentences of WikiText-2 and a gap in the next. LAMBADA is scored again beside
a process that keeps one core busy, as on any desktop: there threads that wait must not spin. Each side has a process
of its own, as users run them, and they take turns, so that a drift of the machine's speed meets both. The harness is
given whichever of its batch sizes was fastest in a first turn.
"""

import argparse
import json
import logging
import math
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # what is scored is all local
os.environ.setdefault("TQDM_DISABLE", "1")  # a line for each contest says how far it is
sys.path.insert(0, str(Path(__file__).parent.parent))

from ladder.platform.processes import WAIT_POLICY, keep_large_buffers, set_wait_policy  # noqa: E402

if __name__ == "__main__":  # before torch, as `ladder` does; the harness, in a process of its own, has torch's defaults
    set_wait_policy()

import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from upath import UPath  # noqa: E402

from bench.harness import choice_task, last_word_task, open_peer, rolling_task, run_peer  # noqa: E402
from ladder.models.attention import choose_backend  # noqa: E402
from ladder.models.gpt2 import GPT2  # noqa: E402
from ladder.models.sizes import parse_size  # noqa: E402
from ladder.models.tokenizer import load_tokenizer  # noqa: E402
from ladder.models.weights import load_weights, save_weights  # noqa: E402
from ladder.platform.evaluation.benchmark import Benchmark, Setting, benchmark_folder  # noqa: E402
from ladder.platform.evaluation.benchmarks.gpt2 import cbt, lambada, wikitext2  # noqa: E402
from ladder.platform.evaluation.evaluate import make_setting, score_items  # noqa: E402
from ladder.platform.evaluation.protocol import Protocol  # noqa: E402
from ladder.platform.hardware import matrix_rate  # noqa: E402

SIZE = "6x384"
PEER_BATCHES = (1, 4, 16)
PeerTurn = tuple[float, dict[str, float]]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Contest:
    """One task for both."""

    name: str
    """What is scored, with how much of it."""
    ours: Callable[[Setting], float]
    """Scores it with a setting; returns a number to compare."""
    peer: Callable[[], object]
    """Makes the harness' task."""
    metric: str
    """The harness' name of the number to compare."""
    busy: int = 0
    """Processes that keep a core busy beside it."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Times of one contest in one precision."""

    ours: list[float]
    """Seconds of each turn."""
    peer: list[float]
    """Seconds of each turn."""
    peer_batch: int
    """The harness' batch size."""
    numbers: tuple[float, float]
    """The number compared, ours and the peer's."""
    matrix_share: float
    """Our rate in multiplications and additions over the measured rate of a large matrix product."""


def main() -> None:
    """Runs the contests and prints the table."""
    arguments = parse_arguments()
    logging.disable(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    keep_large_buffers()  # as `ladder evaluate` does
    for name in WAIT_POLICY:
        os.environ.pop(name, None)  # read by now, and not for the harness' process
    outcomes = {}
    with tempfile.TemporaryDirectory(prefix="ladder-bench-") as scratch:
        checkpoint = Path(scratch) / "checkpoint"
        model = GPT2(parse_size(SIZE), seed=0)
        save_weights(model, checkpoint, tokenizer="gpt2")
        contests = make_contests(UPath(arguments.storage), UPath(scratch), arguments)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as peer:
            for precision in arguments.precision.split(","):
                setting = open_setting(checkpoint, UPath(scratch), precision)
                for contest in contests:
                    ask = partial(peer.submit, peer_turn, contest.name, precision, scratch, arguments)
                    with keep_busy(contest.busy):
                        outcome = hold(contest, setting, precision, arguments.turns, ask)
                    outcomes[contest.name, precision] = outcome
                    print(describe(contest.name, precision, outcome), file=sys.stderr, flush=True)
    print_table(outcomes, arguments.threads)


def open_setting(checkpoint: Path, scratch: UPath, precision: str) -> Setting:
    """Our side: the checkpoint in a precision, with texts in `scratch`."""
    backend, _ = choose_backend("auto", torch.device("cpu"), DTYPES[precision])
    return make_setting(
        load_weights(str(checkpoint), attention=backend),
        load_tokenizer("gpt2"),
        storage=scratch,
        corpus=None,
        device="cpu",
        precision=precision,
        protocol=Protocol(),
    )


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--storage", default=os.environ.get("LADDER_STORAGE", "storage"), help="where lambada and wikitext2 are fetched"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--passages", type=int, default=128, help="of LAMBADA")
    parser.add_argument("--windows", type=int, default=8, help="of 1,024 tokens of WikiText-2")
    parser.add_argument("--questions", type=int, default=2, help="of ten candidates")
    parser.add_argument("--precision", default="fp32,bf16")
    return parser.parse_args()


def make_contests(storage: UPath, scratch: UPath, arguments: argparse.Namespace) -> list[Contest]:
    """The three tasks, their texts cut to the sizes asked for and written where our benchmarks read them."""
    passages = lambada.read_passages(benchmark_folder(storage, "lambada") / lambada.LAMBADA.files[0].name)[
        : arguments.passages
    ]
    texts = [passage.context + passage.word for passage in passages]
    install(scratch, lambada.LAMBADA, "".join(json.dumps({"text": text}) + "\n" for text in texts))
    wiki = (benchmark_folder(storage, "wikitext2") / wikitext2.WIKITEXT2.files[0].name).read_text()
    tokenizer = load_tokenizer("gpt2")
    rolled = tokenizer.decode(tokenizer.encode(wiki[: arguments.windows * 1024 * 6])[: arguments.windows * 1024])
    install(scratch, cbt.CBT_CN, make_cloze_file(wiki, arguments.questions))
    questions = cbt.read_questions(benchmark_folder(scratch, "cbt-cn") / cbt.CBT_CN.files[0].name)
    documents = [
        {"context": q.context, "choices": [choice.text + choice.rest for choice in q.choices], "answer": q.answer}
        for q in questions
    ]
    return [
        Contest(
            name=f"LAMBADA, {len(texts)} passages",
            ours=lambda setting: score_items(lambada.LAMBADA, setting)[0].measure().value,
            peer=lambda: last_word_task(texts),
            metric="perplexity",
        ),
        Contest(
            name=f"LAMBADA, {len(texts[: arguments.passages // 4])} passages, one busy process beside",
            ours=lambda setting: score_beside(setting, arguments.passages // 4),
            peer=lambda: last_word_task(texts[: arguments.passages // 4]),
            metric="perplexity",
            busy=1,
        ),
        Contest(
            name=f"WikiText-2, {arguments.windows} windows",
            ours=lambda setting: roll(setting, rolled),
            peer=lambda: rolling_task(rolled),
            metric="word_perplexity",
        ),
        Contest(
            name=f"cloze of ten, {len(questions)} questions",
            ours=lambda setting: score_items(cbt.CBT_CN, setting)[0].measure().value,
            peer=lambda: choice_task(documents),
            metric="acc",
        ),
    ]


def score_beside(setting: Setting, n_passages: int) -> float:
    """LAMBADA's perplexity over the first passages."""
    few = replace(setting, protocol=Protocol(limit=n_passages))
    return score_items(lambada.LAMBADA, few)[0].measure().value


@contextmanager
def keep_busy(n_processes: int) -> Iterator[None]:
    """Processes that compute all the time of the block, of this one's priority."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_processes)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def install(scratch: UPath, benchmark: Benchmark, content: str) -> None:
    """Writes a benchmark's file."""
    folder = benchmark_folder(scratch, benchmark.name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / benchmark.files[0].name).write_text(content)


def roll(setting: Setting, text: str) -> float:
    """Perplexity per word of one rolling text, words counted as the harness counts them."""
    nats = setting.scorer.rolling([setting.tokenizer.encode(text)])[0].sum(dtype="float64")
    return math.exp(nats / len(re.split(r"\s+", text)))


def make_cloze_file(wiki: str, n_questions: int) -> str:
    """Questions in the form of the Children's Book Test, of sentences of WikiText-2 and a seeded choice of words."""
    sentences = [s.split() for s in wiki.replace("\n", " ").split(" . ") if 10 <= len(s.split()) <= 40]
    draw = random.Random(0)
    items = []
    for start in range(0, 21 * n_questions, 21):
        *before, query = sentences[start : start + 21]
        words = sorted({word for sentence in before for word in sentence if word.isalpha() and len(word) > 3})
        gap = draw.randrange(3, len(query) - 3)
        candidates = draw.sample([word for word in words if word != query[gap]], 9) + [query[gap]]
        lines = [f"{number} {' '.join(sentence)} ." for number, sentence in enumerate(before, start=1)]
        asked = " ".join([*query[:gap], cbt.GAP, *query[gap + 1 :], "."])
        items.append("\n".join([*lines, f"21 {asked}\t{query[gap]}\t\t{'|'.join(candidates)}"]))
    return "\n\n".join(items) + "\n"


def hold(
    contest: Contest, setting: Setting, precision: str, n_turns: int, ask: Callable[[int], Future[PeerTurn]]
) -> Outcome:
    """Both in turns, after one turn that warms up, picks the harness' batch size and counts our operations.

    `ask` has the harness take a turn with a batch size.
    """
    with FlopCounterMode(display=False) as counter:
        contest.ours(setting)
    tries = {batch: ask(batch).result()[0] for batch in PEER_BATCHES}
    batch = min(tries, key=lambda batch: tries[batch])
    ours, theirs = [], []
    for _ in range(n_turns):
        seconds, value = time_call(lambda: contest.ours(setting))
        ours.append(seconds)
        seconds, metrics = ask(batch).result()
        theirs.append(seconds)
    rate = counter.get_total_flops() / statistics.median(ours)
    return Outcome(
        ours=ours,
        peer=theirs,
        peer_batch=batch,
        numbers=(value, metrics[contest.metric]),
        matrix_share=rate / matrix_rate(torch.device("cpu"), precision),
    )


def peer_turn(name: str, precision: str, scratch: str, arguments: argparse.Namespace, batch: int) -> PeerTurn:
    """One turn of the harness, in its own process: seconds and metrics."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    contests = make_contests(UPath(arguments.storage), UPath(scratch), arguments)
    task = next(contest for contest in contests if contest.name == name).peer()
    peer = open_peer(Path(scratch) / "checkpoint", dtype=DTYPES[precision], batch_size=batch)
    return time_call(lambda: run_peer(peer, task))


def time_call(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call took, and what it gave."""
    started = time.perf_counter()
    value = call()
    return time.perf_counter() - started, value


def describe(name: str, precision: str, outcome: Outcome) -> str:
    """A contest in a line, as soon as it is over."""
    ours, peer = statistics.median(outcome.ours), statistics.median(outcome.peer)
    return f"{name}, {precision}: ours {ours:.2f} s, harness {peer:.2f} s, {peer / ours:.2f} times faster"


def print_table(outcomes: dict[tuple[str, str], Outcome], threads: int) -> None:
    """One row a contest and precision."""
    table = Table("task", "precision", box=None, title=f"{SIZE}, 50,257 classes, {threads} threads")
    for title in ("ours, s", "harness, s", "its batch", "times faster", "ours", "harness", "share of matrix rate"):
        table.add_column(title, justify="right")
    for (name, precision), outcome in outcomes.items():
        ours, peer = statistics.median(outcome.ours), statistics.median(outcome.peer)
        numbers = [f"{number:.6g}" for number in outcome.numbers]
        ratio, share = f"{peer / ours:.2f}", f"{outcome.matrix_share:.0%}"
        table.add_row(name, precision, f"{ours:.2f}", f"{peer:.2f}", f"{outcome.peer_batch}", ratio, *numbers, share)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
