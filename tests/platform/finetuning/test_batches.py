"""Which examples a step sees."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ladder.models.errors import InputError
from ladder.platform.finetuning.batches import choose_examples, collate, order_batches
from ladder.platform.finetuning.inputs import Encoded, SpecialTokens
from ladder.platform.finetuning.task import Kind
from ladder.sweeps.finetuning import FineTuning

RECIPE = FineTuning(lr_peak=1e-3, batch_examples=8, epochs=2, length_pool=4)
LENGTHS = np.random.default_rng(0).integers(5, 60, size=101)


def test_each_epoch_sees_each_example_once_but_the_last_partial_batch() -> None:
    order = order_batches(LENGTHS, RECIPE)
    assert order.shape == (2 * 12, 8)
    for epoch in (order[:12], order[12:]):
        assert len(np.unique(epoch)) == 96
    assert set(order[:12].ravel()) != set(order[12:].ravel()), "another rest is left out"


def test_the_order_follows_the_seed_alone() -> None:
    assert (order_batches(LENGTHS, RECIPE) == order_batches(LENGTHS, replace(RECIPE, dropout=0.0))).all()
    assert (order_batches(LENGTHS, RECIPE) != order_batches(LENGTHS, replace(RECIPE, seed=1))).any()


def test_batches_by_length_pad_less_and_shorter_ones_do_not_come_first() -> None:
    def padding(recipe: FineTuning) -> float:
        batches = LENGTHS[order_batches(LENGTHS, recipe)]
        return float(1 - batches.sum() / (batches.max(1) * 8).sum())

    pooled, plain = replace(RECIPE, length_pool=12, epochs=20), replace(RECIPE, length_pool=1, epochs=20)
    assert padding(pooled) < 0.1 < 0.3 < padding(plain)
    means = LENGTHS[order_batches(LENGTHS, pooled)].mean(1).reshape(20, 12)
    assert abs(means[:, 0].mean() - LENGTHS.mean()) < 12, "the first step of an epoch is of any length"


def test_fewer_examples_than_a_batch_are_refused() -> None:
    with pytest.raises(InputError, match="7 training examples, wanted at least one batch of 8"):
        order_batches(LENGTHS[:7], RECIPE)


def test_what_is_kept_apart_is_the_same_for_all_seeds_and_never_trained_on() -> None:
    recipe = replace(RECIPE, choice_share=0.1, train_examples=50)
    trained, apart = choose_examples(200, recipe)
    other, also = choose_examples(200, replace(recipe, seed=1))
    assert len(trained) == 50 and len(apart) == 20
    assert (apart == also).all() and set(trained) != set(other)
    assert not set(apart) & (set(trained) | set(other))
    everything, nothing = choose_examples(200, RECIPE)
    assert (everything == np.arange(200)).all() and not len(nothing)


def test_a_slice_of_a_batch_is_the_batch_of_those_examples() -> None:
    parts = [(np.arange(n, dtype=np.int32), np.arange(2, dtype=np.int32)) for n in (3, 9, 4, 5)]
    examples = [Encoded(kind=Kind.SIMILARITY, parts=part, label=n, cut=False) for n, part in enumerate(parts)]
    special = SpecialTokens.after(257)
    batch = collate(examples, special)
    piece, wanted = batch[4:8], collate(examples[2:], special)
    assert torch.equal(piece.tokens, wanted.tokens) and torch.equal(piece.labels, wanted.labels)
    assert piece.longest == wanted.longest and piece.together == 2 and len(piece) == 4
    assert piece.seed != batch[0:4].seed, "each micro-batch has masks of its own"
    with pytest.raises(AssertionError, match="parted"):
        batch[1:3]
