"""Story Cloze (Mostafazadeh et al. 2016): which of two sentences ends a story of four.

The ending of the higher average token log-probability is chosen, as GPT-1's zero-shot heuristics choose. The data set
is given on request only, by a form; scored is the test set of spring 2016, whose answers are in the file.
"""

import csv
from collections.abc import Sequence
from dataclasses import replace

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Benchmark, Setting, benchmark_folder
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.item_scores import ItemScores
from ladder.platform.evaluation.kinds.choice import (
    Choice,
    Question,
    ask,
    mean_nats,
    name_shots,
    score_accuracy,
    score_choices,
    warn_of_count,
)
from ladder.platform.evaluation.text.lines import read_text_lines

FILE = BenchmarkFile(
    name="cloze_test_test__spring2016 - cloze_test_ALL_test.csv",
    sha256=None,
    address="https://cs.rochester.edu/nlp/rocstories/",
    downloadable=False,
)

EXAMPLES = replace(FILE, name="cloze_test_val__spring2016 - cloze_test_ALL_val.csv")

STORIES = 1871

SENTENCES = tuple(f"InputSentence{number}" for number in range(1, 5))
ENDINGS = ("RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2")
ANSWER = "AnswerRightEnding"
COLUMNS = (*SENTENCES, *ENDINGS, ANSWER)


def read_questions(path: UPath) -> list[Question]:
    """The stories of a file of comma-separated values; InputError names the line that is wrong."""
    rows = csv.reader((line + "\n" for line in read_text_lines(path)), strict=True)
    questions = []
    try:
        header = next(rows)
        absent = [column for column in COLUMNS if column not in header]
        if absent:
            raise InputError(f"{path}, line 1: wanted the columns {', '.join(COLUMNS)}, got no {absent[0]}")
        for row in rows:
            questions.append(_make_question(f"{path}, line {rows.line_num}", header, row))
    except csv.Error as error:
        raise InputError(f"{path}, line {rows.line_num}: not comma-separated values: {error}") from error
    if not questions:
        raise InputError(f"{path}: wanted stories after the line of column names, got none")
    return questions


def _make_question(where: str, header: Sequence[str], row: Sequence[str]) -> Question:
    if len(row) != len(header):
        raise InputError(f"{where}: wanted {len(header)} columns as in line 1, got {len(row)}")
    values = {column: value.strip() for column, value in zip(header, row, strict=True)}
    empty = [column for column in COLUMNS if not values[column]]
    if empty:
        raise InputError(f"{where}: wanted text in every column, got none in {empty[0]}")
    if values[ANSWER] not in ("1", "2"):
        raise InputError(f"{where}: wanted 1 or 2 in {ANSWER}, got {values[ANSWER]!r:.20}")
    return Question(
        context=" ".join(values[column] for column in SENTENCES),
        choices=tuple(Choice(text=" " + values[column]) for column in ENDINGS),
        answer=int(values[ANSWER]) - 1,
    )


def read_texts(storage: UPath, corpus: Corpus | None) -> list[str]:
    """Each story with its right ending."""
    return [question.solved for question in read_questions(benchmark_folder(storage, "story-cloze") / FILE.name)]


def score(setting: Setting) -> list[ItemScores]:
    """The accuracy over the stories."""
    path = benchmark_folder(setting.storage, "story-cloze") / FILE.name
    questions = read_questions(path)
    warn_of_count(path, len(questions), STORIES)
    questions = ask(setting, questions, lambda: read_questions(path.with_name(EXAMPLES.name)))
    return [
        score_accuracy(
            questions,
            score_choices(setting, questions),
            compared=mean_nats,
            benchmark="story-cloze",
            protocol=f"four sentences, ending; average token log-probability, {name_shots(setting, 'validation')}",
            description="the right ending has the higher average log-probability of its tokens",
        )
    ]


STORY_CLOZE = Benchmark(
    name="story-cloze",
    source="Story Cloze test of spring 2016, test split: 1,871 stories of two endings",
    score=score,
    reads=frozenset({"limit", "shots", "seed"}),
    version=2,
    texts=read_texts,
    citation="Mostafazadeh et al. 2016, A corpus and cloze evaluation, arXiv:1604.01696; heuristic: Radford et al. "
    "2018, Improving language understanding by generative pre-training, section 5",
    files=(FILE,),
    example_files=(EXAMPLES,),
)
