"""Hugging Face's GPT2ForSequenceClassification loads a fine-tuned network and gives its numbers."""

from pathlib import Path

import pytest
import torch

from ladder.models.classifier import Classifier
from ladder.models.sizes import parse_size
from ladder.platform.finetuning.batches import collate
from ladder.platform.finetuning.export import can_export, export_classifier
from ladder.platform.finetuning.inputs import SpecialTokens
from ladder.platform.finetuning.registry import TASKS
from tests.platform.finetuning.test_objective import examples

SPECIAL = SpecialTokens.after(257)


@pytest.mark.parametrize("name", ["sst2", "snli", "race"])
def test_the_numbers_are_the_same(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    task = TASKS[name]
    model = Classifier(parse_size("2x32h2", context=40, vocabulary=260), outputs=task.outputs, seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    export_classifier(model, task, SPECIAL, tmp_path, tokenizer="bytes")
    theirs, told = transformers.GPT2ForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    assert theirs.config.num_labels == task.outputs
    batch = collate(examples(task, 7), SPECIAL)
    padding = torch.arange(batch.tokens.shape[1]) >= batch.lengths[:, None]
    tokens = batch.tokens.masked_fill(padding, theirs.config.pad_token_id)
    with torch.no_grad():
        wanted = model.score_sequences(batch.tokens, batch.lengths)
        given = theirs.eval()(input_ids=tokens).logits
    assert wanted.std() > 0.05
    assert torch.allclose(given, wanted, atol=1e-5)


def test_the_two_orders_of_a_pair_have_no_place_in_the_layout() -> None:
    assert {name for name, task in TASKS.items() if not can_export(task)} == {"mrpc", "qqp", "stsb"}
