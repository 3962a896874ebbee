"""What the shell completes: names of benchmarks, sweeps and corpora, found without a heavy import."""

from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem

from ladder.platform.evaluation.names import BENCHMARK_NAMES, GROUP_NAMES


def complete_benchmarks(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names and groups of benchmarks; after a comma the next of a list."""
    before, comma, word = incomplete.rpartition(",")
    taken = before.split(",")
    names = [name for name in (*BENCHMARK_NAMES, *GROUP_NAMES) if name not in taken]
    return [
        *_items(before + comma + name for name in names if name.startswith(word)),
        *([] if comma else _files(incomplete)),
    ]


def complete_sweeps(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the sweeps that come with ladder, and files."""
    from ladder.sweeps.load import known_sweeps

    return [*_items(name for name in known_sweeps() if name.startswith(incomplete)), *_files(incomplete)]


def complete_corpora(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the corpora in a storage that is a folder; one in a bucket is not asked."""
    from pathlib import Path

    storage = str(context.params.get("storage") or "./storage")
    folder = Path(storage.removeprefix("file://")) / "corpora"
    there = sorted(path.parent.name for path in folder.glob("*/corpus.json")) if "://" not in storage else []
    return _items(name for name in there if name.startswith(incomplete))


def _items(words: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words]


def _files(incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")] if incomplete else []
