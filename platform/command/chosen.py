"""The sweep that a command is about: the file, the corpus it runs on, and what the command line changes of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.memory import STRATEGIES
from ladder.models.sizes import parse_size
from ladder.platform.command.completion import complete_corpora
from ladder.platform.gpus import gpu_named
from ladder.platform.identity import (
    check_schema,
    choose_precision,
    mark_schema,
    read_precision,
    record_precision,
    sweep_file,
)
from ladder.platform.training.strategy import check_sharing
from ladder.platform.tuning.found import read_found
from ladder.sweeps.expand import CorpusFacts, ResolvedPrecision, expand
from ladder.sweeps.load import load_sweep
from ladder.sweeps.tuned import Tuned, describe_rule
from ladder.sweeps.words import Execution, Run, Sweep

if TYPE_CHECKING:
    from ladder.platform.corpus.store import Corpus

GPT2_VOCABULARY = 50_257
"""Classes assumed in a dry run before the corpus is built."""

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A sweep and the runs that it comes to in a storage."""

    sweep: Sweep
    """The sweep, with the command line's changes."""
    runs: tuple[Run, ...]
    """Its runs."""
    corpus: "Corpus | None"
    """Its corpus; None in a dry run before the corpus is built."""
    precision: ResolvedPrecision
    """What the precision `auto` means in it."""
    precision_reason: str | None
    """Why it means that; None where the storage has it on record."""

    @property
    def executions(self) -> set[Execution]:
        """The ways in which its runs are carried out."""
        return {self.sweep.execution_for(run.size) for run in self.runs}


def corpus_option(function: Function) -> Function:
    """`--corpus`, which makes another sweep of it: SWEEP-CORPUS."""
    return click.option(
        "--corpus",
        metavar="NAME",
        shell_complete=complete_corpora,
        help="Another corpus than the sweep's own; the sweep is then called SWEEP-CORPUS.",
    )(function)


def budget_option(function: Function) -> Function:
    """`--budget-gpu-hours`."""
    return click.option(
        "--budget-gpu-hours",
        type=float,
        help="Launch no further run once the sweep has taken so many GPU-hours in all.  [default: no limit]",
    )(function)


def choose(
    name_or_file: str,
    storage: UPath,
    corpus: str | None,
    *,
    execution: Mapping[str, Any] | None = None,
    dry: bool = False,
    begun: bool = False,
    untuned: bool = False,
) -> Chosen:
    """The sweep asked for, with the execution options that were given; the embedded corpus is built at its first use.

    A dry run goes on without a corpus, assuming the GPT-2 tokenizer. Where the sweep is to have `begun`, no corpus is
    built: InputError where the storage has none, and so no run of it. A tuned recipe gets what its search found, or
    with `untuned` is the recipe underneath. Nothing is written into the sweep's folder.
    """
    check_schema(storage)
    sweep = with_execution(load_sweep(name_or_file), execution or {})
    if isinstance(sweep.recipe, Tuned):
        sweep = replace(sweep, recipe=sweep.recipe.base if untuned else with_found(sweep.recipe, storage))
    if corpus is not None and corpus != sweep.corpus:
        sweep = replace(sweep, corpus=corpus, name=f"{sweep.name}-{corpus}")
    if begun:
        _refuse_unbegun(sweep, storage)
    opened = _open(sweep, storage, dry)
    if opened is None:
        facts = CorpusFacts(name=sweep.corpus, vocabulary=GPT2_VOCABULARY, fingerprint=None)
    else:
        facts = CorpusFacts(name=opened.name, vocabulary=opened.vocabulary, fingerprint=opened.fingerprint)
    precision, reason = read_precision(storage, sweep.name), None
    if precision is None:
        precision, reason = choose_precision(executions(sweep, facts.vocabulary))
    runs = expand(sweep, facts, precision=precision)
    if not dry:
        check_memory(sweep, runs)
    return Chosen(sweep=sweep, runs=runs, corpus=opened, precision=precision, precision_reason=reason)


def check_memory(sweep: Sweep, runs: tuple[Run, ...]) -> None:
    """InputError where a run does not fit the GPU that it asks for by name, or cannot be shared out as it asks for; the
    others learn it on their device."""
    from ladder.platform.costs import refuse_too_large

    for run in runs:
        execution = sweep.execution_for(run.size)
        check_sharing(run, execution.strategy, execution.workers)
        gpu = None if execution.accelerator_type is None else gpu_named(execution.accelerator_type)
        if gpu is not None:
            refuse_too_large(run, execution, gpu)


def with_found(rule: Tuned, storage: UPath) -> Tuned:
    """A tuned recipe with what its search found; InputError where the storage has no such search."""
    found = read_found(storage, rule.search)
    if found is None:
        raise InputError(
            f"the recipe takes its learning rates from a search of sweep {rule.search}, and storage {storage} has "
            f"none. Run `ladder tune {rule.search}` first, or name the storage that has it."
        )
    return replace(rule, found=found)


def begin(
    name_or_file: str, storage: UPath, corpus: str | None, execution: Mapping[str, Any], *, untuned: bool = False
) -> Chosen:
    """The sweep asked for, about to be run: the storage now has the schema version and the sweep's precision on record.

    Whoever records the precision says so, once.
    """
    chosen = choose(name_or_file, storage, corpus, execution=execution, untuned=untuned)
    mark_schema(storage)
    if isinstance(chosen.sweep.recipe, Tuned):
        click.echo(f"recipe: {describe_rule(chosen.sweep.recipe)}.{_warn_of_corpus(chosen)}", err=True)
    if chosen.precision_reason is None:
        return chosen
    name, precision = chosen.sweep.name, chosen.precision
    if record_precision(storage, name, precision) != precision:  # another machine was first
        return choose(name_or_file, storage, corpus, execution=execution, untuned=untuned)
    click.echo(
        f"sweep {name}: the precision `auto` is {precision} from now on, since {chosen.precision_reason}; it is on "
        f"record in {sweep_file(storage, name)}. To have another, remove that file before anything is trained.",
        err=True,
    )
    return chosen


def _warn_of_corpus(chosen: Chosen) -> str:
    """Says where the learning rates were searched on other text."""
    rule, corpus = chosen.sweep.recipe, chosen.corpus
    assert isinstance(rule, Tuned) and rule.found is not None and corpus is not None, "a tuned sweep about to be run"
    if rule.found.corpus_fingerprint == corpus.fingerprint:
        return ""
    return f" The search was on another corpus than {corpus.name} as it is now; `ladder tune` searches on this one."


def executions(sweep: Sweep, vocabulary: int) -> set[Execution]:
    """The ways in which the runs of a sweep are carried out; InputError where one is wrong or a size is unknown."""
    names = dict.fromkeys(point.size for point in sweep.points)
    sizes = [parse_size(name, context=sweep.context, vocabulary=vocabulary) for name in names]
    return {sweep.execution_for(size) for size in sizes}


def _open(sweep: Sweep, storage: UPath, dry: bool) -> "Corpus | None":
    from ladder.platform.corpus import pydocs
    from ladder.platform.corpus.store import has_corpus, open_corpus

    if sweep.corpus == pydocs.NAME:
        return pydocs.ensure_corpus(storage, pydocs.NAME)
    if dry and not has_corpus(storage, sweep.corpus):
        return None
    return open_corpus(storage, sweep.corpus)


def _refuse_unbegun(sweep: Sweep, storage: UPath) -> None:
    from ladder.platform.corpus.store import has_corpus

    if not has_corpus(storage, sweep.corpus):
        raise InputError(
            f"sweep {sweep.name} has not begun in storage {storage}, which has no corpus {sweep.corpus}. Name the "
            "storage of its `ladder run` with --storage or LADDER_STORAGE."
        )


def execution_options(function: Function) -> Function:
    """Options that change how runs are carried out; each is handed on only where it was given."""
    options = [
        click.option("--workers", type=int, help="Training processes of one run.  [default: the sweep's]"),
        click.option("--cpus-per-worker", type=int, help="Cores and threads of a worker.  [default: the sweep's]"),
        click.option("--gpus-per-worker", type=float, help="0, 1 or a fraction.  [default: 1 where there are GPUs]"),
        click.option("--accelerator-type", help="GPU to run on, by Ray's name, such as H100.  [default: any]"),
        click.option(
            "--concurrent-runs",
            type=click.IntRange(min=1),
            help="Runs at one time.  [default: as many as there is room for]",
        ),
        click.option(
            "--micro-batch-tokens", type=int, help="Tokens through the network at once.  [default: what fits]"
        ),
        click.option("--attention", help="auto, xformers, blocked, sdpa or reference.  [default: auto]"),
        click.option(
            "--strategy",
            type=click.Choice(["auto", *STRATEGIES]),
            help="What each of several workers holds: ddp all weights, fsdp2 a share.  [default: auto]",
        ),
        click.option(
            "--activation-checkpointing/--no-activation-checkpointing",
            default=None,
            help="Compute blocks again in the backward pass: less memory, a third more work.  [default: if needed]",
        ),
        click.option("--compile/--no-compile", default=None, help="Whether to use torch.compile.  [default: not]"),
        click.option("--checkpoint-seconds", type=float, help="Training time between checkpoints.  [default: 600]"),
        click.option("--keep-checkpoints", type=int, help="Checkpoints kept of a run, the newest.  [default: 2]"),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def execution_arguments(given: Mapping[str, Any]) -> list[str]:
    """The execution options that were given, as a command line has them."""
    arguments = []
    for name, value in given.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            arguments += [f"--{option}", str(value)]
    return arguments


def with_execution(sweep: Sweep, given: Mapping[str, Any]) -> Sweep:
    """The sweep with the execution options that were given in place of what its rule says of them."""
    changes = {name: value for name, value in given.items() if value is not None}
    unknown = changes.keys() - Execution.__dataclass_fields__.keys()
    if unknown:
        raise InputError(f"unknown execution options: {', '.join(sorted(unknown))}.")
    if not changes:
        return sweep
    return replace(sweep, execution=lambda size: replace(sweep.execution_for(size), **changes))
