"""WikiText-2 and WikiText-103: counts of the real file, articles, and lines or splits that are not theirs."""

from pathlib import Path

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.benchmarks.gpt2.wikitext import read_articles
from ladder.platform.evaluation.benchmarks.gpt2.wikitext2 import WIKITEXT2, WORDS
from ladder.platform.evaluation.benchmarks.gpt2.wikitext103 import WORDS as WORDS_103
from ladder.platform.evaluation.kinds.word_perplexity import WordSet, count_words


def write(folder: Path, content: bytes) -> UPath:
    path = UPath(folder) / "benchmarks" / "wikitext2" / WIKITEXT2.files[0].name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_the_real_file_has_62_articles_and_245569_words_of_which_15218_are_unknown(shared: Path) -> None:
    articles = read_articles(UPath(shared / "benchmarks" / "wikitext2" / WIKITEXT2.files[0].name))
    assert len(articles) == 62
    assert sum(count_words(article) for article in articles) == WORDS.n_words == 245_569
    assert sum(line.tokens.count("<unk>") for article in articles for line in article) == WORDS.n_unknown == 15_218
    assert [line.raw for line in articles[1]][:3] == [" = Du Fu = ", " ", articles[1][2].raw]


@pytest.mark.parametrize(("words", "name"), [(WORDS, "wiki.valid.tokens"), (WORDS_103, "wiki.test.tokens")])
def test_another_split_or_release_is_refused_with_both_counts(
    shared: Path, tmp_path: Path, words: WordSet, name: str
) -> None:
    folder = UPath(tmp_path) / "benchmarks" / words.benchmark
    folder.mkdir(parents=True)
    content = (shared / "benchmarks" / "wikitext2" / name).read_bytes()
    (folder / "wiki.test.tokens").write_bytes(content)
    wanted = rf"wanted 245569 words, {words.n_unknown} of them <unk> .* got (217646|245569), \d+ of them"
    with pytest.raises(InputError, match=wanted):
        words.read_items(UPath(tmp_path))


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
