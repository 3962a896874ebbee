"""The word that is expected: whole words are filtered, not tokens, and the likeliest whole word wins."""

from collections.abc import Iterable, Sequence

import pytest
import torch
from torch import Tensor

from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.kinds.word_beam import expected_words, is_stop_word

CLASSES = 50_300
"""More than GPT-2's tokens, as a padded model has."""


class Table:
    """A scorer whose next tokens are in a table by what was written after the context; a full stop follows the rest."""

    def __init__(self, table: dict[str, dict[str, float]]) -> None:
        self.tokenizer = load_tokenizer("gpt2")
        self.table = table

    def next_log_probabilities(
        self, groups: Sequence[tuple[tuple[int, ...], Sequence[tuple[int, ...]]]]
    ) -> Iterable[tuple[int, Tensor]]:
        for index, (_, ends) in enumerate(groups):
            yield index, torch.stack([self.row(self.tokenizer.decode(end)) for end in ends])

    def row(self, written: str) -> Tensor:
        row = torch.full((CLASSES,), 1e-12)
        for text, probability in self.table.get(written, {".": 1.0}).items():
            (token,) = self.tokenizer.encode(text)
            row[token] = probability
        return row.log()


def expect(table: dict[str, dict[str, float]]) -> str:
    (word,) = expected_words(Table(table), load_tokenizer("gpt2"), [(1, 2)], n_classes=CLASSES)
    return word


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"": {" the": 0.6, " river": 0.4}}, " river"),
        ({"": {" don": 0.6, " river": 0.4}, " don": {"uts": 0.9, "'t": 0.1}}, " donuts"),
        ({"": {" don": 0.6, " river": 0.4}, " don": {"uts": 0.5, "'t": 0.5}}, " river"),
        ({"": {" were": 0.6, " river": 0.4}, " were": {"w": 0.9, ".": 0.1}, " werew": {"olves": 1.0}}, " werewolves"),
        ({"": {" Will": 0.6, " will": 0.3, " river": 0.1}}, " Will"),
        ({"": {" I": 0.6, " river": 0.4}}, " river"),
        ({"": {" river": 0.5, " sea": 0.4}, " river": {"s": 0.3, "bank": 0.3, " ran": 0.4}}, " sea"),
        ({"": {" river": 0.5, " sea": 0.3}, " river": {",": 0.2, ".": 0.2, " ran": 0.3, "s": 0.3}}, " river"),
        ({"": {",": 0.6, " river": 0.4}}, ","),
        ({"": {' "': 0.6, " river": 0.4}, ' "': {"Will": 0.9, "the": 0.1}}, ' "Will'),
    ],
)
def test_the_likeliest_whole_word_that_is_no_stop_word_is_expected(
    gpt2_vocabulary: None, table: dict[str, dict[str, float]], word: str
) -> None:
    assert expect(table) == word


def test_a_word_never_ends_before_its_likeliest_way_on_is_tried(gpt2_vocabulary: None) -> None:
    """The first token of the word expected is only the fifth likeliest: the search is no greedy one."""
    first = {f" {word}": 0.19 for word in ("the", "of", "and", "that")} | {" river": 0.1}
    assert expect({"": first}) == " river"


def test_a_word_of_more_tokens_than_are_looked_at_is_not_found(gpt2_vocabulary: None) -> None:
    table = {"": {" don": 1.0}, " don": {"uts": 1.0}, " donuts": {"s": 1.0}}
    tokenizer = load_tokenizer("gpt2")
    found = [
        expected_words(Table(table), tokenizer, [(1, 2)], n_classes=CLASSES, most_tokens=most_tokens)[0]
        for most_tokens in (1, 2, 3)
    ]
    assert not found[0].startswith(" don")
    assert found[1:] == [" donuts", " donutss"]


@pytest.mark.parametrize("word", ["the", "don't", "it's", "I'm", "didn't", "he'll", "I", '"the', "\u2018but"])
def test_stop_words_and_their_contractions_are_filtered(word: str) -> None:
    assert is_stop_word(word)


@pytest.mark.parametrize("word", ["donuts", "Will", "The", "river", "thence", "Ben's", "won", ""])
def test_words_that_only_look_like_stop_words_are_not(word: str) -> None:
    assert not is_stop_word(word)
