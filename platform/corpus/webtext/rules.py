"""Which links are left out by domain, extension, subreddit or part of the URL: one data file, a reason for each line.

The default list removes what WebText's own published domains show to be absent there (Reddit itself, hosts of images
and videos, social networks, Wikipedia), and nothing that they show to be present, mirrors of Wikipedia excepted. A
decision is named by the rule that made it, so that the card can count what each line removed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext.urls import host_of

DEFAULT = Path(__file__).with_name("rules.tsv")
KINDS = ("domain", "extension", "contains", "subreddit")


@dataclass(frozen=True, kw_only=True)
class UrlRules:
    """Rules read from one file, by kind."""

    reasons: Mapping[str, Mapping[str, str]]
    """Kind to pattern to the reason that the file gives."""
    sha256: str
    """sha256 (hex) of the file."""

    @cached_property
    def _contains(self) -> tuple[str, ...]:
        return tuple(self.reasons["contains"])

    def find(self, key: str) -> str | None:
        """The rule that leaves out a URL in its normal form, as `kind pattern`; None where it may stay.

        Domains come first, then extensions, then parts of the URL: a link is counted once.
        """
        domain = self._blocked_domain(host_of(key))
        if domain is not None:
            return f"domain {domain}"
        path = key.partition("?")[0].partition("/")[2]
        stem, dot, extension = path.rpartition(".")
        if dot and "/" not in extension and extension.lower() in self.reasons["extension"]:
            return f"extension {extension.lower()}"
        return next((f"contains {part}" for part in self._contains if part in key), None)

    def find_subreddit(self, subreddit: str) -> str | None:
        """The rule that leaves out a subreddit, whatever its case; None where it may stay."""
        name = subreddit.lower()
        return f"subreddit {name}" if name in self.reasons["subreddit"] else None

    def _blocked_domain(self, host: str) -> str | None:
        domains = self.reasons["domain"]
        while host not in domains:
            _, dot, host = host.partition(".")
            if not dot:
                return None
        return host


def load_rules(path: UPath | Path | None = None) -> UrlRules:
    """The rules of a file (None: ladder's own).

    The file is UTF-8 with three fields a line, separated by tabs: kind, pattern, reason; lines that start with # and
    empty lines are comments. InputError names file and line of anything else.
    """
    path = DEFAULT if path is None else path
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the rules for links {path}: {error}") from error
    reasons: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != 3 or fields[0] not in KINDS or not fields[1] or not fields[2]:
            raise InputError(
                f"{path}:{number}: got {line[:80]!r}, wanted a kind ({', '.join(KINDS)}), a pattern and a reason, "
                "separated by tabs"
            )
        kind, pattern, reason = fields
        reasons[kind][pattern if kind == "contains" else pattern.lower().removeprefix(".")] = reason
    return UrlRules(reasons=reasons, sha256=hashlib.sha256(data).hexdigest())
