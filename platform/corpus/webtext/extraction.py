"""Text from HTML: trafilatura (fast) by default, resiliparse where speed counts more, or a function of your own.

Measured on 181 hand-made articles (`bench/webtext.py`): trafilatura fast F1 .962, resiliparse .927 at eight times
the speed. What a page gives depends on its bytes alone: limits are in bytes, never in seconds, and trafilatura's
`deduplicate`, which remembers earlier pages, stays off. trafilatura crashes with threads: one process a worker.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext.archives import Page
from ladder.platform.corpus.webtext.packages import import_web, version_of

EXTRACTORS = ("trafilatura", "resiliparse")
Extractor = Callable[[str | bytes, str], str | None]
"""From a page and its URL to its text; None or "" where it has none. Bytes are of unknown encoding."""


@dataclass(frozen=True, kw_only=True)
class ExtractionOptions:
    """How pages become text."""

    extractor: str = "trafilatura"
    """`trafilatura`, `resiliparse`, or `module:function` of your own (str or bytes, URL -> text)."""
    max_html_bytes: int = 5_000_000
    """Larger pages are left out: some take minutes and gigabytes."""
    max_text_bytes: int = 1_000_000
    """Larger texts, in UTF-8, are left out: they are lists, logs and data."""

    def __post_init__(self) -> None:
        if self.extractor not in EXTRACTORS and ":" not in self.extractor:
            raise InputError(f"got --extractor {self.extractor!r}, wanted {', '.join(EXTRACTORS)} or module:function")

    def to_json(self) -> dict[str, object]:
        """The options as a recipe records them, with the versions of the libraries that decide about a text.

        InputError if one of them is not installed.
        """
        libraries = {
            "trafilatura": ("trafilatura", "lxml", "justext", "htmldate", "courlan", "charset-normalizer"),
            "resiliparse": ("resiliparse",),
        }.get(self.extractor, ())
        versions = {name: version_of(name) for name in ("fastwarc", "resiliparse", *libraries)}
        return {**vars(self), "versions": versions}


def load_extractor(name: str) -> Extractor:
    """The extractor of this name; InputError if it cannot be imported."""
    return _load(name)


@cache
def _load(name: str) -> Extractor:
    if name == "trafilatura":
        return _trafilatura()
    if name == "resiliparse":
        return _resiliparse()
    module, _, function = name.partition(":")
    try:
        own: Extractor = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise InputError(f"cannot import the extractor {name!r}: {error}; wanted module:function") from error
    return own


def _trafilatura() -> Extractor:
    module = import_web("trafilatura", "extracting text")

    def extract(body: str | bytes, url: str) -> str | None:
        text = module.extract(body, fast=True, include_comments=False)
        assert text is None or isinstance(text, str)
        return text

    return extract


def _resiliparse() -> Extractor:
    html2text = import_web("resiliparse.extract.html2text", "extracting text")
    encoding = import_web("resiliparse.parse.encoding", "extracting text")

    def extract(body: str | bytes, url: str) -> str | None:
        html = body
        if isinstance(body, bytes):
            html = encoding.bytes_to_str(body, encoding.detect_encoding(body, from_html_meta=True))
        text = html2text.extract_plain_text(
            html, main_content=True, preserve_formatting=True, alt_texts=False, comments=False, list_bullets=False
        )
        assert isinstance(text, str)
        return text

    return extract


class ParserFailed(Exception):
    """The extractor raised something on a page."""


def extract_text(page: Page, url: str, options: ExtractionOptions) -> tuple[str, str | None]:
    """The text of a page and why it has none: too_much_html, empty_page, not_html, no_text, too_much_text, or None.

    Raises ParserFailed where the parser fails on this page; one that takes the process with it is for `workers.py`.
    """
    extract = load_extractor(options.extractor)
    if len(page.body) > options.max_html_bytes:
        return "", "too_much_html"
    if not page.body.strip():
        return "", "empty_page"
    if b"<" not in page.body[:100_000]:
        return "", "not_html"
    try:
        text = extract(decode(page), url) or ""
    except Exception as error:  # whatever a parser raises for an odd page costs that page alone, and is reported
        raise ParserFailed(f"the parser failed ({type(error).__name__}: {str(error)[:200]})") from error
    # lxml may hand on half a surrogate pair, which no file can hold.
    text = text.encode("utf-8", "replace").decode("utf-8").strip()
    if not text:
        return "", "no_text"
    if len(text.encode()) > options.max_text_bytes:
        return "", "too_much_text"
    return text, None


def decode(page: Page) -> str | bytes:
    """The page as text where its bytes are valid UTF-8, or valid in the charset that the server named; else the bytes,
    for the extractor to guess: servers often name their default charset for pages in another."""
    for charset in ("utf-8-sig", page.charset):
        if charset is not None:
            try:
                return page.body.decode(charset)
            except (UnicodeError, LookupError):
                continue
    return page.body
