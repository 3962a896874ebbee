"""`ladder evaluate`: scores of checkpoints on benchmarks, as a table or as JSON."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from upath import UPath

from ladder.platform.command.completion import complete_corpora, complete_sweeps
from ladder.platform.command.options import (
    address_option,
    benchmarks_option,
    console,
    device_option,
    echo_json,
    given_options,
    json_line,
    json_option,
    precision_option,
    storage_option,
    tokenizer_option,
    tracking_option,
)

if TYPE_CHECKING:
    from ladder.platform.evaluation.benchmark import Benchmark
    from ladder.platform.evaluation.checkpoints.score import Outcome, ScoringTask
    from ladder.platform.evaluation.own.file import OwnFile
    from ladder.platform.evaluation.protocol import Protocol
    from ladder.platform.launching.over_training import TrainingPoint

Function = TypeVar("Function", bound=Callable[..., Any])


def protocol_options(function: Function) -> Function:
    """Options that say how benchmarks are scored, handed on under the names of `Protocol`'s fields."""
    options = [
        click.option(
            "--limit", type=int, help="Score only so many items, the first, of each benchmark of files.  [default: all]"
        ),
        click.option(
            "--shots",
            type=int,
            help="Solved examples in a prompt, of a train or dev split.  [default: the benchmark's]",
        ),
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Seed of the draw of examples and of answers.",
        ),
        click.option("--window", type=int, help="Tokens of a window over long texts.  [default: the model's context]"),
        click.option("--stride", type=int, help="Tokens from one window to the next.  [default: the window]"),
        click.option("--heldout-tokens", type=int, default=65_536, show_default=True, help="Tokens `heldout` reads."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def spread_options(function: Function) -> Function:
    """Options that say where several checkpoints are scored."""
    options = [
        click.option(
            "--concurrent-checkpoints",
            type=click.IntRange(min=1),
            help="Checkpoints at one time.  [default: as many as there is room for]",
        ),
        address_option,
    ]
    for option in reversed(options):
        function = option(function)
    return function


EPILOG = """\b
Examples:
  ladder evaluate storage/sweeps/demo/RUN/STEP --heldout-corpus pydocs
  ladder evaluate gpt2 --benchmarks lambada,wikitext2 --json
  ladder evaluate gpt2 gpt2-medium --benchmarks all --limit 500
  ladder evaluate gpt2 --benchmarks copa --samples copa.jsonl
  ladder evaluate gpt2 --harness arc_easy,hellaswag --shots 5
  ladder evaluate gpt2 --benchmarks mine.jsonl,gpt2-paper
  ladder evaluate --sweep demo --benchmarks lambada --concurrent-checkpoints 2
  ladder evaluate --sweep demo --over-training --benchmarks cola,dprd,race
"""


@click.command("evaluate", epilog=EPILOG)
@click.argument("checkpoints", nargs=-1, metavar="[CHECKPOINT...]")
@click.option(
    "--sweep",
    metavar="SWEEP",
    shell_complete=complete_sweeps,
    help="Score the newest checkpoint of every finished run of this sweep.",
)
@click.option(
    "--over-training",
    is_flag=True,
    help="With --sweep: every checkpoint that its runs keep and the untrained network, raw and normalised; they are "
    "kept in MLflow, and `ladder report` draws them.",
)
@benchmarks_option("Benchmarks, groups (gpt2-paper, gpt1, pages, all) or files of your own.", default="all")
@click.option(
    "--harness",
    multiple=True,
    metavar="TASKS",
    help="Tasks, groups or YAML files of lm-evaluation-harness, scored by its protocols (wants the extra `harness`).",
)
@click.option(
    "--heldout-corpus",
    metavar="NAME",
    shell_complete=complete_corpora,
    help="Corpus whose held-out split is scored by `heldout` and the `pages-` benchmarks.",
)
@tokenizer_option
@device_option
@precision_option
@protocol_options
@click.option(
    "--samples",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write a JSON line for every item: prompt, candidates or answer written, scores, the right answer.",
)
@click.option("--no-cache", is_flag=True, help="Score again what was scored before.")
@spread_options
@json_option
@storage_option
@tracking_option
def command(
    checkpoints: tuple[str, ...],
    sweep: str | None,
    over_training: bool,
    benchmarks: tuple[str, ...],
    harness: tuple[str, ...],
    heldout_corpus: str | None,
    samples: Path | None,
    no_cache: bool,
    concurrent_checkpoints: int | None,
    address: str | None,
    as_json: bool,
    storage: UPath,
    tracking: str | None,
    **how: Any,
) -> None:
    """Score each CHECKPOINT on benchmarks: a folder of ours or of Hugging Face, or a Hugging Face name.

    `all` benchmarks are those whose data are at hand; the others are rows that say how to get the data. Beside each
    score stand the GPT-2 paper's for the nearest sizes. Scores are kept in the storage and not computed twice.

    Several checkpoints, or the runs of a sweep, are scored side by side: one on each GPU, or on the cores. The scores
    of --sweep are shown and not written into the runs; for that add the benchmark to the sweep and call `ladder run`.
    The exit code is 1 where a part could not be scored.
    """
    from ladder.platform.evaluation.checkpoints.score import ScoringTask
    from ladder.platform.evaluation.harness.names import as_benchmark_word
    from ladder.platform.evaluation.protocol import Protocol
    from ladder.platform.evaluation.registry import find_benchmarks
    from ladder.platform.evaluation.selection import split_words

    words = [*benchmarks, *(as_benchmark_word(task) for task in split_words(harness))]
    opening = {name: how.pop(name) for name in ("tokenizer", "device", "precision")}
    protocol = Protocol(**how)
    sources, asked = _split(checkpoints, words, sweep, storage)
    points = _over_training(sweep, storage) if over_training else []
    sources = [point.checkpoint for point in points] or sources
    names, own, absent = _at_hand(asked, storage, heldout_corpus, protocol.shots)
    refuse_unread(given_options([*how, "heldout_corpus"]), find_benchmarks(names, own), protocol)
    tasks = [
        ScoringTask(
            checkpoint=source,
            benchmarks=tuple(names),
            own=own,
            storage=str(storage),
            corpus=heldout_corpus,
            **opening,
            protocol=protocol,
            use_cache=not no_cache,
            samples=samples is not None,
        )
        for source in sources
    ]
    outcomes = _score(tasks, sources, names, concurrent_checkpoints, address)
    _write_samples(outcomes, samples)
    if points:
        _tell_over_training(points, outcomes, as_json, sweep or "", storage, tracking)
    else:
        _tell(outcomes, absent, sources, names, as_json)


def refuse_unread(given: Sequence[str], benchmarks: "Sequence[Benchmark]", protocol: "Protocol") -> None:
    """InputError for options, of those given, that no benchmark reads: they would change nothing. One that only some
    read is told."""
    from dataclasses import asdict

    from ladder.models.errors import InputError

    chosen = asdict(protocol)
    blind = {name: [one.name for one in benchmarks if not _reads(one, name, chosen)] for name in given}
    words = {name: "--" + name.replace("_", "-") for name in given}
    unread = [words[name] for name in given if len(blind[name]) == len(benchmarks)]
    if unread:
        names = _list_few([one.name for one in benchmarks])
        raise InputError(f"{', '.join(unread)} changes nothing in {names}: leave it out")
    for name in given:
        if blind[name]:
            click.echo(f"{words[name]} changes nothing in {_list_few(blind[name])}", err=True)


def _reads(benchmark: "Benchmark", option: str, chosen: dict[str, Any]) -> bool:
    return benchmark.from_corpus if option == "heldout_corpus" else option in benchmark.settings_read(chosen)


def _list_few(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _over_training(sweep: str | None, storage: UPath) -> "list[TrainingPoint]":
    """The checkpoints of a sweep in the course of training."""
    from ladder.models.errors import InputError
    from ladder.platform.launching.over_training import points_of

    if sweep is None:
        raise InputError("--over-training scores the checkpoints of a sweep's runs: name it with --sweep")
    return points_of(storage, sweep)


def _tell_over_training(
    points: "Sequence[TrainingPoint]",
    outcomes: "Sequence[Outcome]",
    as_json: bool,
    sweep: str,
    storage: UPath,
    tracking: str | None,
) -> None:
    """Writes the scores in the order of training and keeps them for the report; raises as `_raise_problems`."""
    from rich.table import Table

    from ladder.platform.launching.over_training import keep_rows, rows_of
    from ladder.platform.tracking.database import open_tracking, tracking_uri

    rows = rows_of(points, outcomes)
    if not keep_rows(open_tracking(tracking_uri(tracking, storage)), sweep, rows):
        click.echo(f"MLflow has no sweep {sweep}: the report will not show these scores", err=True)
    if as_json:
        echo_json(rows)
    else:
        table = Table(
            "run", "tokens", "score", "value", "se", "normalised", "reference", box=None, padding=(0, 2, 0, 0)
        )
        for row in rows:
            numbers = ("" if row[name] is None else f"{row[name]:.4f}" for name in ("value", "standard_error"))
            normalised = "" if row["normalised"] is None else f"{row['normalised']:+.3f}"
            name = f"{row['benchmark']}/{row['metric']}"
            table.add_row(row["run"], f"{row['tokens']:,}", name, *numbers, normalised, row["reference"] or "raw only")
        console().print(table)
    _raise_problems(outcomes)


def _score(
    tasks: "Sequence[ScoringTask]",
    sources: Sequence[str],
    names: Sequence[str],
    concurrent: int | None,
    address: str | None,
) -> "list[Outcome]":
    """What became of the tasks, told as it becomes known."""
    from ladder.platform.command.scores import ScoresDisplay
    from ladder.platform.launching.scoring import score_all

    outcomes = []
    # Ray prints what happens to its workers on standard output, which is for the result.
    with ScoresDisplay(sources, names) as display, contextlib.redirect_stdout(sys.stderr):
        for outcome in score_all(tasks, concurrent=concurrent, address=address, progress=display.advance):
            outcomes.append(outcome)
            display.show(outcome)
    return outcomes


def _write_samples(outcomes: "Sequence[Outcome]", path: Path | None) -> None:
    """One JSON line an item of every benchmark and checkpoint; InputError where the file cannot be written."""
    from ladder.models.errors import InputError

    if path is None:
        return
    try:
        with path.open("w", encoding="utf-8") as file:
            for outcome in outcomes:
                for record in outcome.samples:
                    file.write(json_line({"checkpoint": outcome.checkpoint, **record}) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; name another file with --samples") from error


def _split(
    words: Sequence[str], benchmarks: Sequence[str], sweep: str | None, storage: UPath
) -> tuple[list[str], list[str]]:
    """The checkpoints and the benchmarks; the words after --benchmarks come as if they were checkpoints."""
    from ladder.models.errors import InputError
    from ladder.platform.evaluation.selection import names_benchmarks
    from ladder.platform.identity import check_schema
    from ladder.platform.launching.scoring import finished_checkpoints

    more = [word for word in words if names_benchmarks(word) and not Path(word).is_dir()]
    if more and not benchmarks:
        raise InputError(f"unexpected {' '.join(more)}: benchmarks are named after --benchmarks")
    sources = list(dict.fromkeys(word for word in words if word not in more))
    if sweep is not None:
        check_schema(storage)
        sources += finished_checkpoints(storage, sweep)
    if not sources:
        raise InputError("name a checkpoint: its folder or its Hugging Face name, or a sweep with --sweep")
    return sources, [*benchmarks, *more]


def _at_hand(
    words: Sequence[str], storage: UPath, corpus_name: str | None, shots: int | None
) -> "tuple[list[str], tuple[OwnFile, ...], dict[str, str]]":
    """The benchmarks to score, the files that define the user's own among them, and those of groups whose data are
    absent, with the remedy; InputError where one that was named is absent or nothing is left."""
    from ladder.models.errors import InputError
    from ladder.platform.corpus.store import open_corpus
    from ladder.platform.evaluation.registry import ALL
    from ladder.platform.evaluation.selection import select

    corpus = None if corpus_name is None else open_corpus(storage, corpus_name)
    selection = select(words or [ALL])
    chosen, absent = selection.at_hand(storage=storage, corpus=corpus, shots=shots)
    if not chosen:
        raise InputError(
            "no benchmark is at hand: get data with `ladder fetch all`, or name a corpus with --heldout-corpus"
        )
    remedies = {name: f"absent: {_remedy(benchmark)}" for name, benchmark in absent.items()}
    return [benchmark.name for benchmark in chosen], selection.own, remedies


def _remedy(benchmark: "Benchmark") -> str:
    """How to get a benchmark's data, short enough for a row."""
    if benchmark.from_corpus:
        return "--heldout-corpus NAME"
    by_hand = "" if all(file.downloadable for file in benchmark.files) else " --from DIR"
    return f"ladder fetch {benchmark.name}{by_hand}"


def _tell(
    outcomes: "list[Outcome]", absent: dict[str, str], sources: list[str], names: list[str], as_json: bool
) -> None:
    """Writes the results in the order asked for; raises as `_raise_problems`."""
    from ladder.platform.command.scores import scores_table

    position = {name: index for index, name in enumerate(names)}
    outcomes.sort(key=lambda outcome: (sources.index(outcome.checkpoint), position.get(outcome.benchmark or "", -1)))
    if as_json:
        more = [{"checkpoint": outcome.checkpoint, "cached": outcome.cached} for outcome in outcomes]
        echo_json(
            [m.to_json() | also for outcome, also in zip(outcomes, more, strict=True) for m in outcome.measurements]
        )
        for name, remedy in absent.items():
            click.echo(f"not scored: {name}, {remedy}", err=True)
    elif any(outcome.measurements for outcome in outcomes):
        screen = console()
        screen.print(scores_table(outcomes, absent, sources, width=screen.width))
    _raise_problems(outcomes)


def _raise_problems(outcomes: "Sequence[Outcome]") -> None:
    """Raises InputError where nothing was scored, PartialFailure where some of it was not; nothing where all was."""
    from ladder.models.errors import InputError, PartialFailure

    problems = [
        f"{o.checkpoint}, {o.benchmark or 'checkpoint'}: {o.problem}" for o in outcomes if o.problem is not None
    ]
    if problems:
        kind = PartialFailure if any(outcome.measurements for outcome in outcomes) else InputError
        many = f"{len(problems)} could not be scored:\n  " + "\n  ".join(problems)
        raise kind(many if len(problems) > 1 else f"could not be scored: {problems[0]}")
