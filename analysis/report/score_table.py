"""The table of zero-shot scores: one's own models above, the paper's below (table 3 of Radford et al. 2019)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ladder.analysis.laws.units import format_count, format_number
from ladder.analysis.report.scores import PARAMS, ScoreFinding, largest_budget, paper_first

MILLION = 1e6
"""From here on values are written with a prefix."""
COLUMNS = 8
"""Measurements side by side; more go into further tables, so that a printed page holds each."""


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """Some measurements of all models."""

    head: Sequence[tuple[str, str]]
    """Name and unit of each measurement, with the better direction."""
    rows: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    """Own models: name, then value and standard error per measurement; a missing score is a dash."""
    references: Sequence[tuple[str, Sequence[str]]]
    """The paper's models: name, then values."""


def score_tables(scores: Sequence[ScoreFinding], finished: pl.DataFrame) -> list[ScoreTable]:
    """The scores of each size at its largest token count, those that the paper has first."""
    scored = [score for score in scores if score.rows.height]
    ordered = sorted(scored, key=paper_first)
    models = largest_budget(finished).sort(PARAMS, "tokens", "seed")
    parts = [ordered[first : first + COLUMNS] for first in range(0, len(ordered), COLUMNS)]
    return [score_table(part, models) for part in parts]


def score_table(scores: Sequence[ScoreFinding], models: pl.DataFrame) -> ScoreTable:
    """Some measurements."""
    return ScoreTable(
        head=[(score.name, head_words(score)) for score in scores],
        rows=[(model_words(row, models), [cell(score, row["run"]) for score in scores]) for row in models.to_dicts()],
        references=reference_rows(scores),
    )


def head_words(score: ScoreFinding) -> str:
    """Unit and better direction."""
    better = f"{score.direction} is better" if score.direction else ""
    return ", ".join(words for words in (score.unit, better) if words)


def model_words(row: dict[str, object], models: pl.DataFrame) -> str:
    """Size, tokens, and the seed or run where these do not tell models apart."""
    name = str(row["size"])
    same = models.filter(pl.col("size") == row["size"])
    if row["tokens"] is not None:
        name += f", {format_count(float(row['tokens']))} tokens"  # type: ignore[arg-type]
    if same.height == 1:
        return name
    seed = f"seed {row['seed']}"
    return f"{name}, {row['run'] if same['seed'].n_unique() < same.height else seed}"


def cell(score: ScoreFinding, run: object) -> tuple[str, str]:
    """Value and standard error of a run; a dash and nothing where it has none."""
    rows = score.rows.filter(pl.col("run") == run)
    if rows.height == 0:
        return "-", ""
    value, error = rows.select("score", "standard_error").row(0)
    return with_error(value, error)


def with_error(value: float, error: float | None) -> tuple[str, str]:
    """A value to the digits that its standard error leaves it, and the error to two digits."""
    if error is None or not error > 0:
        return format_number(value), ""
    if abs(value) >= MILLION:
        return format_count(value), format_count(float(f"{error:.2g}"))
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{decimals}f}", f"{error:.{decimals}f}"


def reference_rows(scores: Sequence[ScoreFinding]) -> list[tuple[str, list[str]]]:
    """The paper's models that have any of the scores, in the order of their size."""
    known = pl.concat([score.references for score in scores])
    models = known.unique("model").sort(PARAMS)["model"].to_list()
    table = {(model, index): "-" for model in models for index in range(len(scores))}
    for index, score in enumerate(scores):
        table |= {(row["model"], index): format_number(row["score"]) for row in score.references.to_dicts()}
    return [(model, [table[model, index] for index in range(len(scores))]) for model in models]
