"""`ladder corpus webtext`: from Reddit's links and web archives to a corpus."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.tokenizer import TOKENIZERS
from ladder.platform.command.card import prepare_card
from ladder.platform.command.options import benchmarks_option, echo_json, json_option, storage_option

if TYPE_CHECKING:
    from ladder.platform.corpus.webtext.pipeline import WebtextOptions

LISTS = ("--submissions", "--urls", "--pages", "--index")


class _Lists(click.Command):
    """A command whose options LISTS take all names up to the next option, as a shell expands `RS_*.zst`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        spread, option = [], None
        for argument in args:
            if argument.startswith("-"):
                option = argument if argument in LISTS else None
                after = 0
                spread.append(argument)
                continue
            after = after + 1 if option else 0
            spread += [option, argument] if option and after > 1 else [argument]
        return super().parse_args(ctx, spread)


@click.command("webtext", cls=_Lists, short_help="Build a corpus from Reddit's links and web archives.")
@click.argument("name")
@click.option("--submissions", multiple=True, metavar="FILES...", help="Dumps RS_*.zst (.xz, .bz2, .gz, plain).")
@click.option("--urls", multiple=True, metavar="FILES...", help="Lists of URLs: .txt, .tsv, .csv, .jsonl, .parquet.")
@click.option("--pages", multiple=True, metavar="FILES...", help="Archives .warc.gz, or texts .jsonl(.zst), .parquet.")
@click.option("--index", multiple=True, metavar="FILES...", help="CDXJ or columnar index, instead of whole archives.")
@click.option("--archive-root", default="", metavar="URI", help="Stands before the archives' names in an index.")
@click.option("--stage", metavar="STAGE", help="Run one alone: links, pages, text, duplicates or corpus.")
@click.option("--karma", default="max", show_default=True, help="Of a URL: max or sum over its submissions.")
@click.option("--min-karma", default=3, show_default=True, help="Lowest karma that stays.")
@click.option(
    "--before", default="2018-01-01", show_default=True, help="Leave out links of this day and later; or none."
)
@click.option("--over-18", is_flag=True, help="Keep links marked as not safe for work.")
@click.option(
    "--rules", metavar="FILE", help="Rules for domains, extensions, subreddits.  [default: ladder's rules.tsv]"
)
@click.option(
    "--extractor",
    default="trafilatura",
    show_default=True,
    help="trafilatura, resiliparse (faster) or module:function.",
)
@click.option("--language", multiple=True, metavar="CODE", help="Keep texts in this language.  [default: all]")
@click.option("--quality", multiple=True, metavar="SET", help="Leave out by gopher or fineweb rules.  [default: none]")
@click.option("--min-words", default=0, show_default=True, help="Fewest words of a document.")
@click.option("--near-duplicates", default="0.8", show_default=True, metavar="J", help="Jaccard similarity, or none.")
@click.option("--tokenizer", default="gpt2", show_default=True, metavar="NAME", help=" or ".join(TOKENIZERS) + ".")
@click.option("--heldout", default=0.05, show_default=True, help="Share of documents to hold out, by hash.")
@click.option("--heldout-by", default="url", show_default=True, help="Hash of the url or of the text.")
@click.option("--licence", metavar="TEXT", help="What the corpus says of its licence.")
@click.option("--processes", type=int, help="Processes at once.  [default: one a core]")
@click.option("--webtext-domains", metavar="FILE", help="OpenAI's published domains.txt, for the card.")
@benchmarks_option("Benchmarks whose overlap the card shows, or all.")
@click.option("--pages-at-once", default=500, show_default=True, help="Pages that a process takes at once.")
@click.option("--address", help="A Ray cluster (auto, local, host:port) for large stages.  [default: without Ray]")
@click.option("--overwrite", is_flag=True, help="Replace a corpus of the same name.")
@storage_option
@json_option
def command(name: str, storage: UPath, stage: str | None, as_json: bool, **given: Any) -> None:
    """Build corpus NAME from Reddit's links and web archives, as the GPT-2 paper made WebText.

    Stages: links (karma, domains, each URL once), pages (where each page lies in the archives), text (extracted,
    measured, filtered), duplicates (equal and nearly equal texts), corpus (tokenized, split, described). Each keeps a
    folder under webtext/NAME in the storage; the next run goes on where this one ended.

    \b
    Examples:
      ladder corpus webtext web --submissions RS_2017-*.zst --pages CC-*.warc.gz
      ladder corpus webtext web --urls links.tsv --index cdx-*.parquet \\
          --archive-root s3://commoncrawl/
      ladder corpus webtext web --submissions RS_2017-*.zst --stage links \\
          --karma sum
    """
    from ladder.platform.corpus.webtext.pipeline import run_webtext
    from ladder.platform.corpus.webtext.stages import open_stage

    start = time.monotonic()
    make_card = prepare_card(storage, domains=given["webtext_domains"], benchmarks=given["benchmarks"])
    corpus = run_webtext(storage, name, _options(given), stage)
    if corpus is None:
        assert stage is not None
        done = open_stage(storage / "webtext" / name / stage)
        if as_json:
            echo_json({"corpus": name, "stage": stage} | done)
            return
        click.echo(f"Stage {stage} of {name}:")
        for reason, n in sorted(done["counts"].items(), key=lambda item: -item[1]):
            click.echo(f"  {n:>12,}  {reason}")
        _echo_errors(done["errors"])
        return
    make_card(corpus)
    if as_json:
        echo_json({**corpus.to_json(), "path": str(corpus.folder), "seconds": time.monotonic() - start})
        return
    documents = ", ".join(f"{split.documents:,} {side}" for side, split in corpus.splits.items())
    click.echo(f"Corpus {name} in {corpus.folder}: documents {documents}")
    click.echo(f"Fingerprint: {corpus.fingerprint}")
    click.echo(f"Built in {time.monotonic() - start:.1f} s; its card: {corpus.folder / 'card.html'}")


def _options(given: dict[str, Any]) -> "WebtextOptions":
    from ladder.platform.corpus.build import BuildOptions
    from ladder.platform.corpus.webtext.corpus import CorpusOptions
    from ladder.platform.corpus.webtext.duplicates import DuplicateOptions
    from ladder.platform.corpus.webtext.engine import Execution
    from ladder.platform.corpus.webtext.extraction import ExtractionOptions
    from ladder.platform.corpus.webtext.filters import FilterOptions
    from ladder.platform.corpus.webtext.links import LinkOptions
    from ladder.platform.corpus.webtext.pipeline import WebtextOptions
    from ladder.platform.corpus.webtext.rules import load_rules
    from ladder.platform.corpus.webtext.text import TextOptions

    build = BuildOptions(
        tokenizer=given["tokenizer"],
        heldout=given["heldout"],
        workers=given["processes"],
        overwrite=given["overwrite"],
    )
    licence = {} if given["licence"] is None else {"licence": given["licence"]}
    return WebtextOptions(
        submissions=_expand(given["submissions"], "--submissions"),
        urls=_expand(given["urls"], "--urls"),
        pages=_expand(given["pages"], "--pages"),
        index=_expand(given["index"], "--index"),
        archive_root=given["archive_root"],
        links=LinkOptions(
            score=given["karma"],
            min_score=given["min_karma"],
            before=None if given["before"] == "none" else given["before"],
            over_18=given["over_18"],
            rules=load_rules(None if given["rules"] is None else UPath(given["rules"])),
        ),
        text=TextOptions(
            extraction=ExtractionOptions(extractor=given["extractor"]),
            filters=FilterOptions(languages=given["language"], quality=given["quality"], min_words=given["min_words"]),
        ),
        duplicates=DuplicateOptions(threshold=_threshold(given["near_duplicates"])),
        corpus=CorpusOptions(build=build, heldout_by=given["heldout_by"], **licence),
        pages_of_a_part=given["pages_at_once"],
        execution=Execution(workers=given["processes"], address=given["address"]),
    )


def _threshold(value: str) -> float | None:
    if value == "none":
        return None
    try:
        return float(value)
    except ValueError as error:
        raise InputError(f"got --near-duplicates {value!r}, wanted a similarity such as 0.8, or none") from error


def _expand(names: Sequence[str], option: str) -> list[UPath]:
    """The files of names; `*` and `?` in a name that the shell left are expanded. InputError where there is none."""
    import fsspec

    files: list[UPath] = []
    for name in names:
        try:
            if not set("*?[") & set(name):
                files.append(UPath(name))
                continue
            filesystem, pattern = fsspec.core.url_to_fs(name)
            found = [UPath(filesystem.unstrip_protocol(path)) for path in sorted(filesystem.glob(pattern))]
        except (OSError, ImportError, ValueError) as error:
            raise InputError(f"{option}: cannot read {name}: {error}") from error
        if not found:
            raise InputError(f"{option}: no file is called like {name}")
        files += found
    repeated = sorted({str(file) for file in files if files.count(file) > 1})
    if repeated:
        raise InputError(f"{option}: given more than once: {', '.join(repeated)}; name each file once")
    for file in files:
        if not file.exists():
            raise InputError(f"{option}: no such file: {file}")
    return files


def _echo_errors(errors: Sequence[str]) -> None:
    for error in errors[:10]:
        click.echo(f"  {error}", err=True)
    if len(errors) > 10:
        click.echo(f"  and {len(errors) - 10} more, in stage.json", err=True)
