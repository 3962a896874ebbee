"""What a sweep's runs amount to: every fit, comparison and prediction that the report states.

Computed once from `SweepData`; the report and its figures only show it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ladder.analysis.fits import Fit, FitOptions, fit_law
from ladder.analysis.health import Status
from ladder.analysis.holdout import HoldOut, hold_out
from ladder.analysis.laws import Allocation, Hoffmann, LogLinear, find_law
from ladder.analysis.points import DISTINCT, Points, make_points
from ladder.analysis.runs import HELDOUT_LOSS, SweepData
from ladder.models.errors import InputError

PARAMS = "params_total"
"""N of every fit unless it says otherwise: with embeddings, as Hoffmann et al. 2022 count."""
OTHER_PARAMS = "params_non_embedding"
"""The other convention (Kaplan et al. 2020), under which the first loss law is fitted again."""
NEXT_COMPUTE = 10.0
"""How many times the compute of the largest run the suggested next run gets."""
LAST_SHARE = 0.05
"""Share of a run's steps whose mean training loss is its final training loss: a single batch is noisy."""
DEFAULT_LAWS = ("hoffmann", "log-linear")
RIVAL_FORMS = ("log-linear", "saturating")
"""Forms that are compared on every accuracy by the error on larger sizes."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A law that was asked for and could not be fitted at all."""

    law: str
    reason: str


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
    """All finished runs that have the score: run, size, params_total, tokens, score, standard_error."""
    fitted: pl.DataFrame
    """Of these the ones on the line: each size at its largest token count."""
    fit: Fit | None
    """The log-linear law; None where it cannot be fitted."""
    refusal: str
    """Why there is no fit; empty where there is one."""
    windows: list[HoldOut]
    """Comparison of forms on held-out sizes; empty where too few sizes."""

    @property
    def monotone(self) -> bool:
        """True where every larger size has a better (or, of unknown direction, an ever higher or lower) mean score."""
        means = self.fitted.group_by(PARAMS).agg(pl.col("score").mean()).sort(PARAMS)["score"].to_numpy()
        steps = np.diff(means)
        if self.direction == "lower":
            return bool((steps < 0).all())
        return bool((steps > 0).all()) if self.direction == "higher" else bool((steps > 0).all() or (steps < 0).all())


@dataclass(frozen=True, kw_only=True, eq=False)
class NextRun:
    """The compute-optimal run at a multiple of the largest run's compute."""

    allocation: Allocation
    low: float | None
    """Lower end of the interval of the law's loss there."""
    high: float | None
    """Upper end."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """All that the report states about a sweep."""

    data: SweepData
    loss: pl.DataFrame
    """Finished runs with held-out loss: run, size, params, tokens, flops, seed, score, train_loss."""
    fits: list[Fit]
    """Laws of held-out loss in the order asked for."""
    refusals: list[Refusal]
    windows: list[HoldOut]
    """The first law's prediction of the largest size from the smaller ones; empty where it cannot."""
    other_convention: Fit | None
    """The first law again with N without embeddings."""
    scores: list[ScoreFinding]
    next_run: NextRun | None
    """None where the law does not say."""

    @property
    def surface(self) -> Fit | None:
        """The first fitted law in both N and D that is identified, if any."""
        usable = [f for f in self.fits if f.law.inputs == ("N", "D") and f.status is not Status.NOT_IDENTIFIABLE]
        return usable[0] if usable else None

    @property
    def drawn(self) -> Fit | None:
        """The law in the figure of loss against size: the surface, or else the first identified law in N."""
        others = [fit for fit in self.fits if fit.status is not Status.NOT_IDENTIFIABLE]
        return self.surface or (others[0] if others else None)


def find(data: SweepData, options: FitOptions | None = None) -> Findings:
    """Everything about a sweep's finished runs; InputError where there is none with a held-out loss."""
    options = options or FitOptions()
    loss = loss_runs(data)
    laws = data.laws or DEFAULT_LAWS
    fits, refusals = fit_losses(laws, loss, options)
    first = fits[0] if fits else None
    windows = hold_out([first.law.name], loss_points(first.law.name, loss), options, largest_only=True) if first else []
    other = None
    if first is not None and loss[OTHER_PARAMS].is_not_null().all():
        other = fit_or_refuse(first.law.name, loss, options, params=OTHER_PARAMS)
    found = Findings(
        data=data,
        loss=loss,
        fits=fits,
        refusals=refusals,
        windows=windows,
        other_convention=other if isinstance(other, Fit) else None,
        scores=[find_score(data, name, options) for name in data.scores],
        next_run=None,
    )
    return replace(found, next_run=suggest(found))


def loss_runs(data: SweepData) -> pl.DataFrame:
    """Finished runs with their held-out loss as `score` and final training loss as `train_loss`."""
    finished = data.finished
    if HELDOUT_LOSS not in finished.columns or finished[HELDOUT_LOSS].is_not_null().sum() == 0:
        counts = ", ".join(f"{row['len']} {row['status']}" for row in data.table.group_by("status").len().to_dicts())
        raise InputError(
            f"sweep {data.name!r} has no finished run with a held-out loss yet ({counts or 'no runs'}); "
            f"`ladder status {data.name}` tells how far it is, `ladder run {data.name}` goes on"
        )
    table = finished.filter(pl.col(HELDOUT_LOSS).is_not_null()).with_columns(score=pl.col(HELDOUT_LOSS))
    return table.join(final_train_losses(data.curves), on="run", how="left").sort(PARAMS, "tokens", "seed")


def final_train_losses(curves: pl.DataFrame) -> pl.DataFrame:
    """run, train_loss: mean training loss over the last steps of each run."""
    last = pl.col("step") >= pl.col("step").max().over("run") * (1 - LAST_SHARE)
    return curves.drop_nulls("train_loss").filter(last).group_by("run").agg(pl.col("train_loss").mean())


def largest_budget(table: pl.DataFrame) -> pl.DataFrame:
    """Of every size the runs with the most tokens (all seeds): what is compared across sizes."""
    most = pl.col("tokens").max().over(PARAMS)
    return table.filter(pl.col("tokens") >= most * (1 - DISTINCT))


def loss_points(law: str, loss: pl.DataFrame, params: str = PARAMS) -> Points:
    """The runs that a law of the loss is fitted to: all for a law in N and D, else each size at its largest budget."""
    table = loss if find_law(law).inputs == ("N", "D") else largest_budget(loss)
    return make_points(table["score"].to_numpy(), params=table[params].to_numpy(), tokens=table["tokens"].to_numpy())


def fit_or_refuse(law: str, loss: pl.DataFrame, options: FitOptions, *, params: str = PARAMS) -> Fit | Refusal:
    """The fit, or why there cannot be one."""
    try:
        return fit_law(law, loss_points(law, loss, params), options)
    except InputError as error:
        return Refusal(law=law, reason=str(error))


def fit_losses(laws: tuple[str, ...], loss: pl.DataFrame, options: FitOptions) -> tuple[list[Fit], list[Refusal]]:
    """Laws in N and D come first, since they say most."""
    ordered = sorted(laws, key=lambda law: find_law(law).inputs == ("x",))
    results = [fit_or_refuse(law, loss, options) for law in ordered]
    return [r for r in results if isinstance(r, Fit)], [r for r in results if isinstance(r, Refusal)]


def score_rows(data: SweepData, name: str) -> pl.DataFrame:
    """Finished runs that have the score, with its standard error."""
    errors = data.standard_errors.filter(pl.col("name") == name).select("run", "standard_error")
    columns = ["run", "size", PARAMS, "tokens", "seed", pl.col(name).alias("score")]
    rows = data.finished.filter(pl.col(name).is_not_null()).select(columns)
    return rows.join(errors.unique("run"), on="run", how="left").sort(PARAMS, "tokens", "seed")


def find_score(data: SweepData, name: str, options: FitOptions) -> ScoreFinding:
    """A measurement against size, at each size's largest token count."""
    described: Mapping[str, object] = data.describe(name)
    metric = str(described["metric"] or name.rsplit("/", 1)[-1])
    unit = str(described["unit"] or "")
    rows = score_rows(data, name)
    fitted = largest_budget(rows)
    # A perplexity is the exponential of a loss: its logarithm is what can be linear in ln N.
    log_score = "perplexity" in (unit + metric).lower()
    line_options = replace(options, constants={"log_score": float(log_score)}, starts=1, bootstrap=0, objective=None)
    fit, refusal, windows = None, "", []
    try:
        points = make_points(fitted["score"].to_numpy(), params=fitted[PARAMS].to_numpy())
        fit = fit_law(LogLinear.name, points, line_options)
        if fit.status is Status.NOT_IDENTIFIABLE:
            refusal, fit = fit.reason, None
        elif described["direction"] == "higher":
            windows = hold_out(RIVAL_FORMS, points, replace(options, constants={}, starts=60, bootstrap=0))
    except InputError as error:
        refusal = str(error)
    chance = described["chance"]
    return ScoreFinding(
        name=name,
        unit=unit,
        direction=str(described["direction"]) if described["direction"] else None,
        chance=float(chance) if isinstance(chance, int | float) else None,
        description=str(described["description"] or ""),
        log_score=log_score,
        rows=rows,
        fitted=fitted,
        fit=fit,
        refusal=refusal,
        windows=windows,
    )


def suggest(findings: Findings) -> NextRun | None:
    """The compute-optimal run at a multiple of the largest compute; None unless a Hoffmann law converged."""
    fit = findings.surface
    if fit is None or not isinstance(fit.law, Hoffmann) or fit.status is not Status.CONVERGED:
        return None
    flops = float(findings.loss["flops_6nd"].max() or 0.0) * NEXT_COMPUTE  # type: ignore[arg-type]
    if not flops > 0:
        return None
    best = fit.law.optimum(flops)
    band = fit.band({"N": np.array([best.params]), "D": np.array([best.tokens])})
    low, high = (float(band[0][0]), float(band[1][0])) if band else (None, None)
    return NextRun(allocation=best, low=low, high=high)
