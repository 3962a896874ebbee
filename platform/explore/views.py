"""The page's questions and their answers: what the server sends, and what a saved copy holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ladder.models.errors import InputError
from ladder.platform.explore import answers
from ladder.platform.explore.answers import Answer
from ladder.platform.explore.endings import continued
from ladder.platform.explore.lead import Pair, describe_lead
from ladder.platform.explore.shelf import Shelf

EXAMPLE_TEXT = "The animal didn't cross the street because it was too"
"""The pair of the Winograd schema that tells whether a model knows what "it" is."""
EXAMPLE_CANDIDATES = (" tired", " wide")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What stands on the page."""

    text: str = EXAMPLE_TEXT
    """The text."""
    model: str
    """The checkpoint that is looked into."""
    other: str = ""
    """The checkpoint that surprise is compared with; none where empty."""
    candidates: tuple[str, ...] = EXAMPLE_CANDIDATES
    """What could come next, for the ladder; an empty one is none."""
    top_k: int = 10
    """Options for the next token."""
    temperature: float = 1.0
    """Divides the logits of the next token."""
    own: str = ""
    """A next text of one's own."""
    position: int | None = None
    """The token whose attention is shown; None takes the last."""

    def __post_init__(self) -> None:
        """InputError where a field cannot be; JSON may hold any type, so types are checked too."""
        texts = (self.text, self.model, self.other, self.own, *self.candidates)
        wholes = (self.top_k, *([] if self.position is None else [self.position]))
        if not all(type(text) is str for text in texts) or not all(type(whole) is int for whole in wholes):
            raise InputError("a field of the question is of the wrong type; wanted texts and whole numbers")
        if type(self.temperature) not in (int, float) or not 0 <= self.temperature <= 100:
            raise InputError(f"temperature is {self.temperature}; wanted 0 (the likeliest token alone) to 100")
        if not 1 <= self.top_k <= 100:
            raise InputError(f"top-k is {self.top_k}; wanted 1 to 100")
        if len(self.candidates) > 2:
            raise InputError(f"got {len(self.candidates)} candidates; wanted two at most")


def answer_next(shelf: Shelf, question: Question) -> Answer:
    """The next token by one checkpoint."""
    return shelf.compute(
        question.model,
        lambda opened: answers.next_token(
            opened, question.text, top_k=question.top_k, temperature=question.temperature, own=question.own
        ),
    )


def answer_endings(shelf: Shelf, question: Question) -> Answer:
    """Strings up to the next space by one checkpoint; none where its tokens are no bytes."""
    return shelf.compute(
        question.model,
        lambda opened: {"endings": continued(opened, question.text) if opened.tokenizer.name == "bytes" else None},
    )


def answer_ladder(shelf: Shelf, question: Question) -> Iterator[Answer]:
    """A row for each checkpoint as soon as it is known, then the sentence on who leads.

    A checkpoint that cannot be read is a row with its problem.
    """
    pairs = []
    for entry in shelf.entries.values():
        try:
            row = shelf.compute(entry.name, lambda opened: answers.rung(opened, question.text, question.candidates))
        except InputError as error:
            yield {"name": entry.name, "problem": str(error)}
            continue
        yield {"name": entry.name, **row}
        given = row["candidates"]
        if len(given) == 2 and None not in given:
            size, params, tokens = entry.size.name, entry.size.params_total, entry.tokens or 0
            pairs.append(Pair(size=size, params=params, tokens=tokens, first=given[0], second=given[1]))
    yield {"lead": describe_lead(pairs, *question.candidates) if pairs else ""}


def answer_surprise(shelf: Shelf, question: Question) -> Answer:
    """The surprise of one checkpoint, and of the other where there is one."""
    names = [question.model, *([question.other] if question.other else [])]
    return {
        "models": [
            {"name": name} | shelf.compute(name, lambda opened: answers.surprise(opened, question.text))
            for name in names
        ]
    }


def answer_attention(shelf: Shelf, question: Question) -> Answer:
    """Where a token looks, by one checkpoint."""
    return shelf.compute(question.model, lambda opened: answers.attention(opened, question.text, question.position))


def answer_lens(shelf: Shelf, question: Question) -> Answer:
    """What each layer of one checkpoint would say."""
    return shelf.compute(question.model, lambda opened: answers.lens(opened, question.text))


def answer_all(shelf: Shelf, question: Question) -> dict[str, Any]:
    """Every answer by the name of its view, as a saved copy holds them."""
    return {
        "next": answer_next(shelf, question),
        "endings": answer_endings(shelf, question),
        "ladder": list(answer_ladder(shelf, question)),
        "surprise": answer_surprise(shelf, question),
        "attention": answer_attention(shelf, question),
        "lens": answer_lens(shelf, question),
    }
