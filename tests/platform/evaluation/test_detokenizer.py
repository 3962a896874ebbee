"""De-tokenizing loses nothing, on any tokens and on the real file, and reads as people write."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from ladder.platform.evaluation.benchmarks.wikitext2 import detokenize, read_articles, tokenize
from ladder.platform.evaluation.detokenizer import WIKITEXT

MARKS = "@-@ @,@ @.@ , . ; : ( ) [ ] \" ' 's 't <unk> = $ % / - -- ... \u2013 \u2014".split()
WORDS = "No. U.S. J. 1,000 a-b 5 12 the Dr don".split()

TOKENS = st.lists(
    st.sampled_from(MARKS + WORDS)
    | st.text(min_size=1, max_size=6).map(lambda text: text.replace(" ", "_").replace("\n", "_")),
    max_size=12,
)


@settings(max_examples=400, deadline=None)
@given(TOKENS)
def test_any_tokens_come_back(tokens: list[str]) -> None:
    assert WIKITEXT.undo(WIKITEXT.join(tokens)) == tokens


@pytest.mark.parametrize("name", ["wiki.test.tokens"])
def test_the_real_file_comes_back_line_for_line_and_shorter(shared: Path, name: str) -> None:
    articles = read_articles(UPath(shared / "benchmarks" / "wikitext2" / name))
    lines = [line for article in articles for line in article]
    text = detokenize(lines)
    assert tokenize(text) == lines
    assert len(text) < 0.97 * sum(len(line) + 1 for line in lines)
    assert " @-@ " not in text
    assert text.count("  ") == 5  # tokens such as `Amazon.com` that only a mark keeps whole


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("He 's a guest @-@ starring actor , they say .", "He's a guest-starring actor, they say."),
        ("It cost $ 1 @,@ 000 @.@ 50 ( about \u00a3 700 ) .", "It cost $1,000.50 (about \u00a3700)."),
        ('a role as " Craig " in " Teddy \'s Story " .', 'a role as "Craig" in "Teddy\'s Story".'),
        ("= = Early life = =", "== Early life =="),
        ("from 1990 \u2013 95 in the U.S. , and / or", "from 1990\u201395 in the U.S., and/or"),
        ("<unk> , <unk> 's", "<unk>, <unk>'s"),
    ],
)
def test_text_reads_as_people_write(tokens: str, text: str) -> None:
    assert WIKITEXT.join(tokens.split()) == text
