"""Natural Questions (Kwiatkowski et al. 2019), open version: questions to a search engine, answered from memory.

The prompt is seeded with question-answer pairs (Radford et al. 2019, section 3.8), which show the short style:

    Q: who sang i ran all the way home?
    A: The Impalas
    Q: who was the ruler of england in 1616?
    A:

The answer is greedy and ends with the line. The paper prints neither its pairs nor their form; these are questions of
the train split. Confidence is the probability of the whole answer, its end included.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Benchmark, Setting, benchmark_folder
from ladder.platform.evaluation.estimates import Estimate, estimate_mean
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.item_scores import Estimator, ItemScores, mean_of
from ladder.platform.evaluation.kinds.generation import describe_answers, ends_line, first_line, matches, write_answers
from ladder.platform.evaluation.kinds.shots import describe_shots, draw_shots
from ladder.platform.evaluation.text.lines import load_json, read_text_lines

FILE = BenchmarkFile(
    name="NQ-open.dev.jsonl",
    sha256="f15567f38099f3615f5b8a685c0aef449c11ad90d3da3735e8d1b98115b40616",
    address="https://raw.githubusercontent.com/google-research-datasets/natural-questions/"
    "fb26a3073b1fe636c97302890a27b491d6530130/nq_open/NQ-open.dev.jsonl",
)

EXAMPLES = BenchmarkFile(
    name="NQ-open.train.jsonl",
    sha256=None,
    address=FILE.address.replace("dev", "train"),
)

SHOTS = 5
"""Pairs in a prompt; the paper does not say how many it has."""

ANSWER_TOKENS = 20
"""Tokens of an answer at most: each question of the file has a right answer of 18 GPT-2 tokens or fewer."""

N_BINS = 10
"""Bins of the calibration error. They hold equally many answers: in bins of equal width nearly all confidences of a
small model fall into the first."""

CONFIDENT_SHARE = 0.01
"""Share of the answers that count as the most confident (Radford et al. 2019, section 3.8)."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question and what answers it."""

    text: str
    """The question, in small letters and without a question mark."""
    answers: tuple[str, ...]
    """The right answers, at least one."""


def read_questions(path: UPath) -> list[Question]:
    """The questions of a file of one JSON object a line; InputError names the line that is none."""
    return [_read_question(path, number, line) for number, line in enumerate(read_text_lines(path), start=1)]


def _read_question(path: UPath, number: int, line: str) -> Question:
    try:
        record = load_json(line)
        text, answers = record["question"], record["answer"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        wanted = 'wanted an object such as {"question": "...", "answer": ["..."]}'
        raise InputError(f"{path}, line {number}: {type(error).__name__}: {error}; {wanted}") from error
    if not _is_text(text) or not isinstance(answers, list) or not answers or not all(map(_is_text, answers)):
        wanted = "wanted a question of one line and a list of answers of one line each"
        raise InputError(f"{path}, line {number}: {wanted}, got {line!r:.80}")
    return Question(text=text, answers=tuple(answers))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\n" not in value


def make_prompt(examples: Sequence[Question], question: Question) -> str:
    """The prompt of a question: examples with their first answers, then the question."""
    pairs = [f"Q: {example.text}?\nA: {example.answers[0]}\n" for example in examples]
    return "".join(pairs) + f"Q: {question.text}?\nA:"


def score(setting: Setting) -> list[ItemScores]:
    """Exact match over all answers and over the most confident, and the calibration error."""
    folder = benchmark_folder(setting.storage, "natural-questions")
    questions = read_questions(folder / FILE.name)[: setting.protocol.limit]
    shots = SHOTS if setting.protocol.shots is None else setting.protocol.shots
    examples = read_questions(folder / EXAMPLES.name) if shots else []
    draws = [draw_shots(item, len(examples), shots=shots, seed=setting.protocol.seed) for item in range(len(questions))]
    prompts = [
        make_prompt([examples[index] for index in drawn], question)
        for drawn, question in zip(draws, questions, strict=True)
    ]
    answers = write_answers(setting, prompts, n_tokens=ANSWER_TOKENS, stop=ends_line)
    lines = [first_line(answer.text) for answer in answers]
    hits = [matches(line, question.answers) for line, question in zip(lines, questions, strict=True)]
    nats = np.array([answer.nats for answer in answers])
    totals = {
        "items": np.ones(len(answers)),
        "hits": np.array(hits, dtype=np.float64),
        "nats": nats,
        "confidence": np.exp(-nats),
        "tokens": np.array([answer.n_tokens for answer in answers]),
        "items_cut": np.array([answer.cut for answer in answers]),
    }
    items = describe_answers(prompts, lines, [question.answers for question in questions])
    return describe_scores(totals, describe_shots(shots, setting.protocol.seed, "the train split"), items)


def describe_scores(
    totals: dict[str, np.ndarray], prompting: str, items: Sequence[Mapping[str, Any]] = ()
) -> list[ItemScores]:
    """The metrics of `hits` and `confidence`, each [questions]."""
    hits, confidence = totals["hits"], totals["confidence"]
    confident = f"{100 * CONFIDENT_SHARE:.0f}"
    described: list[tuple[str, str, Estimator, str]] = [
        ("exact_match", "share of questions", mean_of(hits), "whether the answer's words are those of a right one"),
        (
            f"exact_match_most_confident_{confident}_percent",
            "share of answers",
            confident_mean_of(hits, confidence),
            f"exact match of the {confident} percent of answers with the highest probability; standard error over them",
        ),
        (
            "calibration_error",
            "difference of shares",
            calibration_error_of(hits, confidence),
            f"mean distance of exact match and probability in {N_BINS} bins of equally many answers by probability; "
            "standard error with bins and signs held",
        ),
    ]
    return [
        ItemScores(
            benchmark="natural-questions",
            protocol=f"open dev questions, {prompting}, greedy answer to the end of the line",
            metric=metric,
            unit=unit,
            direction="lower" if metric == "calibration_error" else "higher",
            description=description,
            estimate=estimate,
            counted=totals["items"],
            totals=totals,
            items=items,
        )
        for metric, unit, estimate, description in described
    ]


def confident_mean_of(hits: np.ndarray, confidence: np.ndarray) -> Estimator:
    """Share of hits among the CONFIDENT_SHARE of the items, rounded up, that have the highest confidence."""

    def estimate(kept: np.ndarray) -> Estimate:
        n_confident = math.ceil(CONFIDENT_SHARE * len(kept))
        order = np.argsort(-confidence[kept], kind="stable")
        return estimate_mean(hits[kept[order[:n_confident]]])

    return estimate


def calibration_error_of(hits: np.ndarray, confidence: np.ndarray) -> Estimator:
    """Expected calibration error: mean over the items of |mean hit - mean confidence| of the item's bin.

    Within a bin the absolute value is s (mean hit - mean confidence) with one sign s, so that the whole is the mean of
    s (hit - confidence), and has its standard error.
    """

    def estimate(kept: np.ndarray) -> Estimate:
        order = kept[np.argsort(confidence[kept], kind="stable")]
        parts = [(hits[part] - confidence[part]) for part in np.array_split(order, N_BINS) if len(part)]
        return estimate_mean(np.concatenate([part * (1 if part.sum() >= 0 else -1) for part in parts]))

    return estimate


def read_texts(storage: UPath, corpus: Corpus | None) -> list[str]:
    """The text of each question."""
    path = benchmark_folder(storage, "natural-questions") / FILE.name
    return [question.text for question in read_questions(path)]


NATURAL_QUESTIONS = Benchmark(
    name="natural-questions",
    source="Natural Questions, open version, dev split: 3,610 questions",
    score=score,
    reads=frozenset({"limit", "shots", "seed"}),
    version=2,
    texts=read_texts,
    citation="Kwiatkowski et al. 2019, Natural Questions, TACL 7; Lee et al. 2019, arXiv:1906.00300 (open version)",
    files=(FILE,),
    example_files=(EXAMPLES,),
    shots=SHOTS,
    paper_scores={
        "exact_match": {"1542M": 0.041},
        "exact_match_most_confident_1_percent": {"1542M": 0.631},
    },
)
"""The paper is older than the open version, so that its questions are others of Natural Questions."""
