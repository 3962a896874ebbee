"""Benchmarks made from pages held out of any corpus: the paper's protocols where its data sets are not at hand.

They are not the paper's data sets and their numbers are not comparable with its tables: passages and questions are cut
by rule from whatever the corpus holds, in-domain for the models trained on it. English is assumed by the stop words.
"""

import random
import re
from collections.abc import Iterator

import numpy as np

from ladder.models.errors import InputError
from ladder.platform.evaluation.benchmark import Benchmark, Setting
from ladder.platform.evaluation.benchmarks.heldout.page_texts import Pages
from ladder.platform.evaluation.item_scores import ItemScores, bits_of, perplexity_of
from ladder.platform.evaluation.kinds.choice import Choice, Question, score_accuracy, score_choices, total_nats
from ladder.platform.evaluation.kinds.last_word import Passage, score_passages
from ladder.platform.evaluation.text.words import STOP_WORDS, text_totals

CONTEXT_WORDS = 40
"""Words before the one asked for: about 250 bytes, so that a byte model of context 256 sees nearly all of them."""

REST_WORDS = 8
"""At most so many words after a gap until its sentence ends."""

CANDIDATES = 10
"""Answers to choose from, as in the Children's Book Test."""

POOL_WORDS = 400
"""Words before a gap that candidates are drawn from; a question of the Children's Book Test has about as many."""

CHUNK = re.compile(r"\S+")
LAST_IN_SENTENCE = re.compile(r"([A-Za-z]{4,})[.!?][\"')]*")
IN_SENTENCE = re.compile(r"([A-Za-z]{4,})[,;]?")
SENTENCE_END = re.compile(r".*[.!?][\"')]*", re.DOTALL)


def find_passages(text: str) -> Iterator[Passage]:
    """Passages of CONTEXT_WORDS words and the last word of a sentence, none overlapping.

    The last word has four letters or more, is no stop word, follows a single space and stands in the passage before,
    as most of LAMBADA's do.
    """
    chunks = list(CHUNK.finditer(text))
    free_from = CONTEXT_WORDS
    for index, chunk in enumerate(chunks):
        match = LAST_IN_SENTENCE.fullmatch(chunk.group())
        if index < free_from or match is None or not _is_askable(text, chunk, match[1]):
            continue
        context = text[chunks[index - CONTEXT_WORDS].start() : chunk.start() - 1]
        if match[1].lower() in _content_words(context):
            yield Passage(context=context, word=" " + match[1])
            free_from = index + CONTEXT_WORDS


def find_questions(text: str) -> Iterator[Question]:
    """Questions of one gap, CONTEXT_WORDS before it and up to REST_WORDS after it, contexts not overlapping.

    The choices are words in alphabetical order, the one that stood there among them. As in the Children's Book Test
    every one stands in the text before; all begin with a capital or none does.
    """
    chunks = list(CHUNK.finditer(text))
    free_from = CONTEXT_WORDS
    for index, chunk in enumerate(chunks):
        match = IN_SENTENCE.fullmatch(chunk.group())
        if index < free_from or match is None or not _is_askable(text, chunk, match[1]):
            continue
        following = chunks[index + 1 : index + 1 + REST_WORDS]
        end = next((word.end() for word in following if SENTENCE_END.fullmatch(word.group())), None)
        if end is None:
            continue
        context = text[chunks[index - CONTEXT_WORDS].start() : chunk.start() - 1]
        before = text[chunks[max(0, index - POOL_WORDS)].start() : chunk.start()]
        candidates = _draw_candidates(match[1], before, context)
        if candidates is not None:
            rest = text[chunk.start() + len(match[1]) : end]
            choices = tuple(Choice(text=" " + word, rest=rest) for word in candidates)
            yield Question(context=context, choices=choices, answer=candidates.index(match[1]))
            free_from = index + CONTEXT_WORDS


def _is_askable(text: str, chunk: re.Match[str], word: str) -> bool:
    """Whether a word can be asked for: no stop word, and after a single space, so that nothing else is predicted."""
    return word.lower() not in STOP_WORDS and re.fullmatch(r"\S ", text[chunk.start() - 2 : chunk.start()]) is not None


def _content_words(text: str) -> dict[str, str]:
    """Lower-cased to as first written: words of four letters or more that are no stop words, in order."""
    words: dict[str, str] = {}
    for word in re.findall(r"[A-Za-z]{4,}", text):
        if word.lower() not in STOP_WORDS:
            words.setdefault(word.lower(), word)
    return words


def _draw_candidates(answer: str, before: str, context: str) -> tuple[str, ...] | None:
    """The answer among words of the text before; None where it is not one of them or they are too few.

    Words nearest the answer in length are taken, since to a model that has learned nothing the shortest is likeliest.
    The draw among equals has the context itself as its seed, so it is the same everywhere and always.
    """
    words = _content_words(before)
    if answer.lower() not in words:
        return None
    others = [word for key, word in words.items() if key != answer.lower() and word[0].isupper() == answer[0].isupper()]
    if len(others) < CANDIDATES - 1:
        return None
    random.Random(context + answer).shuffle(others)
    others.sort(key=lambda word: abs(len(word) - len(answer)))
    return tuple(sorted([answer, *others[: CANDIDATES - 1]]))


def score_last_word(setting: Setting) -> list[ItemScores]:
    """LAMBADA's protocol over passages of the pages."""
    pages = _pages(setting)
    passages = pages.items(find_passages, pages.limits.last_word_items)
    if not passages:
        raise InputError(_nothing_found(pages, "pages-last-word", "a sentence that ends in a word said before"))
    protocol = f"LAMBADA's protocol on pages held out of corpus {pages.corpus.name}, not the paper's set"
    return score_passages(setting, passages, benchmark="pages-last-word", protocol=protocol)


def score_cloze(setting: Setting) -> list[ItemScores]:
    """The Children's Book Test's protocol over questions made of the pages: the likeliest candidate with its rest."""
    pages = _pages(setting)
    questions = pages.items(find_questions, pages.limits.cloze_items)
    if not questions:
        raise InputError(_nothing_found(pages, "pages-cloze", f"a gap with {CANDIDATES} candidates before it"))
    return [
        score_accuracy(
            questions,
            score_choices(setting, questions),
            compared=total_nats,
            benchmark="pages-cloze",
            protocol=f"Children's Book Test's protocol on pages held out of corpus {pages.corpus.name}, not its set",
            description="the answer and the rest of its sentence are likelier than with any other candidate",
        )
    ]


def score_words(setting: Setting) -> list[ItemScores]:
    """Perplexity per word over the starts of the pages."""
    return [_score_openings(setting, "pages-words")]


def score_bytes(setting: Setting) -> list[ItemScores]:
    """Bits per byte over the starts of the pages."""
    return [_score_openings(setting, "pages-bytes")]


def _score_openings(setting: Setting, benchmark: str) -> ItemScores:
    pages = _pages(setting)
    sums = [text_totals(text) for text in pages.openings]
    totals = {key: np.array([page[key] for page in sums]) for key in ("words", "characters", "bytes")}
    by_word = benchmark == "pages-words"
    counted = totals["words" if by_word else "bytes"]
    return ItemScores(
        benchmark=benchmark,
        protocol=f"starts of pages held out of corpus {pages.corpus.name}, plain windows, one page at a time",
        metric="perplexity" if by_word else "bits_per_byte",
        unit="perplexity per word" if by_word else "bits per byte",
        direction="lower",
        description=f"the first {pages.limits.page_characters} characters of each of {len(sums)} held-out pages; "
        "standard error over pages, " + ("delta method" if by_word else "ratio estimator"),
        estimate=(perplexity_of if by_word else bits_of)(pages.opening_nats, counted),
        counted=counted,
        totals={**totals, "nats": pages.opening_nats, "pages": np.ones(len(sums))},
        items=[{"text": text} for text in pages.openings],
    )


def _pages(setting: Setting) -> Pages:
    """The pages that the setting asks for, the same for every benchmark made from them."""
    corpus = setting.corpus
    assert corpus is not None, "evaluate checks that a corpus is there"
    if "pages" not in setting.shared:
        limits = setting.protocol.limits
        setting.shared["pages"] = Pages(corpus, limits=limits, scorer=setting.scorer, tokenizer=setting.tokenizer)
    pages: Pages = setting.shared["pages"]
    return pages


def _nothing_found(pages: Pages, benchmark: str, wanted: str) -> str:
    where = f"the first {len(pages.texts)} pages held out of corpus {pages.corpus.name}"
    return f"benchmark {benchmark}: no item in {where}: wanted {CONTEXT_WORDS} words of prose and {wanted}"


PAGES_LAST_WORD = Benchmark(
    name="pages-last-word",
    source="last words of sentences in pages held out of the corpus",
    score=score_last_word,
    reads=frozenset({"limits"}),
    version=2,
    citation="protocol of Paperno et al. 2016, arXiv:1606.06031",
)
PAGES_CLOZE = Benchmark(
    name="pages-cloze",
    source="sentences with a gap in pages held out of the corpus, ten candidates",
    score=score_cloze,
    reads=frozenset({"limits"}),
    citation="protocol of Hill et al. 2015, The Goldilocks principle, arXiv:1511.02301",
)
PAGES_WORDS = Benchmark(
    name="pages-words",
    source="starts of pages held out of the corpus",
    score=score_words,
    reads=frozenset({"limits"}),
    citation="perplexity per word as in Radford et al. 2019, section 3.1",
)
PAGES_BYTES = Benchmark(
    name="pages-bytes",
    source="starts of pages held out of the corpus",
    score=score_bytes,
    reads=frozenset({"limits"}),
    citation="bits per byte as in Radford et al. 2019, section 3.1",
)
