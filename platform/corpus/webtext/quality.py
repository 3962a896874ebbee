"""What a text is like: language, junk, and the numbers of published quality rules, as columns first.

Nothing here removes anything. `filters.py` decides by these columns, so that a threshold can be changed and its
effect counted without extracting again. The rules are Gopher's (Rae et al. 2021, table A1), FineWeb's (Penedo et al.
2024, section 3.6) and OpenWebText's observation that English pages hold one of five words.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

from ladder.platform.corpus.webtext.packages import import_web

_STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
_BULLETS = ("-", "*", "\u2022", "\u25cf", "\u25e6", "\u2023")
_ENDS = (".", "!", "?", '"', "'", "\u201d", "\u2019", ")", ":", "\u3002", "\uff01", "\uff1f")
SHORT_LINE = 30
"""Characters of a short line (FineWeb)."""
_JUNK_WORDS = 200
"""A page of robots or cookies is short; longer texts may speak about them."""

_ROBOT = re.compile(
    r"(?:are|you'?re|verify (?:that )?you(?:'?re| are)|prove you(?:'?re| are)) (?:not )?a (?:robot|human)"
    r"|unusual (?:traffic|activity) from your|complete the captcha|enable javascript and cookies to continue"
    r"|checking your browser before|access (?:to this page )?(?:has been|is) denied|pardon our interruption"
    r"|please (?:enable|turn on) (?:javascript|cookies)|verifying you are human",
    re.IGNORECASE,
)
_COOKIES = re.compile(
    r"(?:we|this (?:web)?site|our partners).{0,60}(?:use|uses|set|store) cookies"
    r"|cookie (?:policy|consent|preferences|settings)"
    r"|accept (?:all )?cookies|wir verwenden cookies|nous utilisons des cookies|utilizamos cookies",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.!?\n]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """One text's columns; shares are between 0 and 1."""

    characters: int
    """Unicode characters."""
    words: int
    """Runs of characters that are not white space."""
    language: str
    """Code of resiliparse's fast detector; `unknown` where no profile fits."""
    language_distance: int
    """Its distance from the language's profile: below 1,200, lower is surer."""
    mean_word: float
    """Characters of a word."""
    symbols: float
    """`#` and ellipses for each word."""
    alphabetic: float
    """Share of words with a letter."""
    stop_words: int
    """How many of Gopher's eight English words occur."""
    bullets: float
    """Share of lines that start with a bullet."""
    ellipses: float
    """Share of lines that end in an ellipsis."""
    ended: float
    """Share of lines that end in punctuation."""
    short_lines: float
    """Share of lines of at most 30 characters."""
    duplicate_lines: float
    """Share of lines that came before."""
    duplicate_line_characters: float
    """Their share of the characters."""
    top_bigram: float
    """Characters of the most frequent pair of words, over all."""
    top_trigram: float
    """Of three words."""


def measure(text: str) -> Quality:
    """The columns of a text that is not empty."""
    words = text.split()
    lines = [line for raw in text.split("\n") if (line := raw.strip())]
    language, distance = _detector()(text)
    lower = set(map(str.lower, words))
    n_words, n_lines = max(1, len(words)), max(1, len(lines))
    seen = Counter(lines)
    repeated = [(line, n - 1) for line, n in seen.items() if n > 1]
    characters = max(1, len(text))
    return Quality(
        characters=len(text),
        words=len(words),
        language=language,
        language_distance=distance,
        mean_word=sum(map(len, words)) / n_words,
        symbols=(text.count("#") + text.count("...") + text.count("\u2026")) / n_words,
        alphabetic=sum(any(map(str.isalpha, word)) for word in words) / n_words,
        stop_words=len(lower & _STOP_WORDS),
        bullets=sum(line.startswith(_BULLETS) for line in lines) / n_lines,
        ellipses=sum(line.endswith(("...", "\u2026")) for line in lines) / n_lines,
        ended=sum(line.endswith(_ENDS) for line in lines) / n_lines,
        short_lines=sum(len(line) <= SHORT_LINE for line in lines) / n_lines,
        duplicate_lines=sum(n for _, n in repeated) / n_lines,
        duplicate_line_characters=sum(len(line) * n for line, n in repeated) / characters,
        top_bigram=_top_share(words, 2, characters),
        top_trigram=_top_share(words, 3, characters),
    )


def find_junk(text: str) -> str | None:
    """What makes a text no document whatever the filters: empty, nul, robot_page, cookie_page; None for a document.

    Robot and cookie pages are short texts that speak of little else.
    """
    if not text or text.isspace():
        return "empty"
    if "\0" in text:
        return "nul"
    if len(text) > 10 * _JUNK_WORDS or len(text.split()) > _JUNK_WORDS:
        return None
    if _ROBOT.search(text):
        return "robot_page"
    sentences = [sentence for sentence in _SENTENCE.split(text) if sentence.strip()]
    of_cookies = sum("cookie" in sentence.lower() for sentence in sentences)
    return "cookie_page" if _COOKIES.search(text) and 2 * of_cookies >= len(sentences) else None


def _top_share(words: list[str], n: int, characters: int) -> float:
    if len(words) < n:
        return 0.0
    grams = Counter(zip(*(words[start:] for start in range(n)), strict=False))
    # The largest share of equal counts, so that the order of the text does not matter.
    most = max(grams.values())
    if most == 1:
        return 0.0
    longest = max(sum(map(len, gram)) for gram, count in grams.items() if count == most)
    return most * longest / characters


@cache
def _detector() -> Any:
    return import_web("resiliparse.parse.lang", "telling languages apart").detect_fast
