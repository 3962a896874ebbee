"""What is known of a task without a network: constant answers, and a bag of words with logistic regression.

Every table shows them beside a network. `majority` is the commonest answer of the training examples, or their mean
where the task asks for a number; `all_positive` is the answer 1 of two classes, whose F1 is high where most are.

In the bag of words texts are counts of their words, split at spaces and marks, in small letters. Of two texts the
counts of each and of the words that both have; an option is judged by itself, without its question; a number is a ridge
regression's. It is fitted on the examples that seed 0 trains on, BAG_EXAMPLES of them at most. The answers to every
scored example are kept in the storage, so that a network is compared with them example by example.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from upath import UPath

from ladder.platform.finetuning.batches import choose_examples
from ladder.platform.finetuning.task import Example, Kind, Task, read_split
from ladder.platform.storage import open_storage, read_json, write_json
from ladder.sweeps.finetuning import FineTuningRun

BAG_EXAMPLES = 50_000
"""More hardly change what words tell, and take minutes."""
MAJORITY, ALL_POSITIVE, BAG_OF_WORDS = "majority", "all_positive", "bag_of_words"

Answers = dict[str, dict[str, list[float]]]
"""Answers to each example by baseline and split."""


def baseline_answers(run: FineTuningRun, task: Task, *, data: str, storage: UPath) -> Answers:
    """What each baseline says of the scored splits of a run's task."""
    recipe = run.recipe
    name = f"{task.name}-{run.data[:16]}-{recipe.train_examples or 'all'}-less-{recipe.choice_share:g}.json"
    path = storage / "finetuning" / "baselines" / name
    kept: Answers | None = read_json(path)
    if kept is not None:
        return kept
    folder = open_storage(data)
    train = read_split(task, folder, "train")
    chosen, _ = choose_examples(len(train), replace(recipe, seed=0))
    bag = Bag(task, [train[row] for row in chosen[:BAG_EXAMPLES]])
    constants = constant_answers(task, [train[row].label for row in chosen])
    found: Answers = {name: {} for name in (*constants, BAG_OF_WORDS)}
    for split in task.scored_splits:
        examples = read_split(task, folder, split)
        for baseline, answer in constants.items():
            found[baseline][split] = [answer] * len(examples)
        found[BAG_OF_WORDS][split] = bag.predict(examples).tolist()
    write_json(path, found)
    return found


def constant_answers(task: Task, labels: Sequence[float]) -> dict[str, float]:
    """The answer that each constant baseline gives, by the labels of the training examples."""
    if task.largest is not None:
        return {MAJORITY: float(np.mean(labels))}
    values, counts = np.unique(np.asarray(labels), return_counts=True)
    found = {MAJORITY: float(values[counts.argmax()])}
    return found | ({ALL_POSITIVE: 1.0} if len(task.classes) == 2 else {})


class Bag:
    """A linear model on counts of words."""

    def __init__(self, task: Task, examples: Sequence[Example]) -> None:
        """Fitted on examples of a task."""
        self.task = task
        self.words = CountVectorizer(token_pattern=r"(?u)\w+|[^\w\s]")
        self.words.fit(text for example in examples for text in self._judged(example))
        labels = np.array([example.label for example in examples])
        if task.options is not None:
            right = [int(option == example.label) for example in examples for option in range(task.options)]
            labels = np.array(right)
        self.model = Ridge() if task.largest is not None else LogisticRegression(max_iter=1000)
        self.model.fit(self._features(examples), labels)

    def predict(self, examples: Sequence[Example]) -> npt.NDArray[np.float64]:
        """Class, option or number of each example."""
        features = self._features(examples)
        if self.task.options is None:
            return np.asarray(self.model.predict(features), np.float64)
        chances = self.model.decision_function(features).reshape(len(examples), -1)
        return np.asarray(chances.argmax(1), np.float64)

    def _judged(self, example: Example) -> Sequence[str]:
        """The texts that count; of a choice the options alone."""
        return example.texts[2:] if self.task.kind is Kind.CHOICE else example.texts

    def _features(self, examples: Sequence[Example]) -> sparse.csr_matrix:
        if self.task.kind is Kind.CHOICE:
            return self.words.transform([text for example in examples for text in self._judged(example)])
        columns = [self.words.transform(texts) for texts in zip(*(example.texts for example in examples), strict=True)]
        if len(columns) == 2:
            columns.append(columns[0].minimum(columns[1]))
        return sparse.hstack(columns).tocsr()
