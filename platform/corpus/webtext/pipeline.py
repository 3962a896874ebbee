"""From Reddit's links and web archives to a corpus: the stages in their order, each with its folder.

links -> pages -> text -> duplicates -> corpus. The folders are `webtext/<name>/<stage>` in storage; each stage reads
the folder of the one before and can be run alone. What is done already, of the same input by the same recipe, is not
done again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from upath import UPath

from ladder.models.errors import InputError
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.corpus.staging import FolderExistsError, locked_folder
from ladder.platform.corpus.store import Corpus, corpus_folder, has_corpus
from ladder.platform.corpus.webtext.corpus import CorpusOptions, build_webtext
from ladder.platform.corpus.webtext.duplicates import DuplicateOptions, find_duplicates
from ladder.platform.corpus.webtext.engine import Execution
from ladder.platform.corpus.webtext.links import LinkOptions, find_links
from ladder.platform.corpus.webtext.packages import import_web
from ladder.platform.corpus.webtext.pages import PageInputs, find_pages
from ladder.platform.corpus.webtext.stages import open_stage
from ladder.platform.corpus.webtext.text import PAGES_OF_A_PART, TextOptions, extract_texts

STAGES = ("links", "pages", "text", "duplicates", "corpus")
PACKAGES = ("msgspec", "fastwarc", "resiliparse", "tldextract")


@dataclass(frozen=True, kw_only=True)
class WebtextOptions:
    """A whole build."""

    submissions: Sequence[UPath] = ()
    """Dumps of Reddit's submissions."""
    urls: Sequence[UPath] = ()
    """Lists of URLs."""
    pages: Sequence[UPath] = ()
    """Web archives, or files of extracted texts."""
    index: Sequence[UPath] = ()
    """Indexes of web archives."""
    archive_root: str = ""
    """What stands before the names of archives in an index."""
    links: LinkOptions = field(default_factory=LinkOptions)  # it reads its rules
    """Which links are taken."""
    text: TextOptions = TextOptions()
    """How pages become documents."""
    duplicates: DuplicateOptions = DuplicateOptions()
    """What counts as a duplicate."""
    corpus: CorpusOptions = CorpusOptions()
    """How documents become a corpus."""
    execution: Execution = Execution()
    """Workers, and where."""
    pages_of_a_part: int = PAGES_OF_A_PART
    """Pages that a worker takes at once; no part of the result."""

    def __post_init__(self) -> None:
        if self.pages_of_a_part < 1:
            raise InputError(f"got {self.pages_of_a_part} pages at once, wanted at least 1")


def run_webtext(storage: UPath, name: str, options: WebtextOptions, stage: str | None = None) -> Corpus | None:
    """Runs all stages, or one; the corpus, or None where its stage was not asked for.

    InputError for anything wrong with the input; what was finished stays, and the next run goes on behind it.
    """
    if stage is not None and stage not in STAGES:
        raise InputError(f"got --stage {stage!r}, wanted one of {', '.join(STAGES)}")
    corpus_folder(storage, name)  # before any work: a name that cannot be one
    if stage in (None, "corpus"):
        if has_corpus(storage, name) and not options.corpus.build.overwrite:
            raise FolderExistsError(f"corpus {name!r} already exists in {storage}; give --overwrite to build it again")
        load_tokenizer(options.corpus.build.tokenizer)
    for package in PACKAGES:
        import_web(package, "ladder corpus webtext")
    run = _Run(storage / "webtext" / name, options)
    try:
        with locked_folder(run.folder):
            for each in STAGES[:-1] if stage is None else [each for each in STAGES[:-1] if each == stage]:
                getattr(run, each)()
            if stage in (None, "corpus"):
                return build_webtext(storage, name, run.folders(), run.done(), options.corpus)
    except OSError as error:  # inputs name themselves; what is left is the storage
        remedy = "free some space, or choose another place with --storage; the next run goes on where this one ended"
        raise InputError(f"cannot write {run.folder}: {error.strerror or error}; {remedy}") from error
    return None


class _Run:
    """The stages of one corpus' folder."""

    def __init__(self, folder: UPath, options: WebtextOptions) -> None:
        self.folder = folder
        self._options = options

    def folders(self) -> dict[str, UPath]:
        """The folder of each stage."""
        return {name: self.folder / name for name in STAGES[:-1]}

    def done(self) -> dict[str, Mapping[str, Any]]:
        """What the completed stages say of themselves; links are absent where every page was taken.

        InputError if one is older than the stage before it, whose rows it would then take for others.
        """
        linked = (self.folder / "links" / "stage.json").exists()
        done: dict[str, Mapping[str, Any]] = {
            name: open_stage(self.folder / name) for name in STAGES[:-1] if name != "links" or linked
        }
        before = None
        for name, stage in done.items():
            if name != "links" and stage["made_of"] != before:
                raise InputError(
                    f"the stage {name!r} in {self.folder} was not made of the stage before it as it is now; "
                    f"run it again: ladder corpus webtext {self.folder.name} --stage {name} ..."
                )
            before = stage["output_sha256"]
        return done

    def links(self) -> None:
        """Runs the first stage, unless texts are taken without links."""
        options = self._options
        if not options.submissions and not options.urls:
            if not options.pages or options.index or any(".warc" in str(file) for file in options.pages):
                raise InputError(
                    "no links: give --submissions RS_*.zst or --urls FILES; only texts that others extracted "
                    "(--pages with .jsonl or .parquet) are taken without"
                )
            (self.folder / "links" / "stage.json").unlink(missing_ok=True)
            return
        find_links(self.folder / "links", options.submissions, options.urls, options.links, options.execution)

    def pages(self) -> None:
        """Runs the second stage."""
        options = self._options
        links = self.folder / "links"
        linked = open_stage(links) if (links / "stage.json").exists() else None
        if linked is None and (not options.pages or any(".warc" in str(file) for file in options.pages)):
            open_stage(links)
        inputs = PageInputs(pages=options.pages, index=options.index, archive_root=options.archive_root)
        find_pages(self.folder / "pages", links if linked else None, linked, inputs, options.execution)

    def text(self) -> None:
        """Runs the third stage."""
        pages, options = self.folder / "pages", self._options
        extract_texts(
            self.folder / "text",
            pages,
            open_stage(pages),
            options.text,
            options.execution,
            pages_of_a_part=options.pages_of_a_part,
        )

    def duplicates(self) -> None:
        """Runs the fourth stage."""
        text = self.folder / "text"
        find_duplicates(self.folder / "duplicates", text, open_stage(text), self._options.duplicates)
