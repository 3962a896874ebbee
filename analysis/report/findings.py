"""What a sweep's runs amount to: every fit, comparison and prediction that the report states.

Computed once from `SweepData`; the report and its figures only show it.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from scipy import special

from ladder.analysis.fitting.fits import Fit, FitOptions, fit_law
from ladder.analysis.fitting.health import Status
from ladder.analysis.fitting.isoflop import IsoFlopFit, fit_isoflop
from ladder.analysis.fitting.parabolas import IsoFlopOptions
from ladder.analysis.fitting.points import Points, make_points
from ladder.analysis.fitting.predictions import Choice, HoldOut, choose_law, hold_out
from ladder.analysis.fitting.two_step import Found, fit_axes
from ladder.analysis.laws.surfaces import find_law
from ladder.analysis.planning.budget import (
    Additions,
    BudgetPlan,
    SeedNoise,
    find_additions,
    seed_noise,
    suggest,
)
from ladder.analysis.report.scores import (
    ScoreFinding,
    compare_bends,
    describe_score,
    establish,
    find_scores,
    fit_score,
    largest_budget,
)
from ladder.analysis.tables.sweeps import HELDOUT_LOSS, PARAMS, SweepData
from ladder.models.errors import InputError

OTHER_PARAMS, OTHER_FLOPS = "params_non_embedding", "flops_exact"
"""Other conventions, under which the first loss law is fitted again: N as Kaplan et al. 2020 count it, and FLOPs with
attention and vocabulary, where D stands for C / 6 N."""
LAST_SHARE = 0.05
"""Share of a run's steps whose mean training loss is its final training loss: a single batch is noisy."""
MOST_COMPARED = 2000
"""Runs up to which laws are compared by hold-out, which fits each of them for every size."""
BUDGET_REFITS = 200
"""Refits with which widths of a budget are compared: enough to see which lowest points are determined."""
TOLERANCES = (0.1, 0.2, 0.4)
"""Widths in ln C of one budget that are tried where none is given, narrow ones first among equals."""
DEFAULT_LAWS = ("hoffmann", "log-linear")
SHOWN_REASONS = 3
"""Reasons of failed runs that an error repeats."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A law that was asked for and could not be fitted at all."""

    law: str
    reason: str


MOVES, STILL, OPEN = "moves", "does not move at these sizes", "not established"
"""Whether a score after fine-tuning gets better with size: beyond doubt; no more than seeds differ; neither."""
SAME_DOUBT = 0.05
"""p value above which sizes differ by no more than the seeds of a size do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TransferFinding:
    """One metric after fine-tuning, or what it is above the same size from scratch, against size, data and loss.

    Every seed is a point, so that intervals know what seeds and what runs differ by.
    """

    score: ScoreFinding
    """Against N, each size at its largest token count."""
    of_scratch: bool
    """True where the same size from scratch, fine-tuned with the same seed, was taken off."""
    rows: pl.DataFrame
    """TRANSFER_SCHEMA of what has all blocks, `score` as it is drawn, with `loss`, held-out nats per token."""
    laws: dict[str, Found]
    """By the axis in words: the law, or why there is none; empty of a curve that does not move."""

    @property
    def movement(self) -> str:
        """Whether it gets better with size."""
        if self.score.established:
            return MOVES
        parts = [part["score"].to_numpy() for part in self.score.fitted.partition_by(PARAMS)]
        within = sum(float(((part - part.mean()) ** 2).sum()) for part in parts)
        freedom, sizes = sum(len(part) for part in parts) - len(parts), len(parts) - 1
        whole = np.concatenate(parts)
        between = float(((whole - whole.mean()) ** 2).sum()) - within
        if between <= 0 and sizes:
            return STILL
        if not freedom or not sizes or within == 0:
            return OPEN
        doubt = float(special.fdtrc(sizes, freedom, between / sizes / (within / freedom)))
        flat = min(self.score.doubt, 1 - self.score.doubt) > SAME_DOUBT / 2  # the slope's own interval holds 0
        return STILL if doubt > SAME_DOUBT and flat else OPEN


def find_transfer(data: SweepData, options: FitOptions) -> list[TransferFinding]:
    """Every metric after fine-tuning with all blocks, and what it is above scratch, judged together; each setting of a
    task by itself. What does not move has no laws: they would describe what seeds do."""
    if not data.transfer.height:
        return []
    loss = data.table.select("run", pl.col(HELDOUT_LOSS).alias("loss") if HELDOUT_LOSS in data.table.columns else
                             pl.lit(None, dtype=pl.Float64).alias("loss"))  # fmt: skip
    place = ["task", "metric", "setting"]
    own = data.transfer.filter(pl.col("layers") == "all").join(loss, on="run", how="left")
    same = ["checkpoint", *place, "seed"]
    scratch = data.transfer.filter(pl.col("layers") == "nothing").select(*same, scratch="score")
    above = own.join(scratch, on=same).with_columns(score=pl.col("score") - pl.col("scratch"))
    curves = []
    for of_place, rows in own.partition_by(place, as_dict=True, maintain_order=True).items():
        named = above.filter(*(pl.col(name) == value for name, value in zip(place, of_place, strict=True)))
        curves += [(rows, False), (named, True)] if named.height else [(rows, False)]
    scores = establish([transfer_score(rows, of, options) for rows, of in curves], options.level)
    found = []
    for score, (rows, of) in zip(scores, curves, strict=True):
        made = TransferFinding(score=compare_bends(score, options), of_scratch=of, rows=rows, laws={})
        found.append(made if made.movement == STILL else replace(made, laws=transfer_laws(rows, of, options)))
    return found


def transfer_score(rows: pl.DataFrame, of_scratch: bool, options: FitOptions) -> ScoreFinding:
    """The line of a curve against N."""
    first = rows.row(0, named=True)
    name = place_words(rows) + (" gained over scratch" if of_scratch else " after fine-tuning")
    described = {"unit": first["unit"], "direction": first["direction"], "metric": first["metric"], "description": ""}
    described["chance"] = None if of_scratch else first["chance"]
    points = rows.select(
        run="checkpoint", size="size", params_total="params_total", tokens="tokens", seed="seed", score="score",
        standard_error=pl.lit(None, dtype=pl.Float64),
    )  # fmt: skip
    none = pl.DataFrame(schema={"model": pl.String, PARAMS: pl.Int64, "score": pl.Float64})
    return fit_score(describe_score(name, described, points.sort(PARAMS, "tokens", "seed"), none), options)


def place_words(rows: pl.DataFrame) -> str:
    """Task, metric and setting of scores after fine-tuning."""
    first = rows.row(0, named=True)
    return f"{first['task']}/{first['metric']}" + (f" ({first['setting']})" if first["setting"] else "")


def transfer_laws(rows: pl.DataFrame, of_scratch: bool, options: FitOptions) -> dict[str, Found]:
    """Laws of a curve in data, in held-out loss, and in N and D by way of that loss."""
    columns = [rows[name].cast(pl.Float64).to_numpy() for name in (PARAMS, "tokens", "loss", "score")]
    share = rows["direction"][0] == "higher" and not of_scratch
    plain = replace(options, objective=None, constants={}, bootstrap=min(options.bootstrap, BUDGET_REFITS))
    return fit_axes(*columns, clusters=rows["checkpoint"].to_numpy(), share=share, options=plain)


def not_above(data: SweepData, name: str) -> tuple[list[str], int]:
    """Which models with all blocks are not above a baseline, or scratch, beyond doubt; and how many were asked."""
    own = data.transfer.filter(pl.col("layers") == "all", pl.col("direction") == "higher")
    below, asked = [], 0
    for part in own.partition_by("checkpoint", "task", "metric", "setting", maintain_order=True):
        beside = part["beside"][0].get(name)
        if beside is not None:
            asked += 1
            low = beside["difference"]["low"]
            if (beside["difference"]["value"] if low is None else low) <= 0:
                below.append(f"{part['size'][0]} on {place_words(part)}")
    return below, asked


def training_lines(data: SweepData) -> pl.DataFrame:
    """Scores over training of each size's longest runs: OVER_TRAINING_SCHEMA with size and N of the run, `score`,
    `name`, that of the score, and `line`, that of the run in a figure; the largest size last."""
    scored = data.table.filter(pl.col("run").is_in(data.over_training["run"].unique().to_list()))
    runs = largest_budget(scored).select("run", "size", PARAMS, "seed").sort(PARAMS, "seed")
    several = pl.col("run").n_unique().over("size") > 1
    line = pl.when(several).then(pl.format("{}, seed {}", "size", "seed")).otherwise(pl.col("size"))
    rows = data.over_training.join(runs, on="run").sort(PARAMS, "seed", "tokens", maintain_order=True)
    return rows.with_columns(line=line, score="value", name=pl.format("{}/{}", "benchmark", "metric"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """All that the report states about a sweep."""

    data: SweepData
    loss: pl.DataFrame
    """Finished runs with held-out loss: run, size, params, tokens, flops, seed, score, train_loss; may be empty."""
    fits: list[Fit]
    """Laws of held-out loss in the order asked for."""
    refusals: list[Refusal]
    windows: list[HoldOut]
    """The drawn law's prediction of the largest size from the smaller ones; empty where it cannot."""
    conventions: dict[str, Fit]
    """The first law by convention of N and of FLOPs, its own first; empty where no other is known."""
    isoflop: IsoFlopFit | None
    """Parabolas at equal compute; None where size or data of a run is not known."""
    scores: list[ScoreFinding]
    next_runs: list[BudgetPlan]
    """Compute-optimal runs at the next budgets; empty where the law does not say."""
    noise: SeedNoise | None
    """Spread of ln loss between seeds; None where no setting was run with two seeds."""
    additions: Additions | None
    """Runs that would determine the law, where no law in N and D converged; None where none are proposed."""
    level: float
    """Confidence level of all intervals."""
    transfer: list[TransferFinding] = field(default_factory=list)
    """What checkpoints score after fine-tuning; empty where none was fine-tuned."""
    choices: list[Choice] = field(default_factory=list)
    """Laws in N and D compared on the same losses, the best first; empty where they cannot be."""

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
    """Everything about the finished runs; InputError where there is none with a score to fit."""
    options = options or FitOptions()
    loss = loss_runs(data)
    fits, refusals = fit_losses(data, loss, options)
    found = Findings(
        data=data,
        loss=loss,
        fits=fits,
        refusals=refusals,
        windows=[],
        conventions=refit_conventions(fits[0] if fits else None, loss, options),
        isoflop=find_isoflop(data, loss, options),
        scores=find_scores(data, options),
        next_runs=[],
        noise=seed_noise(loss, "score") if loss.height else None,
        additions=None,
        level=options.level,
        transfer=find_transfer(data, options),
    )
    surface = found.surface
    choices = [] if surface is None or len(loss) > MOST_COMPARED else choose_law(surface.points, options)
    return advise(replace(found, windows=hold_out_drawn(found.drawn, options), choices=choices))


def hold_out_drawn(fit: Fit | None, options: FitOptions) -> list[HoldOut]:
    """The drawn law's prediction of the largest size from the smaller ones, with its interval."""
    if fit is None:
        return []
    return hold_out([fit.law.name], fit.points, options, largest_only=True, intervals=True)


def advise(found: Findings) -> Findings:
    """The findings with what to train next: compute-optimal runs, or those that would determine a law first."""
    loss, surface = found.loss, found.surface
    if loss.height == 0 or loss["tokens"].null_count():
        return found
    runs = suggest(surface, float(loss["flops_6nd"].max())) if surface is not None else []  # type: ignore[arg-type]
    more = None if runs else find_additions(loss, surface, found.noise, found.data.trunks)
    return replace(found, next_runs=runs, additions=more)


def loss_runs(data: SweepData) -> pl.DataFrame:
    """Finished runs with their held-out loss as `score` and final training loss as `train_loss`.

    A sweep without any is refused; a file may hold other scores alone, and its table is then empty.
    """
    finished = data.finished
    known = HELDOUT_LOSS in finished.columns and finished[HELDOUT_LOSS].is_not_null().any()
    if not known and (data.source == "sweep" or finished.height == 0):
        raise InputError(nothing_finished(data))
    score = pl.col(HELDOUT_LOSS) if known else pl.lit(None, dtype=pl.Float64)
    table = finished.with_columns(score=score).filter(pl.col("score").is_not_null())
    if data.clusters:
        table = table.with_columns(cluster=pl.col("run").replace_strict(data.clusters, default=pl.col("run")))
    return table.join(final_train_losses(data.curves), on="run", how="left").sort(PARAMS, "tokens", "seed")


def nothing_finished(data: SweepData) -> str:
    """Says how far the runs are, why runs failed, and what to do."""
    counts = ", ".join(f"{row['len']} {row['status']}" for row in data.table.group_by("status").len().to_dicts())
    if data.source == "table":
        left = data.failed.group_by("reason", maintain_order=True).len().head(SHOWN_REASONS).to_dicts()
        told = "; ".join(f"{row['len']} rows: {row['reason']}" for row in left)
        return f"{data.name} has no row that can be used ({told or counts or 'no rows'}); name other columns or rows"
    reasons = [f"{row['run']}: {row['reason']}" for row in data.failed.head(SHOWN_REASONS).to_dicts()]
    more = f" and {data.failed.height - len(reasons)} more" if data.failed.height > len(reasons) else ""
    why = f" Failed: {'; '.join(reasons)}{more}." if reasons else ""
    return (
        f"sweep {data.name!r} has no finished run with a held-out loss yet ({counts or 'no runs'}).{why} "
        f"`ladder status {data.name}` tells how far it is, `ladder run {data.name}` goes on"
    )


def final_train_losses(curves: pl.DataFrame) -> pl.DataFrame:
    """run, train_loss: mean training loss over the last steps of each run."""
    last = pl.col("step") >= pl.col("step").max().over("run") * (1 - LAST_SHARE)
    return curves.drop_nulls("train_loss").filter(last).group_by("run").agg(pl.col("train_loss").mean())


def loss_points(data: SweepData, law: str, loss: pl.DataFrame) -> Points:
    """The runs that a law of the loss is fitted to: all for a law in N and D, else each size at its largest budget."""
    table = loss if find_law(law).inputs == ("N", "D") else largest_budget(loss)
    if find_law(law).inputs == ("N", "D") and table["tokens"].null_count():
        raise InputError(f"{law} needs the tokens that each run saw; name their column, or that of the FLOPs")
    clusters = [data.clusters.get(run, run) for run in table["run"]] if data.clusters else None
    trunks = [data.trunks.get(run, run) for run in table["run"]] if data.trunks else None
    tokens = None if table["tokens"].null_count() else table["tokens"].to_numpy()
    score, params = table["score"].to_numpy(), table[PARAMS].to_numpy()
    return make_points(score, params=params, tokens=tokens, clusters=clusters, trunks=trunks)


def fit_or_refuse(data: SweepData, law: str, loss: pl.DataFrame, options: FitOptions) -> Fit | Refusal:
    """The fit, or why there cannot be one."""
    try:
        return fit_law(law, loss_points(data, law, loss), options)
    except InputError as error:
        return Refusal(law=law, reason=str(error))


def fit_losses(data: SweepData, loss: pl.DataFrame, options: FitOptions) -> tuple[list[Fit], list[Refusal]]:
    """Laws in N and D come first, since they say most; none where no run has a loss."""
    if loss.height == 0:
        return [], []
    ordered = sorted(data.laws or DEFAULT_LAWS, key=lambda law: find_law(law).inputs == ("x",))
    results = [fit_or_refuse(data, law, loss, options) for law in ordered]
    return [r for r in results if isinstance(r, Fit)], [r for r in results if isinstance(r, Refusal)]


def refit_conventions(first: Fit | None, loss: pl.DataFrame, options: FitOptions) -> dict[str, Fit]:
    """The first law under every convention that the runs have columns for; empty where they have one alone."""
    if first is None or first.status is Status.NOT_IDENTIFIABLE or first.law.inputs != ("N", "D"):
        return {}
    names = {"N without embeddings": (OTHER_PARAMS, "tokens"), "FLOPs with attention": (PARAMS, OTHER_FLOPS)}
    found = {"N total, 6 N D": first}
    for name, (params, other) in names.items():
        if loss[params].null_count() or loss[other].null_count():
            continue
        given: dict[str, Any] = {
            "params": loss[params].to_numpy(),
            "tokens" if other == "tokens" else "flops": loss[other].to_numpy(),
            "clusters": first.points.clusters,
            "trunks": first.points.trunks,
        }
        points = make_points(loss["score"].to_numpy(), **given)
        found[name] = fit_law(first.law.name, points, options)
    return found if len(found) > 1 else {}


def find_isoflop(data: SweepData, loss: pl.DataFrame, options: FitOptions) -> IsoFlopFit | None:
    """Hoffmann et al.'s second approach; None where size or data of a run is not known."""
    if loss.height == 0 or loss["tokens"].null_count():
        return None
    points = loss_points(data, "hoffmann", loss)
    asked = IsoFlopOptions(
        bootstrap=options.bootstrap, seed=options.seed, level=options.level, flops=data.budgets or None
    )
    if data.tolerance is not None:
        return fit_isoflop(points, replace(asked, tolerance=data.tolerance))
    # What is one budget depends on the table: of several widths the one that puts most runs into usable budgets.
    tried = {
        width: fit_isoflop(points, replace(asked, tolerance=width, bootstrap=min(options.bootstrap, BUDGET_REFITS)))
        for width in TOLERANCES
    }
    used = {width: sum(len(budget.rows) for budget in fit.used) for width, fit in tried.items()}
    return fit_isoflop(points, replace(asked, tolerance=max(TOLERANCES, key=lambda width: used[width])))
