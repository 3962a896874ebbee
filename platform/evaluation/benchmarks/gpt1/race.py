"""RACE (Lai et al. 2017): English exams of middle and high schools, four options a question.

By GPT-1's zero-shot heuristic the option of the highest average token log-probability after passage and question is
chosen (Radford et al. 2018, section 5). Passage and question are as the file has them, a line each; a question that is
a sentence with a gap ("_") keeps the gap.
"""

import json
from dataclasses import replace
from typing import Any

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.kinds.choice import Choice, Question, mean_nats
from ladder.platform.evaluation.kinds.choice_task import ChoiceTask, Rule
from ladder.platform.evaluation.text.lines import load_json, read_text_lines

FILE = BenchmarkFile(
    name="race-test.jsonl",
    sha256=None,
    address="https://www.cs.cmu.edu/~glai1/data/race/RACE.tar.gz",
    member="RACE/test/",
    archive_sha256="b2769cc9fdc5c546a693300eb9a966cec6870bd349fbc44ed5225f8ad33006e5",
)

EXAMPLES = replace(FILE, name="race-dev.jsonl", member="RACE/dev/")

LEVELS = ("middle", "high")
"""Folders of the test split: 1,436 questions and 3,498."""

OPTIONS = "ABCD"


def read_questions(path: UPath, folder: str | None = None) -> list[Question]:
    """The questions of a file of JSON lines {"file": "high/1.txt", "text": "{...}"}; InputError names a wrong line, or
    the wrong file below `folder`, where the lines were only unpacked from there."""
    questions: list[Question] = []
    for number, line in enumerate(read_text_lines(path), start=1):
        where = f"{path}, line {number}"
        try:
            entry = load_json(line)
            level = entry["file"].split("/")[0]
            where = where if folder is None else f"{folder}{entry['file']}"
            exam = load_json(entry["text"])
            fields = [exam[name] for name in ("article", "questions", "options", "answers")]
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            wanted = "wanted a file of RACE as `ladder fetch race` writes it"
            raise InputError(f"{where}: {type(error).__name__}: {error}; {wanted}") from error
        if level not in LEVELS:
            raise InputError(f"{where}: wanted a file in {' or '.join(LEVELS)}, got {entry['file']!r:.60}")
        questions += _read_exam(where, level, *fields)
    return questions


def _read_exam(where: str, level: str, article: Any, texts: Any, options: Any, answers: Any) -> list[Question]:
    lists = (texts, options, answers)
    if not isinstance(article, str) or not all(isinstance(entries, list) for entries in lists):
        raise InputError(f"{where}: wanted an article and lists of questions, options and answers")
    if not len(texts) == len(options) == len(answers):
        got = f"got {len(texts)} questions, {len(options)} lists of options, {len(answers)} answers"
        raise InputError(f"{where}: wanted as many of each, {got}")
    for text, choices, answer in zip(*lists, strict=True):
        is_whole = isinstance(choices, list) and len(choices) == len(OPTIONS) and all(map(_is_text, choices))
        if not _is_text(text) or not is_whole or answer not in tuple(OPTIONS):
            wanted = f"wanted a question, {len(OPTIONS)} options that are not empty, and an answer of {OPTIONS}"
            raise InputError(f"{where}: {wanted}; got {text!r:.60}, {choices!r:.80}, {answer!r:.10}")
    return [
        Question(
            context=f"{article.strip()}\n{text.strip()}",
            choices=tuple(Choice(text=" " + choice.strip()) for choice in choices),
            answer=OPTIONS.index(answer),
            group=level,
            about=article,
        )
        for text, choices, answer in zip(*lists, strict=True)
    ]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


RACE = ChoiceTask(
    name="race",
    source="RACE, test split: 4,934 questions of four options",
    citation="Lai et al. 2017, RACE, arXiv:1704.04683; heuristic: Radford et al. 2018, Improving language "
    "understanding by generative pre-training, section 5",
    file=FILE,
    examples=EXAMPLES,
    examples_split="dev",
    read=read_questions,
    n_questions=4934,
    manner="passage, question, option; average token log-probability",
    rules={
        "accuracy": Rule(
            compared=mean_nats, description="the right option has the highest average log-probability of its tokens"
        )
    },
    version=2,
).benchmark()
