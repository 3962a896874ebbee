"""DPRD (Rahman and Ng 2012): which of two candidates a pronoun stands for, 564 sentences; not the Winograd schemas.

GPT-1's zero-shot heuristic puts each candidate in the pronoun's place and compares the average log-probability of the
rest of the sentence (Radford et al. 2018, section 5). The file names the pronoun and not its place: it is the first one
after both candidates, else the last in the sentence (14 sentences have more than one).
"""

import re

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.benchmarks.gpt2.winograd import make_question
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.kinds.choice import ChoiceNats, Question, rest_nats
from ladder.platform.evaluation.kinds.choice_task import ChoiceTask, Rule
from ladder.platform.evaluation.text.lines import read_text_lines

FILE = BenchmarkFile(
    name="test.c.txt",
    sha256="cf1cf025e1d59a5b363e6dcfbd5a13aae8a9830831ac16fd7f865aca7a1559d8",
    address="https://raw.githubusercontent.com/vid-koci/bert-commonsense/"
    "72486e3223baa48b843bd6f39447f1937674024e/data/test.c.txt",
)
LINES = 5
"""Lines of an item: sentence, pronoun, candidates apart by a comma, answer, an empty line."""
POSSESSIVE = frozenset({"his", "its", "their", "her"})
"""Pronouns that stand before a noun, "her" where a word follows."""


def read_questions(path: UPath) -> list[Question]:
    """The items of a file; InputError names the line that is wrong."""
    lines = read_text_lines(path)
    while lines and not lines[-1].strip():
        lines.pop()
    return [_read_item(path, start + 1, lines[start : start + LINES]) for start in range(0, len(lines), LINES)]


def _read_item(path: UPath, number: int, lines: list[str]) -> Question:
    sentence, pronoun, listed, answer, empty = [" ".join(line.split()) for line in lines] + [""] * (LINES - len(lines))
    candidates = [candidate.strip() for candidate in listed.split(",")]
    small = [candidate.lower() for candidate in candidates]
    places = [found.start() for found in re.finditer(rf"\b{re.escape(pronoun)}\b", sentence)] if pronoun else []
    if not places or empty or len(candidates) != 2 or not all(candidates):
        wanted = "wanted a sentence, a pronoun in it, two candidates apart by a comma, the answer, an empty line"
        raise InputError(f"{path}, line {number}: {wanted}; got {sentence!r:.60}, {pronoun!r:.20}, {listed!r:.40}")
    if answer.lower() not in small:
        raise InputError(f"{path}, line {number + 3}: wanted one of {listed!r:.80} as the answer, got {answer!r:.40}")
    named = max(sentence.lower().find(candidate) for candidate in small)
    place = next((one for one in places if one > named), places[-1])
    before, after = sentence[:place].strip(), sentence[place + len(pronoun) :].strip()
    if not after:
        raise InputError(
            f"{path}, line {number}: wanted text after {pronoun}, since it is scored, got {sentence!r:.80}"
        )
    possessive = pronoun in POSSESSIVE and after[0].isalpha()
    return make_question(before, candidates, after, answer=small.index(answer.lower()), possessive=possessive)


def mean_rest_nats(nats: ChoiceNats) -> float:
    """-ln p of the rest per token, the candidate being given."""
    return rest_nats(nats) / len(nats.rest)


DPRD = ChoiceTask(
    name="dprd",
    source="Definite Pronoun Resolution Dataset, test split: 564 sentences, two candidates each",
    citation="Rahman and Ng 2012, Resolving complex cases of definite pronouns; heuristic: Radford et al. 2018, "
    "Improving language understanding by generative pre-training, section 5",
    file=FILE,
    read=read_questions,
    manner="candidate in the pronoun's place; average token log-probability of the rest",
    rules={
        "accuracy": Rule(
            compared=mean_rest_nats,
            description="the rest of the sentence has the higher average log-probability after the right candidate",
        )
    },
).benchmark()
