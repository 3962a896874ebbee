"""De-tokenizing loses nothing, on any tokens and on real files, and reads as people write."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from upath import UPath

from ladder.platform.evaluation.benchmarks.gpt2.wikitext import read_articles
from ladder.platform.evaluation.benchmarks.gpt2.wikitext2 import WORDS as WIKITEXT2_WORDS
from ladder.platform.evaluation.text.detokenizer import CBT, ONE_BILLION_WORDS, PENN_TREEBANK, WIKITEXT, Detokenizer

DETOKENIZERS = {"wikitext": WIKITEXT, "ptb": PENN_TREEBANK, "lm1b": ONE_BILLION_WORDS, "cbt": CBT}

MARKS = "@-@ @,@ @.@ , . ; : ! ? ?! ( ) [ ] { } \" \"\" ' '' ` `` <unk> = $ # % / \\/ - -- --- ... \u2013".split()
CLITICS = "'s 't n't N'T 'll 're 've 'd 'm 'em 'S -LRB- -RRB- -LSB- -LCB- -lrb- can not gon na wan got ta".split()
WORDS = (
    "No. U.S. J. Mr. Mr I i 1,000 1 a-b 5 12 the Dr don ca cannot can't wasn't dogs 5's o'clock N $N us$ XXXXX".split()
)
PIECES = MARKS + CLITICS + WORDS

TOKENS = st.lists(
    st.sampled_from(PIECES)
    | st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join)
    | st.text(min_size=1, max_size=6).map(lambda text: text.replace(" ", "_")),
    max_size=12,
)


@pytest.mark.parametrize("name", DETOKENIZERS)
@settings(max_examples=300, deadline=None)
@given(tokens=TOKENS)
@example(tokens=["``", "`", "'", "''", '"', "'"])
@example(tokens=['"', "''", '"a', 'a"', "(", "-LRB-"])
@example(tokens=["do", "n't", "don't", "do", "n't\n"])
@example(tokens=[])
def test_any_tokens_come_back(name: str, tokens: list[str]) -> None:
    detokenizer = DETOKENIZERS[name]
    assert detokenizer.undo(detokenizer.join(tokens)) == tokens


@pytest.mark.parametrize(("name", "marked"), [("wiki.test.tokens", 5), ("wiki.valid.tokens", 8)])
def test_the_real_files_of_wikitext_come_back_line_for_line_and_shorter(shared: Path, name: str, marked: int) -> None:
    articles = read_articles(UPath(shared / "benchmarks" / "wikitext2" / name))
    lines = [line for article in articles for line in article]
    text = WIKITEXT2_WORDS.detokenize(lines)
    assert WIKITEXT2_WORDS.tokenize(text) == [line.tokens for line in lines]
    assert len(text) < 0.97 * sum(len(line.raw) + 1 for line in lines)
    assert " @-@ " not in text
    assert text.count("  ") == marked  # tokens such as `Amazon.com` that only a mark keeps whole


@pytest.fixture(scope="module")
def books(shared: Path) -> dict[str, list[list[str]]]:
    """Lines of LAMBADA's original files: the Penn Treebank's tokens in lower case; the names of brackets as in CBT."""
    lines = {}
    for name in ("test", "development"):
        path = shared / "benchmarks" / "lambada" / f"lambada_{name}_plain_text.txt"
        text = re.sub(r"-[lr][rcs]b-", lambda match: match.group().upper(), path.read_text(encoding="utf-8"))
        lines[name] = [line.split(" ") for line in text.removesuffix("\n").split("\n")]
    return lines


@pytest.fixture(scope="module")
def joined(books: dict[str, list[list[str]]]) -> dict[str, list[str]]:
    """The same lines as ordinary text."""
    return {name: [CBT.join(tokens) for tokens in lines] for name, lines in books.items()}


@pytest.mark.parametrize(("name", "n_lines"), [("test", 5_153), ("development", 4_869)])
def test_real_books_in_treebank_tokens_come_back_with_few_marks(
    books: dict[str, list[list[str]]], joined: dict[str, list[str]], name: str, n_lines: int
) -> None:
    assert [CBT.undo(text) for text in joined[name]] == books[name]
    assert len(joined[name]) == n_lines
    assert sum(text.count("  ") for text in joined[name]) < 0.012 * n_lines


def test_real_books_read_as_openai_published_them(shared: Path, joined: dict[str, list[str]]) -> None:
    # The same passages with ordinary spacing; capitals, kinds of quotes and line ends are not in the tokens.
    def plain(text: str) -> str:
        return " ".join(re.sub("[\u201c\u201d]", '"', re.sub("[\u2018\u2019]", "'", text.lower())).split())

    path = shared / "benchmarks" / "lambada" / "lambada_test.jsonl"
    published = [json.loads(line)["text"] for line in path.open(encoding="utf-8")]
    same = [plain(theirs) == plain(ours) for theirs, ours in zip(published, joined["test"], strict=True)]
    assert sum(same) / len(same) > 0.86


def moses(line: str) -> list[str]:
    """Tokens of a line by the main rules of Moses' tokenizer, as in the One Billion Word Benchmark."""

    def cut_apostrophe(match: re.Match[str]) -> str:
        before, after = line[: match.start()][-1:], line[match.end() :][:1]
        return " '" if (before.isalpha() and after.isalpha()) or (before.isdigit() and after == "s") else " ' "

    line = re.sub(r"([^\w\s.'`,-])", r" \1 ", line)
    line = re.sub(r"\.{2,}", r" \g<0> ", line)
    line = re.sub(r"(?<!\d),|,(?!\d)", " , ", line)
    words = re.sub("'", cut_apostrophe, line).split()
    tokens = []
    for word, after in zip(words, [*words[1:], ""], strict=True):
        stem = word.removesuffix(".")
        whole = (
            re.fullmatch(r"[A-Z]|Mr|Mrs|Ms|Dr|Gen|Sen|Rep|Gov|Corp|No|St|.*\..*[A-Za-z].*", stem) or after[:1].islower()
        )
        tokens += [word] if stem in ("", word) or whole else [stem, "."]
    return tokens


def test_real_news_cut_as_moses_does_reads_as_before(shared: Path) -> None:
    text = (shared / "benchmarks" / "wmt14_fr_en" / "newstest2014.en").read_text(encoding="utf-8")
    lines = [" ".join(line.split()) for line in text.removesuffix("\n").split("\n")]
    tokens = [moses(line) for line in lines]
    joined = [ONE_BILLION_WORDS.join(line) for line in tokens]
    assert [ONE_BILLION_WORDS.undo(line) for line in joined] == tokens
    assert sum(a == b for a, b in zip(lines, joined, strict=True)) / len(lines) > 0.98


@pytest.mark.parametrize(
    ("detokenizer", "tokens", "text"),
    [
        (WIKITEXT, "He 's a guest @-@ starring actor , they say .", "He's a guest-starring actor, they say."),
        (WIKITEXT, "It cost $ 1 @,@ 000 @.@ 50 ( about \u00a3 700 ) .", "It cost $1,000.50 (about \u00a3700)."),
        (WIKITEXT, 'a role as " Craig " in " Teddy \'s Story " .', 'a role as "Craig" in "Teddy\'s Story".'),
        (WIKITEXT, "= = Early life = =", "== Early life =="),
        (WIKITEXT, "from 1990 \u2013 95 in the U.S. , and / or", "from 1990\u201395 in the U.S., and/or"),
        (WIKITEXT, "<unk> , <unk> 's", "<unk>, <unk>'s"),
        (PENN_TREEBANK, "no it was n't black monday", "no it wasn't black monday"),
        (PENN_TREEBANK, "standard & poor 's 500-stock index in <unk>", "standard & poor's 500-stock index in <unk>"),
        (PENN_TREEBANK, "companies ' $ N million us$ N N N", "companies' $N million us$N N N"),
        (PENN_TREEBANK, "it ca n't and can not be <unk> 's p. &", "it can't and cannot be <unk>'s p. &"),
        (ONE_BILLION_WORDS, "OSLO ( Reuters ) - It doesn 't .", "OSLO (Reuters) - It doesn't."),
        (ONE_BILLION_WORDS, 'He said : " I \'m in the U.S. " -- twice .', 'He said: "I\'m in the U.S." -- twice.'),
        (ONE_BILLION_WORDS, "That 's impossible , \" said Mr. O 'Brien .", "That's impossible,\" said Mr. O'Brien."),
        (ONE_BILLION_WORDS, "Olympians ' ' Coming Home ' ( 5 / 7 )", "Olympians' 'Coming Home' (5/7)"),
        (ONE_BILLION_WORDS, "Sunoco Inc . , $ 50,000 or 9.9 % ( \u00a3 2 )", "Sunoco Inc., $50,000 or 9.9% (\u00a32)"),
        (CBT, "`` You ca n't whip 'em -- that is it , '' he said .", "\"You can't whip 'em--that is it,\" he said."),
        (CBT, "` What is it ? ' said Alice ; ` I do n't know . '", "'What is it?' said Alice; 'I don't know.'"),
        (CBT, "`` ` Come , ' she said -LRB- twice -RRB- . ''", "\"'Come,' she said (twice).\""),
        (CBT, "Mr. Cropper 's boys ' hats , XXXXX ''", "Mr. Cropper's boys' hats, XXXXX\""),
        (CBT, "I can not -LSB- Illustration -RSB- ... gon na", "I cannot [Illustration]... gonna"),
        (CBT, "`` You 'd better not -- '' said I .", '"You\'d better not--" said I.'),
    ],
)
def test_text_reads_as_people_write(detokenizer: Detokenizer, tokens: str, text: str) -> None:
    assert detokenizer.join(tokens.split()) == text


@pytest.mark.parametrize("token", ['"', "(", ")", "cannot", "don't", '"Yes'])
def test_a_token_that_is_itself_the_mark_of_another_is_told_from_it(token: str) -> None:
    assert CBT.join([token]) == f" {token}"
    assert CBT.undo(f" {token}") == [token] != CBT.undo(token)
