"""Invertible de-tokenizers: tokenized text to ordinary text and back, exactly.

Benchmarks of tokenized text (` the man 's hat , 1 @,@ 000 dollars `) read unlike anything that a language model was
trained on; the GPT-2 paper removes the artefacts first and gains 2.5 to 5 points of perplexity (Radford et al. 2019,
section 3.1). Because the change can be undone, no information is lost or added and the score stays that of the text.

The idea: `split` cuts a piece of text without spaces into tokens by a fixed rule. Tokens are joined only where `split`
finds them again; where it would not, the space stays. A token that `split` would cut although it stands alone is marked
by a second space before it. So undoing is `split` on every piece but the marked ones, whatever the tokens are.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Detokenizer:
    """Rules of one tokenization."""

    pattern: re.Pattern[str]
    """Matches one token after another in a piece without spaces, leaving nothing out."""
    infixes: dict[str, str]
    """Tokens that stand between two others and are written otherwise when joined to both: `@-@` as `-`."""
    joins_left: frozenset[str]
    """Tokens joined to the one before: closing marks."""
    joins_right: frozenset[str]
    """Tokens joined to the one after: opening marks."""
    joins_both: frozenset[str]
    """Tokens joined on both sides, such as a slash."""
    joins_numbers: frozenset[str]
    """Tokens joined on both sides where both are digits: the dash of a range."""
    repeats: frozenset[str]
    """Tokens joined to their like: the signs of a heading."""
    quote: str
    """The mark that opens and closes by turns within a line."""
    clitic: re.Pattern[str]
    """Tokens joined to the one before for their form: `'s`."""

    def split(self, piece: str) -> list[str]:
        """The tokens of a piece of text without spaces."""
        if piece in self.infixes:
            return [piece]
        written = {mark: token for token, mark in self.infixes.items()}
        tokens = []
        for match in self.pattern.finditer(piece):
            infix = match.lastgroup == "infix"
            tokens.append(written[match.group()] if infix else match.group())
        return tokens

    def join(self, tokens: list[str]) -> str:
        """Tokens of one line, none empty or with a space, as ordinary text."""
        pieces: list[str] = []
        for piece, members in self._pieces(tokens):
            marked = members == 1 and self.split(piece) != [piece]
            pieces += ["", piece] if marked else [piece]
        return " ".join(pieces)

    def undo(self, line: str) -> list[str]:
        """The tokens of a line made by `join`."""
        tokens: list[str] = []
        marked = False
        for piece in line.split(" ") if line else []:
            if marked:
                tokens.append(piece)
            elif piece:
                tokens += self.split(piece)
            marked = not piece and not marked
        return tokens

    def _pieces(self, tokens: list[str]) -> Iterator[tuple[str, int]]:
        """The text's pieces between spaces, each with the number of tokens joined in it."""
        start, quotes = 0, 0
        while start < len(tokens):
            piece, end = tokens[start], start + 1
            quotes += piece == self.quote
            while end < len(tokens):
                taken = self._extend(piece, tokens[start:end], tokens[end : end + 2], opened=quotes % 2 == 1)
                if taken is None:
                    break
                piece, n_taken = taken
                quotes += tokens[end : end + n_taken].count(self.quote)
                end += n_taken
            yield piece, end - start
            start = end

    def _extend(self, piece: str, members: list[str], following: list[str], *, opened: bool) -> tuple[str, int] | None:
        """The piece with the next token joined, or the next two around an infix; None where a space must stay."""
        token, after = following[0], "".join(following[1:])
        between_digits = piece[-1].isdigit() and after[:1].isdigit()
        if after and (token in self.infixes or (token in self.joins_numbers and between_digits)):
            longer = piece + self.infixes.get(token, token) + after
            return (longer, 2) if self.split(longer) == members + following else None
        if not self._wants_join(members[-1], token, opened=opened):
            return None
        longer = piece + token
        return (longer, 1) if self.split(longer) == [*members, token] else None

    def _wants_join(self, left: str, right: str, *, opened: bool) -> bool:
        if right == self.quote:  # it closes if one is open, otherwise it opens and only an opening mark may precede
            return opened or left in self.joins_right
        if left == self.quote and opened:
            return True
        joins_right = left in self.joins_right or left in self.joins_both
        joins_left = right in self.joins_left or right in self.joins_both or (left == right and right in self.repeats)
        return joins_left or joins_right or self.clitic.fullmatch(right) is not None


WIKITEXT = Detokenizer(
    pattern=re.compile(
        r"""
          <[a-z]+>                                           # <unk>, <formula>
        | (?P<infix> (?<=[^\W_]|>) - (?=[^\W_]|<) | (?<=[\d>]) [.,] (?=[\d<]) )
        | (?<![\w.]) (?:[A-Za-z]\.){2,} (?!\w)               # U.S., e.g.
        | (?<![\w.]) [A-Z]\. (?!\w)                          # initials
        | (?<!\w) (?:No|Nos|Col|St|Gen|Dr|Mr|Mrs|Ms|Sr|Jr|Lt|Bros|Inc|Co|Ltd|vs|v|al|pp|Capt|Maj|Sgt|Rev|Prof)\. (?!\w)
        | (?: ^ | (?<=[^\W_]|>) ) '[^\W_]+                    # 's, 't
        | \.{2,}
        | --
        | [^\W_]+ (?:-(?=$))?                                # words; "second-" as in "second- and third-"
        | .
        """,
        re.VERBOSE | re.DOTALL,
    ),
    infixes={"@-@": "-", "@,@": ",", "@.@": "."},
    joins_left=frozenset({",", ".", ";", ":", "?", "!", "%", ")", "]", "'", "\u00b0", "...", "\u201d"}),
    joins_right=frozenset({"(", "[", "$", "\u00a3", "\u00a5", "#", "\u201c"}),
    joins_both=frozenset({"/", "\u2014"}),
    joins_numbers=frozenset({"\u2013"}),
    repeats=frozenset({"="}),
    quote='"',
    clitic=re.compile(r"'[^\W_]+"),
)
"""Moses-like tokens of WikiText (Merity et al. 2016): `@-@`, `@,@`, `@.@` inside words and numbers, `'s` split off."""
