"""WikiText-2 as lm-evaluation-harness' task `wikitext` has it: raw text, page by page, perplexity per word.

It differs from `wikitext2` in each part, so that the two numbers are not comparable: the release without `<unk>`; every
page alone after the start token; the harness' own de-tokenizer, which cannot be undone; words counted by splitting the
page at white space, its two ends included; and a page's last window, which reaches back until it is full, so that its
tokens see more than the text since the window before. Numbers of this task are the ones that today's papers print.
"""

import re

import numpy as np
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Benchmark, Setting, describe_windows
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.item_scores import Estimator, ItemScores, bits_of, perplexity_of
from ladder.platform.evaluation.kinds.rolling_texts import separate_nats
from ladder.platform.evaluation.text.lines import read_text_lines
from ladder.platform.evaluation.text.words import text_totals

FILE = BenchmarkFile(
    name="wiki.test.raw",
    sha256="173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08",
    address="https://wikitext.smerity.com/wikitext-2-raw-v1.zip",
    member="wikitext-2-raw/wiki.test.raw",
    archive_sha256="ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
)

NAME = "wikitext2-raw"

# The harness' de-tokenizer: replacements in this order, pairs of marks between the two tables.
_BEFORE_PAIRS = [
    ("s '", "s'"),
    *((f" @{mark}@ ", mark) for mark in "-,."),
    *((f" {mark} ", f"{mark} ") for mark in ":;.!?,"),
]
_PAIRS = (("(", ")"), ("[", "]"), ("{", "}"), ('"', '"'), ("'", "'"))
_AFTER_PAIRS = [
    *(("= " * (signs - 1) + "=", "=" * signs) for signs in (4, 3, 2)),
    (" \u00b0 ", "\u00b0"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
]


def read_pages(path: UPath) -> list[str]:
    """The text of each page, from its title on as it stands; InputError where there is no page."""
    pages: list[list[str]] = [[]]
    for line in [*read_text_lines(path), ""]:  # the last line is ended too
        if is_title(line):
            pages.append([])
        pages[-1].append(line)
    texts = ["\n".join(lines) for lines in pages]
    kept = [text for text in texts[:-1] if text.strip()] + texts[-1:]
    if not kept[0].strip():
        raise InputError(f"{path} holds no text: fetch {NAME} again")
    return kept


def is_title(line: str) -> bool:
    """Whether a line is the title of a page, ` = Title = `, and not of a section, ` = = Section = = `."""
    line = line.replace("= = =", "===").replace("= =", "==").strip()
    return line.startswith("= ") and line.endswith(" =")


def detokenize(page: str) -> str:
    """A page as ordinary text, by the harness' rules."""
    for old, new in _BEFORE_PAIRS:
        page = page.replace(old, new)
    for opening, closing in _PAIRS:
        inner = rf"\s*([^{re.escape(closing)}]*?)\s*"
        page = re.sub(re.escape(opening) + inner + re.escape(closing), rf"{opening}\g<1>{closing}", page)
    for old, new in _AFTER_PAIRS:
        page = page.replace(old, new)
    return page


def count_words(page: str) -> int:
    """Pieces of a page between its runs of white space, an empty one at either end counted as well."""
    return len(re.split(r"\s+", page))


def read_texts(storage: UPath, corpus: Corpus | None) -> list[str]:
    """The de-tokenized text of each page."""
    return [detokenize(page) for page in read_pages(WIKITEXT2_RAW.folder(storage) / FILE.name)]


def score(setting: Setting) -> list[ItemScores]:
    """Perplexity per word and per byte, and bits per byte."""
    pages = read_pages(WIKITEXT2_RAW.folder(setting.storage) / FILE.name)[: setting.protocol.limit]
    texts = [detokenize(page) for page in pages]
    nats, tokens = separate_nats(setting, texts, full_last_window=True)
    items = [{"text": text} for text in texts]
    sums = [text_totals(page) for page in pages]
    words = np.array([count_words(page) for page in pages])
    n_bytes = np.array([total["bytes"] for total in sums])
    metrics: dict[str, tuple[str, Estimator, np.ndarray]] = {
        "word_perplexity": ("perplexity per word", perplexity_of(nats, words), words),
        "byte_perplexity": ("perplexity per byte", perplexity_of(nats, n_bytes), n_bytes),
        "bits_per_byte": ("bits per byte", bits_of(nats, n_bytes), n_bytes),
    }
    return [
        ItemScores(
            benchmark=NAME,
            protocol="as lm-evaluation-harness' wikitext, version 2: raw pages, its de-tokenizer, each page alone, "
            f"words and bytes of the raw page, {describe_windows(setting)}, the last one full",
            metric=metric,
            unit=unit,
            direction="lower",
            description=f"{unit} of the raw pages; standard error over pages",
            estimate=estimate,
            counted=counted,
            totals={
                "nats": nats,
                "tokens": tokens,
                "words": words,
                "characters": np.array([total["characters"] for total in sums]),
                "bytes": n_bytes,
                "pages": np.ones(len(pages)),
            },
            items=items,
        )
        for metric, (unit, estimate, counted) in metrics.items()
    ]


WIKITEXT2_RAW = Benchmark(
    name=NAME,
    source="WikiText-2, raw test split, as lm-evaluation-harness' wikitext: 62 pages",
    score=score,
    reads=frozenset({"limit", "window", "stride"}),
    texts=read_texts,
    citation="Merity et al. 2016, Pointer sentinel mixture models, arXiv:1609.07843",
    files=(FILE,),
    on_request=True,
)
