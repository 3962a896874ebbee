"""WikiText-2: counts of the real file, what perplexity divides by, and lines that are not WikiText."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmarks.wikitext2 import WIKITEXT2, read_articles
from ladder.platform.evaluation.evaluate import evaluate

SMALL = " \n = One = \n \n A two @-@ part thing , in 1 @,@ 000 parts . \n \n = Two = \n \n Short . \n"


def write(folder: Path, content: bytes) -> UPath:
    path = UPath(folder) / "benchmarks" / "wikitext2" / WIKITEXT2.files[0].name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_the_real_file_has_62_articles_and_245569_words(shared: Path) -> None:
    articles = read_articles(UPath(shared / "benchmarks" / "wikitext2" / WIKITEXT2.files[0].name))
    assert len(articles) == 62
    assert sum(len(line.split()) + 1 for article in articles for line in article) == 245_569


def test_perplexity_divides_the_nats_of_each_text_by_the_original_words(
    bigram: Callable[..., GPT2], tmp_path: Path
) -> None:
    write(tmp_path, SMALL.encode())
    model = bigram(classes=257, context=16)
    scores = {m.metric: m for m in evaluate(model, load_tokenizer("bytes"), ["wikitext2"], storage=UPath(tmp_path))}
    words = len(SMALL.split()) + SMALL.count("\n")
    plain = "\n= One =\n\nA two-part thing, in 1,000 parts.\n\n= Two =\n\nShort.\n"
    for metric, text in (("perplexity", plain), ("perplexity_raw", SMALL)):
        tokens = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
        nats = -model.log_probabilities.numpy()[np.concatenate([[256], tokens[:-1]]), tokens].sum()
        assert scores[metric].value == pytest.approx(math.exp(nats / words), rel=1e-4)
        assert scores[metric].count == words
        assert scores[metric].totals["bytes"] == scores[metric].totals["tokens"] == len(text)
        assert scores[metric].standard_error is not None  # there are two articles


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b" = One = \n no space at the end\n", "line 2: wanted"),
        (b" = One = \n two  spaces \n", "line 2: wanted"),
        (b"\n", "line 1: wanted"),
        (b"", "is empty"),
        (b" = One = \n caf\xe9 \n", "line 2: not UTF-8 at byte 5"),
    ],
)
def test_a_line_that_is_not_wikitext_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_articles(write(tmp_path, content))
