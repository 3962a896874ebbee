"""Winograd schemas (Levesque et al. 2012): which of two phrases a pronoun stands for, 273 items.

Each candidate is put in the pronoun's place. Partial scoring, the GPT-2 paper's, compares the probability of what
follows given the candidate; full scoring that of candidate and rest (Trinh and Le 2018, arXiv:1806.02847). Both come
out of one pass. There is no prompt, so shots asked for do not apply.

The file writes candidates with capitals or without and has lost the pronoun, hence two rules. A candidate is
capitalised where a sentence begins, and elsewhere its article or possessive ("The", "His") is in small letters, as
published re-runs have it. It takes 's where the pronoun was a possessive: see POSSESSIVE_ITEMS.
"""

import re
from collections.abc import Sequence

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.kinds.choice import Choice, Question, rest_nats, total_nats
from ladder.platform.evaluation.kinds.choice_task import ChoiceTask, Rule
from ladder.platform.evaluation.text.lines import read_text_lines

FILE = BenchmarkFile(
    name="wsc273.txt",
    sha256="43103428d77df28b1bb37156eaf3c43a954a02b5dc7ff72453f5c54abf394bad",
    address="https://raw.githubusercontent.com/vid-koci/bert-commonsense/"
    "72486e3223baa48b843bd6f39447f1937674024e/data/wsc273.txt",
)

MASK = "[MASK]"
"""What stands for the pronoun."""

LINES = 5
"""Lines of an item: sentence, mask, candidates apart by a comma, answer, an empty line."""

POSSESSIVE_ITEMS = frozenset({*range(208, 210), *range(216, 222), *range(228, 238), *range(240, 246), *range(269, 271)})
"""Items, counted from 0, whose pronoun is his or her before a noun, by the collection's XML (WSCollection.xml)."""

LOWERED = frozenset({"A", "An", "The", "My", "His", "Her", "Their"})
"""First words of candidates that are capitalised only where a sentence begins; other capitals are of names."""


def read_questions(path: UPath) -> list[Question]:
    """The items of a file; InputError names the line that is wrong."""
    lines = read_text_lines(path)
    while lines and not lines[-1].strip():
        lines.pop()
    starts = range(0, len(lines), LINES)
    return [
        _read_item(path, start + 1, lines[start : start + LINES], possessive=index in POSSESSIVE_ITEMS)
        for index, start in enumerate(starts)
    ]


def _read_item(path: UPath, number: int, lines: Sequence[str], *, possessive: bool) -> Question:
    """The item whose first line is line `number`."""
    padded = [" ".join(line.split()) for line in lines] + [""] * (LINES - len(lines))
    sentence, mask, listed, answer, empty = padded
    if sentence.count(MASK) != 1 or mask != MASK or empty:
        wanted = f"wanted a sentence with one {MASK}, {MASK}, two candidates, the answer, an empty line"
        raise InputError(f"{path}, line {number}: {wanted}; got {sentence!r:.60}, {mask!r:.20}, ..., {empty!r:.20}")
    candidates = [candidate.strip() for candidate in listed.split(",")]
    if len(candidates) != 2 or not all(candidates):
        raise InputError(f"{path}, line {number + 2}: wanted two candidates apart by a comma, got {listed!r:.80}")
    if answer not in candidates:
        raise InputError(f"{path}, line {number + 3}: wanted one of {listed!r:.80} as the answer, got {answer!r:.40}")
    before, after = (part.strip() for part in sentence.split(MASK))
    if not after:
        raise InputError(f"{path}, line {number}: wanted text after {MASK}, since it is scored, got {sentence!r:.80}")
    return make_question(before, candidates, after, answer=candidates.index(answer), possessive=possessive)


def make_question(before: str, candidates: Sequence[str], after: str, *, answer: int, possessive: bool) -> Question:
    """The question of a sentence's two parts and the candidates for the pronoun between them."""
    space = " " if before else ""
    rest = after if re.match(r"[.,;:!?']", after) else " " + after
    texts = [space + write_candidate(candidate, before, possessive=possessive) for candidate in candidates]
    return Question(context=before, choices=tuple(Choice(text=text, rest=rest) for text in texts), answer=answer)


def write_candidate(candidate: str, before: str, *, possessive: bool) -> str:
    """A candidate as it is written after the text `before`."""
    first = candidate.split()[0]
    if not before or before[-1] in ".!?":
        candidate = candidate[0].upper() + candidate[1:]
    elif first in LOWERED:
        candidate = candidate[0].lower() + candidate[1:]
    return candidate + "'s" if possessive else candidate


WINOGRAD = ChoiceTask(
    name="winograd",
    source="Winograd schema challenge, 273 items, two candidates each",
    citation="Levesque et al. 2012, The Winograd schema challenge; scoring: Trinh and Le 2018, arXiv:1806.02847",
    file=FILE,
    read=read_questions,
    manner="candidate in the pronoun's place",
    rules={
        "accuracy_partial": Rule(
            compared=rest_nats, description="what follows is likelier after the right candidate than after the other"
        ),
        "accuracy_full": Rule(
            compared=total_nats, description="the right candidate with what follows is likelier than the other"
        ),
    },
    paper_scores={"accuracy_partial": {"1542M": 0.7070}},
).benchmark()
"""The paper's accuracy of the largest model (section 3.4); those of the others are only in its figure 3."""
