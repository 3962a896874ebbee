"""CoQA: its file, the prompts, the official F1, reading a document once, and bad files."""

import json
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmarks.gpt2 import coqa
from ladder.platform.evaluation.benchmarks.gpt2.coqa import COQA, answer_f1, make_prompts, read_conversations
from ladder.platform.evaluation.evaluate import evaluate
from ladder.platform.evaluation.kinds.generation import Answer
from ladder.platform.evaluation.protocol import Protocol


def turns(*texts: str) -> list[dict[str, Any]]:
    return [{"input_text": text, "turn_id": number, "span_text": "x"} for number, text in enumerate(texts, start=1)]


def story(document: str, questions: list[str], *answers: list[str]) -> dict[str, Any]:
    return {
        "source": "mctest",
        "id": "3dr23",
        "story": document,
        "questions": turns(*questions),
        "answers": turns(*answers[0]),
        "additional_answers": {str(index): turns(*others) for index, others in enumerate(answers[1:])},
    }


STORIES = [
    story("Cotton was a white kitten. \n", ["What color?", "Who?"], ["white", "Cotton"], ["White.", "a kitten"]),
    story("Asta was a fish.", ["What was she?"], ["a fish"], ["fish"], ["a small fish"]),
    story("Bob ran home.", ["Did he walk?", "Where?", "Who?"], ["no", "home", "Bob"]),
]


def install(storage: Path, stories: list[dict[str, Any]]) -> UPath:
    path = UPath(storage) / "benchmarks" / "coqa" / COQA.files[0].name
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"version": "1.0", "data": stories}), encoding="utf-8")
    return path


def test_the_prompt_is_the_document_the_conversation_so_far_and_the_question(tmp_path: Path) -> None:
    conversations = read_conversations(install(tmp_path, STORIES))
    prompts = make_prompts([], conversations[0])
    assert prompts == [
        "Cotton was a white kitten.\n\nQ: What color?\nA:",
        "Cotton was a white kitten.\n\nQ: What color?\nA: white\nQ: Who?\nA:",
    ]


def test_a_shot_is_another_conversation_with_its_answers(tmp_path: Path) -> None:
    conversations = read_conversations(install(tmp_path, STORIES[:2]))
    (prompt,) = make_prompts(conversations[:1], conversations[1])
    assert prompt == (
        "Cotton was a white kitten.\n\nQ: What color?\nA: white\nQ: Who?\nA: Cotton\n\n"
        "Asta was a fish.\n\nQ: What was she?\nA:"
    )


def test_no_prompt_holds_its_own_answer(tmp_path: Path) -> None:
    marked = [story(f"Text {i}.", ["Q1", "Q2", "Q3"], [f"<{i} {turn}>" for turn in range(3)]) for i in range(5)]
    conversations = read_conversations(install(tmp_path, marked))
    for item in range(5):
        for turn, prompt in enumerate(make_prompts(conversations[:item][:2], conversations[item])):
            assert [f"<{item} {later}>" in prompt for later in range(3)] == [later < turn for later in range(3)]


def test_f1_leaves_out_each_right_answer_once() -> None:
    assert answer_f1("white", ["white"]) == 1
    assert answer_f1("the fish", ["fish"]) == 1
    # Against (b, c): 1/2's f1 and 0; against (a, c): 1 and 0; against (a, b): 1.
    right = ["fish", "small fish", "whale"]
    assert answer_f1("fish", right) == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert answer_f1("whale", right) == pytest.approx((1 + 1 + 0) / 3)


def test_scores_are_per_question_with_errors_over_conversations(
    byte_gpt2: GPT2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, STORIES)
    texts = [" white\nQ", " dog", " fish\n", " No!\n", " to home", "\nBob"]

    def write(setting: object, prompts: list[str], **options: object) -> list[Answer]:
        return [Answer(text=text, nats=1.0, n_tokens=3, cut="Bob" in text) for text in texts[: len(prompts)]]

    monkeypatch.setattr(coqa, "write_answers", write)
    (f1,) = evaluate(byte_gpt2, load_tokenizer("bytes"), ["coqa"], storage=UPath(tmp_path))
    by_story = [1.0, 1.0, 1 + 2 / 3 + 0]
    assert f1.value == pytest.approx(sum(by_story) / 6)
    assert f1.count == 6
    residuals = [x - f1.value * n for x, n in zip(by_story, (2, 1, 3), strict=True)]
    assert f1.standard_error == pytest.approx((3 / 2 * sum(r * r for r in residuals)) ** 0.5 / 6)
    assert (f1.totals["items"], f1.totals["items_cut"], f1.totals["questions_cut"]) == (3, 1, 1)
    assert f1.paper_scores == {"1542M": 0.55}
    (first,) = evaluate(
        byte_gpt2, load_tokenizer("bytes"), ["coqa"], storage=UPath(tmp_path), protocol=Protocol(limit=1)
    )
    assert (first.value, first.count) == (0.5, 2)


def test_a_document_is_read_once_for_all_its_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = GPT2(parse_size("2x32h2", context=256, vocabulary=257), seed=1)
    install(tmp_path, STORIES)
    longest = [max(map(len, make_prompts([], read_conversations(next(tmp_path.rglob("*.json")))[i]))) for i in range(3)]
    read: list[int] = []
    hidden = model.hidden
    monkeypatch.setattr(
        model,
        "hidden",
        lambda tokens, place: read.append(tokens.numel() if tokens.shape[1] > 1 else 0) or hidden(tokens, place),
    )
    (f1,) = evaluate(model, load_tokenizer("bytes"), ["coqa"], storage=UPath(tmp_path))
    assert f1.totals["items_cut"] == 0
    assert 0 < sum(read) <= 3 * max(longest)  # three rows padded to the longest


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{\n  nonsense", "line 2: Expecting property name"),
        ('{"stories": []}', "wanted an object"),
        ("[]", "wanted an object"),
        ('{"data": []}', "no stories"),
        (json.dumps({"data": [STORIES[0], {"story": "x"}]}), "story 2: KeyError"),
        (json.dumps({"data": [story("x", ["a", "b"], ["c"])]}), "story 1: wanted a document and one answer"),
        (json.dumps({"data": [story(" ", ["a"], ["c"])]}), "story 1: wanted a document"),
        (json.dumps({"data": [{**STORIES[0], "answers": [{"turn_id": 1}]}]}), "story 1: KeyError: 'input_text'"),
        (json.dumps({"data": [{**STORIES[0], "story": 3}]}), "story 1: AttributeError"),
    ],
)
def test_a_bad_file_is_named_with_its_story(tmp_path: Path, content: str, complaint: str) -> None:
    path = UPath(tmp_path) / "coqa-dev-v1.0.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=complaint):
        read_conversations(path)


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = UPath(tmp_path) / "coqa-dev-v1.0.json"
    path.write_bytes(b'{"data": "\xff"}')
    with pytest.raises(InputError, match="not UTF-8 at byte 11"):
        read_conversations(path)
