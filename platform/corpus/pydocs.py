"""The embedded corpus `pydocs`: English prose that every Python carries, so that a first sweep needs no download.

Pages are the language reference in `pydoc_data.topics` and, module by module, the docstrings of the standard library
and of the packages that ladder itself is installed with. Sources are read, never imported. Only the paragraphs that
read as prose stay, each the first time it comes. One environment always gives the same pages.
"""

import importlib.util
import inspect
import os
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from upath import UPath

from ladder.platform.corpus.build import BuildOptions, build_from_records
from ladder.platform.corpus.documents import Document, Record
from ladder.platform.corpus.staging import FolderExistsError
from ladder.platform.corpus.store import Corpus, has_corpus, open_corpus

NAME = "pydocs"
# Dependencies of ladder, or of these, with much prose; in the order of their pages.
PACKAGES = (
    *("numpy", "scipy", "pandas", "sklearn", "networkx", "matplotlib"),
    *("sqlalchemy", "polars", "sympy", "torch", "ray", "mlflow"),
)
SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "testing", "_vendor", "site-packages", "idlelib", "lib2to3", "turtledemo"}
)
# A page must hold paragraphs; a module with less has only labels to say.
PAGE_CHARACTERS = 600
PARAGRAPH_CHARACTERS = 60
# Of prose, nearly all characters are letters, spaces and stops; of code, tables and formulas fewer.
PROSE_SHARE = 0.97

# Ten times faster than to parse the source, and it finds documentation that is not in a docstring's place (torch has
# much). The strings that hold none, such as queries, do not read as prose.
STRING = re.compile(r"(\"\"\"|''')(.*?)(?<!\\)\1", re.DOTALL)
ROLE = re.compile(r":[a-z:+]+:`[~!]?([^`<]*)(?: <[^`]*>)?`")
QUOTES = re.compile(r"``?|\*\*?(?=\w)|(?<=\w)\*\*?")
UNDERLINE = re.compile(r"^\s*([-=~^\"'*#])\1{2,}\s*$", re.MULTILINE)
# What is not prose: examples, directives, lists, and the headings of argument lists.
CODE = re.compile(
    r"^\s*(>>>|\.\.\.|\.\. |[-*+|:@] ?\S|\d+[.)] )"
    r"|^\s*(Args|Arguments|Parameters|Returns?|Raises|Yields|Examples?|Shape)\b:"
    r"|\\|::|->|==",
    re.MULTILINE,
)
NOT_PROSE = re.compile(r"[^\w .,;'\"-]|[_\d]")
SENTENCE = re.compile(r"[A-Z\"(].*[.!?:\")]$")


def ensure_corpus(storage: UPath, name: str, *, tokenizer: str = "bytes") -> Corpus:
    """The corpus of this name, built now if it is `pydocs` and not there yet; InputError as `open_corpus`."""
    if name == NAME and not has_corpus(storage, name):
        try:
            build_pydocs(storage, BuildOptions(tokenizer=tokenizer))
        except FolderExistsError:
            pass  # another process built it meanwhile
    return open_corpus(storage, name, tokenizer=tokenizer)


def build_pydocs(storage: UPath, options: BuildOptions) -> Corpus:
    """Builds the corpus `pydocs`; InputError as `build_corpus`."""
    source = "documentation of the standard library and of " + ", ".join(_installed_packages())
    return build_from_records(storage, NAME, _records(), source=source, n_bytes=None, options=options)


def pydocs_documents() -> Iterator[Document]:
    """The pages, in an order that depends on nothing but the environment."""
    seen: set[str] = set()
    for source, texts in _sources():
        paragraphs = []
        for paragraph in (paragraph for text in texts for paragraph in find_prose(text)):
            if paragraph not in seen:
                seen.add(paragraph)
                paragraphs.append(paragraph)
        page = "\n\n".join(paragraphs)
        if len(paragraphs) > 1 and len(page) >= PAGE_CHARACTERS:
            yield Document(text=page + "\n", source=source)


def find_prose(text: str) -> list[str]:
    """The paragraphs of a docstring that read as prose, each on one line and without markup."""
    blocks = re.split(r"\n\s*\n", UNDERLINE.sub("", text))
    paragraphs = (" ".join(_strip_markup(block).split()) for block in blocks if not CODE.search(block))
    return [paragraph for paragraph in paragraphs if _reads_as_prose(paragraph)]


def _strip_markup(text: str) -> str:
    return QUOTES.sub("", ROLE.sub(r"\1", text))


def _reads_as_prose(paragraph: str) -> bool:
    if len(paragraph) < PARAGRAPH_CHARACTERS or not SENTENCE.match(paragraph):
        return False
    return len(NOT_PROSE.sub("", paragraph)) >= PROSE_SHARE * len(paragraph)


def _records() -> Iterator[Record]:
    position = 0
    for document in pydocs_documents():
        data = document.text.encode("utf-8", errors="replace")
        position += len(data)
        yield Record(source=document.source, data=data, is_json=False, position=position)


def _sources() -> Iterator[tuple[str, list[str]]]:
    """Per page its name and the texts it is made of."""
    from pydoc_data.topics import topics  # late: most of a megabyte of text

    for topic in sorted(topics):
        yield f"topic {topic}", [topics[topic]]
    for name, folder in {"stdlib": Path(sysconfig.get_path("stdlib")), **_installed_packages()}.items():
        for file in _python_files(folder):
            yield f"{name}/{file.relative_to(folder)}", _read_strings(file)


def _installed_packages() -> dict[str, Path]:
    """The folders of those PACKAGES that are installed; finding one does not import it."""
    found = {name: importlib.util.find_spec(name) for name in PACKAGES}
    return {
        name: Path(spec.submodule_search_locations[0])
        for name, spec in found.items()
        if spec is not None and spec.submodule_search_locations
    }


def _python_files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - SKIPPED_FOLDERS)
        yield from (Path(place, file) for file in sorted(files) if file.endswith(".py"))


def _read_strings(file: Path) -> list[str]:
    """The triple-quoted strings of a source, in order, without their indentation."""
    return [inspect.cleandoc(match[2]) for match in STRING.finditer(file.read_text("utf-8", errors="replace"))]
