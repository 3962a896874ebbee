"""WMT-14 French-English (Bojar et al. 2014): news translated both ways by a model that was shown only how pairs look.

The prompt is pairs of sentences, one a line, and then the sentence to translate (Radford et al. 2019, section 3.7):

    Lovely weather = Un temps superbe
    Good night = Bonne nuit
    Good morning =

The translation is greedy: the first sentence written, which ends with the line at the latest. The pairs are lines of
newstest2013, the year's development set. BLEU is sacrebleu's, over the corpus.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Benchmark, Setting, benchmark_folder
from ladder.platform.evaluation.estimates import Estimate
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.item_scores import Estimator, ItemScores
from ladder.platform.evaluation.kinds.generation import Answer, describe_answers, ends_line, first_line, write_answers
from ladder.platform.evaluation.kinds.shots import describe_shots, draw_shots
from ladder.platform.evaluation.text.lines import read_text_lines
from ladder.platform.evaluation.text.sentences import has_ended, split_sentences

_ADDRESS = (
    "https://raw.githubusercontent.com/Helsinki-NLP/OPUS-MT-testsets/ac0f19c0be3cb4e0d9450fcb2d7a9847c4bdd180/"
    "datasets/statmt/wmt_newstest/2014/fr-en/"
)

ENGLISH = BenchmarkFile(
    name="newstest2014.en",
    sha256="9a12cb6e8efb3509ebede627e4a9c83ee64935509d561ff70f4b7bd5f93f6096",
    address=_ADDRESS + "newstest2014.en",
)

FRENCH = BenchmarkFile(
    name="newstest2014.fr",
    sha256="2bd07dc204f965bf88e90adb6223a8cb850f9bf9840df6af1f4945195936656e",
    address=_ADDRESS + "newstest2014.fr",
)

_DEVELOPMENT = "https://statmt.org/wmt13/test.tgz"

EXAMPLES_ENGLISH, EXAMPLES_FRENCH = (
    BenchmarkFile(name=name, sha256=None, address=_DEVELOPMENT, member=f"test/{name}")
    for name in ("newstest2013-src.en.sgm", "newstest2013-src.fr.sgm")
)

SHOTS = 5
"""Pairs in a prompt; the paper does not say how many it has."""

ANSWER_TOKENS = 160
"""Tokens of a translation at most: the longest French line of the file has 159 GPT-2 tokens."""

_SEGMENT = re.compile(r"<seg[^>]*>(.*)</seg>")

N_RESAMPLES = 1000
"""Samples of the bootstrap over sentences."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A line to translate and its translation."""

    source: str
    """The line to translate."""
    target: str
    """What people made of it."""


def read_pairs(folder: UPath) -> list[Pair]:
    """English lines with their French translations; InputError where they do not go together."""
    english, french = read_text_lines(folder / ENGLISH.name), read_text_lines(folder / FRENCH.name)
    for name, lines in ((ENGLISH.name, english), (FRENCH.name, french)):
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                raise InputError(f"{folder / name}, line {number}: wanted a sentence, got an empty line")
    return _pair(folder, (ENGLISH, english), (FRENCH, french))


def read_examples(folder: UPath) -> list[Pair]:
    """The pairs of newstest2013, in which a line is `<seg id="1">Sentence</seg>`; InputError as of `read_pairs`."""
    files = (EXAMPLES_ENGLISH, EXAMPLES_FRENCH)
    english, french = (
        [match[1].strip() for match in map(_SEGMENT.search, read_text_lines(folder / file.name)) if match]
        for file in files
    )
    if not english:
        raise InputError(f"{folder / EXAMPLES_ENGLISH.name} holds no <seg>: fetch wmt14 again")
    return _pair(folder, (EXAMPLES_ENGLISH, english), (EXAMPLES_FRENCH, french))


def _pair(
    folder: UPath, english: tuple[BenchmarkFile, list[str]], french: tuple[BenchmarkFile, list[str]]
) -> list[Pair]:
    """The lines of two files side by side."""
    (file, lines), (french_file, french_lines) = english, french
    if len(lines) != len(french_lines):
        counts = f"{len(lines)} lines and {french_file.name} {len(french_lines)}"
        raise InputError(f"{folder}: {file.name} has {counts}: wanted equally many; fetch wmt14 again")
    return [Pair(source=source, target=target) for source, target in zip(lines, french_lines, strict=True)]


def make_prompt(examples: Sequence[Pair], pair: Pair) -> str:
    """The prompt of a pair: examples, then the line to translate."""
    lines = [f"{example.source} = {example.target}\n" for example in examples]
    return "".join(lines) + f"{pair.source} ="


def first_sentence(text: str) -> str:
    """The first sentence of the first line; empty where the line is."""
    return next(iter(split_sentences(first_line(text))), "")


def is_translated(text: str) -> bool:
    """Whether `first_sentence` stays as it is however the text goes on."""
    return ends_line(text) or has_ended(text, 1)


def score(setting: Setting) -> list[ItemScores]:
    """BLEU from French to English and from English to French."""
    folder = benchmark_folder(setting.storage, "wmt14")
    pairs = read_pairs(folder)[: setting.protocol.limit]
    shots = SHOTS if setting.protocol.shots is None else setting.protocol.shots
    examples = read_examples(folder) if shots else []
    draws = [draw_shots(item, len(examples), shots=shots, seed=setting.protocol.seed) for item in range(len(pairs))]
    shown = [[examples[index] for index in drawn] for drawn in draws]
    prompting = describe_shots(shots, setting.protocol.seed, "newstest2013")
    return [
        _score_direction(
            setting, _turned(pairs), [*map(_turned, shown)], "bleu_fr_en", f"French to English, {prompting}"
        ),
        _score_direction(setting, pairs, shown, "bleu_en_fr", f"English to French, {prompting}"),
    ]


def _turned(pairs: Sequence[Pair]) -> list[Pair]:
    return [Pair(source=pair.target, target=pair.source) for pair in pairs]


def _score_direction(
    setting: Setting, pairs: Sequence[Pair], shown: Sequence[Sequence[Pair]], metric: str, manner: str
) -> ItemScores:
    """BLEU of the pairs' translations, each after the examples shown for it."""
    prompts = [make_prompt(examples, pair) for examples, pair in zip(shown, pairs, strict=True)]
    answers = write_answers(setting, prompts, n_tokens=ANSWER_TOKENS, stop=is_translated)
    written = [first_sentence(answer.text) for answer in answers]
    statistics = sentence_statistics(written, [pair.target for pair in pairs])
    return ItemScores(
        benchmark="wmt14",
        protocol=f"newstest2014, {manner}, greedy, first sentence written, {describe_bleu()}",
        metric=metric,
        unit="BLEU, 0 to 100",
        direction="higher",
        description=f"corpus BLEU of sacrebleu; standard error by a bootstrap of {N_RESAMPLES} samples of sentences",
        estimate=bleu_of(statistics),
        counted=np.ones(len(answers)),
        totals=_totals(answers, statistics),
        items=describe_answers(prompts, written, [[pair.target] for pair in pairs]),
    )


def _totals(answers: Sequence[Answer], statistics: np.ndarray) -> dict[str, np.ndarray]:
    ngrams = {f"matches_{order + 1}": statistics[:, order] for order in range(4)}
    ngrams |= {f"ngrams_{order + 1}": statistics[:, 4 + order] for order in range(4)}
    return {
        "items": np.ones(len(answers)),
        **ngrams,
        "words": statistics[:, 8],
        "reference_words": statistics[:, 9],
        "tokens": np.array([answer.n_tokens for answer in answers]),
        "items_cut": np.array([answer.cut for answer in answers]),
    }


def describe_bleu() -> str:
    """sacrebleu's signature."""
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU()
    bleu.corpus_score(["a"], [["a"]])  # the signature tells the number of references only once it has seen them
    return f"sacrebleu {bleu.get_signature()}"


def sentence_statistics(translations: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """What BLEU sums over the corpus, by sentence [n, 10].

    Matching n-grams of orders 1 to 4, n-grams of orders 1 to 4, words of the translation, words of the reference.
    """
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU(effective_order=True)  # changes a sentence's score, which is not used, and not its counts
    scores = [bleu.sentence_score(text, [right]) for text, right in zip(translations, references, strict=True)]
    return np.array([[*score.counts, *score.totals, score.sys_len, score.ref_len] for score in scores], dtype=np.int64)


def bleu_of(statistics: np.ndarray) -> Estimator:
    """Corpus BLEU of the sentences whose statistics [n, 10] are given."""
    from sacrebleu.metrics.bleu import BLEU

    def score_sums(sums: np.ndarray) -> float:
        correct, total, (words, reference_words) = sums[:4], sums[4:8], sums[8:]
        result = BLEU.compute_bleu(
            correct.tolist(), total.tolist(), int(words), int(reference_words), smooth_method="exp"
        )
        return float(result.score)

    return lambda kept: Estimate(
        value=score_sums(statistics[kept].sum(0)), standard_error=_bootstrap(statistics[kept], score_sums)
    )


def _bootstrap(statistics: np.ndarray, score_sums: Callable[[np.ndarray], float]) -> float | None:
    """Standard deviation of the score over samples of sentences with repetition, always the same samples."""
    n_sentences = len(statistics)
    if n_sentences < 2:
        return None
    generator = np.random.default_rng(0)
    times = generator.multinomial(n_sentences, np.full(n_sentences, 1 / n_sentences), size=N_RESAMPLES)
    return float(np.std([score_sums(sums) for sums in times @ statistics], ddof=1))


def read_texts(storage: UPath, corpus: Corpus | None) -> list[str]:
    """Each line in both languages."""
    return [f"{pair.source}\n{pair.target}" for pair in read_pairs(benchmark_folder(storage, "wmt14"))]


WMT14 = Benchmark(
    name="wmt14",
    source="WMT-14 French-English, newstest2014: 3,003 pairs of lines",
    score=score,
    reads=frozenset({"limit", "shots", "seed"}),
    version=2,
    texts=read_texts,
    citation="Bojar et al. 2014, Findings of the 2014 Workshop on Statistical Machine Translation",
    files=(ENGLISH, FRENCH),
    example_files=(EXAMPLES_ENGLISH, EXAMPLES_FRENCH),
    shots=SHOTS,
    paper_scores={"bleu_fr_en": {"1542M": 11.5}, "bleu_en_fr": {"1542M": 5.0}},
)
