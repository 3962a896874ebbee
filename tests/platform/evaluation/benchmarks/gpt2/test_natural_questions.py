"""Natural Questions: the real file, the prompt, the arithmetic of exact match and confidence, and bad files."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmarks.gpt2 import natural_questions
from ladder.platform.evaluation.benchmarks.gpt2.natural_questions import (
    ANSWER_TOKENS,
    EXAMPLES,
    NATURAL_QUESTIONS,
    Question,
    describe_scores,
    make_prompt,
    read_questions,
)
from ladder.platform.evaluation.evaluate import evaluate
from ladder.platform.evaluation.kinds.generation import Answer
from ladder.platform.evaluation.kinds.shots import draw_shots
from ladder.platform.evaluation.protocol import Protocol

NAME = NATURAL_QUESTIONS.files[0].name

QUESTIONS = [Question(text=f"question {i}", answers=(f"<answer {i}>", f"<other {i}>")) for i in range(12)]

TRAIN = [Question(text=f"example {i}", answers=(f"<solved {i}>", f"<also {i}>")) for i in range(8)]


def install(storage: Path, questions: list[Question]) -> None:
    folder = storage / "benchmarks" / "natural-questions"
    folder.mkdir(parents=True)
    for name, contents in ((NAME, questions), (EXAMPLES.name, TRAIN)):
        lines = [json.dumps({"question": q.text, "answer": list(q.answers)}) + "\n" for q in contents]
        (folder / name).write_text("".join(lines), encoding="utf-8")


def test_the_real_file_holds_3610_questions_whose_answers_fit(shared: Path, gpt2_vocabulary: None) -> None:
    questions = read_questions(UPath(shared / "benchmarks" / "nq_open" / NAME))
    assert len(questions) == 3610
    assert questions[0].text == "when was the last time anyone was on the moon"
    assert questions[0].answers == ("14 December 1972 UTC", "December 1972")
    encode = load_tokenizer("gpt2").encode
    shortest = [min(len(encode(" " + answer)) for answer in question.answers) for question in questions]
    assert max(shortest) + 1 <= ANSWER_TOKENS  # with the end of the line


def test_the_prompt_is_solved_pairs_and_the_question() -> None:
    prompt = make_prompt(TRAIN[1:2], QUESTIONS[0])
    assert prompt == "Q: example 1?\nA: <solved 1>\nQ: question 0?\nA:"
    assert make_prompt([], QUESTIONS[3]) == "Q: question 3?\nA:"


def test_scores_are_those_of_known_answers(byte_gpt2: GPT2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, QUESTIONS)
    written = [" <answer 0>\nQ:", " The other, 1!\nnothing", " <answer 3>\n", "\n<answer 3>"]
    prompts: list[str] = []

    def write(setting: object, asked: list[str], **options: object) -> list[Answer]:
        prompts.extend(asked)
        probabilities = (0.9, 0.5, 0.25, 0.125)
        rows = zip(written, probabilities, strict=True)
        return [Answer(text=t, nats=-math.log(p), n_tokens=5, cut=t.startswith("\n")) for t, p in rows]

    monkeypatch.setattr(natural_questions, "write_answers", write)
    protocol = Protocol(limit=4, shots=2, seed=9)
    measured = evaluate(
        byte_gpt2, load_tokenizer("bytes"), ["natural-questions"], storage=UPath(tmp_path), protocol=protocol
    )
    for item, prompt in enumerate(prompts):
        drawn = [TRAIN[index] for index in draw_shots(item, len(TRAIN), shots=2, seed=9)]
        assert prompt == make_prompt(drawn, QUESTIONS[item])
    assert len(set(prompts)) == 4
    scores = {m.metric: m for m in measured}
    assert scores["exact_match"].value == 0.5
    assert scores["exact_match"].count == 4
    assert scores["exact_match"].standard_error == pytest.approx(np.std([1, 1, 0, 0], ddof=1) / 2)
    assert scores["exact_match"].totals["items_cut"] == 1
    assert scores["exact_match"].paper_scores == {"1542M": 0.041}
    assert "2-shot" in scores["exact_match"].protocol
    assert scores["exact_match_most_confident_1_percent"].value == 1.0
    errors = [1 - 0.9, 1 - 0.5, 0.25, 0.125]  # each answer is a bin of its own
    assert scores["calibration_error"].value == pytest.approx(np.mean(errors))
    assert scores["calibration_error"].direction == "lower"


def test_confidence_and_calibration_follow_their_definitions_on_many_answers() -> None:
    draws = np.random.default_rng(0)
    confidence = draws.uniform(size=1000)
    hits = (draws.uniform(size=1000) < confidence**2).astype(float)  # over-confident
    totals = {"items": np.ones(1000), "hits": hits, "confidence": confidence}
    _, confident, calibration = describe_scores(totals, "zero-shot")
    top = np.argsort(-confidence)[:10]
    assert confident.measure().value == hits[top].mean()
    bins = np.argsort(confidence).reshape(10, 100)
    assert calibration.measure().value == pytest.approx(
        np.mean([abs(hits[part].mean() - confidence[part].mean()) for part in bins])
    )
    assert calibration.measure().value > 5 * calibration.measure().standard_error
    kept = np.arange(0, 1000, 2)
    assert confident.measure(kept).value == hits[kept[np.argsort(-confidence[kept])[:5]]].mean()
    assert calibration.measure(np.array([3])).value == pytest.approx(abs(hits[3] - confidence[3]))


def test_a_small_model_is_scored_the_same_way_twice(byte_gpt2: GPT2, tmp_path: Path) -> None:
    install(tmp_path, QUESTIONS)
    runs = [
        evaluate(
            byte_gpt2,
            load_tokenizer("bytes"),
            ["natural-questions"],
            storage=UPath(tmp_path),
            protocol=Protocol(limit=3),
        )
        for _ in range(2)
    ]
    assert [m.value for m in runs[0]] == [m.value for m in runs[1]]
    assert runs[0][0].totals["items_cut"] == 3  # five pairs do not fit 64 bytes


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b'{"question": "a", "answer": ["b"]}\n{"question": \n', "line 2: JSONDecodeError"),
        (b'{"question": "a"}\n', "line 1: KeyError"),
        (b"[1]\n", "line 1: TypeError"),
        (b'{"question": "a", "answer": []}\n', "line 1: wanted a question"),
        (b'{"question": "a", "answer": "b"}\n', "line 1: wanted a question"),
        (b'{"question": " ", "answer": ["b"]}\n', "line 1: wanted a question"),
        (b'{"question": "a", "answer": ["b\\nc"]}\n', "line 1: wanted a question of one line"),
        (b'{"question": "a", "answer": ["\xff"]}\n', "line 1: not UTF-8"),
        (b'{"question": "a \\uDC00", "answer": ["b"]}\n', "line 1: .* half of a surrogate pair"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = UPath(tmp_path) / NAME
    path.write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        read_questions(path)
