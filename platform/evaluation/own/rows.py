"""Rows of three shapes to a benchmark: questions with choices, texts, prompts with answers.

    {"prompt": "The capital of France is", "choices": ["Paris", "Rome"], "answer": 0}    which choice is likeliest
    {"text": "..."}                                                                      how likely is the text
    {"prompt": "Q: Who wrote Hamlet?\\nA:", "answers": ["Shakespeare"]}                   what does the model write

All rows of a benchmark have one shape, which says what metrics there are.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Benchmark, Setting, describe_windows
from ladder.platform.evaluation.item_scores import ItemScores, bits_of, mean_of, perplexity_of, ratio_of
from ladder.platform.evaluation.kinds.choice import (
    Choice,
    Question,
    character_nats,
    mean_nats,
    score_accuracy,
    score_choices,
    total_nats,
)
from ladder.platform.evaluation.kinds.choice_task import Rule
from ladder.platform.evaluation.kinds.generation import (
    describe_answers,
    ends_line,
    first_line,
    matches,
    overlap_f1,
    write_answers,
)
from ladder.platform.evaluation.kinds.last_word import score_passages, split_passage
from ladder.platform.evaluation.kinds.rolling_texts import separate_nats
from ladder.platform.evaluation.text.words import text_totals

ANSWER_TOKENS = 64
"""Tokens of a written answer at most; it ends with its line."""

CHOICE_RULES = {
    "accuracy": Rule(compared=total_nats, description="the right choice is the likeliest"),
    "accuracy_per_token": Rule(compared=mean_nats, description="the right choice is the likeliest per token"),
    "accuracy_per_character": Rule(
        compared=character_nats, description="the right choice is the likeliest per character, its first space aside"
    ),
}
"""Metrics of questions with choices; the last is acc_norm of lm-evaluation-harness, the first its acc."""

TEXT_METRICS = ("perplexity", "bits_per_byte", "loss")
LAST_WORD = "last_word"
ANSWER_METRICS = ("exact_match", "f1")

METRICS = {
    "choices": tuple(CHOICE_RULES),
    "text": (*TEXT_METRICS, LAST_WORD),
    "answers": ANSWER_METRICS,
}
"""Metrics by the key that tells the shape of a row; the first is taken where none is named."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row, checked."""

    prompt: str = ""
    """What stands before; none in texts."""
    choices: tuple[str, ...] = ()
    """What could follow it."""
    answer: int = 0
    """Index of the right choice."""
    answers: tuple[str, ...] = ()
    """What a written answer may be."""
    text: str = ""
    """The text to score."""


def benchmark_of_rows(
    name: str,
    rows: Iterable[Mapping[str, Any]],
    *,
    metric: str | Sequence[str] = (),
    citation: str = "the user's own",
    source: str = "",
    where: Callable[[int], str] | None = None,
) -> Benchmark:
    """The benchmark of rows of one shape, scored by the metrics named; the shape's first where none is.

    `where` says where the row of an index stands, for messages. InputError names the row that is wrong.
    """
    if NAME.fullmatch(name) is None:
        raise InputError(f"name of a benchmark: got {name!r}, wanted letters, digits, '-', '_' and '.'")
    given = list(rows)
    place = where or (lambda index: f"benchmark {name}, row {index + 1}")
    shape = _shape(given[0], place(0)) if given else None
    if shape is None:
        raise InputError(f"benchmark {name} has no rows: wanted at least one")
    checked = tuple(_check(row, shape, place(index)) for index, row in enumerate(given))
    metrics = (metric,) if isinstance(metric, str) else tuple(metric) or METRICS[shape][:1]
    unknown = [one for one in metrics if one not in METRICS[shape]]
    if unknown:
        wanted = f"rows with {shape!r} have {', '.join(METRICS[shape])}"
        raise InputError(f"benchmark {name}: unknown metric {', '.join(map(str, unknown))}: {wanted}")
    for index, row in enumerate(checked):
        if LAST_WORD in metrics and " " not in row.text.strip():
            wanted = "wanted several words, of which the last is asked for"
            raise InputError(f"{place(index)}: {wanted}, got {row.text!r:.60}")
    scorer = _Scorer(name=name, shape=shape, rows=checked, metrics=metrics)
    return Benchmark(
        name=name,
        source=source or f"{len(checked):,} rows of {name}",
        score=scorer.score,
        reads=frozenset({"limit", "window", "stride"} if shape == "text" else {"limit"}),
        texts=scorer.read_texts,
        citation=citation,
        definition=hashlib.sha256(json.dumps([given, metrics], sort_keys=True).encode()).hexdigest(),
    )


def _shape(row: Mapping[str, Any], where: str) -> str:
    for shape in METRICS:
        if isinstance(row, Mapping) and shape in row:
            return shape
    wanted = 'wanted {"prompt", "choices", "answer"}, {"text"} or {"prompt", "answers"}'
    raise InputError(f"{where}: {wanted}, got {json.dumps(row, ensure_ascii=False, default=repr):.80}")


def _check(row: Mapping[str, Any], shape: str, where: str) -> Row:
    """A row of the shape that the first has; InputError where it is not."""
    got = _shape(row, where)
    if got != shape:
        raise InputError(f"{where}: wanted {shape!r} as in the first row, got a row with {got!r}")
    if shape == "text":
        return Row(text=_text(row, "text", where))
    prompt = _text(row, "prompt", where, may_be_empty=True)
    if shape == "answers":
        return Row(prompt=prompt, answers=_texts(row, "answers", 1, where))
    choices = _texts(row, "choices", 2, where)
    answer = row.get("answer")
    if isinstance(answer, str) and choices.count(answer) == 1:
        answer = choices.index(answer)
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        wanted = f"wanted an index from 0 to {len(choices) - 1}, or one of the choices"
        raise InputError(f"{where}: {wanted} as 'answer', got {answer!r:.60}")
    return Row(prompt=prompt, choices=choices, answer=answer)


def _text(row: Mapping[str, Any], key: str, where: str, *, may_be_empty: bool = False) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not (value.strip() or may_be_empty):
        raise InputError(f"{where}: wanted text as {key!r}, got {value!r:.60}")
    return value


def _texts(row: Mapping[str, Any], key: str, least: int, where: str) -> tuple[str, ...]:
    values = row.get(key)
    if not isinstance(values, list | tuple) or len(values) < least:
        raise InputError(f"{where}: wanted a list of {least} or more texts as {key!r}, got {values!r:.60}")
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise InputError(f"{where}: wanted texts that are not empty in {key!r}, got {values!r:.80}")
    return tuple(values)


@dataclass(frozen=True, kw_only=True)
class _Scorer:
    """Scores checked rows."""

    name: str
    shape: str
    rows: tuple[Row, ...]
    metrics: tuple[str, ...]

    def score(self, setting: Setting) -> list[ItemScores]:
        """The metrics, over the first `limit` rows."""
        rows = self.rows[: setting.protocol.limit]
        if self.shape == "choices":
            return self._score_choices(setting, [_question(row) for row in rows])
        if self.shape == "answers":
            return self._score_answers(setting, rows)
        texts = [row.text for row in rows]
        rolled = [self._score_texts(setting, texts)] if set(self.metrics) & set(TEXT_METRICS) else []
        found = {scores.metric: scores for part in rolled for scores in part}
        scored = [found[metric] for metric in self.metrics if metric in found]
        return scored + (self._score_last_words(setting, texts) if LAST_WORD in self.metrics else [])

    def read_texts(self, storage: UPath, corpus: Corpus | None) -> list[str]:
        """The text of each row, with the right choice or the first answer."""
        if self.shape == "choices":
            return [_question(row).solved for row in self.rows]
        return [row.text or _join(row.prompt, row.answers[0]) for row in self.rows]

    def _score_choices(self, setting: Setting, questions: Sequence[Question]) -> list[ItemScores]:
        scored = score_choices(setting, questions)
        return [
            score_accuracy(
                questions,
                scored,
                compared=CHOICE_RULES[metric].compared,
                benchmark=self.name,
                metric=metric,
                protocol="prompt and choice as the file has them, zero-shot",
                description=CHOICE_RULES[metric].description,
            )
            for metric in self.metrics
        ]

    def _score_answers(self, setting: Setting, rows: Sequence[Row]) -> list[ItemScores]:
        prompts = [row.prompt for row in rows]
        answers = write_answers(setting, prompts, n_tokens=ANSWER_TOKENS, stop=ends_line)
        written = [first_line(answer.text) for answer in answers]
        right = [row.answers for row in rows]
        pairs = list(zip(written, right, strict=True))
        credits = {
            "exact_match": [float(matches(text, wanted)) for text, wanted in pairs],
            "f1": [max(overlap_f1(text, one) for one in wanted) for text, wanted in pairs],
        }
        ones = np.ones(len(rows))
        described = describe_answers(prompts, written, right)
        cut = np.array([answer.cut for answer in answers], dtype=np.float64)
        return [
            ItemScores(
                benchmark=self.name,
                protocol=f"greedy answer to the end of the line, at most {ANSWER_TOKENS} tokens, zero-shot",
                metric=metric,
                unit="share of prompts" if metric == "exact_match" else "F1 of words",
                direction="higher",
                description="the written line against the nearest of the right answers, as SQuAD compares them; "
                "standard error over prompts",
                estimate=mean_of(credits[metric]),
                counted=ones,
                totals={"items": ones, "hits": np.array(credits[metric]), "items_cut": cut},
                items=described,
            )
            for metric in self.metrics
        ]

    def _score_texts(self, setting: Setting, texts: Sequence[str]) -> list[ItemScores]:
        nats, tokens = separate_nats(setting, texts)
        sums = [text_totals(text) for text in texts]
        totals = {key: np.array([total[key] for total in sums]) for key in ("words", "characters", "bytes")}
        words, n_bytes = totals["words"], totals["bytes"]
        metrics = {
            "perplexity": ("perplexity per word", perplexity_of(nats, words), words),
            "bits_per_byte": ("bits per byte", bits_of(nats, n_bytes), n_bytes),
            "loss": ("nats per token", ratio_of(nats, tokens), tokens),
        }
        return [
            ItemScores(
                benchmark=self.name,
                protocol=f"each text alone, {describe_windows(setting)}",
                metric=metric,
                unit=unit,
                direction="lower",
                description=f"{unit}; standard error over texts",
                estimate=estimate,
                counted=counted,
                totals={**totals, "nats": nats, "tokens": tokens, "texts": np.ones(len(texts))},
                items=[{"text": text} for text in texts],
            )
            for metric, (unit, estimate, counted) in metrics.items()
        ]

    def _score_last_words(self, setting: Setting, texts: Sequence[str]) -> list[ItemScores]:
        passages = [split_passage(text.rstrip()) for text in texts]
        scored = score_passages(setting, passages, benchmark=self.name, protocol="whole last word, zero-shot")
        return [replace(scores, metric=f"{LAST_WORD}_{scores.metric}") for scores in scored]


def _question(row: Row) -> Question:
    joined = [_join(row.prompt, choice)[len(row.prompt) :] for choice in row.choices]
    return Question(context=row.prompt, choices=tuple(Choice(text=text) for text in joined), answer=row.answer)


def _join(prompt: str, text: str) -> str:
    """A text after a prompt, with a space between them where neither has any."""
    joined = not prompt or prompt[-1].isspace() or text[0].isspace()
    return prompt + ("" if joined else " ") + text
