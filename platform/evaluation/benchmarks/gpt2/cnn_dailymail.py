"""CNN/Daily Mail (Hermann et al. 2015, See et al. 2017): news summarized after nothing but `TL;DR:`.

The prompt is the article, a line end and `TL;DR:`. 100 tokens are drawn among the two likeliest each time, and the
first three sentences of them are the summary (Radford et al. 2019, section 3.6). ROUGE is that of the package
rouge_score with stemming, in percent. Its rougeLsum, the longest common subsequence sentence by sentence, is what the
official ROUGE-L takes of a summary of several sentences, so that is called rougeL here. Of an article too long the
start is kept, where news says what matters; the paper does not say what it did.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.generation import Sampling
from ladder.models.tokenizer import Tokenizer
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Benchmark, Setting, benchmark_folder
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.item_scores import ItemScores, mean_of
from ladder.platform.evaluation.kinds.generation import Answer, describe_answers, prompt_room, write_answers
from ladder.platform.evaluation.kinds.shots import describe_shots, draw_shots
from ladder.platform.evaluation.text.sentences import has_ended, split_sentences

FILE = BenchmarkFile(
    name="test-00000-of-00001.parquet",
    sha256="04e322d2634a96dba76bf9a6294fbbe48e0b36abeae43f13d86ba2c3bebffe4e",
    address="https://huggingface.co/datasets/abisee/cnn_dailymail/resolve/"
    "96df5e686bee6baa90b8bee7c28b81fa3fa6223d/3.0.0/test-00000-of-00001.parquet",
)

EXAMPLES = BenchmarkFile(
    name="validation-00000-of-00001.parquet",
    sha256=None,
    address=FILE.address.replace("/test-", "/validation-"),
)

SHOTS = 0
"""Articles with summaries before the article: the paper has none."""

QUESTION = "\nTL;DR:"
"""What follows the article."""

ANSWER_TOKENS = 100
"""Tokens that are drawn."""

SAMPLING = Sampling(top_k=2)
"""The paper's way of drawing, which repeats itself less than the likeliest token always."""

N_SENTENCES = 3
"""Sentences of a summary."""

METRICS = ("rouge1", "rouge2", "rougeL", "rouge_average")


@dataclass(frozen=True, kw_only=True)
class Article:
    """An article and its summary."""

    text: str
    """The article."""
    highlights: tuple[str, ...]
    """The sentences of the summary that people wrote, at least one."""


def read_articles(path: UPath) -> list[Article]:
    """The articles of a parquet file with columns `article` and `highlights`; InputError names the row that is none."""
    import pyarrow
    import pyarrow.parquet

    try:
        with path.open("rb") as file:
            table = pyarrow.parquet.read_table(file, columns=["article", "highlights"])
    except (pyarrow.ArrowException, KeyError) as error:
        wanted = "wanted a parquet file with columns article and highlights; fetch cnn-dailymail again"
        raise InputError(f"{path}: {str(error).splitlines()[0]:.200}; {wanted}") from error
    missing = {"article", "highlights"} - set(table.column_names)
    if missing:
        raise InputError(f"{path}: there is no column {' or '.join(sorted(missing))}; fetch cnn-dailymail again")
    return [_read_article(path, number, row) for number, row in enumerate(table.to_pylist(), start=1)]


def _read_article(path: UPath, number: int, row: dict[str, object]) -> Article:
    text, highlights = row["article"], row["highlights"]
    if not isinstance(text, str) or not isinstance(highlights, str) or not text.strip() or not highlights.strip():
        raise InputError(f"{path}, row {number}: wanted an article and its highlights, got {row!r:.80}")
    return Article(text=text.strip(), highlights=tuple(line for line in highlights.split("\n") if line.strip()))


def make_prompt(examples: Sequence[Article], article: Article) -> str:
    """The prompt of an article: examples with their summaries, none in the paper, then the article."""
    solved = [f"{example.text}{QUESTION} {' '.join(example.highlights)}\n\n" for example in examples]
    return "".join(solved) + article.text + QUESTION


def fit_article(article: Article, tokenizer: Tokenizer, *, n_tokens: int) -> Article:
    """The article with the first `n_tokens` of its tokens; the article itself where it has no more."""
    tokens = tokenizer.encode(article.text)
    return article if len(tokens) <= n_tokens else replace(article, text=tokenizer.decode(tokens[:n_tokens]))


def is_summarized(text: str) -> bool:
    """Whether the sentences of the summary stay as they are however the text goes on."""
    return has_ended(text, N_SENTENCES)


def rouge(summary: Sequence[str], highlights: Sequence[str]) -> list[float]:
    """ROUGE-1, 2 and L of a summary's sentences and their mean, each F1 in percent."""
    from rouge_score.rouge_scorer import RougeScorer

    scores = RougeScorer(["rouge1", "rouge2", "rougeLsum"], use_stemmer=True).score(
        "\n".join(highlights), "\n".join(summary)
    )
    values = [100 * scores[name].fmeasure for name in ("rouge1", "rouge2", "rougeLsum")]
    return [*values, sum(values) / len(values)]


def score(setting: Setting) -> list[ItemScores]:
    """ROUGE-1, 2, L and their average over the articles."""
    folder = benchmark_folder(setting.storage, "cnn-dailymail")
    chosen = read_articles(folder / FILE.name)[: setting.protocol.limit]
    shots = SHOTS if setting.protocol.shots is None else setting.protocol.shots
    examples = read_articles(folder / EXAMPLES.name) if shots else []
    room = prompt_room(setting.scorer.context, ANSWER_TOKENS) - len(setting.tokenizer.encode(QUESTION))
    fitted = [fit_article(article, setting.tokenizer, n_tokens=room) for article in chosen]
    draws = [draw_shots(item, len(examples), shots=shots, seed=setting.protocol.seed) for item in range(len(chosen))]
    prompts = [
        make_prompt([examples[index] for index in drawn], article) for drawn, article in zip(draws, fitted, strict=True)
    ]
    answers = write_answers(
        setting,
        prompts,
        n_tokens=ANSWER_TOKENS,
        stop=is_summarized,
        sampling=SAMPLING,
        seeds=[f"cnn-dailymail {setting.protocol.seed} {item}" for item in range(len(chosen))],
    )
    summaries = [split_sentences(answer.text)[:N_SENTENCES] for answer in answers]
    values = np.array([rouge(*pair) for pair in zip(summaries, [a.highlights for a in chosen], strict=True)])
    shortened = np.array([short is not whole for short, whole in zip(fitted, chosen, strict=True)])
    prompting = f"{describe_shots(shots, setting.protocol.seed, 'the validation split')}, seed {setting.protocol.seed}"
    items = describe_answers(prompts, ["\n".join(summary) for summary in summaries], [a.highlights for a in chosen])
    return _describe(answers, shortened, values, prompting, items)


def _describe(
    answers: Sequence[Answer],
    shortened: np.ndarray,
    values: np.ndarray,
    prompting: str,
    items: Sequence[Mapping[str, Any]],
) -> list[ItemScores]:
    totals = {
        "items": np.ones(len(answers)),
        **{metric: values[:, column] for column, metric in enumerate(METRICS)},
        "tokens": np.array([answer.n_tokens for answer in answers]),
        "items_cut": shortened | np.array([answer.cut for answer in answers]),
    }
    return [
        ItemScores(
            benchmark="cnn-dailymail",
            protocol=f"start of the article that fits and TL;DR:, {prompting}, {ANSWER_TOKENS} tokens of top-k "
            f"{SAMPLING.top_k}, first {N_SENTENCES} sentences, rouge_score with stemming",
            metric=metric,
            unit="ROUGE F1, percent",
            direction="higher",
            description="mean ROUGE of the summaries; standard error over articles",
            estimate=mean_of(totals[metric]),
            counted=totals["items"],
            totals=totals,
            items=items,
        )
        for metric in METRICS
    ]


def read_texts(storage: UPath, corpus: Corpus | None) -> list[str]:
    """The text of each article."""
    articles = read_articles(benchmark_folder(storage, "cnn-dailymail") / FILE.name)
    return [article.text for article in articles]


CNN_DAILYMAIL = Benchmark(
    name="cnn-dailymail",
    source="CNN/Daily Mail 3.0.0 (not anonymized), test split: 11,490 articles",
    score=score,
    reads=frozenset({"limit", "shots", "seed"}),
    samples=True,
    version=2,
    texts=read_texts,
    citation="Hermann et al. 2015, arXiv:1506.03340; See et al. 2017, arXiv:1704.04368",
    files=(FILE,),
    example_files=(EXAMPLES,),
    shots=SHOTS,
    paper_scores={
        "rouge1": {"1542M": 29.34},
        "rouge2": {"1542M": 8.27},
        "rougeL": {"1542M": 26.58},
        "rouge_average": {"1542M": 21.40},
    },
)
