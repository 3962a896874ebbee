"""Multiple choice: its arithmetic, that sharing changes nothing, and where texts are cut."""

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from upath import UPath

from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import Tokenizer, load_tokenizer
from ladder.platform.evaluation.benchmark import Setting
from ladder.platform.evaluation.benchmarks.gpt1 import copa
from ladder.platform.evaluation.benchmarks.gpt2 import cbt, winograd
from ladder.platform.evaluation.kinds.choice import (
    Choice,
    ChoiceNats,
    Question,
    ask,
    mean_nats,
    name_shots,
    rest_nats,
    score_accuracy,
    score_choices,
    tokenize_questions,
    total_nats,
)
from ladder.platform.evaluation.protocol import Protocol
from ladder.platform.evaluation.scorer import Scorer


def setting_of(model: GPT2, tokenizer: Tokenizer, **options: int) -> Setting:
    scorer = Scorer(model, device="cpu", precision="fp32", start_token=tokenizer.end_of_text)
    nowhere, protocol = UPath("nowhere"), Protocol(**options)
    return Setting(scorer=scorer, tokenizer=tokenizer, storage=nowhere, corpus=None, protocol=protocol)


def nats_of(choice: tuple[float, ...], rest: tuple[float, ...], *, cut: bool) -> ChoiceNats:
    return ChoiceNats(choice=np.array(choice), rest=np.array(rest), characters=4, cut=cut)


def make_question(context: str, *texts: str, rest: str = "", answer: int = 0) -> Question:
    return Question(context=context, choices=tuple(Choice(text=text, rest=rest) for text in texts), answer=answer)


@pytest.fixture
def gpt2_words(gpt2_vocabulary: None) -> GPT2:
    """A GPT-2 of the gpt2 vocabulary and context 256, its weights larger than at the start, so that scores differ."""
    model = GPT2(parse_size("1x32", context=256), seed=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 if parameter.ndim == 1 else 8)
    return model.eval()


def brute_force(model: GPT2, tokenizer: Tokenizer, question: Question, choice: Choice) -> tuple[list[float], int]:
    """(-ln p of every token after the context's own, how many of them are the rest's), one pass for one text."""
    before = tokenizer.encode(question.context)
    tokens = tokenizer.encode(question.context + choice.text + choice.rest)
    n_rest = len(tokens) - len(tokenizer.encode(question.context + choice.text))
    assert tokens[: len(before)] == before
    with torch.inference_mode():
        hidden = model.hidden(torch.tensor([tokens[:-1]]))[0, len(before) - 1 :]
        logits = (hidden @ model.wte.weight.T).double().log_softmax(-1)
    return [-row[token].item() for row, token in zip(logits, tokens[len(before) :], strict=True)], n_rest


def cloze_questions() -> list[Question]:
    """Questions in the form of the Children's Book Test."""
    draw = random.Random(1)
    words = "wolf mouse castle river king bread stone garden feather boots cloak lantern".split()
    questions = []
    for _ in range(4):
        candidates = draw.sample(words, 10)
        sentences = [f'"I saw the {draw.choice(words)} near the {draw.choice(words)}," he said.' for _ in range(8)]
        query = "`` Where is the XXXXX ? '' she asked the old man ."
        questions.append(cbt.make_question(sentences, query, candidates, draw.choice(candidates)))
    return questions


@pytest.mark.parametrize("form", ["cloze", "winograd", "copa"])
def test_every_choice_scores_as_alone_in_the_plain_model(shared: Path, gpt2_words: GPT2, form: str) -> None:
    folder = UPath(shared / "benchmarks")
    questions = {
        "cloze": cloze_questions,
        "winograd": lambda: winograd.read_questions(folder / "wsc273" / "wsc273.txt")[200:240],
        "copa": lambda: copa.read_questions(folder / "copa" / "copa-test.xml")[:40],
    }[form]()
    tokenizer = load_tokenizer("gpt2")
    for question, scores in zip(questions, score_choices(setting_of(gpt2_words, tokenizer), questions), strict=True):
        for choice, score in zip(question.choices, scores, strict=True):
            nats, n_rest = brute_force(gpt2_words, tokenizer, question, choice)
            assert total_nats(score) == pytest.approx(sum(nats), abs=1e-4)
            assert mean_nats(score) == pytest.approx(sum(nats) / len(nats), abs=1e-4)
            assert rest_nats(score) == pytest.approx(sum(nats[len(nats) - n_rest :]), abs=1e-4)
            assert not score.cut
    assert len({round(total_nats(score), 3) for score in scores}) == len(scores)  # so that equality says something


def test_no_choice_computes_its_context_alone(gpt2_words: GPT2, monkeypatch: pytest.MonkeyPatch) -> None:
    alone: list[int] = []
    score_rows = Scorer.score_rows
    monkeypatch.setattr(
        Scorer, "score_rows", lambda self, rows, **more: alone.append(len(rows)) or score_rows(self, rows, **more)
    )
    score_choices(setting_of(gpt2_words, load_tokenizer("gpt2")), cloze_questions())
    assert sum(alone) == 0


@pytest.mark.parametrize(
    ("context", "texts", "rest"),
    [
        ("It cannot be un", ("happy", "do", "der", "folded"), " again."),
        ("She said '", ("there", "dog", "re", "ll", "so"), "' twice"),
        ("an old-", ("fashioned", "time", "er"), "s"),
        ("two  spaces ", ("a", " b", "  c"), ""),
        ("", ("A start", "Another"), ", he said"),
        ("  \u00a0 \u00a0\u00a0's--", ("1", "'s", "-"), " "),
        ("new\nline", ("\nx", " y"), "\n"),
        ("caf\u00e9 \u00a0 na\u00efve", ("t\u00e9", " \u20ac", "\u0301"), "\u0301 z"),
    ],
)
@pytest.mark.parametrize("name", ["gpt2", "bytes"])
def test_choices_of_a_question_share_one_context_and_no_token_is_lost(
    gpt2_vocabulary: None, name: str, context: str, texts: Sequence[str], rest: str
) -> None:
    tokenizer = load_tokenizer(name)
    question = make_question(context, *texts, rest=rest)
    (continuations,) = tokenize_questions(tokenizer, [question])
    assert len({continuation.context for continuation in continuations}) == 1
    for choice, continuation in zip(question.choices, continuations, strict=True):
        tokens = [*continuation.context, *continuation.choice, *continuation.rest]
        assert tokens == tokenizer.encode(context + choice.text + rest)
        assert context.encode().startswith(tokenizer.decode_bytes(continuation.context))
        assert (choice.text + rest).encode().endswith(tokenizer.decode_bytes(continuation.rest))
        assert rest.encode().endswith(tokenizer.decode_bytes(continuation.rest))
        assert continuation.choice


def test_real_questions_have_the_context_that_stands_before_the_choice(shared: Path, gpt2_vocabulary: None) -> None:
    tokenizer = load_tokenizer("gpt2")
    questions = copa.read_questions(UPath(shared / "benchmarks" / "copa" / "copa-test.xml"))
    questions += winograd.read_questions(UPath(shared / "benchmarks" / "wsc273" / "wsc273.txt"))
    for question, continuations in zip(questions, tokenize_questions(tokenizer, questions), strict=True):
        for choice, continuation in zip(question.choices, continuations, strict=True):
            assert list(continuation.context) == tokenizer.encode(question.context)
            assert tokenizer.decode(continuation.choice) == choice.text
            assert tokenizer.decode(continuation.rest) == choice.rest


def test_sum_average_and_rest_are_those_of_a_table_of_probabilities(bigram: Callable[..., GPT2]) -> None:
    model = bigram(classes=257, context=32)
    table = model.log_probabilities.numpy()
    question = make_question("ab", "cd", "c", rest="ef")
    (scores,) = score_choices(setting_of(model, load_tokenizer("bytes")), [question])
    for text, n_choice, score in (("bcdef", 2, scores[0]), ("bcef", 1, scores[1])):
        nats = [-table[ord(a), ord(b)] for a, b in zip(text, text[1:], strict=False)]
        assert total_nats(score) == pytest.approx(sum(nats), rel=1e-5)
        assert mean_nats(score) == pytest.approx(sum(nats) / len(nats), rel=1e-5)
        assert rest_nats(score) == pytest.approx(sum(nats[n_choice:]), rel=1e-5)


def test_what_is_compared_decides_what_is_chosen() -> None:
    long = nats_of((1.0, 1.0, 1.0), (2.0,), cut=False)
    short = nats_of((2.0,), (1.5,), cut=True)
    question = make_question("a", "b c d", "b")
    for compared, hit in ((total_nats, 0.0), (mean_nats, 1.0), (rest_nats, 0.0)):
        share = score_accuracy(
            [question], [[long, short]], compared=compared, benchmark="b", protocol="p", description="d"
        ).measure()
        assert share.value == hit
        assert share.totals == {"items": 1, "hits": hit, "items_cut": 1}
        assert share.chance == 0.5


def test_choices_that_the_model_does_not_tell_apart_share_the_point() -> None:
    same = nats_of((1.0,), (), cut=False)
    worse = nats_of((2.0,), (), cut=False)
    questions = [make_question("a", "b", "c", "d", "e", answer=answer) for answer in (0, 1, 3)]
    scored = [[same] * 4, [same, same, same, worse], [same, same, same, worse]]
    scores = score_accuracy(questions, scored, compared=total_nats, benchmark="b", protocol="p", description="d")
    assert scores.totals["hits"] == pytest.approx([1 / 4, 1 / 3, 0])
    assert scores.measure().value == pytest.approx((1 / 4 + 1 / 3) / 3)
    assert scores.measure(np.array([1])).value == pytest.approx(1 / 3)


def test_a_metric_over_some_questions_counts_only_those() -> None:
    right, wrong = (nats_of((nats,), (), cut=True) for nats in (1.0, 2.0))
    questions = [make_question("a", "b", "c", answer=answer) for answer in (0, 1, 0, 1)]
    measured = score_accuracy(
        questions,
        [[right, wrong]] * 4,
        compared=total_nats,
        benchmark="b",
        protocol="p",
        description="d",
        counted=np.array([True, True, True, False]),
    ).measure()
    assert (measured.value, measured.count) == (pytest.approx(2 / 3), 3)
    assert measured.totals == {"items": 3, "hits": 2, "items_cut": 3}


def test_a_context_too_long_is_cut_alike_for_all_choices(bigram: Callable[..., GPT2]) -> None:
    model = bigram(classes=257, context=16)
    long, short = make_question("x" * 30, " a", " bbb", rest="."), make_question("x" * 9, " a", " bbb", rest=".")
    scored = score_choices(setting_of(model, load_tokenizer("bytes")), [long, short])
    assert [[score.cut for score in scores] for scores in scored] == [[True, True], [False, False]]
    assert model.longest <= 16


def test_a_rest_longer_than_the_context_is_cut_by_as_many_tokens_for_all(bigram: Callable[..., GPT2]) -> None:
    model = bigram(classes=257, context=10)
    question = make_question("abc", "d", "efg", rest="0123456789")
    (scores,) = score_choices(setting_of(model, load_tokenizer("bytes")), [question])
    assert [len(score.rest) for score in scores] == [7, 7]
    assert [len(score.choice) for score in scores] == [1, 3]
    assert all(score.cut for score in scores)
    table = model.log_probabilities.numpy()
    wanted = [-table[ord(a), ord(b)] for a, b in zip("d012345", "0123456", strict=True)]
    assert scores[0].rest == pytest.approx(wanted, rel=1e-5)


def test_a_choice_longer_than_the_context_is_scored_as_far_as_it_fits(bigram: Callable[..., GPT2]) -> None:
    model = bigram(classes=257, context=8)
    question = make_question("abc", "d" * 20, "e", rest="fg")
    (scores,) = score_choices(setting_of(model, load_tokenizer("bytes")), [question])
    assert [len(score.choice) for score in scores] == [8, 1]
    assert [len(score.rest) for score in scores] == [0, 0]
    assert all(math.isfinite(mean_nats(score)) and score.cut for score in scores)


def test_solved_examples_stand_before_a_question_apart_by_blank_lines(bigram: Callable[..., GPT2]) -> None:
    model, tokenizer = bigram(classes=257, context=8), load_tokenizer("bytes")
    questions = [make_question(f"question {n}:", f" yes {n}", f" no {n}", answer=n % 2) for n in range(6)]
    train = [make_question(f"example {n}:", f" yes {n}", f" no {n}", answer=n % 2) for n in range(4)]
    whole = ask(setting_of(model, tokenizer, shots=2, seed=5), questions, lambda: train)
    for index, question in enumerate(whole):
        first, second, last = question.context.split("\n\n")
        assert last == questions[index].context
        assert {first, second} <= {example.solved for example in train} and first != second
        assert question.choices == questions[index].choices
    assert ask(setting_of(model, tokenizer, shots=2, seed=5, limit=2), questions, lambda: train) == whole[:2]
    assert ask(setting_of(model, tokenizer, shots=2, seed=6), questions, lambda: train) != whole
    assert ask(setting_of(model, tokenizer, shots=9), questions[:1], lambda: train)[0].context.count("\n\n") == 4


def test_without_shots_no_other_split_is_read(bigram: Callable[..., GPT2]) -> None:
    setting = setting_of(bigram(classes=257, context=8), load_tokenizer("bytes"))
    questions = [make_question("question:", " yes", " no")]
    assert ask(setting, questions, lambda: pytest.fail("the examples were read")) == questions


def test_a_protocol_names_the_split_of_the_examples_and_the_seed(bigram: Callable[..., GPT2]) -> None:
    model, tokenizer = bigram(classes=257, context=8), load_tokenizer("bytes")
    said = name_shots(setting_of(model, tokenizer, shots=2, seed=7), "train")
    assert said == "2-shot, examples drawn from the train split (seed 7)"
    assert name_shots(setting_of(model, tokenizer, shots=0), "train") == "zero-shot"


def test_questions_of_unequal_numbers_of_choices_have_the_mean_chance(bigram: Callable[..., GPT2]) -> None:
    model, tokenizer = bigram(classes=257, context=8), load_tokenizer("bytes")
    questions = [
        make_question("ab", " c", " d"),
        make_question("ab", " c", " d", " e", " f"),
        make_question("b", " c", " d"),
    ]
    scored = score_choices(setting_of(model, tokenizer), questions)
    options = {"compared": total_nats, "benchmark": "b", "protocol": "p", "description": "d"}
    assert score_accuracy(questions, scored, **options).measure().chance == pytest.approx((1 / 2 + 1 / 4 + 1 / 2) / 3)
    some = score_accuracy(questions, scored, **options, counted=np.array([0, 1, 0]))
    assert some.measure().chance == 0.25
