"""Reddit's submission dumps, line by line: what one says of a link, in the types of any year.

`created_utc` is a number in most years and a string in 2014; `retrieved_on` is missing in some; `is_self` is not
enough to know a self post. Broken lines are counted and named, and reading goes on: dumps hold some, and runs of NUL
bytes. A file that is cut off or damaged as a whole is an InputError.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.compression import read_chunks
from ladder.platform.corpus.webtext.packages import import_web

if TYPE_CHECKING:
    from ladder.platform.corpus.webtext.submission import Submission

ERRORS_KEPT = 100
LONGEST_LINE = 1 << 24
"""Bytes; the longest submissions are below 1 MiB, and a longer run without a line end is damage."""


@dataclass(kw_only=True)
class LineErrors:
    """Lines that could not be read: all counted, the first ERRORS_KEPT named."""

    n: int = 0
    """How many."""
    first: list[str] = field(default_factory=list)
    """`file:line: reason` of the first."""

    def add(self, source: str, reason: str) -> None:
        """Counts one more."""
        self.n += 1
        if len(self.first) < ERRORS_KEPT:
            self.first.append(f"{source}: {reason}")


@dataclass(kw_only=True)
class LineCounts:
    """What the lines of a file were."""

    lines: int = 0
    """Lines."""
    empty: int = 0
    """Lines of nothing but white space."""
    errors: LineErrors = field(default_factory=LineErrors)
    """Lines that are no submission."""


def read_submissions(file: UPath, counts: LineCounts) -> "Iterator[list[Submission]]":
    """The submissions of a dump, in batches of one chunk, in order; `counts` is kept up to date on the way.

    InputError if the file cannot be read or its compressed data are damaged.
    """
    msgspec = import_web("msgspec", "reading submissions")
    from ladder.platform.corpus.webtext.submission import Submission  # late: it is of a package of the extra

    decode = msgspec.json.Decoder(Submission).decode
    # A line may hold half a surrogate pair or bytes that are no UTF-8: msgspec says so with one of these.
    trouble = (msgspec.MsgspecError, UnicodeError, RecursionError)
    for lines in _read_lines(file, counts):
        batch = []
        for number, line in enumerate(lines, counts.lines + 1):
            try:
                batch.append(decode(line))
            except trouble as error:
                if not line or line.isspace():
                    counts.empty += 1
                else:
                    counts.errors.add(f"{file}:{number}", f"no submission ({error}): {line[:60]!r}")
        counts.lines += len(lines)
        yield batch


def _read_lines(file: UPath, counts: LineCounts) -> Iterator[list[bytes]]:
    """The lines that each chunk ends, without their ends; at most a chunk and a line are held."""
    rest = b""
    dropped = False
    try:
        with file.open("rb") as stream:
            for chunk in read_chunks(stream, file):
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                if dropped and lines:  # the end of a line that was too long
                    lines[0], dropped = b"\0", False
                yield lines
                if len(rest) > LONGEST_LINE:
                    rest, dropped = b"", True
            if dropped:
                rest = b"\0"
            if rest:
                yield [rest]
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
