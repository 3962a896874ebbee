"""RACE (Lai et al. 2017): English exams of middle and high schools, four options a question.

By GPT-1's zero-shot heuristic the option of the highest average token log-probability after passage and question is
chosen (Radford et al. 2018, section 5). Passage and question are as the file has them, a line each; a question that is
a sentence with a gap ("_") keeps the gap.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
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

QUESTIONS = 4934

OPTIONS = "ABCD"


@dataclass(frozen=True, kw_only=True)
class Exam:
    """A question with where it is from."""

    level: str
    """middle or high."""
    passage: str
    """The text that it is about."""
    question: Question
    """The question."""


def read_exams(path: UPath) -> list[Exam]:
    """The questions of a file of JSON lines {"file": "high/1.txt", "text": "{...}"}; InputError names a wrong line."""
    exams: list[Exam] = []
    for number, line in enumerate(read_text_lines(path), start=1):
        where = f"{path}, line {number}"
        try:
            entry = load_json(line)
            level = entry["file"].split("/")[0]
            exam = load_json(entry["text"])
            fields = [exam[name] for name in ("article", "questions", "options", "answers")]
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            wanted = "wanted a file of RACE as `ladder fetch race` writes it"
            raise InputError(f"{where}: {type(error).__name__}: {error}; {wanted}") from error
        if level not in LEVELS:
            raise InputError(f"{where}: wanted a file in {' or '.join(LEVELS)}, got {entry['file']!r:.60}")
        exams += _read_exams(where, level, *fields)
    return exams


def _read_exams(where: str, level: str, article: Any, questions: Any, options: Any, answers: Any) -> list[Exam]:
    lists = (questions, options, answers)
    if not isinstance(article, str) or not all(isinstance(entries, list) for entries in lists):
        raise InputError(f"{where}: wanted an article and lists of questions, options and answers")
    if not len(questions) == len(options) == len(answers):
        got = f"got {len(questions)} questions, {len(options)} lists of options, {len(answers)} answers"
        raise InputError(f"{where}: wanted as many of each, {got}")
    exams = []
    for text, choices, answer in zip(questions, options, answers, strict=True):
        is_whole = isinstance(choices, list) and len(choices) == len(OPTIONS) and all(map(_is_text, choices))
        if not _is_text(text) or not is_whole or answer not in tuple(OPTIONS):
            wanted = f"wanted a question, {len(OPTIONS)} options that are not empty, and an answer of {OPTIONS}"
            raise InputError(f"{where}: {wanted}; got {text!r:.60}, {choices!r:.80}, {answer!r:.10}")
        question = Question(
            context=f"{article.strip()}\n{text.strip()}",
            choices=tuple(Choice(text=" " + choice.strip()) for choice in choices),
            answer=OPTIONS.index(answer),
        )
        exams.append(Exam(level=level, passage=article, question=question))
    return exams


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def read_texts(storage: UPath, corpus: Corpus | None) -> list[str]:
    """The passage of each question."""
    return [exam.passage for exam in read_exams(benchmark_folder(storage, "race") / FILE.name)]


def score(setting: Setting) -> list[ItemScores]:
    """The accuracy over all questions, and over those of each kind of school."""
    path = benchmark_folder(setting.storage, "race") / FILE.name
    exams = read_exams(path)
    warn_of_count(path, len(exams), QUESTIONS)
    questions = ask(
        setting,
        [exam.question for exam in exams],
        lambda: [exam.question for exam in read_exams(path.with_name(EXAMPLES.name))],
    )
    scored = score_choices(setting, questions)
    levels = np.array([exam.level for exam in exams[: len(questions)]])
    parts = {"accuracy": np.ones(len(questions))} | {f"accuracy_{level}": levels == level for level in LEVELS}
    return [
        score_accuracy(
            questions,
            scored,
            compared=mean_nats,
            benchmark="race",
            metric=metric,
            counted=counted,
            protocol=f"passage, question, option; average token log-probability, {name_shots(setting, 'dev')}",
            description="the right option has the highest average log-probability of its tokens",
        )
        for metric, counted in parts.items()
        if counted.any()
    ]


RACE = Benchmark(
    name="race",
    source="RACE, test split: 4,934 questions of four options",
    score=score,
    reads=frozenset({"limit", "shots", "seed"}),
    version=2,
    texts=read_texts,
    citation="Lai et al. 2017, RACE, arXiv:1704.04683; heuristic: Radford et al. 2018, Improving language "
    "understanding by generative pre-training, section 5",
    files=(FILE,),
    example_files=(EXAMPLES,),
)
