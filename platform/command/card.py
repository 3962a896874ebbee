"""The card of a corpus of `ladder corpus webtext`, for `ladder corpus show` and for the build itself."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from upath import UPath

if TYPE_CHECKING:
    from ladder.platform.corpus.store import Corpus


def card_of(
    corpus: "Corpus", storage: UPath, *, domains: str | None, benchmarks: Sequence[str]
) -> dict[str, Any] | None:
    """The card that stands in the corpus' folder, made again where something is asked for or it is absent.

    None for a corpus that has none. InputError where something is asked of such a corpus.
    """
    if not (corpus.folder / "stages.json").exists() and domains is None and not benchmarks:
        return None
    from ladder.platform.corpus.webtext.card import CARD
    from ladder.platform.storage import read_json

    if domains is None and not benchmarks:
        card = read_json(corpus.folder / CARD)
        if isinstance(card, dict) and card.get("fingerprint") == corpus.fingerprint:
            return card
    return prepare_card(storage, domains=domains, benchmarks=benchmarks)(corpus)


def prepare_card(
    storage: UPath, *, domains: str | None, benchmarks: Sequence[str]
) -> "Callable[[Corpus], dict[str, Any]]":
    """What makes the card of a corpus, writes it into the corpus' folder and gives its numbers.

    InputError for an unknown benchmark or a file that holds no domains: now, not when the corpus is built.
    """
    from ladder.platform.corpus.webtext.card import make_card, write_card
    from ladder.platform.corpus.webtext.card_overlap import overlap_with
    from ladder.platform.corpus.webtext.domains import read_published

    published = None if domains is None else read_published(UPath(domains))
    overlap = None
    if benchmarks:
        overlap = overlap_with(storage, benchmarks)

    def make(corpus: "Corpus") -> dict[str, Any]:
        card = make_card(corpus, published=published, overlap=overlap)
        write_card(corpus, card)
        return card

    return make


def print_card(corpus: "Corpus", card: dict[str, Any]) -> None:
    """The funnel and the main numbers, on standard output."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("step")
    table.add_column("in", justify="right")
    table.add_column("out", justify="right")
    table.add_column("left out")
    for step in card["funnel"]:
        reasons = ", ".join(f"{why.replace('_', ' ')} {n:,}" for why, n in step["reasons"].items())
        table.add_row(step["name"], f"{step['entered']:,}", f"{step['left']:,}", reasons)
    Console().print(table)
    leakage = card["leakage"][0]
    click.echo(
        f"Held-out documents with a training document of similarity {leakage['similarity']} or more: "
        f"{leakage['documents']:,} ({100 * leakage['share']:.1f} %)"
    )
    webtext = card["domains"]["webtext"]
    if webtext is not None and webtext["rank_correlation"] is not None:
        click.echo(
            f"Domains: {webtext['known']:,} of {webtext['compared']:,} names are WebText's, "
            f"rank correlation {webtext['rank_correlation']:.2f}"
        )
    click.echo(f"Card: {corpus.folder / 'card.html'}")
