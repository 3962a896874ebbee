"""`ladder overlap`: how much of benchmarks a corpus holds already, and the scores without it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from upath import UPath

from ladder.platform.command.completion import complete_benchmarks, complete_corpora
from ladder.platform.command.evaluate import protocol_options, refuse_unread
from ladder.platform.command.options import (
    console,
    device_option,
    echo_json,
    given_options,
    json_option,
    precision_option,
    refuse_stray,
    storage_option,
    tokenizer_option,
)

if TYPE_CHECKING:
    from ladder.platform.corpus.store import Corpus
    from ladder.platform.evaluation.benchmark import Benchmark, Setting
    from ladder.platform.overlap.comparison import Comparison
    from ladder.platform.overlap.study import Study


@click.command("overlap")
@click.argument("corpus", shell_complete=complete_corpora)
@click.argument("benchmarks", nargs=-1, required=True, metavar="BENCHMARK...", shell_complete=complete_benchmarks)
@click.option("--ngram", default=8, show_default=True, metavar="N", help="Words in a row that must be the same.")
@click.option(
    "--threshold",
    default=0.15,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Count, and leave out, also the items of which more than this share is found.",
)
@click.option("--processes", type=int, help="Processes that read the corpus.  [default: one a core if it is large]")
@click.option("--checkpoint", metavar="CKPT", help="Score this checkpoint with and without the items that overlap.")
@tokenizer_option
@device_option
@precision_option
@protocol_options
@json_option
@storage_option
def command(
    corpus: str,
    benchmarks: tuple[str, ...],
    ngram: int,
    threshold: float,
    processes: int | None,
    checkpoint: str | None,
    as_json: bool,
    storage: UPath,
    **scoring: Any,
) -> None:
    """Find how much of each BENCHMARK (or `all`) is in the training split of CORPUS, word for word.

    The study of the GPT-2 paper's section 4. Text becomes lower-cased words of letters and digits; the 8-grams of the
    corpus go into a Bloom filter that finds at most one in 10^8 of those it does not hold; the share of the benchmark's
    8-grams that are found is its overlap. The memory that it takes is said before it starts. An item of less than 8
    words has no 8-gram and so no overlap.

    The benchmark `heldout` is the corpus' own held-out text. More overlap there than between other pages of its kind
    says that training text leaked into it, as pages do that stand in the corpus twice with a small difference.

    With --checkpoint the benchmarks are scored on all items, without those of which any 8-gram is found, and without
    those of which more than --threshold is found; the options from --tokenizer on are for that, as in
    `ladder evaluate`.

    \b
    Examples:
      ladder overlap web lambada wikitext2 heldout
      ladder overlap web lambada --checkpoint storage/sweeps/demo/RUN/STEP
      ladder overlap web all --ngram 13 --processes 4 --json
    """
    from ladder.models.errors import PartialFailure
    from ladder.platform.command.overlap_display import FillDisplay, comparison_table, describe_plan, print_study
    from ladder.platform.corpus.store import open_corpus
    from ladder.platform.overlap.plan import plan_filling
    from ladder.platform.overlap.study import study_overlap

    if checkpoint is None:
        refuse_stray(scoring, "score without what overlaps: add --checkpoint")
    opened = open_corpus(storage, corpus)
    plan = plan_filling(opened, n=ngram, processes=processes)
    chosen, absent = _choose(benchmarks, storage, opened)
    setting = None if checkpoint is None else _make_setting(checkpoint, chosen, corpus, storage, **scoring)
    texts = {benchmark.name: benchmark.texts(storage, opened) for benchmark in chosen if benchmark.texts is not None}
    click.echo(describe_plan(plan, opened), err=True)
    plan.check_memory()
    with FillDisplay(opened) as display:
        study = study_overlap(opened, texts, plan, display.add)
    comparisons, problems = ([], []) if setting is None else _compare(study, chosen, setting, threshold)
    if as_json:
        results = {**study.to_json(threshold=threshold), "absent": absent}
        echo_json({**results, "comparisons": [comparison.to_json() for comparison in comparisons]})
    else:
        print_study(console(), study, absent, threshold)
    if comparisons and not as_json:
        console().print(comparison_table(comparisons))
    if problems:
        raise PartialFailure("not scored: " + "; ".join(problems))


def _choose(names: Sequence[str], storage: UPath, corpus: "Corpus") -> "tuple[list[Benchmark], dict[str, str]]":
    """The benchmarks of these names that are at hand, and of the others what to do; InputError where none is."""
    from ladder.models.errors import InputError
    from ladder.platform.evaluation.registry import known_benchmarks
    from ladder.platform.evaluation.selection import select

    selection = select(names)
    for benchmark in selection.named:
        if benchmark.texts is None:
            with_texts = [name for name, one in known_benchmarks().items() if one.texts is not None]
            raise InputError(
                f"benchmark {benchmark.name} has no text of its own to look for: name others of {', '.join(with_texts)}"
            )
    chosen = [benchmark for benchmark in selection.benchmarks if benchmark.texts is not None]
    missing = {benchmark.name: benchmark.missing(storage=storage, corpus=corpus, shots=0) for benchmark in chosen}
    absent = {name: reason for name, reason in missing.items() if reason is not None}
    if len(absent) == len(chosen):
        raise InputError("; ".join(absent.values()) or "name at least one benchmark, or `all`")
    return [benchmark for benchmark in chosen if benchmark.name not in absent], absent


def _make_setting(
    checkpoint: str,
    benchmarks: "Sequence[Benchmark]",
    corpus: str,
    storage: UPath,
    *,
    tokenizer: str | None,
    device: str,
    precision: str,
    **protocol: Any,
) -> "Setting":
    """What the benchmarks score the checkpoint with; InputError where one of them cannot."""
    from ladder.platform.evaluation.checkpoints.score import OpenedCheckpoint, ScoringTask
    from ladder.platform.evaluation.protocol import Protocol

    refuse_unread(given_options(protocol), benchmarks, Protocol(**protocol))
    task = ScoringTask(
        checkpoint=checkpoint,
        benchmarks=tuple(benchmark.name for benchmark in benchmarks),
        storage=str(storage),
        corpus=corpus,
        tokenizer=tokenizer,
        device=device,
        precision=precision,
        protocol=Protocol(**protocol),
    )
    with tempfile.TemporaryDirectory(prefix="ladder-overlap-") as scratch:
        opened = OpenedCheckpoint(task, Path(scratch))
        for benchmark in benchmarks:
            benchmark.check(storage=opened.storage, corpus=opened.corpus, tokenizer=opened.tokenizer)
        return opened.setting


def _compare(
    study: "Study", benchmarks: "Sequence[Benchmark]", setting: "Setting", threshold: float
) -> "tuple[list[Comparison], list[str]]":
    """Every metric of the benchmarks with and without what overlaps; of those that cannot be scored, why."""
    import torch

    from ladder.models.errors import InputError
    from ladder.platform.evaluation.evaluate import score_items
    from ladder.platform.overlap.comparison import compare

    comparisons, problems = [], []
    thresholds = dict.fromkeys((0.0, threshold))
    for benchmark, overlap in zip(benchmarks, study.overlaps, strict=True):
        click.echo(f"scoring {benchmark.name}", err=True)
        try:
            metrics = score_items(benchmark, setting)
        except (InputError, torch.OutOfMemoryError) as error:  # the overlap, perhaps of hours, is not lost for it
            problems.append(f"{benchmark.name}: {error}")
            continue
        whole = setting.protocol.limit is None and not benchmark.from_corpus
        assert not whole or all(scores.n_items == len(overlap.ngrams) for scores in metrics), benchmark.name
        comparisons += [compare(scores, overlap, most) for scores in metrics for most in thresholds]
    return comparisons, problems
