"""CoQA (Reddy et al. 2019): conversations about a document, question after question.

The prompt is the document, the conversation so far with people's own answers, the question and `A:` (Radford et al.
2019, section 3.5):

    <the document>

    Q: What color was Cotton?
    A: white
    Q: Where did she live?
    A:

The answer is greedy and ends with the line. F1 is that of the official evaluation: where several people answered, each
is left out once and the best match with the others counts, so that the number compares with people's own.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Benchmark, Setting, benchmark_folder
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.item_scores import ItemScores, ratio_of
from ladder.platform.evaluation.kinds.generation import Answer, ends_line, first_line, overlap_f1, write_answers
from ladder.platform.evaluation.kinds.shots import describe_shots, draw_shots
from ladder.platform.evaluation.text.lines import load_json

FILE = BenchmarkFile(
    name="coqa-dev-v1.0.json",
    sha256="dfa367a9733ce53222918d0231d9b3bedc2b8ee831a2845f62dfc70701f2540a",
    address="https://downloads.cs.stanford.edu/nlp/data/coqa/coqa-dev-v1.0.json",
)

EXAMPLES = BenchmarkFile(
    name="coqa-train-v1.0.json",
    sha256="b0fdb2bc1bd38dd3ca2ce5fa2ac3e02c6288ac914f241ac409a655ffb6619fa6",
    address="https://downloads.cs.stanford.edu/nlp/data/coqa/coqa-train-v1.0.json",
)

SHOTS = 0
"""Solved conversations before the document: the paper has none."""

ANSWER_TOKENS = 32
"""Tokens of an answer at most; people's answers have 2.7 words on average (Reddy et al. 2019, table 3)."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A question and what people answered."""

    question: str
    """The question."""
    answers: tuple[str, ...]
    """The answer of the conversation, then those of others who were asked."""


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A document and the questions about it."""

    document: str
    """The document."""
    turns: tuple[Turn, ...]
    """The questions, in order, at least one."""


def read_conversations(path: UPath) -> list[Conversation]:
    """The conversations of CoQA's JSON file; InputError names the story that is not in its format."""
    try:
        stories = load_json(path.read_bytes().decode("utf-8"))["data"]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start + 1}; fetch coqa again") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno}: {error.msg} at column {error.colno}; fetch coqa again"
        ) from error
    except (KeyError, TypeError) as error:
        raise InputError(f'{path}: wanted an object {{"data": [...]}} of stories; fetch coqa again') from error
    if not isinstance(stories, list) or not stories:
        raise InputError(f"{path}: data holds no stories; fetch coqa again")
    return [_read_conversation(path, number, story) for number, story in enumerate(stories, start=1)]


def _read_conversation(path: UPath, number: int, story: Any) -> Conversation:
    try:
        sources = [story["answers"], *story.get("additional_answers", {}).values()]
        questions = _texts(story["questions"])
        answers = [_texts(source) for source in sources]
        document = story["story"].strip()
    except (KeyError, TypeError, AttributeError) as error:
        wanted = "wanted story, questions and answers with input_text and turn_id"
        raise InputError(f"{path}, story {number}: {type(error).__name__}: {error}; {wanted}") from error
    counts = [len(questions), *map(len, answers)]
    if not document or min(counts) < 1 or len(set(counts)) > 1:
        wanted = "wanted a document and one answer of each source to each question"
        raise InputError(f"{path}, story {number}: {wanted}, got {counts[0]} questions and {counts[1:]} answers")
    return Conversation(
        document=document,
        turns=tuple(Turn(question=q, answers=tuple(a)) for q, *a in zip(questions, *answers, strict=True)),
    )


def _texts(entries: Sequence[Any]) -> list[str]:
    """The texts of questions or answers, in the order of their turns."""
    ordered = sorted(entries, key=lambda entry: int(entry["turn_id"]))
    return [" ".join(entry["input_text"].split()) for entry in ordered]


def make_prompts(examples: Sequence[Conversation], asked: Conversation) -> list[str]:
    """The prompt of each question of a conversation; each begins with the one before, which is so not read again."""
    before = "".join(_write_turns(example, example.turns) + "\n" for example in examples)
    return [
        before + _write_turns(asked, asked.turns[:index]) + f"Q: {turn.question}\nA:"
        for index, turn in enumerate(asked.turns)
    ]


def _write_turns(conversation: Conversation, turns: Sequence[Turn]) -> str:
    """A document and the turns given of its conversation, with the answers."""
    lines = [f"Q: {turn.question}\nA: {turn.answers[0]}\n" for turn in turns]
    return conversation.document + "\n\n" + "".join(lines)


def answer_f1(answer: str, right: Sequence[str]) -> float:
    """F1 against the best of the right answers; of several, mean over leaving out each (CoQA's official evaluation)."""
    scores = [overlap_f1(answer, one) for one in right]
    if len(scores) == 1:
        return scores[0]
    return sum(max(scores[:index] + scores[index + 1 :]) for index in range(len(scores))) / len(scores)


def score(setting: Setting) -> list[ItemScores]:
    """F1 per question; conversations are the items."""
    folder = benchmark_folder(setting.storage, "coqa")
    chosen = read_conversations(folder / FILE.name)[: setting.protocol.limit]
    shots = SHOTS if setting.protocol.shots is None else setting.protocol.shots
    prompting = describe_shots(shots, setting.protocol.seed, "the train split")
    examples = read_conversations(folder / EXAMPLES.name) if shots else []
    draws = [draw_shots(item, len(examples), shots=shots, seed=setting.protocol.seed) for item in range(len(chosen))]
    prompts = [
        make_prompts([examples[index] for index in drawn], conversation)
        for drawn, conversation in zip(draws, chosen, strict=True)
    ]
    flat = [prompt for of_one in prompts for prompt in of_one]
    answers = iter(write_answers(setting, flat, n_tokens=ANSWER_TOKENS, stop=ends_line))
    given = [[next(answers) for _ in conversation.turns] for conversation in chosen]
    totals = [_sum_answers(*pair) for pair in zip(chosen, given, strict=True)]
    columns = {name: np.array([total[name] for total in totals]) for name in totals[0]}
    return [
        ItemScores(
            benchmark="coqa",
            protocol=f"document and conversation so far, {prompting}, "
            "greedy answer to the end of the line, official F1",
            metric="f1",
            unit="F1 of words, 0 to 1",
            direction="higher",
            description="mean F1 per question; standard error over conversations, ratio estimator",
            estimate=ratio_of(columns["f1"], columns["questions"]),
            counted=columns["questions"],
            totals=columns,
            items=[_describe(*pair) for pair in zip(chosen, given, strict=True)],
        )
    ]


def _describe(conversation: Conversation, answers: Sequence[Answer]) -> dict[str, Any]:
    """A conversation and what was written, for people."""
    turns = [
        {"question": turn.question, "written": first_line(answer.text), "answers": list(turn.answers)}
        for turn, answer in zip(conversation.turns, answers, strict=True)
    ]
    return {"document": conversation.document, "turns": turns}


def _sum_answers(conversation: Conversation, answers: Sequence[Answer]) -> dict[str, float]:
    """The sums over one conversation's questions."""
    pairs = zip(answers, conversation.turns, strict=True)
    n_cut = sum(answer.cut for answer in answers)
    return {
        "f1": sum(answer_f1(first_line(answer.text), turn.answers) for answer, turn in pairs),
        "questions": len(answers),
        "items": 1,
        "tokens": sum(answer.n_tokens for answer in answers),
        "items_cut": float(n_cut > 0),
        "questions_cut": n_cut,
    }


def read_texts(storage: UPath, corpus: Corpus | None) -> list[str]:
    """The document of each conversation."""
    conversations = read_conversations(benchmark_folder(storage, "coqa") / FILE.name)
    return [conversation.document for conversation in conversations]


COQA = Benchmark(
    name="coqa",
    source="CoQA, dev split, version 1.0: 500 conversations of 7,983 questions",
    score=score,
    reads=frozenset({"limit", "shots", "seed"}),
    version=2,
    texts=read_texts,
    citation="Reddy et al. 2019, CoQA: A Conversational Question Answering Challenge, arXiv:1808.07042",
    files=(FILE,),
    example_files=(EXAMPLES,),
    shots=SHOTS,
    paper_scores={"f1": {"1542M": 0.55}},
)
