"""The sweep that a command is about: the file, the corpus it runs on, and what the command line changes of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import click
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus import pydocs
from ladder.platform.corpus.store import Corpus, has_corpus, open_corpus
from ladder.sweeps.expand import CorpusFacts, expand
from ladder.sweeps.load import load_sweep
from ladder.sweeps.words import Execution, Run, Sweep

GPT2_VOCABULARY = 50_257
"""Classes assumed in a dry run before the corpus is built."""

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A sweep and the runs that it comes to."""

    sweep: Sweep
    """The sweep, with the command line's changes."""
    runs: tuple[Run, ...]
    """Its runs."""
    corpus: Corpus | None
    """Its corpus; None in a dry run before the corpus is built."""


def corpus_option(function: Function) -> Function:
    """`--corpus`, which makes another sweep of it: SWEEP-CORPUS."""
    return click.option("--corpus", help="Another corpus than the sweep's own; the sweep is then called SWEEP-CORPUS.")(
        function
    )


def choose(name_or_file: str, storage: UPath, corpus: str | None, *, dry: bool = False) -> Chosen:
    """The sweep asked for; the embedded corpus is built at its first use.

    A dry run goes on without a corpus, assuming the GPT-2 tokenizer.
    """
    sweep = load_sweep(name_or_file)
    if corpus is not None and corpus != sweep.corpus:
        sweep = replace(sweep, corpus=corpus, name=f"{sweep.name}-{corpus}")
    opened = _open(sweep, storage, dry)
    if opened is None:
        facts = CorpusFacts(name=sweep.corpus, vocabulary=GPT2_VOCABULARY, fingerprint=None)
    else:
        facts = CorpusFacts(name=opened.name, vocabulary=opened.vocabulary, fingerprint=opened.fingerprint)
    return Chosen(sweep=sweep, runs=expand(sweep, facts), corpus=opened)


def _open(sweep: Sweep, storage: UPath, dry: bool) -> Corpus | None:
    if sweep.corpus == pydocs.NAME:
        return pydocs.ensure_corpus(storage, pydocs.NAME)
    if dry and not has_corpus(storage, sweep.corpus):
        return None
    return open_corpus(storage, sweep.corpus)


def execution_options(function: Function) -> Function:
    """Options that change how runs are carried out; each is handed on only where it was given."""
    options = [
        click.option("--workers", type=int, help="Training processes of one run."),
        click.option("--cpus-per-worker", type=int, help="Cores and threads of a worker."),
        click.option("--gpus-per-worker", type=float, help="0, 1 or a fraction.  [default: 1 where there are GPUs]"),
        click.option("--accelerator-type", help="GPU to run on, by Ray's name, such as H100.  [default: any]"),
        click.option("--concurrent-runs", type=int, help="Runs at one time.  [default: as many as there is room for]"),
        click.option("--micro-batch-tokens", type=int, help="Tokens through the network at once."),
        click.option("--attention", help="auto, xformers, blocked, sdpa or reference."),
        click.option("--compile/--no-compile", default=None, help="Whether to use torch.compile."),
        click.option("--checkpoint-seconds", type=float, help="Training time between checkpoints."),
        click.option("--keep-checkpoints", type=int, help="Checkpoints kept of a run, the newest."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def with_execution(sweep: Sweep, given: dict[str, Any]) -> Sweep:
    """The sweep with the execution options that were given in place of what its rule says of them."""
    changes = {name: value for name, value in given.items() if value is not None}
    unknown = changes.keys() - Execution.__dataclass_fields__.keys()
    if unknown:
        raise InputError(f"unknown execution options: {', '.join(sorted(unknown))}.")
    if not changes:
        return sweep
    return replace(sweep, execution=lambda size: replace(sweep.execution_for(size), **changes))
