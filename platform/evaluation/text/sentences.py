"""Where a sentence ends, in text that a model writes: NLTK's Punkt (Kiss and Strunk 2006) within each line.

Punkt tells an abbreviation's point from a sentence's end by lists that it otherwise learns from text: abbreviations,
and words that often begin a sentence, so that "5 p.m. Monday" goes on and "5 p.m. Then" does not. The lists here are
short and fixed, so that no model has to be downloaded and every machine splits alike. Two rules are added: no sentence
begins with a small letter, and a closing guillemet belongs to the sentence before.
"""

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nltk.tokenize.punkt import PunktSentenceTokenizer

ABBREVIATIONS = frozenset(
    """
    mr mrs ms messrs dr prof st sen rep gen gov lt col capt cmdr maj sgt rev hon jr sr vs mm mme mlle
    a.m p.m a.d b.c e.g i.e u.s u.s.a u.k u.n e.u d.c n.y n.j l.a
    etc al approx dept inc ltd corp co bros vol pp fig jan feb aug sept oct nov dec
    """.split()
)
"""Words that a point follows in the middle of a sentence, in English and French, without their last point."""

STARTERS = frozenset(
    """
    the a an this that these those he she it they we i you his her its their our my there then when while if as after
    before but and so or however in on at for from by with what who why how where not no yes il elle ils elles le la les
    un une mais et
    """.split()
)
"""Words that with a capital begin a sentence, also after an abbreviation."""

_MAY_END = re.compile(r"[.!?]|\n")
_NUMBERED = re.compile(r"\bnos?\.\s+\Z", re.IGNORECASE)
_GUILLEMET = re.compile(r"\s*\u00bb\s*")
_STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, without the white space around them; the last may be unfinished.

    What is split off stays as it is however the text goes on, so a text may be written until enough sentences are.
    """
    sentences = []
    for line in text.split("\n"):
        cuts = [0, *_find_starts(line), len(line)]
        sentences += [line[start:end].strip() for start, end in zip(cuts, cuts[1:], strict=False)]
    return [sentence for sentence in sentences if sentence]


def has_ended(text: str, n_sentences: int) -> bool:
    """Whether so many sentences have ended that stay as they are however the text goes on."""
    return len(_MAY_END.findall(text)) >= n_sentences and len(split_sentences(text)) > n_sentences


def _find_starts(line: str) -> list[int]:
    """Where the second sentence of a line begins, the third and so on.

    The last word may not be whole ("The" of "Theban"), and what begins there must begin there anyway.
    """
    straight = line.translate(_STRAIGHT)  # Punkt knows no curly quotes
    starts, starts_with_more = (
        {start for start, _ in _punkt().span_tokenize(text)} for text in (straight, straight + "x")
    )
    found = []
    for start in sorted((starts & starts_with_more) - {0}):
        closing = _GUILLEMET.match(line, start)
        begin = closing.end() if closing else start
        follows = line[begin : begin + 1]
        # U+FFFD is a letter that is not whole yet, and may become a small one.
        goes_on = not follows or follows.islower() or follows == "\ufffd"
        if not goes_on and not (follows.isdigit() and _NUMBERED.search(line, 0, begin)):
            found.append(begin)
    return found


@cache
def _punkt() -> "PunktSentenceTokenizer":
    """Punkt with the lists of this module; imported here, since NLTK takes a second to import."""
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    parameters = PunktParameters()
    parameters.abbrev_types = set(ABBREVIATIONS)
    parameters.sent_starters = set(STARTERS)
    return PunktSentenceTokenizer(parameters)
