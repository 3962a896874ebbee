"""`ladder corpus`: documents to token shards, and what is in storage."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.tokenizer import TOKENIZERS
from ladder.platform.command.card import card_of, print_card
from ladder.platform.command.completion import complete_corpora
from ladder.platform.command.options import benchmarks_option, echo_json, json_option, refuse_stray, storage_option
from ladder.platform.command.webtext import command as webtext

if TYPE_CHECKING:
    from ladder.platform.corpus.store import Corpus


@click.group("corpus")
def command() -> None:
    """Turn documents into token shards, and see what is there.

    \b
    Examples:
      ladder corpus build web --input pages.jsonl.zst
      ladder corpus list
      ladder corpus show web
    """


command.add_command(webtext)


@command.command("build")
@click.argument("name")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="FILES...",
    help="Files or folders of .jsonl, .jsonl.zst, .jsonl.gz, .parquet (field `text`) or .txt (one document each).",
)
@click.argument("more_inputs", nargs=-1, metavar="")
@click.option("--tokenizer", default="gpt2", show_default=True, metavar="NAME", help=" or ".join(TOKENIZERS) + ".")
@click.option("--heldout", default=0.05, show_default=True, help="Share of documents to hold out, by hash.")
@click.option("--processes", type=int, help="Processes, or threads, that tokenize.  [default: one a core]")
@click.option("--text-field", default="text", show_default=True, metavar="NAME", help="Field or column with the text.")
@click.option("--licence", metavar="TEXT", help="Under which licence the documents come; the corpus records it.")
@click.option("--address", help="A Ray cluster (auto, local, host:port) for large inputs.  [default: without Ray]")
@click.option("--overwrite", is_flag=True, help="Replace a corpus of the same name.")
@storage_option
@json_option
def build(
    name: str,
    inputs: tuple[str, ...],
    more_inputs: tuple[str, ...],
    tokenizer: str,
    heldout: float,
    processes: int | None,
    text_field: str,
    licence: str | None,
    address: str | None,
    overwrite: bool,
    storage: UPath,
    as_json: bool,
) -> None:
    """Build corpus NAME from documents.

    Documents are split into training and held-out text by a hash of each, tokenized in parallel and written as shards.
    The name `pydocs` without --input builds the embedded corpus from Python's own documentation. Inputs may be URIs
    (hf://, s3://, https://), read as a stream; hf:// needs the extra `web`.

    \b
    Examples:
      ladder corpus build web --input pages/*.jsonl.zst
      ladder corpus build openwebtext --licence cc0-1.0 \\
          --input hf://datasets/Skylion007/openwebtext/plain_text/
      ladder corpus build letters --input texts/ --tokenizer bytes --heldout 0.1
    """
    from ladder.platform.corpus.build import BuildOptions, build_corpus
    from ladder.platform.corpus.documents import DocumentFields
    from ladder.platform.corpus.pydocs import NAME as EMBEDDED
    from ladder.platform.corpus.pydocs import build_pydocs

    start = time.monotonic()
    files = [*inputs, *more_inputs]
    if files:
        corpus = build_corpus(
            storage,
            name,
            files,
            tokenizer=tokenizer,
            heldout=heldout,
            workers=processes,
            overwrite=overwrite,
            fields=DocumentFields(text=text_field),
            licence=licence,
            address=address,
        )
    elif name == EMBEDDED:
        refuse_stray(("text_field", "licence", "address"), "read documents: give them with --input")
        options = BuildOptions(tokenizer=tokenizer, heldout=heldout, workers=processes, overwrite=overwrite)
        corpus = build_pydocs(storage, options)
    else:
        raise InputError(f"no input for corpus {name!r}; give --input FILES, or build {EMBEDDED!r}, which needs none")
    seconds = time.monotonic() - start
    if as_json:
        echo_json({**_describe(corpus), "seconds": seconds})
        return
    _print_corpus(corpus)
    tokens = sum(split.tokens for split in corpus.splits.values())
    click.echo(f"Built in {seconds:.1f} s, {tokens / seconds:,.0f} tokens/s.")


@command.command("list")
@storage_option
@json_option
def list_(storage: UPath, as_json: bool) -> None:
    """List the corpora in storage; one that is damaged says so.

    \b
    Example:
      ladder corpus list --storage s3://bucket/ladder
    """
    from ladder.platform.corpus.store import list_corpora

    rows = [_list_row(storage, name) for name in list_corpora(storage)]
    if as_json:
        echo_json(rows)
        return
    if not rows:
        click.echo(f"No corpora in {storage}; build one with: ladder corpus build NAME --input FILES")
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("corpus")
    table.add_column("tokenizer")
    table.add_column("train tokens", justify="right")
    table.add_column("held-out tokens", justify="right")
    for row in rows:
        if row["problem"] is None:
            table.add_row(row["name"], row["tokenizer"], f"{row['train_tokens']:,}", f"{row['heldout_tokens']:,}")
        else:
            table.add_row(row["name"], f"damaged: {row['problem']}", "", "")
    Console().print(table)


@command.command("show", short_help="Show what a corpus holds, and whether it is whole.")
@click.argument("name", shell_complete=complete_corpora)
@click.option("--verify", is_flag=True, help="Also read every shard and compare its sha256.")
@click.option("--webtext-domains", metavar="FILE", help="Make the card again, beside OpenAI's published domains.txt.")
@benchmarks_option("Make the card again, with the overlap of these benchmarks, or all.")
@storage_option
@json_option
def show(
    name: str, verify: bool, webtext_domains: str | None, benchmarks: Sequence[str], storage: UPath, as_json: bool
) -> None:
    """Show what corpus NAME holds, after checking that its shards are whole.

    A corpus of `ladder corpus webtext` has a card: what was left out and why, domains, languages, duplicates, leakage,
    samples. It is shown in short here and whole in card.html in the corpus' folder.

    \b
    Examples:
      ladder corpus show web --verify
      ladder corpus show web --benchmarks lambada,wikitext2
      ladder corpus show web --webtext-domains domains.txt
    """
    from ladder.platform.corpus.store import open_corpus

    corpus = open_corpus(storage, name)
    if verify:
        corpus.verify()
    card = card_of(corpus, storage, domains=webtext_domains, benchmarks=benchmarks)
    if as_json:
        echo_json({**_describe(corpus), "card": card} if card else _describe(corpus))
        return
    _print_corpus(corpus)
    if card:
        print_card(corpus, card)


def _describe(corpus: "Corpus") -> dict[str, Any]:
    return {**corpus.to_json(), "path": str(corpus.folder)}


def _list_row(storage: UPath, name: str) -> dict[str, Any]:
    from ladder.platform.corpus.store import open_corpus

    try:
        corpus = open_corpus(storage, name)
    except InputError as error:
        return {"name": name, "problem": str(error)}
    return {
        "name": name,
        "problem": None,
        "tokenizer": corpus.tokenizer,
        "documents": sum(split.documents for split in corpus.splits.values()),
        "train_tokens": corpus.splits["train"].tokens,
        "heldout_tokens": corpus.splits["heldout"].tokens,
        "fingerprint": corpus.fingerprint,
    }


def _print_corpus(corpus: "Corpus") -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("split")
    for title in ("documents", "tokens", "words", "bytes", "shards"):
        table.add_column(title, justify="right")
    for name, split in corpus.splits.items():
        counts = (split.documents, split.tokens, split.words, split.bytes, len(split.shards))
        table.add_row(name, *(f"{count:,}" for count in counts))
    train = corpus.splits["train"]
    click.echo(f"Corpus {corpus.name} in {corpus.folder}")
    click.echo(f"Source: {corpus.source}")
    click.echo(f"Tokenizer: {corpus.tokenizer}, {train.bytes / train.tokens:.2f} bytes a token")
    click.echo(f"Fingerprint: {corpus.fingerprint}")
    if corpus.licence:
        click.echo(f"Licence: {corpus.licence}")
    if corpus.duplicates or corpus.empty_documents:
        click.echo(f"{corpus.duplicates:,} duplicates kept, {corpus.empty_documents:,} empty documents left out")
    Console().print(table)
