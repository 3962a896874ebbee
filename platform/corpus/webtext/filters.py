"""Filters by the columns of `quality.py`: which texts are left out, and by which rule.

By default none: WebText's paper names no filter of language, length or quality. Every threshold is part of the
recipe.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext.quality import Quality

Rule = Callable[[Quality], bool]

GOPHER: Mapping[str, Rule] = {
    "gopher_words": lambda q: not 50 <= q.words <= 100_000,
    "gopher_mean_word": lambda q: not 3 <= q.mean_word <= 10,
    "gopher_symbols": lambda q: q.symbols > 0.1,
    "gopher_bullets": lambda q: q.bullets > 0.9,
    "gopher_ellipses": lambda q: q.ellipses > 0.3,
    "gopher_alphabetic": lambda q: q.alphabetic < 0.8,
    "gopher_stop_words": lambda q: q.stop_words < 2,
    "gopher_duplicate_lines": lambda q: q.duplicate_lines > 0.3,
    "gopher_duplicate_line_characters": lambda q: q.duplicate_line_characters > 0.2,
    "gopher_top_bigram": lambda q: q.top_bigram > 0.2,
    "gopher_top_trigram": lambda q: q.top_trigram > 0.18,
}
"""Rae et al. 2021, table A1 and section A1.1: what a text that is left out looks like. Of the repetition rules those of
lines and of pairs and triples of words."""

FINEWEB: Mapping[str, Rule] = {
    "fineweb_ended_lines": lambda q: q.ended < 0.12,
    "fineweb_short_lines": lambda q: q.short_lines > 0.67,
    "fineweb_duplicate_line_characters": lambda q: q.duplicate_line_characters > 0.1,
}
"""Penedo et al. 2024, section 3.6, with the paper's 10 %."""

SETS: Mapping[str, Mapping[str, Rule]] = {"gopher": GOPHER, "fineweb": FINEWEB}


@dataclass(frozen=True, kw_only=True)
class FilterOptions:
    """Which texts stay."""

    languages: tuple[str, ...] = ()
    """Codes such as `en`; empty: all."""
    quality: tuple[str, ...] = ()
    """Sets of rules, `gopher` and `fineweb`; empty: none."""
    min_words: int = 0
    """Fewest words."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.quality if name not in SETS]
        if unknown:
            raise InputError(f"got --quality {unknown[0]!r}, wanted {', '.join(SETS)}")
        if any(not (2 <= len(code) <= 3 and code.isalpha() and code.islower()) for code in self.languages):
            raise InputError(f"got --language {', '.join(self.languages)}, wanted codes such as en or de")

    def to_json(self) -> dict[str, Any]:
        """The options as a recipe records them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    def find(self, quality: Quality) -> str | None:
        """The first rule that leaves the text out; None where it stays."""
        if quality.words < self.min_words:
            return "too_few_words"
        if self.languages and quality.language not in self.languages:
            return f"language {quality.language}"
        for name in self.quality:
            for rule, leaves_out in SETS[name].items():
                if leaves_out(quality):
                    return rule
        return None
