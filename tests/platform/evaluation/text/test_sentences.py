"""Sentences: where they end, and that a text going on does not change those that have ended."""

from pathlib import Path

import pytest

from ladder.platform.evaluation.text.sentences import has_ended, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        (" One line\n\nAnother.\n", ["One line", "Another."]),
        ('He said "Go." She went.', ['He said "Go."', "She went."]),
        ("It rose 3.5 percent to $1. 2 million", ["It rose 3.5 percent to $1.", "2 million"]),
        ("Mr. Smith of the U.S. Senate, M. Dupont et al. agreed. Fine.", None),
        ("Really?! Yes... no", ["Really?!", "Yes... no"]),
        (
            "Il dit\u00a0: \u00ab\u00a0Oui.\u00a0\u00bb Elle part.",
            ["Il dit\u00a0: \u00ab\u00a0Oui.\u00a0\u00bb", "Elle part."],
        ),
        ("Elle dit \u00ab Oui. \u00bb", ["Elle dit \u00ab Oui. \u00bb"]),
        ("The answer was no. Then he left.", ["The answer was no.", "Then he left."]),
        ("At 5 p.m. Monday he left.", ["At 5 p.m. Monday he left."]),
        ("He left at 5 p.m. Then he slept.", ["He left at 5 p.m.", "Then he slept."]),
        ("Call me. Now!", ["Call me.", "Now!"]),
        ("It was No. 5 on the list. No. 6 followed.", ["It was No. 5 on the list.", "No. 6 followed."]),
        (
            "Some ran, approx. five. Others, e.g. Tom, did not.",
            ["Some ran, approx. five.", "Others, e.g. Tom, did not."],
        ),
        (
            "He said \u201cIt\u2019s off.\u201d \u201cNo.\u201d She went.",
            ["He said \u201cIt\u2019s off.\u201d", "\u201cNo.\u201d", "She went."],
        ),
        ('"Stop!" he said. "Go (now)." It rained.', ['"Stop!" he said.', '"Go (now)."', "It rained."]),
        ("", []),
        (" \n ", []),
    ],
)
def test_a_sentence_ends_where_the_rule_says(text: str, sentences: list[str] | None) -> None:
    wanted = ["Mr. Smith of the U.S. Senate, M. Dupont et al. agreed.", "Fine."] if sentences is None else sentences
    assert split_sentences(text) == wanted


def test_sentences_that_have_ended_stay_as_the_text_goes_on(shared: Path) -> None:
    stories = sorted((shared / "benchmarks" / "cnndm_sample" / "cnn_stories").glob("*.story"))
    assert len(stories) == 20
    for story in stories[::3]:
        text = story.read_text(encoding="utf-8")[:400]
        whole = split_sentences(text)
        for end in range(len(text)):
            ended = split_sentences(text[:end])[:-1]
            assert ended == whole[: len(ended)]
        assert len(whole) > 1


def test_a_letter_that_is_not_whole_yet_begins_no_sentence() -> None:
    assert split_sentences("Fin. \ufffd") == ["Fin. \ufffd"]
    assert split_sentences("Fin. \u00e9t\u00e9") == ["Fin. \u00e9t\u00e9"]


def test_a_word_that_is_not_whole_yet_ends_no_sentence_before_it() -> None:
    """ "The" begins a sentence after an abbreviation, "Thebes" does not."""
    assert split_sentences("At 5 p.m. The") == ["At 5 p.m. The"]
    assert split_sentences("At 5 p.m. Thebes fell.") == ["At 5 p.m. Thebes fell."]
    assert split_sentences("At 5 p.m. The town fell.") == ["At 5 p.m.", "The town fell."]


@pytest.mark.parametrize(
    ("text", "n_sentences", "ended"),
    [("One. Two", 1, True), ("One. ", 1, False), ("One", 1, False), ("1. Two. Three", 3, False), ("A\nB\nC", 2, True)],
)
def test_so_many_sentences_have_ended_or_not(text: str, n_sentences: int, ended: bool) -> None:
    assert has_ended(text, n_sentences) == ended
