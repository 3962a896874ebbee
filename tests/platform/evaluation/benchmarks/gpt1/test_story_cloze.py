"""Story Cloze: files made in the format, and what is wrong in them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmarks.gpt1.story_cloze import EXAMPLES, FILE, STORY_CLOZE, read_questions
from ladder.platform.evaluation.evaluate import evaluate
from ladder.platform.evaluation.protocol import Protocol

HEADER = (
    "InputStoryid,InputSentence1,InputSentence2,InputSentence3,InputSentence4,"
    "RandomFifthSentenceQuiz1,RandomFifthSentenceQuiz2,AnswerRightEnding"
)
ROW = '{name},Rick ran.,"He fell, hard.",He wept.,"He said ""no"".",He slept.,He got up.,2'


def write_rows(path: UPath, *rows: str, header: str = HEADER) -> UPath:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row + "\n" for row in (header, *rows)))
    return path


def install(storage: Path, *rows: str) -> None:
    write_rows(UPath(storage) / "benchmarks" / "story-cloze" / FILE.name, *rows)


def test_a_story_is_four_sentences_and_an_ending(tmp_path: Path) -> None:
    (question,) = read_questions(write_rows(UPath(tmp_path) / FILE.name, ROW))
    assert question.solved == 'Rick ran. He fell, hard. He wept. He said "no". He got up.'
    assert [choice.text for choice in question.choices] == [" He slept.", " He got up."]


def test_the_likelier_ending_per_token_is_chosen(bigram: Callable[..., GPT2], tmp_path: Path) -> None:
    rows = [ROW.replace("He got up.", "He pppppppppppp.").removesuffix("2") + answer for answer in "21"]
    install(tmp_path, *rows)
    model = bigram(classes=257, context=128)
    table = model.log_probabilities
    table[:] = 0.0
    table[ord("p"), ord("p")] = 2.0  # twelve are less likely than the other ending, but not for their number
    (score,) = evaluate(model, load_tokenizer("bytes"), ["story-cloze"], storage=UPath(tmp_path))
    assert (score.value, score.count, score.chance) == (0.5, 2, 0.5)
    first = Protocol(limit=1)
    (score,) = evaluate(model, load_tokenizer("bytes"), ["story-cloze"], storage=UPath(tmp_path), protocol=first)
    assert (score.value, score.totals["hits"]) == (1.0, 1)


def test_shots_and_limit_are_honoured(byte_gpt2: GPT2, tmp_path: Path) -> None:
    install(tmp_path, *[ROW] * 4)
    write_rows(UPath(tmp_path) / "benchmarks" / "story-cloze" / EXAMPLES.name, ROW)
    protocol = Protocol(limit=3, shots=1)
    (score,) = evaluate(byte_gpt2, load_tokenizer("bytes"), ["story-cloze"], storage=UPath(tmp_path), protocol=protocol)
    assert (score.count, score.totals["items_cut"]) == (3, 3)
    assert score.protocol.endswith("1-shot, examples drawn from the validation split (seed 0)")


def test_the_file_is_given_only_by_people(tmp_path: Path) -> None:
    assert [file.downloadable for file in STORY_CLOZE.files] == [False]
    missing = STORY_CLOZE.missing(storage=UPath(tmp_path), corpus=None)
    assert missing is not None and "--from DIR" in missing


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([ROW, ROW.removesuffix("2") + "3"], "line 3: wanted 1, 2 in the column AnswerRightEnding, got '3'"),
        ([ROW, ROW.replace("Rick ran.", "")], "line 3: wanted text in the column InputSentence1, got none"),
        ([ROW, "one,two"], "line 3: wanted 8 columns as in line 1, got 2"),
        ([ROW, ROW.replace("Rick ran.", "Rick, ran.")], "line 3: wanted 8 columns as in line 1, got 9"),
        ([ROW.replace('"no"".', '"no".')], "line 2: not comma-separated values"),
        ([], "wanted stories after the line of column names"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, rows: list[str], complaint: str) -> None:
    path = write_rows(UPath(tmp_path) / FILE.name, *rows)
    with pytest.raises(InputError, match=complaint):
        read_questions(path)


def test_a_column_that_is_absent_is_named(tmp_path: Path) -> None:
    path = write_rows(UPath(tmp_path) / FILE.name, ROW, header=HEADER.replace("RandomFifthSentenceQuiz2", "Quiz"))
    with pytest.raises(InputError, match="line 1: wanted the columns .* got no RandomFifthSentenceQuiz2"):
        read_questions(path)
