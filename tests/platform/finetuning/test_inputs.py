"""Golden sequences of each kind of input, and what cutting may and may not take."""

import numpy as np
import pytest

from ladder.models.errors import InputError
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.finetuning.batches import collate
from ladder.platform.finetuning.inputs import Encoded, SpecialTokens, encode, share_room
from ladder.platform.finetuning.registry import TASKS
from ladder.platform.finetuning.task import Example

SPECIAL = SpecialTokens.after(257)
BYTES = load_tokenizer("bytes")


def encoded(task: str, *texts: str, label: float = 0, context: int = 64) -> Encoded:
    return encode(TASKS[task], [Example(texts=texts, label=label)], BYTES, context=context, split="train")[0]


def shown(one: Encoded) -> list[str]:
    """The sequences with <, $ and > for start, delimiter and extract."""
    words = {SPECIAL.start: "<", SPECIAL.delimiter: "$", SPECIAL.extract: ">"}
    return ["".join(words.get(token) or chr(token) for token in row.tolist()) for row in one.sequences(SPECIAL)]


def test_the_special_tokens_stand_after_the_vocabulary() -> None:
    assert (SPECIAL.start, SPECIAL.delimiter, SPECIAL.extract) == (257, 258, 259)


@pytest.mark.parametrize(
    ("task", "texts", "wanted"),
    [
        ("sst2", ("good",), ["<good>"]),
        ("snli", ("a man", "a boy"), ["<a man$a boy>"]),
        ("qnli", ("who?", "me."), ["<who?$me.>"]),
        ("mrpc", ("one", "two"), ["<one$two>", "<two$one>"]),
        ("stsb", ("one", "two"), ["<one$two>", "<two$one>"]),
        ("copa", ("it rained", " so", " wet", " dry"), ["<it rained so$ wet>", "<it rained so$ dry>"]),
        ("race", ("text", "\nq?", " a", " b", " c", " d"), [f"<text\nq?$ {option}>" for option in "abcd"]),
    ],
)
def test_sequences_of_each_kind(task: str, texts: tuple[str, ...], wanted: list[str]) -> None:
    one = encoded(task, *texts)
    assert shown(one) == wanted
    assert one.lengths == [len(row) for row in wanted] and not one.cut
    batch = collate([one], SPECIAL)
    assert batch.tokens.shape == (TASKS[task].together, max(map(len, wanted))) and batch.together == len(wanted)


def test_two_texts_in_either_order_are_the_very_same_sequences() -> None:
    long = "b" * 40
    for a, b in (("one", "two"), (long, "a" * 40), ("x", long)):
        ab, ba = encoded("mrpc", a, b), encoded("mrpc", b, a)
        assert shown(ab) == shown(ba)
        assert all(len(row) <= 64 for row in shown(ab))


def test_the_end_of_a_text_is_cut_and_of_two_the_longer_one_first() -> None:
    assert shown(encoded("sst2", "abcdefgh", context=8)) == ["<abcdef>"]
    one = encoded("snli", "p" * 30, "h" * 4, context=20)
    assert one.cut and shown(one) == ["<" + "p" * 13 + "$hhhh>"]
    assert shown(encoded("snli", "p" * 30, "h" * 30, context=20)) == ["<" + "p" * 8 + "$" + "h" * 8 + ">"]


def test_a_question_of_qnli_is_never_cut() -> None:
    assert shown(encoded("qnli", "q" * 14, "s" * 9, context=20)) == ["<" + "q" * 14 + "$" + "s" * 3 + ">"]
    with pytest.raises(
        InputError, match=r"task qnli, example 1 of train: its question take 21 tokens .* context is 20"
    ):
        encoded("qnli", "q" * 18, "s", context=20)


def test_a_document_loses_its_beginning_alike_for_all_options_which_lose_nothing() -> None:
    one = encoded("race", "0123456789", "?", "a", "bbbb", "c", "d", context=14)
    assert one.cut
    assert shown(one) == ["<456789?$a>", "<456789?$bbbb>", "<456789?$c>", "<456789?$d>"]
    nothing_left = encoded("race", "0123456789", "?", "a" * 10, "b", "c", "d", context=14)
    assert shown(nothing_left)[1] == "<?$b>"
    with pytest.raises(InputError, match="its question and longest option take 15 tokens"):
        encoded("race", "0123456789", "?", "a" * 11, "b", "c", "d", context=14)


def test_another_number_of_options_is_refused() -> None:
    with pytest.raises(InputError, match="task race, example 1 of train: wanted 4 options, got 3"):
        encoded("race", "text", "?", "a", "b", "c")


@pytest.mark.parametrize("seed", range(20))
def test_room_is_shared_so_that_the_longest_are_cut_first(seed: int) -> None:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(0, 30, size=2).tolist()
    room = int(draw.integers(0, 60))
    limit = share_room(lengths, room)
    kept = [min(length, limit) for length in lengths]
    assert sum(kept) <= room
    if sum(lengths) <= room:
        assert kept == lengths
    else:
        assert sum(kept) >= room - 1 and max(kept) - min(kept) in (0, max(kept) - min(lengths))
