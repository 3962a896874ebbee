"""COPA: the real files, their text beside another release, and chance."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmarks.gpt1.copa import EXAMPLES, FILE, begin_small, read_questions
from ladder.platform.evaluation.evaluate import evaluate
from ladder.platform.evaluation.files.published import sha256_of
from ladder.platform.evaluation.protocol import Protocol

ITEM = (
    '<item id="1" asks-for="{asked}" most-plausible-alternative="{answer}">\n'
    "<p>{premise}</p>\n<a1>He slept.</a1>\n<a2>I&apos;m late again.</a2>\n</item>\n"
)


@pytest.fixture
def folder(shared: Path) -> UPath:
    return UPath(shared / "benchmarks" / "copa")


def write_items(path: UPath, *items: str) -> UPath:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('<?xml version="1.0" encoding="UTF-8"?>\n<copa-corpus>\n' + "".join(items) + "</copa-corpus>\n")
    return path


def make_item(*, asked: str = "cause", answer: str = "2", premise: str = "We ran.") -> str:
    return ITEM.format(asked=asked, answer=answer, premise=premise)


def test_the_real_file_holds_500_questions_half_of_each_answer(folder: UPath) -> None:
    questions = read_questions(folder / FILE.name)
    assert len(questions) == 500
    assert sum(question.answer for question in questions) == 250
    assert sum(question.context.endswith(" because") for question in questions) == 250
    assert sha256_of(folder / FILE.name) == FILE.sha256


def test_a_question_is_one_sentence_with_its_connective(tmp_path: Path) -> None:
    items = (make_item(premise="The fog came &amp; stayed. "), make_item(asked="effect", answer="1"))
    cause, effect = read_questions(write_items(UPath(tmp_path) / "copa.xml", *items))
    assert cause.solved == "The fog came & stayed because I'm late again."
    assert effect.solved == "We ran so he slept."
    assert [choice.text for choice in effect.choices] == [" he slept.", " I'm late again."]


def test_the_dev_split_has_the_text_of_another_release(folder: UPath) -> None:
    """Which joins with a comma and "therefore", and writes the word I small."""
    others = [json.loads(line) for line in (folder / "copa_llmfoundry_val.jsonl").read_text().splitlines()]
    ours = {}
    for question in read_questions(folder / "copa-dev.xml"):
        premise, _, connective = question.context.rpartition(" ")
        query = f"{premise}, {'therefore' if connective == 'so' else connective}"
        ours[query] = ([choice.text.strip().lower() for choice in question.choices], question.answer)
    assert len(others) == 100
    for other in others:
        assert ours[other["query"]] == ([choice.lower() for choice in other["choices"]], other["gold"])


@pytest.mark.parametrize(
    ("sentence", "wanted"),
    [("The sun rose.", "the sun rose."), ("I slept.", "I slept."), ("I'm late.", "I'm late."), ("It's.", "it's.")],
)
def test_an_ending_begins_small_but_for_the_word_i(sentence: str, wanted: str) -> None:
    assert begin_small(sentence) == wanted


def test_an_untrained_model_scores_at_chance(folder: UPath, gpt2_vocabulary: None, tmp_path: Path) -> None:
    path = tmp_path / "benchmarks" / "copa" / FILE.name
    path.parent.mkdir(parents=True)
    path.write_bytes((folder / FILE.name).read_bytes())
    model = GPT2(parse_size("1x32", context=128), seed=1)
    (score,) = evaluate(model, load_tokenizer("gpt2"), ["copa"], storage=UPath(tmp_path))
    assert (score.count, score.chance) == (500, 0.5)
    assert score.standard_error is not None
    assert abs(score.value - 0.5) <= 3 * score.standard_error


def test_the_average_per_token_decides_and_not_the_sum(bigram: Callable[..., GPT2], tmp_path: Path) -> None:
    write_items(UPath(tmp_path) / "benchmarks" / "copa" / FILE.name, make_item(answer="2"))
    model = bigram(classes=257, context=64)
    table = model.log_probabilities
    table[:] = 0.0
    endings = (" he slept.", " I'm late again.")
    for a, b in zip("e" + endings[1], endings[1], strict=False):
        table[ord(a), ord(b)] = 1.0
    table.copy_(table.log_softmax(1))
    nats = [[-table[ord(a), ord(b)].item() for a, b in zip("e" + text, text, strict=False)] for text in endings]
    assert sum(nats[0]) < sum(nats[1])
    assert sum(nats[0]) / len(nats[0]) > sum(nats[1]) / len(nats[1])
    (score,) = evaluate(model, load_tokenizer("bytes"), ["copa"], storage=UPath(tmp_path))
    assert score.value == 1.0


def test_shots_and_limit_are_honoured(byte_gpt2: GPT2, tmp_path: Path) -> None:
    path = UPath(tmp_path) / "benchmarks" / "copa" / FILE.name
    write_items(path, *[make_item(premise=f"We ran {number}.") for number in range(4)])
    write_items(path.with_name(EXAMPLES.name), make_item())
    protocol = Protocol(limit=3, shots=1)
    (score,) = evaluate(byte_gpt2, load_tokenizer("bytes"), ["copa"], storage=UPath(tmp_path), protocol=protocol)
    assert score.count == 3
    assert score.protocol.endswith("1-shot, examples drawn from the dev split (seed 0)")


def test_the_real_dev_split_has_500_examples_none_of_which_is_scored(shared: Path, folder: UPath) -> None:
    scored = {question.solved for question in read_questions(folder / FILE.name)}
    examples = read_questions(UPath(shared / "benchmarks" / "copa" / EXAMPLES.name))
    assert len(examples) == 500
    assert not scored & {example.solved for example in examples}


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        ([make_item(), make_item(asked="reason")], "line 8: wanted asks-for cause or effect"),
        ([make_item(answer="3")], "line 3: wanted .* most-plausible-alternative 1 or 2"),
        ([make_item(premise=" ")], "line 3: wanted text in <p>, <a1> and <a2>, got none in <p>"),
        ([make_item().replace("<a2>I&apos;m late again.</a2>\n", "")], "line 3: wanted text .* none in <a2>"),
        ([make_item(), "<item>\n<p>We"], "line 9: not XML: mismatched tag"),
        ([], "wanted <item> elements, got none"),
    ],
)
def test_a_bad_item_is_named_with_its_line(tmp_path: Path, items: list[str], complaint: str) -> None:
    path = write_items(UPath(tmp_path) / FILE.name, *items)
    with pytest.raises(InputError, match=complaint):
        read_questions(path)


def test_a_file_that_is_cut_is_named_with_its_last_line(folder: UPath, tmp_path: Path) -> None:
    path = UPath(tmp_path) / FILE.name
    path.write_bytes((folder / FILE.name).read_bytes()[:5000])
    with pytest.raises(InputError, match=r"line \d+: not XML"):
        read_questions(path)
