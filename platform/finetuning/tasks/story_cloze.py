"""Story Cloze: which of two sentences ends a story of four? Given on request only.

The labelled stories are the 1,871 of the validation set of spring 2016, of which GPT-1's code trains on 1,497 and keeps
374; which ones, a draw there decides, and here a draw of a fixed seed.
"""

from collections.abc import Sequence

import numpy as np
from upath import UPath

from ladder.platform.corpus.batches import permute
from ladder.platform.evaluation.benchmarks.gpt1.story_cloze import read_questions
from ladder.platform.finetuning.task import Example, Kind, Task

TRAIN = 1497
DRAW_SEED = 42
FILE = "cloze_test_val__spring2016*.csv"


def read(paths: Sequence[UPath], split: str) -> list[Example]:
    """Story and endings, with the index of the right one."""
    stories = [
        Example(texts=(question.context, "", *(choice.text for choice in question.choices)), label=question.answer)
        for path in paths
        for question in read_questions(path)
    ]
    order = permute(np.arange(len(stories)), n=len(stories), seed=DRAW_SEED, epoch=0).tolist()
    kept = order[:TRAIN] if split == "train" else order[TRAIN:]
    return [stories[index] for index in kept]


STORY_CLOZE = Task(
    name="story-cloze",
    source="Story Cloze, the validation set of spring 2016 in two parts",
    citation="Mostafazadeh et al. 2016, A corpus and cloze evaluation, arXiv:1604.01696",
    kind=Kind.CHOICE,
    metrics=("accuracy",),
    options=2,
    folder="StoryCloze",
    splits={"train": ((FILE,),), "dev": ((FILE,),)},
    read=read,
    counts={"train": 1497, "dev": 374},
)
