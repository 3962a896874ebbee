"""Examples as sequences of tokens: four kinds of input with start, delimiter and extract tokens, cut to the context.

    classification   start  text                  extract
    entailment       start  premise     delimiter hypothesis  extract
    similarity       start  A           delimiter B           extract     and the same with A and B exchanged
    choice           start  document question  delimiter  option  extract     for each option

(Radford et al. 2018, figure 1 right and section 3.3.) What does not fit the context is cut: of one or two texts the
end, of the longer one first; of a document the beginning, the same for all options of its question. A question and an
option are never cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ladder.models.errors import InputError
from ladder.models.tokenizer import Tokenizer
from ladder.platform.finetuning.task import Example, Kind, Task

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """The tokens that fine-tuning adds; they stand after the checkpoint's vocabulary."""

    start: int
    """Before the first text."""
    delimiter: int
    """Between two texts."""
    extract: int
    """At the end: the head reads the state there."""

    @classmethod
    def after(cls, vocabulary: int) -> "SpecialTokens":
        """Those of a checkpoint of a vocabulary."""
        return cls(start=vocabulary, delimiter=vocabulary + 1, extract=vocabulary + 2)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """An example in tokens that fits the context."""

    kind: Kind
    """How it becomes sequences."""
    parts: tuple[Tokens, ...]
    """Its texts, cut."""
    label: float
    """As the example's."""
    cut: bool
    """Whether a text lost something."""

    def sequences(self, special: SpecialTokens) -> list[Tokens]:
        """The sequences that go through the network."""
        start, delimiter, extract = ([token] for token in (special.start, special.delimiter, special.extract))
        first, *others = self.parts
        if self.kind is Kind.CLASSIFICATION:
            return [_join(start, first, extract)]
        if self.kind is Kind.CHOICE:
            question, *options = others
            return [_join(start, first, question, delimiter, option, extract) for option in options]
        orders = [(first, others[0])]
        if self.kind is Kind.SIMILARITY:
            orders.append((others[0], first))
        return [_join(start, a, delimiter, b, extract) for a, b in orders]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence, the special ones included."""
        sizes = [len(part) for part in self.parts]
        if self.kind is Kind.CLASSIFICATION:
            return [sizes[0] + 2]
        if self.kind is Kind.CHOICE:
            return [sizes[0] + sizes[1] + option + 3 for option in sizes[2:]]
        return [sum(sizes) + 3] * (2 if self.kind is Kind.SIMILARITY else 1)


def encode(task: Task, examples: Sequence[Example], tokenizer: Tokenizer, *, context: int, split: str) -> list[Encoded]:
    """The examples in tokens, cut to `context` with their special tokens.

    InputError where what is never cut does not fit, or a question has another number of options than the task.
    """
    texts = list(dict.fromkeys(text for example in examples for text in example.texts))
    tokens = dict(zip(texts, (np.array(one, np.int32) for one in tokenizer.encode_batch(texts)), strict=True))
    encoded = []
    for number, example in enumerate(examples, start=1):
        where = f"task {task.name}, example {number} of {split}"
        if task.options is not None and len(example.texts) != 2 + task.options:
            raise InputError(f"{where}: wanted {task.options} options, got {len(example.texts) - 2}")
        parts = tuple(tokens[text] for text in example.texts)
        fitted = _fit(task, parts, context=context, where=where)
        if task.kind is Kind.SIMILARITY:  # in an order of their own, so that A, B and B, A are the very same sequences
            fitted = tuple(sorted(fitted, key=lambda part: part.tolist()))
        cut = sum(map(len, fitted)) < sum(map(len, parts))
        encoded.append(Encoded(kind=task.kind, parts=fitted, label=example.label, cut=cut))
    return encoded


def _fit(task: Task, parts: tuple[Tokens, ...], *, context: int, where: str) -> tuple[Tokens, ...]:
    room = context - (2 if task.kind is Kind.CLASSIFICATION else 3)
    if task.kind is Kind.CHOICE:
        document, question, *options = parts
        room -= len(question) + max(map(len, options))
        _check_room(room, "its question and longest option", context, where)
        return (document[max(0, len(document) - room) :], question, *options)
    room -= sum(len(parts[index]) for index in task.whole)
    _check_room(room, "its question", context, where)
    cut = [index for index in range(len(parts)) if index not in task.whole]
    limit = share_room([len(parts[index]) for index in cut], room)
    return tuple(part[:limit] if index in cut else part for index, part in enumerate(parts))


def _check_room(room: int, what: str, context: int, where: str) -> None:
    if room < 0:
        raise InputError(
            f"{where}: {what} take {context - room} tokens with the special ones, and the checkpoint's context is "
            f"{context}; they are never cut. Fine-tune a checkpoint of a longer context, or leave the task out."
        )


def share_room(lengths: Sequence[int], room: int) -> int:
    """The most tokens that each of several texts may keep so that together they fit `room`: the longest are cut first.

    Alike for all, so that two texts of one length are cut alike.
    """
    left, shorter = room, 0
    for count, length in enumerate(sorted(lengths)):
        level = left // (len(lengths) - count)
        if length > level:
            return max(level, shorter)
        left, shorter = left - length, length
    return max(lengths)


def _join(*pieces: Sequence[int] | Tokens) -> Tokens:
    return np.concatenate([np.asarray(piece, np.int32) for piece in pieces])
