"""The loss and the schedule are those of the paper, and what is taken over, padded or shared changes nothing else."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ladder.models.classifier import Classifier
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.models.weights import read_weights
from ladder.platform.finetuning.batches import collate
from ladder.platform.finetuning.inputs import Encoded, SpecialTokens, encode
from ladder.platform.finetuning.objective import FineTune, TaskLoss
from ladder.platform.finetuning.registry import TASKS
from ladder.platform.finetuning.task import Example, Task
from ladder.platform.training.checkpoint import write_checkpoint
from ladder.platform.training.train import Metrics, Trainer
from ladder.platform.training.worker import Worker
from ladder.sweeps.finetuning import FineTuning, FineTuningRun
from ladder.sweeps.words import Execution

CPU = torch.device("cpu")
SIZE = parse_size("2x32h2", context=40, vocabulary=257)
SPECIAL = SpecialTokens.after(257)
RECIPE = FineTuning(lr_peak=2e-3, batch_examples=8, epochs=2, dropout=0.0, precision="fp32", length_pool=2)
EVERY_KIND = ("sst2", "snli", "mrpc", "stsb", "race")
WEIGHTS = GPT2(SIZE, seed=11).state_dict()


def examples(task: Task, n: int = 40) -> list[Encoded]:
    """Examples with texts of random letters, of different lengths."""
    draw = np.random.default_rng(5)
    texts = 2 + task.options if task.options else 1 if task.kind.value == "classification" else 2
    made = [
        Example(
            texts=tuple("".join(map(chr, draw.integers(97, 105, draw.integers(2, 9)))) for _ in range(texts)),
            label=float(draw.uniform(0, 5)) if task.answers is None else int(draw.integers(task.answers)),
        )
        for _ in range(n)
    ]
    return encode(task, made, load_tokenizer("bytes"), context=SIZE.context, split="train")


def objective(task_name: str, recipe: FineTuning = RECIPE, weights: dict[str, Tensor] | None = WEIGHTS) -> FineTune:
    run = FineTuningRun(
        size=SIZE,
        tokenizer="bytes",
        checkpoint=None if recipe.layers == "nothing" else "sha",
        task=task_name,
        data="data",
        recipe=recipe,
    )
    given = None if recipe.layers == "nothing" else lambda: weights or {}
    return FineTune(run, TASKS[task_name], examples(TASKS[task_name]), given)


def trainer(made: FineTune, **execution: object) -> Trainer:
    settings = Execution(**{"log_every_steps": 1, **execution})  # type: ignore[arg-type]
    return Trainer(made.training, settings, objective=made, worker=Worker(device=CPU))


def trained(made: FineTune, **execution: object) -> tuple[list[Metrics], dict[str, Tensor]]:
    points: list[Metrics] = []
    a_trainer = trainer(made, **execution)
    a_trainer.train(log=points.append, save=lambda snapshot: None)
    return points, a_trainer.model.state_dict()


def reference_loss(model: Classifier, task: Task, one: Encoded, lm_weight: float) -> Tensor:
    """One example's loss as the paper writes it, sequence by sequence, with all logits."""
    states, nats = [], []
    for sequence in one.sequences(SPECIAL):
        tokens = torch.from_numpy(sequence).long()[None]
        logits = model(tokens)[0, :-1]
        nats.append(F.cross_entropy(logits, tokens[0, 1:]))
        states.append(model.hidden(tokens)[0, -1])
    if task.options:
        answers = torch.cat([model.score(state) for state in states])
    else:
        answers = model.score(torch.stack(states).sum(0))
    if task.answers is None:
        of_task = (answers[0] - one.label / 5) ** 2
    else:
        of_task = F.cross_entropy(answers[None], torch.tensor([int(one.label)]))
    return of_task + lm_weight * torch.stack(nats).mean()


def reference_training(made: FineTune, lm_weight: float) -> tuple[list[float], list[float], dict[str, Tensor]]:
    """Losses, learning rates and last weights of the same batches in a plain loop."""
    model = made.build(attention="reference", activation_checkpointing=False).model
    assert isinstance(model, Classifier)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)
    losses, rates, steps = [], [], len(made.order)
    for step, rows in enumerate(made.order):
        x = step / steps
        rates.append(2e-3 * min(1, x / 0.002) * (1 - x))
        loss = torch.stack([reference_loss(model, made.task, made.examples[row], lm_weight) for row in rows]).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rates[-1]
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, rates, model.state_dict()


@pytest.mark.parametrize("task", EVERY_KIND)
def test_training_is_the_papers_written_out(task: str) -> None:
    losses, rates, weights = reference_training(objective(task), 0.5)
    points, ours = trained(objective(task))
    assert [point["train/lr"] for point in points] == pytest.approx(rates, rel=1e-12)
    assert rates[0] == 0 and rates[-1] == pytest.approx(2e-3 * 1 / len(rates))
    assert [point["train/loss"] for point in points] == pytest.approx(losses, rel=2e-5)
    for name, values in weights.items():
        if name == "score.bias" and TASKS[task].options:
            continue  # options are compared with each other: its gradient is 0, and Adam makes a step of the rounding
        assert torch.allclose(ours[name], values, atol=2e-5), name


def test_without_the_language_model_it_is_plain_cross_entropy() -> None:
    losses, _, _ = reference_training(objective("snli", replace(RECIPE, lm_weight=0.0)), 0.0)
    points, _ = trained(objective("snli", replace(RECIPE, lm_weight=0.0)))
    assert [point["train/loss"] for point in points] == pytest.approx(losses, rel=2e-5)
    assert points[0]["train/loss"] == pytest.approx(math.log(3), abs=0.2)


def test_the_curve_counts_tokens_without_padding() -> None:
    made = objective("mrpc")
    points, _ = trained(made)
    wanted = [sum(sum(made.examples[row].lengths) for row in rows) for rows in made.order]
    assert [point["train/tokens"] for point in points] == np.cumsum(wanted).tolist()
    assert 0 < made.padding_share < 0.5


def test_all_blocks_is_the_checkpoint_and_nothing_is_training_from_scratch() -> None:
    everything = objective("sst2").build(attention="reference", activation_checkpointing=False).model.state_dict()
    scratch = Classifier(objective("sst2").training.size, outputs=2, seed=0).state_dict()
    nothing = objective("sst2", replace(RECIPE, layers="nothing"))
    for name, values in WEIGHTS.items():
        rows = slice(0, 257) if name == "wte.weight" else slice(None)
        assert torch.equal(everything[name][rows], values), name
    assert torch.equal(everything["wte.weight"][257:], scratch["wte.weight"][257:])
    assert torch.equal(everything["score.weight"], scratch["score.weight"])
    of_nothing = nothing.build(attention="reference", activation_checkpointing=False).model.state_dict()
    assert all(torch.equal(values, scratch[name]) for name, values in of_nothing.items())
    assert torch.allclose(scratch["wte.weight"][257:].std(), torch.tensor(0.02), rtol=0.3)


def test_a_checkpoint_that_is_what_scratch_draws_is_trained_bit_for_bit_as_scratch() -> None:
    scratch = objective("sst2", replace(RECIPE, layers="nothing", dropout=0.1))
    drawn = scratch.build(attention="reference", activation_checkpointing=False).model.state_dict()
    own = {name: drawn[name][:257] if name == "wte.weight" else drawn[name] for name in WEIGHTS}
    taken, wanted = trained(objective("sst2", replace(RECIPE, dropout=0.1), own)), trained(scratch)
    assert [point["train/loss"] for point in taken[0]] == [point["train/loss"] for point in wanted[0]]
    assert all(torch.equal(values, wanted[1][name]) for name, values in taken[1].items())


def test_some_blocks_come_with_embeddings_and_without_the_final_norm() -> None:
    changed = {name: values + 1 for name, values in WEIGHTS.items()}
    for layers, blocks in (("embeddings", 0), ("1", 1)):
        made = objective("sst2", replace(RECIPE, layers=layers), changed)
        state = made.build(attention="reference", activation_checkpointing=False).model.state_dict()
        for name, values in changed.items():
            taken = name in ("wte.weight", "wpe.weight") or any(name.startswith(f"h.{n}.") for n in range(blocks))
            rows = slice(0, 257) if name == "wte.weight" else slice(None)
            assert torch.equal(state[name][rows], values) == taken, name


def answers(loss: TaskLoss, chosen: Sequence[Encoded]) -> Tensor:
    batch = collate(chosen, SPECIAL)
    with torch.no_grad():
        return loss.answers(loss.model.hidden(batch.tokens), batch)


def built(task: str, recipe: FineTuning = RECIPE) -> TaskLoss:
    """A loss whose weights are ten times as large, so that answers differ."""
    loss = objective(task, recipe).build(attention="blocked", activation_checkpointing=False)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.mul_(1 if parameter.ndim == 1 else 5)
    return loss


@pytest.mark.parametrize("task", EVERY_KIND)
def test_padding_and_batch_mates_change_no_answer(task: str) -> None:
    loss, chosen = built(task), examples(TASKS[task], 12)
    alone = torch.cat([answers(loss, [one]) for one in chosen])
    together = answers(loss, chosen)
    assert alone.std() > 0.1
    assert torch.allclose(alone, together, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("task", ["mrpc", "stsb"])
def test_similarity_is_symmetric_exactly(task: str) -> None:
    texts = [("one thing", "another"), ("x" * 30, "y" * 30), ("a", "a b c")]
    loss = built(task, replace(RECIPE, dropout=0.3))
    for a, b in texts:
        pair = [Example(texts=order, label=1) for order in ((a, b), (b, a))]
        ab, ba = encode(TASKS[task], pair, load_tokenizer("bytes"), context=SIZE.context, split="dev")
        assert torch.equal(answers(loss, [ab]), answers(loss, [ba]))
        assert torch.equal(loss(collate([ab], SPECIAL)), loss(collate([ba], SPECIAL))), "in training too"


def test_options_of_a_question_share_one_mask_of_dropout_and_questions_do_not() -> None:
    loss = built("race", replace(RECIPE, dropout=0.3))
    question = Example(texts=("some text", "\nq?", " same", " same", " same", " same"), label=0)
    one = encode(TASKS["race"], [question], load_tokenizer("bytes"), context=SIZE.context, split="train")[0]
    batch = collate([one, one], SPECIAL, seed=3)
    dropout = loss._dropout(batch)
    assert dropout is not None
    given = loss.answers(loss.model.hidden(batch.tokens, dropout=dropout), batch, dropout)
    assert torch.allclose(given, given[:, :1].expand_as(given), atol=1e-6)
    assert not torch.allclose(given[0], given[1], atol=1e-3)
    kept = answers(loss, [one, one])
    assert torch.allclose(kept[0], kept[1], atol=1e-6) and not torch.allclose(kept[0], given[0], atol=1e-3)


def test_dropout_is_the_same_where_a_block_is_computed_again() -> None:
    recipe = replace(RECIPE, dropout=0.2)
    plain, _ = trained(objective("race", recipe))
    again, _ = trained(objective("race", recipe), activation_checkpointing=True)
    assert [p["train/grad_norm"] for p in plain] == pytest.approx([p["train/grad_norm"] for p in again], rel=1e-5)


def test_micro_batches_keep_the_options_of_a_question_together() -> None:
    whole, _ = trained(objective("race"))
    parts = trainer(objective("race"), micro_batch_tokens=6 * SIZE.context)
    assert parts.micro == 4, "6 sequences at once are one question of 4"
    points: list[Metrics] = []
    parts.train(log=points.append, save=lambda snapshot: None)
    assert [p["train/loss"] for p in points] == pytest.approx([p["train/loss"] for p in whole], rel=1e-5)


def test_a_checkpoint_holds_the_head_and_the_rows_of_the_special_tokens(tmp_path: Path) -> None:
    made = objective("sst2")
    saved = trainer(made)
    saved.train(log=lambda metrics: None, save=lambda snapshot: write_checkpoint(tmp_path, snapshot, tokenizer="bytes"))
    model = Classifier(made.training.size, outputs=2, seed=99)
    model.load_state_dict(read_weights(tmp_path, model))
    for name, values in saved.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], values), name
    assert model.wte.weight.shape[0] == 260
