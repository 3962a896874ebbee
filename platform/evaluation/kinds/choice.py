"""Multiple choice: which of several texts a model finds likeliest after a context.

A choice is put after its question's context, and what follows it in turn (the rest of the sentence) after the choice:

    context                   choice        rest
    She put on the        |   red coat   |  and left.        one pass gives nats of choice and rest apart
                          |   blue hat   |  and left.

All choices of a question are scored after the same context tokens, so that `Scorer` computes the context once. A token
may cross the border between context and choice, and differently for each choice ("un" before "do" and "der"); then the
context ends before it for all of them. What is compared is the same either way: probabilities of whole texts.

Which number decides is the benchmark's protocol: the sum over choice and rest (`total_nats`), the average per token
(`mean_nats`), or only what follows the choice (`rest_nats`).
"""

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from upath import UPath

from ladder.models.tokenizer import Tokenizer
from ladder.platform.evaluation.benchmark import Setting
from ladder.platform.evaluation.item_scores import ItemScores, ratio_of
from ladder.platform.evaluation.kinds.shots import describe_shots, draw_shots
from ladder.platform.evaluation.scorer import Request, TokenScores

logger = logging.getLogger(__name__)

EXAMPLE_END = "\n\n"
"""What stands between solved examples, and between them and the question: a blank line."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of a question's texts to choose from."""

    text: str
    """What is put after the context, the space before it included."""
    rest: str = ""
    """What follows it."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A context and what could follow it."""

    context: str
    """The text before the choice; none means the start of a document."""
    choices: tuple[Choice, ...]
    """The choices, at least two, none empty."""
    answer: int
    """Index of the right one."""
    group: str = ""
    """What kind of question it is, where a data set tells kinds apart; an accuracy of its own is given to each."""
    about: str | None = None
    """The text that was there before anybody asked, which `ladder overlap` looks for; None takes `solved`."""

    @property
    def solved(self) -> str:
        """The whole text with the right choice."""
        right = self.choices[self.answer]
        return self.context + right.text + right.rest


@dataclass(frozen=True, kw_only=True)
class ChoiceNats:
    """What the model gives to one choice."""

    choice: np.ndarray
    """-ln p of each token of the choice, in nats; a token across the border to the rest counts here."""
    rest: np.ndarray
    """-ln p of each token of the rest, in nats."""
    characters: int
    """Characters of choice and rest, without the white space before them."""
    cut: bool
    """Whether tokens of the context or of the rest were left out, since the whole did not fit the model's context."""


Compared = Callable[[ChoiceNats], float]
"""The number that decides, in nats: the choice where it is least is chosen."""


def total_nats(nats: ChoiceNats) -> float:
    """-ln p of choice and rest."""
    return float(nats.choice.sum(dtype=np.float64) + nats.rest.sum(dtype=np.float64))


def mean_nats(nats: ChoiceNats) -> float:
    """-ln p of choice and rest per token."""
    return total_nats(nats) / (len(nats.choice) + len(nats.rest))


def character_nats(nats: ChoiceNats) -> float:
    """-ln p of choice and rest per character, the white space before them not counted."""
    return total_nats(nats) / nats.characters


def rest_nats(nats: ChoiceNats) -> float:
    """-ln p of the rest alone, the choice being given."""
    return float(nats.rest.sum(dtype=np.float64))


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """One choice of a question in tokens."""

    context: tuple[int, ...]
    """Tokens before the choice, the same for all choices of a question."""
    choice: tuple[int, ...]
    """Tokens of the choice; one across the border to the context or to the rest is here."""
    rest: tuple[int, ...]
    """Tokens of the rest."""
    characters: int
    """Characters of choice and rest, without the white space before them."""


def score_choices(setting: Setting, questions: Sequence[Question]) -> list[list[ChoiceNats]]:
    """The scores of every question's choices.

    A context too long is cut on the left, by the same tokens for all choices of a question. A choice with its rest that
    alone is longer than the model's context loses the end of the rest, by as many tokens for all, and a choice that
    still is longer its own end.
    """
    kept = [_fit(choices, setting.scorer.context) for choices in tokenize_questions(setting.tokenizer, questions)]
    requests = [
        Request(context=continuation.context, continuation=continuation.choice + continuation.rest)
        for continuations, _ in kept
        for continuation in continuations
    ]
    scores = iter(setting.scorer.loglikelihood(requests))
    return [
        [_split_score(next(scores), continuation, shortened) for continuation in continuations]
        for continuations, shortened in kept
    ]


def tokenize_questions(tokenizer: Tokenizer, questions: Sequence[Question]) -> list[list[Continuation]]:
    """The choices of each question in tokens, context, choice and rest tokenized together.

    Only the last word of a context is tokenized with each choice: white space before it is a border of tokens anyway.
    """
    halves = [_split_context(question.context) for question in questions]
    heads = tokenizer.encode_batch([head for head, _ in halves])
    wholes = [
        tail + choice.text + choice.rest
        for (_, tail), question in zip(halves, questions, strict=True)
        for choice in question.choices
    ]
    encoded = iter(tokenizer.encode_batch(wholes))
    return [
        _cut_borders(tokenizer, question, tuple(head), tail, list(itertools.islice(encoded, len(question.choices))))
        for question, head, (_, tail) in zip(questions, heads, halves, strict=True)
    ]


def _split_context(context: str) -> tuple[str, str]:
    """A context before and from the white space before its last word."""
    head = context.rstrip().rpartition(" ")[0].rstrip()
    return head, context[len(head) :]


def _cut_borders(
    tokenizer: Tokenizer, question: Question, head: tuple[int, ...], tail: str, wholes: Sequence[list[int]]
) -> list[Continuation]:
    """The choices of a question, `wholes` being the tokens of the context's tail with each choice and its rest."""
    ends = [_token_ends(tokenizer, whole) for whole in wholes]
    n_tail = len(tail.encode())
    shared = list(_shared_tokens(wholes, min(int(np.searchsorted(end, n_tail, side="right")) for end in ends)))
    continuations = []
    for choice, whole, end in zip(question.choices, wholes, ends, strict=True):
        n_choice = n_tail + len(choice.text.encode())
        rest_from = int(np.searchsorted(end, n_choice, side="left")) + 1 if choice.rest else len(whole)
        continuations.append(
            Continuation(
                context=(*head, *shared),
                choice=tuple(whole[len(shared) : rest_from]),
                rest=tuple(whole[rest_from:]),
                characters=len((choice.text + choice.rest).lstrip()),
            )
        )
    return continuations


def _token_ends(tokenizer: Tokenizer, tokens: Sequence[int]) -> np.ndarray:
    """Where each token ends, in bytes from the start [tokens]."""
    return np.cumsum([len(piece) for piece in tokenizer.encoding.decode_tokens_bytes(tokens)])


def _shared_tokens(wholes: Sequence[list[int]], limit: int) -> Iterator[int]:
    """The first tokens, at most `limit`, that all of `wholes` begin with."""
    for column in itertools.islice(zip(*wholes, strict=False), limit):
        if len(set(column)) > 1:
            return
        yield column[0]


def _fit(continuations: Sequence[Continuation], context: int) -> tuple[list[Continuation], bool]:
    """The choices of a question, shortened so that each with its rest has at most `context` tokens; whether any was."""
    room = max(0, context - max(len(continuation.choice) for continuation in continuations))
    fits = all(len(continuation.choice) + len(continuation.rest) <= context for continuation in continuations)
    if fits:
        return list(continuations), False
    shortened = [
        replace(continuation, choice=continuation.choice[:context], rest=continuation.rest[:room])
        for continuation in continuations
    ]
    return shortened, True


def _split_score(score: TokenScores, continuation: Continuation, shortened: bool) -> ChoiceNats:
    n_choice = len(continuation.choice)
    return ChoiceNats(
        choice=score.nats[:n_choice],
        rest=score.nats[n_choice:],
        characters=continuation.characters,
        cut=shortened or score.n_cut > 0,
    )


def ask(
    setting: Setting, questions: Sequence[Question], read_examples: Callable[[], Sequence[Question]]
) -> list[Question]:
    """The questions that the setting asks: the first `limit`, each after `shots` solved examples.

    These are drawn from what `read_examples` gives, the questions of another split; without shots it is not called.
    """
    asked, shots, seed = list(questions[: setting.protocol.limit]), setting.protocol.shots, setting.protocol.seed
    if not shots:
        return asked
    examples = read_examples()
    drawn = [draw_shots(i, len(examples), shots=shots, seed=seed) for i in range(len(asked))]
    return [
        replace(question, context=EXAMPLE_END.join([*(examples[i].solved for i in chosen), question.context]))
        for question, chosen in zip(asked, drawn, strict=True)
    ]


def name_shots(setting: Setting, split: str) -> str:
    """How many solved examples stand before a question and of which split, for a protocol."""
    return describe_shots(setting.protocol.shots or 0, setting.protocol.seed, f"the {split} split")


def score_accuracy(
    questions: Sequence[Question],
    scored: Sequence[Sequence[ChoiceNats]],
    *,
    compared: Compared,
    benchmark: str,
    protocol: str,
    description: str,
    metric: str = "accuracy",
    counted: np.ndarray | None = None,
) -> ItemScores:
    """The share of questions whose answer is the choice where `compared` is least.

    Among k choices that are least alike an answer counts 1/k, as if one of them were drawn: a model that does not tell
    them apart then scores at chance, the mean of 1 / number of choices. `counted` [questions] is 1 for those that the
    metric is about, None for all.
    """
    ones = np.ones(len(questions)) if counted is None else counted.astype(np.float64)
    guesses = [1 / len(question.choices) for question in questions]
    nats = [[compared(score) for score in scores] for scores in scored]
    credits = ones * np.array([_credit(own, question.answer) for question, own in zip(questions, nats, strict=True)])
    return ItemScores(
        benchmark=benchmark,
        protocol=protocol,
        metric=metric,
        unit="share of questions",
        direction="higher",
        chance=math.fsum(guesses * ones) / math.fsum(ones),
        description=f"{description}; standard error over questions",
        estimate=ratio_of(credits, ones),
        counted=ones,
        totals={
            "items": ones,
            "hits": credits,
            "items_cut": ones * np.array([any(score.cut for score in scores) for scores in scored]),
        },
        items=[_describe(question, own) for question, own in zip(questions, nats, strict=True)],
    )


def _describe(question: Question, nats: Sequence[float]) -> dict[str, Any]:
    """A question and the nats of its choices, for people."""
    return {
        "prompt": question.context,
        "candidates": [choice.text + choice.rest for choice in question.choices],
        "nats": list(nats),
        "answer": question.answer,
        "chosen": int(np.argmin(nats)),
        "right": _credit(nats, question.answer) > 0,
    }


def _credit(nats: Sequence[float], answer: int) -> float:
    """1 where the answer's nats are the least, shared with those equal to it, 0 where they are not."""
    least = min(nats)
    return float(nats[answer] == least) / sum(value == least for value in nats)


def warn_of_count(path: UPath, n_questions: int, published: int) -> None:
    """Logs a warning where a file that no checksum is published for does not hold as many questions as published."""
    if n_questions != published:
        logger.warning("%s holds %d questions, the published file %d: is it whole?", path, n_questions, published)
