"""enwik8 and text8: which bytes are scored, bits per unit, and files that are not theirs."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmark import Setting
from ladder.platform.evaluation.benchmarks.gpt2.enwik8 import STREAM as ENWIK8
from ladder.platform.evaluation.benchmarks.gpt2.text8 import STREAM as TEXT8
from ladder.platform.evaluation.evaluate import make_setting
from ladder.platform.evaluation.kinds.stream_bits import Stream, cut_blocks
from ladder.platform.evaluation.protocol import Protocol


def put(stream: Stream, storage: Path, content: bytes, *, test_bytes: int, block_bytes: int = 10_000) -> Stream:
    """The stream with a smaller file in storage instead of the published one."""
    folder = storage / "benchmarks" / stream.benchmark
    folder.mkdir(parents=True, exist_ok=True)
    (folder / stream.benchmark).write_bytes(content)
    return replace(stream, file_bytes=len(content), test_bytes=test_bytes, block_bytes=block_bytes)


def setting_of(model: GPT2, storage: Path, **protocol: int) -> Setting:
    return make_setting(
        model, load_tokenizer("bytes"), storage=UPath(storage), corpus=None, device="cpu", precision="fp32",
        protocol=Protocol(**protocol),
    )  # fmt: skip


@pytest.fixture(scope="module")
def sample(shared: Path) -> bytes:
    """The first million bytes of enwik8."""
    return (shared / "benchmarks" / "enwik8_sample" / "enwik8_first_1M.xml").read_bytes()


def test_every_byte_of_the_real_text_is_in_one_block(sample: bytes, tmp_path: Path) -> None:
    blocks = put(ENWIK8, tmp_path, sample, test_bytes=1_000_000).read_blocks(UPath(tmp_path))
    sizes = [len(block.encode()) for block in blocks]
    assert "".join(blocks).encode() == sample
    assert sum(sizes) == 1_000_000
    assert len(blocks) == 100
    assert all(10_000 <= size <= 10_003 for size in sizes[:-1])


def test_characters_that_the_ends_cut_are_left_out_and_no_other_byte(sample: bytes, tmp_path: Path) -> None:
    wide = [match.start() for match in re.finditer(rb"[\xe0-\xef][\x80-\xbf]{2}", sample)]  # characters of three bytes
    assert len(wide) > 100
    first, last = wide[10], wide[-10]
    for inside_first in (0, 1, 2, 3):
        for inside_last in (0, 1, 2, 3):
            content = sample[: last + inside_last]
            stream = put(ENWIK8, tmp_path, content, test_bytes=len(content) - first - inside_first)
            text = "".join(stream.read_blocks(UPath(tmp_path)))
            start = first if inside_first == 0 else first + 3
            end = last + 3 if inside_last == 3 else last
            assert text.encode() == sample[start:end]


def test_bits_per_byte_are_the_nats_of_the_stream_over_its_bytes(
    byte_gpt2: GPT2, sample: bytes, tmp_path: Path
) -> None:
    stream = put(ENWIK8, tmp_path, sample[:50_000], test_bytes=3_000, block_bytes=500)
    setting = setting_of(byte_gpt2, tmp_path)
    scores = stream.score(setting)[0]
    nats = setting.scorer.rolling([list(sample[47_000:50_000])])[0]
    assert scores.totals["nats"] == pytest.approx(nats.reshape(6, 500).sum(1, dtype=np.float64), rel=1e-5)
    measured = scores.measure()
    assert (measured.benchmark, measured.metric, measured.count) == ("enwik8", "bits_per_byte", 3_000)
    assert measured.value == pytest.approx(nats.sum(dtype=np.float64) / math.log(2) / 3_000, rel=1e-6)
    assert 0 < measured.standard_error < measured.value
    assert stream.score(setting_of(byte_gpt2, tmp_path, limit=2))[0].measure().totals["bytes"] == 1_000


def test_bits_per_character_count_characters_of_the_end(byte_gpt2: GPT2, tmp_path: Path) -> None:
    content = b"anarchism originated as a term of abuse first used against early working class radicals and others "
    stream = put(TEXT8, tmp_path, content, test_bytes=40, block_bytes=10)
    measured = stream.score(setting_of(byte_gpt2, tmp_path))[0].measure()
    assert stream.read_texts(UPath(tmp_path), None) == ["early work", "ing class ", "radicals a", "nd others "]
    assert (measured.metric, measured.count, measured.totals["blocks"]) == ("bits_per_character", 40, 4)
    assert 5 < measured.value < 12  # 257 classes are 8 bits, and the model is untrained


def test_blocks_end_with_a_character() -> None:
    assert cut_blocks("ab\u00e9cd\u20ace", 3) == ["ab\u00e9", "cd\u20ac", "e"]
    assert cut_blocks("", 3) == []


@pytest.mark.parametrize(
    ("stream", "content", "size", "complaint"),
    [
        (TEXT8, b"one two", 6, "wanted the whole file of 6 bytes, its end is what is scored, got 7 bytes"),
        (TEXT8, b"", 6, "wanted the whole file of 6 bytes, .* got 0 bytes"),
        (TEXT8, b"one Two", 7, r"wanted characters such as \[a-z \]\*, got 'T' 2 characters after byte 3"),
        (TEXT8, b"one two\n", 8, r"got '\\n' 4 characters after byte 4"),
        (ENWIK8, b"one \xe9 two", 9, "not UTF-8 at byte 5 of the file"),
        (ENWIK8, b"one \x80\x80\x80\x80", 8, "not UTF-8 at byte 8 of the file"),
    ],
)
def test_a_file_of_another_size_encoding_or_alphabet_is_refused(
    tmp_path: Path, stream: Stream, content: bytes, size: int, complaint: str
) -> None:
    stream = replace(put(stream, tmp_path, content, test_bytes=min(4, size)), file_bytes=size)
    if content.startswith(b"one \xe9"):
        stream = replace(stream, test_bytes=6)
    with pytest.raises(InputError, match=complaint):
        stream.read_blocks(UPath(tmp_path))
