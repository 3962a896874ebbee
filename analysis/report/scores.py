"""Measurements against size: for each its line, the forms that were compared, and the table of all scores.

A line in ln N is always fitted, as in figures 1 and 4 of the GPT-2 paper. For accuracies the forms that bend towards a
ceiling, for perplexities and losses a power law above a floor, are compared with it by their error on larger sizes than
they were fitted to; the form with the least error is the measurement's law. The table has one's own models above and
the paper's below (table 3 of Radford et al. 2019).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from ladder.analysis.fitting.fits import Fit, FitOptions, fit_law
from ladder.analysis.fitting.health import Status
from ladder.analysis.fitting.points import DISTINCT, Points, make_points
from ladder.analysis.fitting.predictions import HoldOut, hold_out, mean_errors
from ladder.analysis.fitting.solver import Objective
from ladder.analysis.laws.law import LogLinear, PowerOffset, Saturating, Sigmoid, format_count, format_number
from ladder.analysis.tables.sweeps import PARAMS, SweepData, is_heldout
from ladder.models.errors import InputError

FORMS = {
    "higher": (LogLinear.name, Saturating.name, Sigmoid.name),
    "lower": (LogLinear.name, PowerOffset.name),
}
"""Forms that are compared by the error on larger sizes, by the better direction. Of perplexities the line is in their
logarithm, which is a power law without a floor."""
FORM_STARTS = 60
"""Starting points of the forms with three parameters: enough for a score between 0 and 1."""
RESOLVED = 4.0
"""Standard errors that the scores of sizes must differ by before forms are compared: below, noise would be."""
BAND_REFITS = 300
"""Most refits for the band of a form that bends: a band is drawn, not tabulated."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreFinding:
    """One measurement against size."""

    name: str
    """benchmark/metric."""
    unit: str
    direction: str | None
    """lower or higher is better; None where no run said."""
    chance: float | None
    description: str
    log_score: bool
    """True where the line is in ln score (perplexities)."""
    rows: pl.DataFrame
    """All finished runs that have the score: run, size, params_total, tokens, seed, score, standard_error."""
    fitted: pl.DataFrame
    """Of these the ones on the line: each size at its largest token count."""
    references: pl.DataFrame
    """Scores of the paper's models in the same unit: model, params_total, score."""
    fit: Fit | None
    """The log-linear law; None where it cannot be fitted."""
    refusal: str
    """Why there is no line; empty where there is one."""
    windows: list[HoldOut]
    """Predictions of held-out sizes by every form that could be compared; empty where too few sizes."""
    bent: Fit | None
    """The form that bends, where it predicts larger sizes better than the line; None otherwise."""
    established: bool = False
    """True where the score gets better with size beyond doubt, all scores of the report together (`establish`)."""

    @property
    def errors(self) -> dict[str, float]:
        """Mean relative error on held-out sizes by form; empty where fewer than two forms could be compared."""
        errors = mean_errors(self.windows)
        return errors if len(errors) > 1 else {}

    @property
    def best_form(self) -> str | None:
        """The form of least error on held-out sizes; None where they could not be compared."""
        return min(self.errors, key=lambda form: self.errors[form]) if self.errors else None

    @property
    def law(self) -> Fit | None:
        """The law that is drawn: the bent form where it predicts better, else the line."""
        return self.bent or self.fit

    @property
    def monotone(self) -> bool:
        """True where every larger size has a better (or, of unknown direction, an ever higher or lower) mean score."""
        means = self.fitted.group_by(PARAMS).agg(pl.col("score").mean()).sort(PARAMS)["score"].to_numpy()
        steps = np.diff(means)
        if self.direction == "lower":
            return bool((steps < 0).all())
        return bool((steps > 0).all()) if self.direction == "higher" else bool((steps > 0).all() or (steps < 0).all())

    @property
    def resolved(self) -> bool:
        """True where the sizes differ by more than the standard error of one of them lets differ."""
        errors = self.fitted["standard_error"].drop_nulls()
        scores = self.fitted["score"]
        if errors.is_empty():
            return True
        return float(scores.max()) - float(scores.min()) > RESOLVED * float(errors.median())  # type: ignore[arg-type]

    @property
    def point_error(self) -> float | None:
        """Root mean square of the scores' standard errors, of ln score where that is fitted; None: none is known."""
        known = self.fitted.drop_nulls("standard_error")
        if known.is_empty():
            return None
        errors = known["standard_error"] / (known["score"] if self.log_score else 1.0)
        return float(np.sqrt(np.mean(np.square(errors.to_numpy()))))

    @property
    def rises(self) -> bool:
        """True where the score gets better with size beyond doubt enough to ask in which form it does."""
        return self.resolved and (self.improves or self.monotone)

    @property
    def improves(self) -> bool:
        """True where the score gets better with size beyond doubt."""
        return self.established

    @property
    def doubt(self) -> float:
        """p value of the line's slope: how often a flat score would look as good; 1 where nothing is known."""
        if self.fit is None or self.fit.line is None:
            return 1.0
        falling, rising = (self.fit.line.doubt(rising=way) for way in (False, True))
        if self.direction is None:
            return min(1.0, 2 * min(falling, rising))
        return falling if self.direction == "lower" else rising


def holm(doubts: Sequence[float], allowed: float) -> list[bool]:
    """Which of several p values are small enough that any is wrongly called so at most `allowed` of the time (Holm
    1979): the least at allowed / m, the next at allowed / (m - 1), and so on until one fails."""
    found = [False] * len(doubts)
    for left, place in zip(range(len(doubts), 0, -1), np.argsort(doubts, kind="stable"), strict=True):
        if not doubts[place] <= allowed / left:
            break
        found[place] = True
    return found


def establish(scores: Sequence[ScoreFinding], level: float) -> list[ScoreFinding]:
    """The scores, each with whether it improves beyond doubt: of ten flat ones none is said to in 97.5 % of reports."""
    sure = holm([one.doubt for one in scores], (1 - level) / 2)
    return [replace(score, established=one) for score, one in zip(scores, sure, strict=True)]


def paper_first(score: ScoreFinding) -> bool:
    """Orders measurements: those of the paper first."""
    return score.references.height == 0


def largest_budget(table: pl.DataFrame) -> pl.DataFrame:
    """Of every size the runs with the most tokens (all seeds): what is compared across sizes.

    Where the tokens are not known all runs of a size are kept. Of checkpoints of one run (column `cluster`) the last
    alone counts, however close the one before it.
    """
    if "cluster" in table.columns:
        table = table.filter(
            pl.col("tokens").is_null() | (pl.col("tokens") == pl.col("tokens").max().over("cluster", PARAMS))
        )
    most = pl.col("tokens").max().over(PARAMS)
    return table.filter(most.is_null() | (pl.col("tokens") >= most * (1 - DISTINCT)))


def score_rows(data: SweepData, name: str) -> pl.DataFrame:
    """Finished runs that have the score, with its standard error."""
    errors = data.standard_errors.filter(pl.col("name") == name).select("run", "standard_error")
    columns = ["run", "size", PARAMS, "tokens", "seed", pl.col(name).alias("score")]
    rows = data.finished.filter(pl.col(name).is_not_null()).select(columns)
    if data.clusters:
        rows = rows.with_columns(cluster=pl.col("run").replace_strict(data.clusters, default=pl.col("run")))
    return rows.join(errors.unique("run"), on="run", how="left").sort(PARAMS, "tokens", "seed")


def is_logarithmic(unit: str, metric: str) -> bool:
    """True for a perplexity: the exponential of a loss, so that its logarithm is what can be linear in ln N."""
    words = (unit + metric).lower()
    return "perplexity" in words or "ppl" in words


def find_score(data: SweepData, name: str, options: FitOptions) -> ScoreFinding:
    """A measurement against size, at each size's largest token count."""
    references = data.references.filter(pl.col("name") == name).select("model", PARAMS, "score")
    return fit_score(describe_score(name, data.describe(name), score_rows(data, name), references), options)


def describe_score(
    name: str, described: Mapping[str, object], rows: pl.DataFrame, references: pl.DataFrame
) -> ScoreFinding:
    """A score of some runs before a line is fitted."""
    chance, unit = described["chance"], str(described["unit"] or "")
    return ScoreFinding(
        name=name,
        unit=unit,
        direction=str(described["direction"]) if described["direction"] else None,
        chance=float(chance) if isinstance(chance, int | float) else None,
        description=str(described["description"] or ""),
        log_score=is_logarithmic(unit, str(described["metric"] or name.rsplit("/", 1)[-1])),
        rows=rows,
        fitted=largest_budget(rows),
        references=references,
        fit=None,
        refusal="",
        windows=[],
        bent=None,
    )


def find_scores(data: SweepData, options: FitOptions) -> list[ScoreFinding]:
    """Every measurement against size, judged together; the held-out text, in any unit, has the laws of the loss."""
    names = [name for name in data.scores if not is_heldout(name)]
    lines = establish([find_score(data, name, options) for name in names], options.level)
    return [compare_bends(score, options) for score in lines]


def fit_score(finding: ScoreFinding, options: FitOptions) -> ScoreFinding:
    """The finding with its line."""
    scores = finding.fitted["score"]
    if scores.n_unique() == 1 and len(scores) > 1:
        return replace(finding, refusal=f"every size scores the same {scores[0]:.4g}")
    try:
        points = make_points(scores.to_numpy(), params=finding.fitted[PARAMS].to_numpy())
        fit = fit_law(LogLinear.name, points, line_options(finding, options))
    except InputError as error:
        return replace(finding, refusal=str(error))
    if fit.status is Status.NOT_IDENTIFIABLE:
        return replace(finding, refusal=fit.reason)
    return replace(finding, fit=fit)


def compare_bends(finding: ScoreFinding, options: FitOptions) -> ScoreFinding:
    """The finding with the forms compared, for a score that gets better."""
    if finding.fit is None or finding.direction not in FORMS or not finding.rises:
        return finding
    points = finding.fit.points
    finding = replace(finding, windows=compare_forms(finding, points, options))
    best = finding.best_form
    if best is None or best == LogLinear.name:
        return finding
    bent = fit_law(best, points, form_options(best, finding, options, min(options.bootstrap, BAND_REFITS)))
    return replace(finding, bent=None if bent.status is Status.NOT_IDENTIFIABLE else bent)


def line_options(finding: ScoreFinding, options: FitOptions) -> FitOptions:
    """A line's intervals are exact: one start and no refits."""
    constants = {"log_score": float(finding.log_score)}
    error = finding.point_error
    return replace(options, constants=constants, starts=1, bootstrap=0, objective=None, point_error=error)


def form_options(form: str, finding: ScoreFinding, options: FitOptions, bootstrap: int) -> FitOptions:
    """Options of a form that is compared; only the sigmoid starts from the level of guessing."""
    constants = {"chance": finding.chance or 0.0} if form == Sigmoid.name else {}
    constants |= {"log_score": float(finding.log_score)} if form == LogLinear.name else {}
    starts = min(options.starts, FORM_STARTS)
    options = replace(options, constants=constants, starts=starts, bootstrap=bootstrap, objective=None)
    if form != PowerOffset.name:
        return options
    # By squares of the same residuals as the line's, so that the forms differ in nothing but their shape.
    return replace(options, objective=Objective(kind="squares"), log_residual=None if finding.log_score else False)


def compare_forms(finding: ScoreFinding, points: Points, options: FitOptions) -> list[HoldOut]:
    """Every form's predictions of held-out sizes, in windows that all of the forms can predict."""
    forms = FORMS[str(finding.direction)]
    found = {form: hold_out([form], points, form_options(form, finding, options, 0)) for form in forms}
    common = set.intersection(*({window.size for window in windows} for windows in found.values()))
    windows = [window for windows in found.values() for window in windows if window.size in common]
    return sorted(windows, key=lambda window: window.size)


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


BASELINES = ("majority", "all_positive", "bag_of_words", "scratch")
"""What stands beside a score after fine-tuning, by its name in the table."""
TRANSFER_HEAD = ("task, metric", "model", "taken over", "score", *(name.replace("_", " ") for name in BASELINES))
"""Of the table; behind it the gain over scratch with its interval."""


def transfer_rows(data: SweepData) -> list[list[str]]:
    """Each mean after fine-tuning with its errors, what it is to be above, and the gain over scratch."""
    rows = []
    same = ["checkpoint", "task", "metric", "layers", "setting"]
    table = data.transfer.sort("task", "metric", "setting", PARAMS, "tokens", maintain_order=True)
    for part in table.partition_by(same, maintain_order=True):
        row, beside = part.row(0, named=True), part["beside"][0]
        errors = [
            f"{name} {row[f'standard_error_{name}']:.2g}"
            for name in ("seeds", "items")
            if row[f"standard_error_{name}"] is not None
        ]
        seeds = f"{part.height} seed{'' if part.height == 1 else 's'}"
        score = f"{np.mean(part['score'].to_numpy()):.4g}\nse of {', '.join(errors)}\n{seeds}"
        score += f", {row['collapsed']} with one answer" if row["collapsed"] else ""
        score += f", {row['missing']} missing" if row["missing"] else ""
        others = [f"{beside[name]['value']:.4g}" if name in beside else "-" for name in BASELINES]
        taken = row["layers"] + (f"\n{row['setting']}" if row["setting"] else "")
        known = row["tokens"] is not None and row["layers"] != "nothing"
        tokens = f", {format_count(row['tokens'])} tokens" if known else ""
        rows.append([f"{row['task']} {row['metric']}", row["size"] + tokens, taken, score, *others, gain_words(beside)])
    return rows


def gain_words(beside: Mapping[str, Any]) -> str:
    """What a mean has over scratch, with the interval of seeds and items together."""
    if "scratch" not in beside:
        return "-"
    gain = beside["scratch"]["difference"]
    ends = "one seed" if gain["low"] is None else f"{gain['low']:+.2g} to {gain['high']:+.2g}"
    return f"{gain['value']:+.3g}\n{ends}"
