"""Bits per byte or per character of the end of one long text without documents: enwik8 and text8.

The text is scored as it stands, as one stream. What it was cut from goes on before and after it, so a cut may fall
inside a character of UTF-8: the bytes of such a half character, up to three at either end, are left out of the text
and of the count. Blocks of the stream stand in for documents where items are asked for: in the standard error and in
limits.
"""

import codecs
import itertools
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Setting, benchmark_folder, describe_windows
from ladder.platform.evaluation.item_scores import ItemScores, bits_of
from ladder.platform.evaluation.kinds.rolling_texts import stream_nats
from ladder.platform.evaluation.text.words import text_totals


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A long text of which the end is scored."""

    benchmark: str
    """Name of the benchmark and of its file."""
    file_bytes: int = 100_000_000
    """Size of the file: another size is another text."""
    test_bytes: int = 5_000_000
    """Size of the part scored, the file's end."""
    block_bytes: int = 10_000
    """Size of an item, up to the end of its last character: about an encyclopedia's article."""
    unit: Literal["byte", "character"]
    """What bits are counted by."""
    alphabet: re.Pattern[str] | None = None
    """Matches a run of the characters that the text is made of; None allows all."""

    def score(self, setting: Setting) -> list[ItemScores]:
        """Bits per unit of the text."""
        blocks = self.read_blocks(setting.storage)[: setting.protocol.limit]
        nats, tokens = stream_nats(setting, blocks)
        sums = [text_totals(block) for block in blocks]
        totals = {key: np.array([total[key] for total in sums]) for key in ("words", "characters", "bytes")}
        units = totals[f"{self.unit}s"]
        return [
            ItemScores(
                benchmark=self.benchmark,
                protocol=f"last {self.test_bytes:,} bytes as they stand, one stream, {describe_windows(setting)}",
                metric=f"bits_per_{self.unit}",
                unit=f"bits per {self.unit}",
                direction="lower",
                description=f"bits per {self.unit} of the text's end; standard error over consecutive blocks of "
                f"{self.block_bytes:,} bytes, ratio estimator",
                estimate=bits_of(nats, units),
                counted=units,
                totals={**totals, "nats": nats, "tokens": tokens, "blocks": np.ones(len(blocks))},
                items=[{"text": block} for block in blocks],
            )
        ]

    def read_texts(self, storage: UPath, corpus: Corpus | None) -> list[str]:
        """The text of each block."""
        return self.read_blocks(storage)

    def read_blocks(self, storage: UPath) -> list[str]:
        """The blocks of the part scored; InputError for a file of another size, encoding or alphabet."""
        path = benchmark_folder(storage, self.benchmark) / self.benchmark
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size != self.file_bytes:
                wanted = f"wanted the whole file of {self.file_bytes} bytes, its end is what is scored"
                raise InputError(f"{path}: {wanted}, got {size} bytes: fetch the benchmark again")
            first = file.seek(size - self.test_bytes)
            text = decode_end(file.read(), path, first)
        if self.alphabet is not None:
            allowed = self.alphabet.match(text)
            n_allowed = 0 if allowed is None else allowed.end()
            if n_allowed < len(text):
                wanted = f"wanted characters such as {self.alphabet.pattern}"
                raise InputError(
                    f"{path}: {wanted}, got {text[n_allowed]!r} {n_allowed + 1} characters after byte {first}"
                )
        return cut_blocks(text, self.block_bytes)


def decode_end(content: bytes, path: UPath, first: int) -> str:
    """The whole characters of UTF-8 in a file's bytes from its byte `first` on; InputError where they are not UTF-8."""
    n_cut = next((index for index, byte in enumerate(content[:3]) if not _continues(byte)), min(3, len(content)))
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(content[n_cut:])  # leaves an incomplete end out
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {first + n_cut + error.start + 1} of the file") from error


def cut_blocks(text: str, block_bytes: int) -> list[str]:
    """A text in blocks of `block_bytes` bytes of UTF-8, each up to the end of its last character."""
    content = text.encode()
    cuts = [0]
    while cuts[-1] < len(content):
        cut = min(cuts[-1] + block_bytes, len(content))
        while cut < len(content) and _continues(content[cut]):
            cut += 1
        cuts.append(cut)
    return [content[start:end].decode() for start, end in itertools.pairwise(cuts)]


def _continues(byte: int) -> bool:
    """Whether a byte of UTF-8 is inside a character and does not begin one."""
    return byte & 0b1100_0000 == 0b1000_0000
