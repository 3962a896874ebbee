"""COPA: which of two sentences is the cause, or the effect, of another?

Of its two sets of 500 the one called dev is trained on and the one called test scored, all of it public. The premise is
the document and "because" or "so" the question, as `ladder evaluate` words it.
"""

from collections.abc import Sequence

from upath import UPath

from ladder.platform.evaluation.benchmarks.gpt1.copa import read_questions
from ladder.platform.finetuning.task import Example, Kind, Task


def read(paths: Sequence[UPath], split: str) -> list[Example]:
    """Premise, connective and alternatives, with the index of the right one."""
    examples = []
    for path in paths:
        for question in read_questions(path):
            premise, space, connective = question.context.rpartition(" ")
            options = (choice.text for choice in question.choices)
            examples.append(Example(texts=(premise, space + connective, *options), label=question.answer))
    return examples


COPA = Task(
    name="copa",
    source="Choice of Plausible Alternatives",
    citation="Roemmele et al. 2011, Choice of plausible alternatives",
    kind=Kind.CHOICE,
    metrics=("accuracy",),
    options=2,
    folder="COPA",
    splits={"train": (("copa-dev.xml",),), "dev": (("copa-test.xml",),)},
    read=read,
    counts={"train": 500, "dev": 500},
)
