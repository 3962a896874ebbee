"""A fine-tuned network in Hugging Face's layout for sequence classification.

`GPT2ForSequenceClassification` loads it. That layout has a head without a bias, read at the last token that is no
padding. The head's bias is moved into that of the final norm, which nothing else reads there: v with W v = b gives the
same numbers. The layout holds what scores one sequence: classification and entailment, and the options of a choice, a
sequence and a number each. Two orders of a pair are two passes whose states are added, which it has no place for.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ladder.models.classifier import Classifier
from ladder.models.weights import CONFIG_FILE, WEIGHTS_FILE, save_weights
from ladder.platform.finetuning.inputs import SpecialTokens
from ladder.platform.finetuning.task import Kind, Task

EXPORT = "sequence-classification"
"""Name of the folder in a run's folder."""


def can_export(task: Task) -> bool:
    """Whether the layout holds what a task's network computes."""
    return task.kind is not Kind.SIMILARITY


@torch.no_grad()
def export_classifier(model: Classifier, task: Task, special: SpecialTokens, folder: Path, *, tokenizer: str) -> None:
    """Write a network's weights and config into a folder.

    A sequence is padded with the start token, which never stands at its end; `special_tokens` in config.json names the
    three that ladder puts around texts.
    """
    assert can_export(task), task.name
    save_weights(model, folder, tokenizer=tokenizer)
    tensors = load_file(folder / WEIGHTS_FILE)
    weight, bias = tensors["score.weight"], tensors.pop("score.bias")
    tensors["transformer.ln_f.bias"] = (
        tensors["transformer.ln_f.bias"] + torch.linalg.pinv(weight.double()).float() @ bias
    )
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    path = folder / CONFIG_FILE
    names = task.classes or ("right",)
    config = json.loads(path.read_text(encoding="utf-8")) | {
        "architectures": ["GPT2ForSequenceClassification"],
        "pad_token_id": special.start,
        "id2label": {str(label): name for label, name in enumerate(names)},
        "label2id": {name: label for label, name in enumerate(names)},
        "special_tokens": {"start": special.start, "delimiter": special.delimiter, "extract": special.extract},
    }
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
