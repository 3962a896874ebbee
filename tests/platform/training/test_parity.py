"""Loss parity: `transformers`' GPT-2 in a plain loop has our loss curve on the same data, seed and recipe."""

import math
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2LMHeadModel

from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.weights import save_tensors
from ladder.platform.corpus.batches import batch_at
from ladder.platform.training.train import Metrics, Trainer
from ladder.platform.training.worker import Worker
from ladder.sweeps.words import Execution, Recipe, Run

STEPS, SEQUENCES = 200, 4
SIZE = parse_size("2x64h2", context=64, vocabulary=257)
BATCH = SEQUENCES * SIZE.context
RECIPE = Recipe(
    tokens=STEPS * BATCH, batch_tokens=BATCH, lr_peak=2e-3, warmup_tokens=10 * BATCH, precision="fp32", seed=3
)
RUN = Run(size=SIZE, recipe=RECIPE, corpus="words", corpus_fingerprint="0")


class Text:
    """Words in an order of chance, as bytes: there is something to learn in 200 steps, and no end to it."""

    def __init__(self) -> None:
        words = ["ladder", "river", "house", "boat", "wall", "paint", "rain", "stone", "the", "of", "and", "went"]
        order = np.random.default_rng(0).integers(0, len(words), 12_000)
        self.tokens = np.frombuffer(" ".join(words[i] for i in order).encode(), dtype=np.uint8).astype(np.int64)
        self.n_tokens = len(self.tokens)

    def read(self, start: int, n: int) -> np.ndarray:
        return self.tokens[start : start + n]


def our_losses() -> list[float]:
    points: list[Metrics] = []
    worker = Worker(device=torch.device("cpu"))
    trainer = Trainer(RUN, Execution(log_every_steps=1, micro_batch_tokens=2 * 64), stream=Text(), worker=worker)
    trainer.train(log=points.append, save=lambda snapshot: None)
    return [point["train/loss"] for point in points]


def plain_rate(step: int) -> float:
    """The recipe's learning rate, written out: linear warm-up over 10 steps, half a cosine to a tenth."""
    if step < 10:
        return RECIPE.lr_peak * (step + 1) / 10
    return RECIPE.lr_peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - 10) / (STEPS - 11))))


def peer_losses(folder: Path) -> list[float]:
    """The plain loop: its own network, mean loss, PyTorch's AdamW as it comes, the weights of our seed."""
    save_tensors(dict(GPT2(SIZE, seed=RECIPE.seed).state_dict()), SIZE, folder, tokenizer="bytes")
    model = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager").train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = plain_rate(step)
        batch = torch.from_numpy(
            batch_at(
                Text(),
                step=step,
                rows=range(SEQUENCES),
                batch_sequences=SEQUENCES,
                context=SIZE.context,
                seed=RECIPE.seed,
            )
        )
        logits = model(input_ids=batch[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_two_hundred_steps_have_the_loss_curve_of_transformers(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    ours, theirs = our_losses(), peer_losses(tmp_path)
    assert len(ours) == len(theirs) == STEPS and ours[-1] < ours[0] - 2, "something was learned"
    difference = np.abs(np.array(ours) - np.array(theirs)).max()
    print(f"largest difference of 200 losses: {difference:.2g} nats; {ours[0]:.4f} to {ours[-1]:.4f}")
    assert difference < 1e-3
