"""The examples of a task as one tokenizer and context have them, read and encoded once for all runs of a process."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from ladder.models.tokenizer import load_tokenizer
from ladder.platform.finetuning.inputs import Encoded, encode
from ladder.platform.finetuning.registry import TASKS
from ladder.platform.finetuning.task import Task, read_split
from ladder.platform.storage import open_storage


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """A task's examples."""

    task: Task
    """The task."""
    train: list[Encoded]
    """Those to train on."""
    scored: Mapping[str, list[Encoded]]
    """Those that are scored, by split."""
    fingerprint: str
    """sha256 (hex) over the texts and labels of all of them."""

    def cut_shares(self) -> dict[str, float]:
        """Share of the examples of each split that lost text to the context."""
        splits = {"train": self.train, **self.scored}
        return {split: sum(example.cut for example in examples) / len(examples) for split, examples in splits.items()}


@lru_cache(maxsize=4)
def load_task(name: str, data: str, *, tokenizer: str, context: int) -> TaskData:
    """The examples of a task, whose folder is in `data`; InputError names what is absent or wrong."""
    task, words, folder = TASKS[name], load_tokenizer(tokenizer), open_storage(data)
    digest = hashlib.sha256()
    encoded = {}
    for split in ("train", *task.scored_splits):
        examples = read_split(task, folder, split)
        digest.update(json.dumps([split, [[*one.texts, one.label] for one in examples]]).encode())
        encoded[split] = encode(task, examples, words, context=context, split=split)
    return TaskData(task=task, train=encoded.pop("train"), scored=encoded, fingerprint=digest.hexdigest())
