"""A sweep and a corpus make runs."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

from ladder.models.errors import InputError
from ladder.models.sizes import Size, parse_size
from ladder.sweeps.words import Point, Recipe, Run, Sweep


@dataclass(frozen=True, kw_only=True)
class CorpusFacts:
    """What a run's identity needs of its corpus."""

    name: str
    """Name of the corpus."""
    vocabulary: int
    """Classes that the network predicts: the tokenizer's vocabulary."""
    fingerprint: str | None
    """Hash of tokens and tokenizer; None while the corpus is not built."""


ResolvedPrecision = Literal["bf16", "fp32"]


def expand(sweep: Sweep, corpus: CorpusFacts, *, precision: ResolvedPrecision) -> tuple[Run, ...]:
    """The runs of a sweep, in the order of its points; `precision` is what `auto` means in it.

    Raises InputError for an unknown size, for two points that come to the same run, and for several head widths under
    completep.
    """
    runs = tuple(_run(sweep, point, corpus, precision) for point in sweep.points)
    twice = [key for key, count in Counter(run.key for run in runs).items() if count > 1]
    if twice:
        raise InputError(f"sweep {sweep.name}: {len(twice)} runs are there twice, such as {twice[0]}. Remove the copy.")
    _check_head_widths(sweep, runs)
    return runs


def _check_head_widths(sweep: Sweep, runs: tuple[Run, ...]) -> None:
    """muP divides attention scores by the head width, GPT-2 by its root: alike up to a constant for one width only."""
    named = {r.size.d_model // r.size.n_head: r.size.name for r in runs if r.recipe.parametrization == "completep"}
    if len(named) > 1:
        widths = ", ".join(f"{width} ({name})" for width, name in sorted(named.items()))
        raise InputError(
            f"sweep {sweep.name}: completep wants one head width in all sizes, got {widths}. Name the heads, as in "
            "4x128h2, so that width / heads is the same."
        )


def resolved_recipe(sweep: Sweep, size: Size, tokens: int, seed: int, precision: ResolvedPrecision) -> Recipe:
    """The sweep's recipe for a size, with `precision` for `auto`."""
    recipe = sweep.recipe(size, tokens, seed)
    return replace(recipe, precision=precision) if recipe.precision == "auto" else recipe


def _run(sweep: Sweep, point: Point, corpus: CorpusFacts, precision: ResolvedPrecision) -> Run:
    size = parse_size(point.size, context=sweep.context, vocabulary=corpus.vocabulary)
    recipe = resolved_recipe(sweep, size, tokens_of(point, size), point.seed, precision)
    return Run(size=size, recipe=recipe, corpus=corpus.name, corpus_fingerprint=corpus.fingerprint)


def tokens_of(point: Point, size: Size) -> int:
    """The tokens that a point asks for, not rounded to batches yet."""
    if point.tokens is not None:
        return round(point.tokens)  # a budget may be written as 1e9
    assert point.tokens_per_parameter is not None, "a point has one of the two"
    return round(point.tokens_per_parameter * size.params_total)
