r"""Invertible de-tokenizers: tokenized text to ordinary text and back, exactly.

Benchmarks of tokenized text (` the man 's hat , 1 @,@ 000 dollars `) read unlike anything that a language model was
trained on; the GPT-2 paper removes the artefacts first and gains 2.5 to 5 points of perplexity (Radford et al. 2019,
section 3.1). Because the change can be undone, no information is lost or added and the score stays that of the text.

The idea: `split` cuts a piece of text without spaces into tokens by a fixed rule. Tokens are joined only where `split`
finds them again; where it would not, the space stays. A token that `split` would cut although it stands alone is marked
by a second space before it. So undoing is `split` on every piece but the marked ones, whatever the tokens are. A token
may be written as something else (``` `` ``` as `"`): `split` reads a mark back by where it stands, and where it would
read another token the original stays.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True, kw_only=True)
class Detokenizer:
    """Rules of one tokenization."""

    pattern: re.Pattern[str]
    """Matches one token after another in a piece without spaces, leaving nothing out; a named group is a mark."""
    marks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By named group of the pattern, what its marks stand for: `-` for `@-@`. No token is written in two ways."""
    joins_left: frozenset[str]
    """Tokens joined to the one before: closing marks."""
    joins_right: frozenset[str]
    """Tokens joined to the one after: opening marks."""
    joins_both: frozenset[str] = frozenset()
    """Tokens joined on both sides, such as a slash."""
    joins_numbers: frozenset[str] = frozenset()
    """Tokens joined on both sides where both are digits: the dash of a range."""
    repeats: frozenset[str] = frozenset()
    """Tokens joined to their like: the signs of a heading."""
    quotes: frozenset[str] = frozenset()
    """Marks that open and close by turns within a line. After an `s` an apostrophe that closes none opens none."""
    cut_quotes: frozenset[str] = frozenset()
    """Quotes of which an odd one may close a quotation of another line: `That 's impossible , " he said .`"""
    pairs: frozenset[tuple[str, str]] = frozenset()
    """Pairs of tokens that are one word, in lower case: `can not`."""
    clitic: re.Pattern[str]
    """Tokens joined to the one before for their form: `'s`."""

    def split(self, piece: str) -> list[str]:
        """The tokens of a piece of text without spaces."""
        if piece in self._written:
            return [piece]
        tokens = []
        for match in self.pattern.finditer(piece):
            stands_for = self.marks[match.lastgroup] if match.lastgroup else {}
            tokens.append(stands_for.get(match.group(), match.group()))
        return tokens

    def join(self, tokens: list[str]) -> str:
        """Tokens of one line, none empty or with a space, as ordinary text."""
        joined = self._joined(tokens)
        pieces: list[str] = []
        start = 0
        while start < len(tokens):
            end = start + 1
            while end < len(tokens) and joined[end]:
                end += 1
            piece, n_taken = self._longest_piece(tokens[start:end])
            pieces.append(piece)
            start += n_taken
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

    @cached_property
    def _written(self) -> dict[str, str]:
        """Token to the mark it is written as."""
        return {token: mark for marks in self.marks.values() for mark, token in marks.items()}

    def _longest_piece(self, tokens: list[str]) -> tuple[str, int]:
        """As many of the first of `tokens` as `split` finds again in one piece, and their number, at least one."""
        for n_taken in range(len(tokens), 0, -1):
            piece = "".join(self._written.get(token, token) for token in tokens[:n_taken])
            if self.split(piece) == tokens[:n_taken]:
                return piece, n_taken
        is_whole = self.split(tokens[0]) == tokens[:1]
        return tokens[0] if is_whole else f" {tokens[0]}", 1

    def _joined(self, tokens: list[str]) -> list[bool]:
        """Whether each token belongs to the one before it, as people write."""
        opening = self._opening_quotes(tokens)
        joined = [False] * len(tokens)
        for index in range(1, len(tokens)):
            left, right = tokens[index - 1], tokens[index]
            if index in opening:
                joined[index] = left in self.joins_right or index - 1 in opening
            else:
                joined[index] = index - 1 in opening or right in self.quotes or self._belong(left, right)
        for index in range(1, len(tokens) - 1):
            if (
                tokens[index] in self.joins_numbers
                and tokens[index - 1][-1].isdigit()
                and tokens[index + 1][0].isdigit()
            ):
                joined[index] = joined[index + 1] = True
        return joined

    def _belong(self, left: str, right: str) -> bool:
        """Whether two neighbours are written without a space, quotes and numbers aside."""
        return (
            right in self.joins_left
            or left in self.joins_right
            or left in self.joins_both
            or right in self.joins_both
            or (left == right and right in self.repeats)
            or self.clitic.fullmatch(right) is not None
            or (left.lower(), right.lower()) in self.pairs
        )

    def _opening_quotes(self, tokens: list[str]) -> set[int]:
        """Indices of the quotes that open."""
        opening, is_open = set(), set[str]()
        for index, token in enumerate(tokens):
            if token not in self.quotes:
                continue
            if token in is_open:
                is_open.remove(token)
            elif not self._ends_no_quotation(tokens, index):
                is_open.add(token)
                opening.add(index)
        return opening

    def _ends_no_quotation(self, tokens: list[str], index: int) -> bool:
        """Whether a quote at `index`, none being open, is a plural's apostrophe or ends a quotation of another line."""
        mark, before = tokens[index], tokens[index - 1] if index else ""
        if mark == "'":
            return before.endswith("s")
        if mark not in self.cut_quotes or tokens.count(mark) % 2 == 0:
            return False
        after = "".join(tokens[index + 1 : index + 2])
        return before in {",", ".", "?", "!"} and not after[:1].isupper()


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
    marks={"infix": {"-": "@-@", ",": "@,@", ".": "@.@"}},
    joins_left=frozenset({",", ".", ";", ":", "?", "!", "%", ")", "]", "'", "\u00b0", "...", "\u201d"}),
    joins_right=frozenset({"(", "[", "$", "\u00a3", "\u00a5", "#", "\u201c"}),
    joins_both=frozenset({"/", "\u2014", "@-@", "@,@", "@.@"}),
    joins_numbers=frozenset({"\u2013"}),
    repeats=frozenset({"="}),
    quotes=frozenset({'"'}),
    clitic=re.compile(r"'[^\W_]+"),
)
"""Moses-like tokens of WikiText (Merity et al. 2016): `@-@`, `@,@`, `@.@` inside words and numbers, `'s` split off."""

CLITIC = r"(?:n't|'(?:s|re|ve|ll|d|m))"
"""What the Penn Treebank cuts off the end of a word."""

SUFFIX = rf"(?:{CLITIC}|')"
"""A clitic, or the apostrophe of a plural's genitive."""

BRACKETS = {"(": "-LRB-", ")": "-RRB-", "[": "-LSB-", "]": "-RSB-", "{": "-LCB-", "}": "-RCB-"}
"""The Penn Treebank's names of brackets."""

TREEBANK_PAIRS = frozenset({("can", "not"), ("gon", "na"), ("wan", "na"), ("got", "ta"), ("gim", "me"), ("lem", "me")})
"""Words that the Penn Treebank cuts in two: `gon na`."""

PENN_TREEBANK = Detokenizer(
    pattern=re.compile(
        rf"""
          [a-z]*[$#] (?=[N<\d])                              # hk$, us$
        | {SUFFIX} (?={SUFFIX}* $)
        | ^can (?=not$) | ^(?:gon|wan) (?=na$) | ^got (?=ta$) | ^(?:gim|lem) (?=me$)
        | .+? (?={SUFFIX}* $)
        """,
        re.VERBOSE | re.DOTALL,
    ),
    joins_left=frozenset({"'"}),  # without punctuation it is always the genitive of a plural
    joins_right=frozenset({"$", "hk$", "us$", "c$", "a$", "s$", "#"}),
    pairs=TREEBANK_PAIRS,
    clitic=re.compile(CLITIC),
)
"""Lower-case words of the Penn Treebank without punctuation (Mikolov et al. 2010): `was n't`, `$ N`, `<unk> 's`."""

ONE_BILLION_WORDS = Detokenizer(
    pattern=re.compile(
        r"""
          (?<!\w) (?:Adm|Adj|Art|Asst|Bart|Bldg|Brig|Bros|Capt|Cmdr|Co|Col|Comdr|Con|Corp|Cpl|Dr|Drs|Ens|Gen|Gov|Hon
            |Hosp|Inc|Insp|Jr|Lt|Ltd|Maj|Messrs|Mlle|Mme|Mr|Mrs|Ms|Msgr|No|Nos|Op|Pfc|Ph|Prof|Pvt|Rep|Reps|Res|Rev|Rt
            |Sen|Sens|Sgt|Sr|St|Supt|Surg|v|vs) \. (?![\w,)])
        | (?<![\w.]) (?: [^\W\d_]\. )+ (?!\w)                # initials, U.S., p.m.
        | (?<=[^\W_]) '[^\W\d_]+                             # 's, 't, 'Brien
        | (?: \w | - | (?<=\d) [.,] (?=\d) | (?<=[^\W_]) \. (?=[^\W_]) )+  # words, 1,000, 30-7, Amazon.com
        | \.{2,}
        | .
        """,
        re.VERBOSE | re.DOTALL,
    ),
    joins_left=frozenset({",", ".", ";", ":", "?", "!", "%", ")", "]", "...", "\u00b0", "\u201d"}),
    joins_right=frozenset({"(", "[", "$", "\u00a3", "\u20ac", "#", "\u201c"}),
    joins_both=frozenset({"/"}),
    joins_numbers=frozenset({":"}),
    quotes=frozenset({'"', "'"}),
    cut_quotes=frozenset({'"'}),
    clitic=re.compile(r"'[^\W\d_]+"),
)
"""Moses tokens of the One Billion Word Benchmark (Chelba et al. 2013): `don 't`, `" quotes "`, `( Reuters )`."""

CBT = Detokenizer(
    pattern=re.compile(
        rf"""
          (?P<bracket> [()\[\]{{}}] )
        | (?: ^ | (?<=["'(\[-]) ) '(?:em|til|cause|n|tis|twas) (?!\w)
        | ^ (?:{CLITIC} | '+) $                              # alone, for want of a word before
        | (?P<opening> (?: ^ | (?<=["'(\[-]) ) ["'] (?=[\w"'.$(\[-]) )
        | (?P<closing> " )
        | (?<=\w) {CLITIC} (?!\w)
        | (?<!\w) (?: can (?=not(?!\w)) | (?:gon|wan) (?=na(?!\w)) | got (?=ta(?!\w)) | (?:gim|lem) (?=me(?!\w)) )
        | (?<!\w) (?:Mr|Mrs|Ms|Messrs|Dr|St|Prof|Rev|Hon|Esq|Capt|Col|Gen|Lt|Sgt|Jr|Sr|vs|etc|Co|Inc|Ltd)\. (?!\w)
        | (?<![\w.]) (?!I\.(?!\w)) (?:[^\W\d_]\.)+ (?!\w)    # initials, U.S., a.m.; but "said I" before a full stop
        | (?: (?!{CLITIC}(?!\w))                             # words: to-day, o'clock, 1,000, 1\/2
              (?: \w | (?<=\d) [.,:] (?=\d) | (?<=\w) (?: ['\u2019/&-] | \\/ ) (?=\w) ) )+
        | [?!]+ | \.{{2,}} | -{{2,}} | \*+
        | .
        """,
        re.VERBOSE | re.DOTALL | re.IGNORECASE,
    ),
    marks={
        "opening": {'"': "``", "'": "`"},
        "closing": {'"': "''"},
        "bracket": BRACKETS,
    },
    joins_left=frozenset({",", ".", ";", ":", "?", "!", "?!", "!?", "!!", "!!!", "%", "...", "'", "''"})
    | frozenset({"-RRB-", "-RSB-", "-RCB-"}),
    joins_right=frozenset({"``", "`", "-LRB-", "-LSB-", "-LCB-", "$", "#", "\u00a3"}),
    joins_both=frozenset({"--"}),  # as the books of Project Gutenberg are printed
    pairs=TREEBANK_PAIRS,
    clitic=re.compile(CLITIC, re.IGNORECASE),
)
"""Penn Treebank tokens of the Children's Book Test (Hill et al. 2015): ``` `` ```, `''`, `-LRB-`, `ca n't`."""
