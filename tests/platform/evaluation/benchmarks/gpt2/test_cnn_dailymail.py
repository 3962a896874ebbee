"""CNN/Daily Mail: real stories in the published form, the prompt, ROUGE, sampling by article, and bad files."""

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmarks.gpt2 import cnn_dailymail
from ladder.platform.evaluation.benchmarks.gpt2.cnn_dailymail import (
    CNN_DAILYMAIL,
    Article,
    fit_article,
    is_summarized,
    make_prompt,
    read_articles,
    rouge,
)
from ladder.platform.evaluation.evaluate import evaluate
from ladder.platform.evaluation.kinds.generation import Answer
from ladder.platform.evaluation.protocol import Protocol
from ladder.platform.evaluation.text.sentences import split_sentences

ARTICLES = [Article(text=f"Text {i}. More.", highlights=(f"<high {i}>", f"<light {i}>")) for i in range(5)]


def install(storage: Path, columns: dict[str, list[str | None]]) -> UPath:
    """A parquet file of these columns in storage."""
    path = UPath(storage) / "benchmarks" / "cnn-dailymail" / CNN_DAILYMAIL.files[0].name
    path.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def install_articles(storage: Path, articles: list[Article]) -> UPath:
    """The published form: the article, the highlights one a line, and an id."""
    return install(
        storage,
        {
            "article": [article.text for article in articles],
            "highlights": ["\n".join(article.highlights) for article in articles],
            "id": [str(index) for index in range(len(articles))],
        },
    )


def read_story(path: Path) -> Article:
    """A story as the data set's authors published it: the article, then each highlight after a line `@highlight`."""
    text, *highlights = path.read_text(encoding="utf-8").split("@highlight\n")
    return Article(text=text.strip(), highlights=tuple(" ".join(part.split()) for part in highlights))


@pytest.fixture
def stories(shared: Path) -> list[Article]:
    return [read_story(p) for p in sorted((shared / "benchmarks/cnndm_sample/cnn_stories").glob("*.story"))]


def test_real_stories_come_through_the_published_form(stories: list[Article], tmp_path: Path) -> None:
    assert len(stories) == 20
    assert read_articles(install_articles(tmp_path, stories)) == stories


def test_the_first_three_sentences_of_real_stories_have_the_rouge_of_lede_3(stories: list[Article]) -> None:
    lede = np.mean([rouge(split_sentences(story.text)[:3], story.highlights) for story in stories], axis=0)
    # The paper has 40.38, 17.66, 36.62 for all articles; of 20 the standard error is about 3.
    assert np.abs(lede[:3] - [40.38, 17.66, 36.62]).max() < 10
    assert lede[0] > lede[2] > lede[1] > 5
    shuffled = [rouge(split_sentences(stories[i - 1].text)[:3], stories[i].highlights) for i in range(20)]
    assert np.mean(shuffled, axis=0)[0] < 0.7 * lede[0]


def test_rouge_is_that_of_a_small_example_by_hand() -> None:
    # 3 of 4 words of the summary are among the 6 of the highlights; "cats" has the stem of "cat".
    summary, highlights = ["the cats slept", "deeply"], ["a dog barked", "the cat slept"]
    one, two, longest, mean = rouge(summary, highlights)
    assert one == pytest.approx(100 * 2 * (3 / 4) * (3 / 6) / (3 / 4 + 3 / 6))
    assert two == pytest.approx(100 * 2 * (2 / 3) * (2 / 5) / (2 / 3 + 2 / 5))
    assert longest == pytest.approx(one)  # the longest common subsequence of the second sentence is all three
    assert mean == pytest.approx((one + two + longest) / 3)
    assert rouge([], highlights) == [0, 0, 0, 0]


def test_rouge_l_is_taken_sentence_by_sentence() -> None:
    highlights = ["one two three", "four five six"]
    assert rouge(["four five six", "one two three"], highlights)[2] == pytest.approx(100)  # in any order
    assert rouge(["four five six one two three"], highlights)[2] == pytest.approx(100)
    assert rouge(["three two one"], highlights)[2] < rouge(["one two three"], highlights)[2]


def test_the_prompt_is_the_article_and_tldr() -> None:
    assert make_prompt([], ARTICLES[2]) == "Text 2. More.\nTL;DR:"
    assert make_prompt(ARTICLES[1:2], ARTICLES[0]) == (
        "Text 1. More.\nTL;DR: <high 1> <light 1>\n\nText 0. More.\nTL;DR:"
    )


def test_of_an_article_too_long_the_start_is_kept() -> None:
    tokenizer = load_tokenizer("bytes")
    assert fit_article(ARTICLES[0], tokenizer, n_tokens=6).text == "Text 0"
    assert fit_article(ARTICLES[0], tokenizer, n_tokens=13) is ARTICLES[0]


def test_writing_stops_once_three_sentences_have_ended() -> None:
    texts = [" One. Two. Three.", " One. Two. Three. ", " One. Two. Three. F", "\n\nOne\nTwo\nThree\nF"]
    assert [is_summarized(text) for text in texts] == [False, False, True, True]


def test_scores_are_those_of_known_summaries(
    byte_gpt2: GPT2, stories: list[Article], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_articles(tmp_path, stories)
    asked: dict[str, object] = {}

    def write(setting: object, prompts: list[str], **options: object) -> list[Answer]:
        asked.update(options)
        texts = ["\n".join(split_sentences(story.text)[:5]) for story in stories[: len(prompts)]]
        return [Answer(text=text, nats=1.0, n_tokens=9, cut=False) for text in texts]

    monkeypatch.setattr(cnn_dailymail, "write_answers", write)
    protocol = Protocol(limit=12)
    measured = evaluate(
        byte_gpt2, load_tokenizer("bytes"), ["cnn-dailymail"], storage=UPath(tmp_path), protocol=protocol
    )
    lede = np.array([rouge(split_sentences(story.text)[:3], story.highlights) for story in stories[:12]])
    assert [m.metric for m in measured] == ["rouge1", "rouge2", "rougeL", "rouge_average"]
    assert [m.value for m in measured] == pytest.approx(lede.mean(0).tolist())
    assert [m.standard_error for m in measured] == pytest.approx((lede.std(0, ddof=1) / 12**0.5).tolist())
    assert measured[3].paper_scores == {"1542M": 21.40}
    assert asked["n_tokens"] == 100
    assert asked["sampling"].top_k == 2
    assert len(set(asked["seeds"])) == 12


def test_a_small_model_draws_the_same_summaries_whatever_the_limit(byte_gpt2: GPT2, tmp_path: Path) -> None:
    install_articles(tmp_path, [Article(text=f"News {i} today.", highlights=("News today",)) for i in range(4)])
    values = {}
    for limit, seed in ((2, 0), (4, 0), (2, 1)):
        setting = {"storage": UPath(tmp_path), "protocol": Protocol(limit=limit, seed=seed)}
        (first, *_) = evaluate(byte_gpt2, load_tokenizer("bytes"), ["cnn-dailymail"], **setting)
        values[limit, seed] = first
        assert first.totals["items"] == limit
    assert values[2, 0].totals["tokens"] <= values[4, 0].totals["tokens"]
    assert values[2, 0].protocol != values[2, 1].protocol


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"article": ["a"], "summary": ["b"]}, "there is no column highlights|highlights"),
        ({"article": ["a", None], "highlights": ["b", "c"]}, "row 2: wanted an article"),
        ({"article": ["a", " "], "highlights": ["b", "c"]}, "row 2: wanted an article"),
        ({"article": ["a"], "highlights": [" \n"]}, "row 1: wanted an article"),
    ],
)
def test_a_bad_file_is_named_with_its_row(tmp_path: Path, columns: dict[str, list], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_articles(install(tmp_path, columns))


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    path = UPath(tmp_path) / "test.parquet"
    path.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(InputError, match="test.parquet: .*wanted a parquet file"):
        read_articles(path)
