"""Short runs on a real corpus, by which `transfer.py` and `muon.py` compare recipes.

A run is trained once, by ladder's own `Trainer`, and its held-out loss kept in a file: a JSON line for each run, found
again by its key, so a script that is stopped and started again goes on where it was.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from upath import UPath

from ladder.models.gpt2 import GPT2
from ladder.models.loss import next_token_nats
from ladder.models.sizes import Size, parse_size
from ladder.platform.corpus.pydocs import ensure_corpus
from ladder.platform.corpus.store import Corpus
from ladder.platform.corpus.stream import TokenStream
from ladder.platform.runs.checkpoints import MARK
from ladder.platform.training.checkpoint import Snapshot, write_checkpoint
from ladder.platform.training.train import Diverged, Trainer
from ladder.platform.training.worker import Worker
from ladder.sweeps.rules import ceil_to_multiple, share_of_tokens
from ladder.sweeps.words import Execution, Recipe, Run

CPU = torch.device("cpu")
RESULTS = Path("storage/bench/short-runs.jsonl")
"""One file for both scripts, which have runs in common."""
CONTEXT = 32
"""With 128, runs stay at the loss of pairs of bytes for .7M bytes, and when they leave it decides the rest; with 32 for
less than .3M."""
BATCH_TOKENS = 8 * CONTEXT
"""Few, since a rate is good or bad for a number of steps: a step of these sizes costs what its tokens cost."""
HELDOUT_WINDOWS = 1024
"""Of CONTEXT tokens each: the standard error of a difference between two recipes on the same windows is below 0.003."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that both scripts have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--storage", default="./storage", help="where the corpus is, or is built")
    made.add_argument("--corpus", default="pydocs", help="a built corpus; pydocs is built, byte by byte, if absent")
    made.add_argument("--results", type=Path, default=RESULTS, help="the runs that are done, one JSON line each")
    made.add_argument("--seeds", type=int, nargs="+", default=[0])
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--seconds", type=float, default=float("inf"), help="no run is begun after so many")
    return made


def make_recipe(tokens: int, lr_peak: float, seed: int, **changes: Any) -> Recipe:
    """A recipe of `tokens`, rounded up to whole batches, that warms up over a tenth and decays along a cosine."""
    tokens = ceil_to_multiple(tokens, BATCH_TOKENS)
    return Recipe(
        tokens=tokens,
        batch_tokens=BATCH_TOKENS,
        lr_peak=lr_peak,
        warmup_tokens=share_of_tokens(0.1, tokens, BATCH_TOKENS),
        seed=seed,
        precision="fp32",  # or machines with bf16 and without would not compare the same runs
        **changes,
    )


class ShortRuns:
    """Trains runs that are not done yet, and knows the results of those that are."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.set_num_threads(options.threads)
        self.path: Path = options.results
        self.corpus: Corpus = ensure_corpus(UPath(options.storage), options.corpus)
        self.done: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            self.done = {result["run"]: result for result in map(json.loads, self.path.read_text().splitlines())}
        self.ends = time.monotonic() + options.seconds

    def size(self, shape: str) -> Size:
        """A shape with the corpus's vocabulary and the context of these runs."""
        return parse_size(shape, context=CONTEXT, vocabulary=self.corpus.vocabulary)

    def loss(self, shape: str, recipe: Recipe) -> float | None:
        """Held-out nats per token of a run, trained now if it is not done; None where there is no time left for it.

        A run that diverges has an infinite loss.
        """
        run = Run(
            size=self.size(shape), recipe=recipe, corpus=self.corpus.name, corpus_fingerprint=self.corpus.fingerprint
        )
        if run.key not in self.done:
            if time.monotonic() > self.ends:
                return None
            self._train(run)
        loss = self.done[run.key]["heldout_loss"]
        return float("inf") if loss is None else loss

    def _train(self, run: Run) -> None:
        folder = self.path.parent / "unfinished" / run.key
        trainer = Trainer(
            run,
            Execution(log_every_steps=20, checkpoint_seconds=20.0),
            stream=self.corpus.train,
            worker=Worker(device=CPU),
            resume=folder if (folder / MARK).exists() else None,
        )
        loss: float | None
        try:
            trainer.train(log=lambda point: None, save=lambda snapshot: save(snapshot, folder))
            loss = heldout_loss(trainer.model, self.corpus.heldout)
        except Diverged:
            loss = None
        recipe = run.recipe
        result = {
            "run": run.key,
            "size": run.size.name,
            "lr_peak": recipe.lr_peak,
            "tokens": recipe.tokens,
            "seed": recipe.seed,
            "optimizer": recipe.optimizer,
            "parametrization": recipe.parametrization,
            "precision": recipe.precision,
            "heldout_loss": loss,
            "seconds_training": trainer.state.seconds_training,
        }
        self.done[run.key] = result
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(result) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        print({name: result[name] for name in ("size", "optimizer", "parametrization", "lr_peak", "seed")}, loss)


def save(snapshot: Snapshot, folder: Path) -> None:
    """Replace the checkpoint in `folder` by a new one, from which a run that is stopped goes on."""
    written = folder.with_name(folder.name + f".{os.getpid()}")
    (written / MARK).write_text(json.dumps(write_checkpoint(written, snapshot, tokenizer="bytes")))
    shutil.rmtree(folder, ignore_errors=True)
    written.rename(folder)


@torch.no_grad()
def heldout_loss(model: GPT2, stream: TokenStream) -> float:
    """Nats per token over the first windows of the held-out split, in fp32."""
    n_windows = min(HELDOUT_WINDOWS, (stream.n_tokens - 1) // CONTEXT)
    nats = 0.0
    for first in range(0, n_windows, 64):
        windows = range(first, min(first + 64, n_windows))
        batch = torch.stack([torch.from_numpy(stream.read(w * CONTEXT, CONTEXT + 1)) for w in windows])
        nats += float(next_token_nats(model.hidden(batch[:, :-1]), model.wte.weight, batch[:, 1:]))
    return nats / (n_windows * CONTEXT)


def best_rate(loss: Callable[[float], float | None], start: float, *, around: int) -> dict[float, float] | None:
    """Losses by learning rate, in steps of two from `start` until the best has `around` worse ones on either side.

    None where there is no time left for a run that is needed.
    """
    losses: dict[float, float] = {}
    best = start
    while True:
        for step in sorted(range(-around, around + 1), key=abs):
            rate = best * 2.0**step
            if rate not in losses:
                found = loss(rate)
                if found is None:
                    return None
                losses[rate] = found
        if losses[best] == min(losses.values()):
            return dict(sorted(losses.items()))
        best = min(losses, key=losses.__getitem__)
