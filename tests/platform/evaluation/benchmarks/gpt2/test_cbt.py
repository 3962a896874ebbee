"""Children's Book Test: the format, the text made of it, and chance, on files made in the format."""

import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmarks.gpt2.cbt import CBT_CN, CBT_CN_TEST, CBT_NE, CBT_NE_TEST, read_questions
from ladder.platform.evaluation.evaluate import evaluate
from ladder.platform.evaluation.kinds.choice import Choice
from ladder.platform.evaluation.protocol import Protocol

WORDS = (
    "wolf king bread stone garden river castle forest window mother silver summer winter dinner market bridge "
    "letter shadow corner ladder button bottle basket blanket"
).split()


def write_item(draw: random.Random) -> list[str]:
    """An item in which ten words of one token each stand equally often, and one drawn among them is the answer.

    So neither length nor frequency tells the answer, and a model that has learned nothing has nothing else.
    """
    candidates = draw.sample(WORDS, 10)
    spoken = candidates * 2
    draw.shuffle(spoken)
    lines = [f"{number} `` I saw the {word} , '' he said ." for number, word in enumerate(spoken, start=1)]
    listed = "|".join(sorted(candidates))
    return [*lines, f"21 But she did n't see the XXXXX at night .\t{draw.choice(candidates)}\t\t{listed}", ""]


def install(storage: UPath, name: str, lines: list[str]) -> UPath:
    """A file of these lines in storage."""
    benchmark = CBT_CN if name == "cbt-cn" else CBT_NE
    path = storage / "benchmarks" / name / benchmark.files[0].name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    return path


def test_an_item_becomes_ordinary_text_with_each_candidate_in_its_place(tmp_path: Path) -> None:
    lines = [f"{number} That was sentence {number} ." for number in range(1, 20)]
    lines.append("20 `` Ca n't you see it ? '' asked the king -LRB- he was old -RRB- .")
    listed = "it|king|mouse|queen|river|shoe|stone|tail|tree|way"
    lines.append(f"21 `` That is the XXXXX 's tail , '' said the cat .\tmouse\t\t{listed}")
    (question,) = read_questions(install(UPath(tmp_path), "cbt-cn", [*lines, ""]))
    assert question.context.startswith("That was sentence 1. That was sentence 2. ")
    assert question.context.endswith(' "Can\'t you see it?" asked the king (he was old). "That is the')
    assert question.choices[2] == Choice(text=" mouse's", rest=' tail," said the cat.')
    assert (len(question.choices), question.answer) == (10, 2)
    assert question.solved.endswith('"That is the mouse\'s tail," said the cat.')


def test_a_gap_at_either_end_of_its_sentence_is_filled(tmp_path: Path) -> None:
    item = write_item(random.Random(0))[:20]
    listed = "|".join(f"Name{number}" for number in range(10))
    lines = [*item, f"21 XXXXX\tName3\t\t{listed}", "", *item, f"21 XXXXX saw XXXXX\tName9\t\t{listed}"]
    alone, both = read_questions(install(UPath(tmp_path), "cbt-ne", lines))
    assert alone.context.endswith('," he said.')
    assert alone.choices[3] == Choice(text=" Name3", rest="")
    assert both.choices[9] == Choice(text=" Name9 saw Name9", rest="")


def test_candidates_that_repeat_their_surroundings_keep_their_words(tmp_path: Path) -> None:
    listed = "old|old old|new|" + "|".join(f"very{number}" for number in range(7))
    lines = [*write_item(random.Random(0))[:20], f"21 the old XXXXX old man\told old\t\t{listed}"]
    (question,) = read_questions(install(UPath(tmp_path), "cbt-cn", lines))
    for choice, word in zip(question.choices, listed.split("|"), strict=True):
        assert (question.context + choice.text + choice.rest).endswith(f'" he said. the old {word} old man')
        assert choice.text and choice.rest == " old man"
    same = [*lines[:20], "21 the XXXXX man\told old\t\t" + "|".join(["old"] * 9 + ["old old"])]
    (question,) = read_questions(install(UPath(tmp_path), "cbt-cn", same))
    assert [choice.text for choice in question.choices] == [" man"] * 9 + [" old man"]


def test_doubled_bars_are_no_candidates(tmp_path: Path) -> None:
    lines = write_item(random.Random(0))
    lines[20] = lines[20].replace("|", "||", 1)
    (question,) = read_questions(install(UPath(tmp_path), "cbt-cn", lines))
    assert len(question.choices) == 10


def test_an_untrained_model_scores_at_chance(gpt2_vocabulary: None, tmp_path: Path) -> None:
    draw, n_items = random.Random(3), 150
    tokenizer = load_tokenizer("gpt2")
    assert all(len(tokenizer.encode(f" {word}")) == 1 for word in WORDS)
    install(UPath(tmp_path), "cbt-cn", [line for _ in range(n_items) for line in write_item(draw)])
    model = GPT2(parse_size("1x32", context=320), seed=0)
    (score,) = evaluate(model, tokenizer, ["cbt-cn"], storage=UPath(tmp_path))
    assert score.chance == 0.1
    assert score.count == n_items
    assert abs(score.value - 0.1) <= 3 * math.sqrt(0.1 * 0.9 / n_items)
    assert score.totals["items_cut"] == 0
    assert score.protocol == "valid split, de-tokenized, candidate and rest of the sentence, zero-shot"


def test_the_candidate_with_the_rest_of_its_sentence_is_chosen(bigram: Callable[..., GPT2], tmp_path: Path) -> None:
    lines = [f"{number} A sentence ." for number in range(1, 21)]
    lines += ["21 see the XXXXX run .\tcc\t\taa|bb|cc|dd|ee|ff|gg|hh|ii|jjjjjjjjjjjj", ""]
    install(UPath(tmp_path), "cbt-cn", lines)
    model = bigram(classes=257, context=400)
    table = model.log_probabilities
    table[:] = 0.0
    table[ord(" "), ord("a")] = 2.0  # the likeliest candidate by itself
    table[ord("j"), ord("j")] = 4.0  # the likeliest per token
    table[ord("c"), ord(" ")] = 9.0  # the only one that the rest follows well
    table.copy_(table.log_softmax(1))
    (score,) = evaluate(model, load_tokenizer("bytes"), ["cbt-cn"], storage=UPath(tmp_path))
    assert score.value == 1.0
    table[ord("c")] = table[ord("d")]
    (score,) = evaluate(model, load_tokenizer("bytes"), ["cbt-cn"], storage=UPath(tmp_path))
    assert score.value == 0.0


def test_a_context_too_long_for_the_model_is_cut_and_counted(byte_gpt2: GPT2, tmp_path: Path) -> None:
    draw = random.Random(1)
    lines = [line for _ in range(5) for line in write_item(draw)]
    install(UPath(tmp_path), "cbt-cn", lines)
    protocol = Protocol(limit=3)
    (score,) = evaluate(byte_gpt2, load_tokenizer("bytes"), ["cbt-cn"], storage=UPath(tmp_path), protocol=protocol)
    assert (score.count, score.totals["items_cut"]) == (3, 3)


def test_splits_name_their_files_and_the_papers_scores() -> None:
    assert CBT_CN.files[0].name == "cbtest_CN_valid_2000ex.txt"
    assert CBT_NE_TEST.files[0].member == "CBTest/data/cbtest_NE_test_2500ex.txt"
    assert (CBT_CN.on_request, CBT_NE.on_request) == (False, False)
    assert (CBT_CN_TEST.on_request, CBT_NE_TEST.on_request) == (True, True)
    assert not CBT_CN_TEST.paper_scores
    assert CBT_NE.paper_scores["accuracy"]["1542M"] == 0.8905


def test_the_papers_scores_are_those_of_its_table(shared: Path) -> None:
    header, _, *rows = [line.split("\t") for line in (shared / "laws" / "gpt2_table3.tsv").read_text().splitlines()]
    for column, benchmark in (("CBT-CN_ACC", CBT_CN), ("CBT-NE_ACC", CBT_NE)):
        published = {row[0]: pytest.approx(float(row[header.index(column)]) / 100) for row in rows}
        assert benchmark.paper_scores["accuracy"] == published


def test_texts_are_those_of_the_items_in_order(tmp_path: Path) -> None:
    draw = random.Random(2)
    path = install(UPath(tmp_path), "cbt-cn", [line for _ in range(3) for line in write_item(draw)])
    assert CBT_CN.texts is not None
    assert CBT_CN.texts(UPath(tmp_path), None) == [question.solved for question in read_questions(path)]


def _without(lines: list[str], index: int) -> list[str]:
    return lines[:index] + lines[index + 1 :]


def _with(lines: list[str], index: int, line: str) -> list[str]:
    return lines[:index] + [line] + lines[index + 1 :]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda item: _with(item, 20, item[20].rpartition("|")[0]), "line 43: wanted 10 candidates .* got 9"),
        (lambda item: _with(item, 20, item[20] + "|more"), "line 43: wanted 10 candidates .* got 11"),
        (lambda item: _with(item, 20, item[20].replace("\t\t", "x\t\t")), "line 43: wanted one of the candidates"),
        (lambda item: _with(item, 20, item[20].replace("XXXXX", "XXXX")), "line 43: wanted a query with XXXXX"),
        (lambda item: _with(item, 20, item[20].replace("\t\t", "\t")), "line 43: got 3 fields"),
        (lambda item: _with(item, 4, "6 out of turn ."), "line 27: wanted sentence 5 of an item, got '6 out"),
        (lambda item: _with(item, 4, "no number ."), "line 27: wanted sentence 5"),
        (lambda item: _without(item, 4), "line 27: wanted sentence 5"),
        (lambda item: item[:15], "line 37: the item from line 23 on has 15 lines, wanted 21"),
        (lambda item: [*item[:21], *item], "line 64: the item from line 23 on has 42 lines, wanted 21"),
        (lambda item: _with(item, 3, "4 \udcff"), "line 26: not UTF-8 at byte 3"),
    ],
)
def test_a_bad_item_is_named_with_its_line(
    tmp_path: Path, spoil: Callable[[list[str]], list[str]], complaint: str
) -> None:
    draw = random.Random(4)
    path = UPath(tmp_path) / "cbtest_CN_valid_2000ex.txt"
    lines = [*write_item(draw), *spoil(write_item(draw))]
    path.write_bytes("".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=complaint):
        read_questions(path)


def test_a_file_of_another_number_of_items_is_scored_with_a_warning(
    byte_gpt2: GPT2, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(UPath(tmp_path), "cbt-ne", write_item(random.Random(0)))
    evaluate(byte_gpt2, load_tokenizer("bytes"), ["cbt-ne"], storage=UPath(tmp_path))
    assert "holds 1 questions, the published file 2000" in caplog.text
