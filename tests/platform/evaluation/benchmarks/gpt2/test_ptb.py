"""Penn Treebank and One Billion Word: items and lines that are not in their formats."""

from pathlib import Path

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.benchmarks.gpt2.lm1b import read_sentences
from ladder.platform.evaluation.benchmarks.gpt2.ptb import BLOCK_LINES, WORDS, read_blocks


def write(folder: Path, content: bytes) -> UPath:
    path = UPath(folder) / "file"
    path.write_bytes(content)
    return path


def test_lines_are_put_in_blocks_in_order_and_none_is_lost(tmp_path: Path) -> None:
    lines = [f" no it was n't <unk> {'x' * index} \n" for index in range(1, 2 * BLOCK_LINES + 4)]
    blocks = read_blocks(write(tmp_path, "".join(lines).encode()))
    assert [len(block) for block in blocks] == [BLOCK_LINES, BLOCK_LINES, 3]
    assert [line.raw + "\n" for block in blocks for line in block] == lines
    assert WORDS.tokenize(WORDS.detokenize(blocks[0])) == [line.tokens for line in blocks[0]]
    assert blocks[0][0].tokens == ("no", "it", "was", "n't", "<unk>", "x")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b" no it \nno frame\n", "line 2: wanted ' token token '"),
        (b" no it \n \n", "line 2: wanted ' word word ', got a line without words"),
        (b" no  it \n", "line 1: wanted"),
        (b" caf\xc3 \n", "line 1: not UTF-8 at byte 5"),
        (b"", "is empty"),
    ],
)
def test_a_line_that_is_not_of_the_penn_treebank_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_blocks(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"One .\n\nTwo .\n", "line 2: wanted 'token token'"),
        (b" no it was n't \n", "line 1: wanted 'token token'"),
        (b"One .\nTwo  .\n", "line 2: wanted"),
        (b"One .\n\xff .\n", "line 2: not UTF-8 at byte 1"),
        (b"", "is empty"),
    ],
)
def test_a_line_that_is_not_of_one_billion_word_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_sentences(write(tmp_path, content))
