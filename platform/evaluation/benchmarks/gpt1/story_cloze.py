"""Story Cloze (Mostafazadeh et al. 2016): which of two sentences ends a story of four.

The ending of the higher average token log-probability is chosen, as GPT-1's zero-shot heuristics choose. The data set
is given on request only, by a form; scored is the test set of spring 2016, whose answers are in the file.
"""

from dataclasses import replace

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.kinds.choice import Choice, Question, mean_nats
from ladder.platform.evaluation.kinds.choice_task import ChoiceTask, Rule
from ladder.platform.evaluation.text.rows import Row, read_commas

FILE = BenchmarkFile(
    name="cloze_test_test__spring2016 - cloze_test_ALL_test.csv",
    sha256=None,
    address="https://cs.rochester.edu/nlp/rocstories/",
    downloadable=False,
)

EXAMPLES = replace(FILE, name="cloze_test_val__spring2016 - cloze_test_ALL_val.csv")

SENTENCES = tuple(f"InputSentence{number}" for number in range(1, 5))
ENDINGS = ("RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2")
ANSWER = "AnswerRightEnding"


def read_questions(path: UPath) -> list[Question]:
    """The stories of a file of comma-separated values; InputError names the line that is wrong."""
    questions = [make_question(row) for row in read_commas(path, (*SENTENCES, *ENDINGS, ANSWER))]
    if not questions:
        raise InputError(f"{path}: wanted stories after the line of column names, got none")
    return questions


def make_question(row: Row) -> Question:
    """A story with its two endings."""
    return Question(
        context=" ".join(row.text(column) for column in SENTENCES),
        choices=tuple(Choice(text=" " + row.text(column)) for column in ENDINGS),
        answer=row.label(ANSWER, {"1": 0, "2": 1}),
    )


STORY_CLOZE = ChoiceTask(
    name="story-cloze",
    source="Story Cloze test of spring 2016, test split: 1,871 stories of two endings",
    citation="Mostafazadeh et al. 2016, A corpus and cloze evaluation, arXiv:1604.01696; heuristic: Radford et al. "
    "2018, Improving language understanding by generative pre-training, section 5",
    file=FILE,
    examples=EXAMPLES,
    examples_split="validation",
    read=read_questions,
    n_questions=1871,
    manner="four sentences, ending; average token log-probability",
    rules={
        "accuracy": Rule(
            compared=mean_nats, description="the right ending has the higher average log-probability of its tokens"
        )
    },
    version=2,
).benchmark()
