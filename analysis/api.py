"""The door of the room: all that the commands, a notebook and other rooms use of it is named here.

In a notebook `from ladder.analysis import api` gives `api.fit(frame, law=..., score=..., params=..., tokens=...)`,
whose answer has `interval("a")`, `optimum(1e21)`, `predict` and `band`; `api.predict_places`, `api.save_fit`,
`api.load_fit`, `api.plan_budget(fit, 1e21)` and `api.report(frame, "page.html", ...)`. What draws is imported when it
is called, so that a plan or a fit does not wait for matplotlib.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ladder.analysis.fitting.fits import Fit, FitOptions, fit_law
from ladder.analysis.fitting.frontiers import EnvelopeFit
from ladder.analysis.fitting.health import Health, Status
from ladder.analysis.fitting.holdout import mean_errors
from ladder.analysis.fitting.intervals import Draws, Interval, Line
from ladder.analysis.fitting.isoflop import IsoFlopFit
from ladder.analysis.fitting.points import Points, SeedNoise, make_points, seed_noise
from ladder.analysis.fitting.solver import Objective
from ladder.analysis.fitting.summaries import describe_holdout, holdout_to_json
from ladder.analysis.fitting.two_step import TwoStepFit
from ladder.analysis.laws.law import FLOPS_PER_PARAMETER_TOKEN, FLOPS_PER_PF_DAY, Floats, format_count, format_number
from ladder.analysis.laws.surfaces import Surface, find_law
from ladder.analysis.planning.budget import BudgetPlan, Mistake, mistake, plan_budget, plan_served, surface_of
from ladder.analysis.planning.design import REFERENCES, SEED_NOISE, SEED_NOISE_SOURCE, SIMULATIONS, Reference
from ladder.analysis.planning.proposal import (
    Noise,
    Prospect,
    Question,
    foresee,
    interval_words,
    leaves_reference,
    list_candidates,
)
from ladder.analysis.tables.fit_table import (
    Found,
    TableFit,
    fit_table,
    hold_out_table,
    keep_rows,
    numbers,
    prepare,
    read_table,
    require_column,
)
from ladder.analysis.tables.sweeps import HELDOUT_LOSS, SweepData, read_sweep
from ladder.analysis.tables.table_runs import TableColumns, read_table_runs, table_runs
from ladder.models.errors import InputError

__all__ = [
    "BudgetPlan",
    "Draws",
    "EnvelopeFit",
    "FLOPS_PER_PARAMETER_TOKEN",
    "FLOPS_PER_PF_DAY",
    "Fit",
    "FitOptions",
    "Floats",
    "Found",
    "HELDOUT_LOSS",
    "Health",
    "Interval",
    "IsoFlopFit",
    "Line",
    "Mistake",
    "Noise",
    "Objective",
    "Points",
    "Prospect",
    "Question",
    "REFERENCES",
    "Reference",
    "SEED_NOISE",
    "SEED_NOISE_SOURCE",
    "SIMULATIONS",
    "SeedNoise",
    "Status",
    "Surface",
    "SweepData",
    "TableColumns",
    "TableFit",
    "TwoStepFit",
    "as_table",
    "describe_holdout",
    "describe_places",
    "draw_search",
    "find_law",
    "fit",
    "fit_law",
    "fit_table",
    "foresee",
    "format_count",
    "format_number",
    "frame_of_places",
    "hold_out_table",
    "holdout_to_json",
    "interval_words",
    "keep_rows",
    "leaves_reference",
    "letter",
    "list_candidates",
    "load_fit",
    "make_points",
    "mean_errors",
    "mistake",
    "numbers",
    "place_inputs",
    "plan_budget",
    "plan_served",
    "plot",
    "predict_frontier",
    "predict_places",
    "prepare",
    "read_place",
    "read_sweep",
    "read_table",
    "read_table_runs",
    "report",
    "require_column",
    "save_fit",
    "seed_noise",
    "split_groups",
    "surface_of",
    "table_runs",
    "write_comparison",
    "write_report",
]


def write_report(data: SweepData, path: Path, options: FitOptions | None = None) -> Path:
    """Writes the report of a sweep or of a table of runs; InputError where nothing can be said."""
    from ladder.analysis.report.page import write_report as write

    return write(data, path, options)


def write_comparison(first: SweepData, second: SweepData, path: Path, options: FitOptions | None = None) -> Path:
    """Writes the report of two sweeps; InputError where one of them has nothing to compare."""
    from ladder.analysis.report.comparison_page import write_comparison as write

    return write(first, second, path, options)


SAVED = 1
"""Version of the files that `save_fit` writes."""
MOST_GROUPS = 100
"""Values of a column that are fitted one by one."""


def split_groups(request: TableFit, column: str) -> dict[str, TableFit]:
    """A request for each value of a column, by the value: one fit for each family or corpus in a table."""
    table = request.path if isinstance(request.path, pl.DataFrame) else read_table(request.path)
    rows = keep_rows(table, request.where)
    values = require_column(rows, column).cast(pl.String)
    if values.null_count():
        raise InputError(f"column {column!r} of --group-by is empty in {values.null_count()} rows; fill or drop them")
    names = values.unique(maintain_order=True).to_list()
    if len(names) > MOST_GROUPS:
        raise InputError(f"column {column!r} has {len(names)} values; --group-by takes at most {MOST_GROUPS}")
    return {name: replace(request, path=rows.filter(values == name), where=()) for name in names}


def predict_places(fit: Found, places: pl.DataFrame) -> pl.DataFrame:
    """What a fit says at each place, one a row, with intervals at the fit's level; an unknown end is null.

    Columns of `places` are N, D, C (training FLOPs) or L (loss on the task), whichever the law reads. A law of the
    score gives value, low, high, and new_run_low, new_run_high for one new run; a law in N and D whose places have C
    alone, isoflop and envelope give the optimal N and D, with the interval of N. Raises InputError for a place that
    lacks what the law reads.
    """
    if isinstance(fit, IsoFlopFit | EnvelopeFit):
        return predict_frontier(fit, letter(places, "C", "the budget in FLOPs"))
    given: set[str] = {name for name in ("N", "D", "C", "L") if name in places.columns}
    if isinstance(fit, Fit) and isinstance(fit.law, Surface) and given == {"C"}:
        runs = [fit.optimum(float(flops)) for flops in letter(places, "C", "the budget")]
        rows = [
            {"N": run.best.params, "D": run.best.tokens, "N_low": run.params.low, "N_high": run.params.high}
            | {"value": run.best.loss, "low": run.loss.low, "high": run.loss.high}
            | {"new_run_low": run.new_run.low, "new_run_high": run.new_run.high}
            for run in runs
        ]
        return pl.concat(
            [places, pl.DataFrame(rows, schema_overrides=dict.fromkeys(rows[0], pl.Float64))], how="horizontal"
        )
    inputs = place_inputs(fit, places, given)
    found = {"value": fit.predict(inputs)}
    for name, new_run in (("", False), ("new_run_", True)):
        band = fit.band(inputs, new_run=new_run)
        unknown = np.full(places.height, np.nan)
        found |= {
            f"{name}low": unknown if band is None else band[0],
            f"{name}high": unknown if band is None else band[1],
        }
    return places.with_columns(**{name: pl.Series(values, nan_to_null=True) for name, values in found.items()})


def place_inputs(fit: Fit | TwoStepFit, places: pl.DataFrame, given: set[str]) -> dict[str, Floats]:
    """What the law's formula reads at the places."""
    if fit.law.inputs == ("N", "D"):
        if {"C", "N"} <= given and "D" not in given:
            places = places.with_columns(D=pl.col("C") / (FLOPS_PER_PARAMETER_TOKEN * pl.col("N")))
        return {name: letter(places, name, f"{fit.law.name} reads N and D") for name in ("N", "D")}
    assert isinstance(fit, Fit), "a two-step law is in N and D"
    variable = fit.points.variable_of(type(fit.law))
    wanted = {"params": "N", "tokens": "D", "flops": "C", "loss": "L"}[variable]
    return {"x": letter(places, wanted, f"{fit.law.name} was fitted over {variable}")}


def letter(places: pl.DataFrame, name: str, why: str) -> Floats:
    """A column of places, all above 0."""
    if name not in places.columns:
        raise InputError(f"the places to predict have no {name} ({why}); give such as --predict {name}=1e9")
    return numbers(places, name, positive=True)


def predict_frontier(fit: IsoFlopFit | EnvelopeFit, flops: Floats) -> pl.DataFrame:
    """The optimal N and D at budgets, with the interval of N."""
    if fit.frontier is None:
        raise InputError(f"there is no frontier to predict by: {fit.reason}")
    unknown = np.full(len(flops), np.nan)
    low, high = fit.band(flops) or (unknown, unknown)
    found = {"C": flops, "N": fit.frontier.params(flops), "D": fit.frontier.tokens(flops), "N_low": low, "N_high": high}
    return pl.DataFrame({name: pl.Series(values, nan_to_null=True) for name, values in found.items()})


def read_place(text: str) -> dict[str, float]:
    """N=7e9,D=4e12 as numbers by letter."""
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(value) for name, value in pairs}
    except ValueError as error:
        raise InputError(f"--predict {text!r} is no place; write such as --predict N=7e9,D=4e12") from error


def frame_of_places(texts: Sequence[str]) -> pl.DataFrame:
    """Places written as N=7e9,D=4e12, a row each; InputError where they do not name the same letters."""
    rows = [read_place(text) for text in texts]
    if any(row.keys() != rows[0].keys() for row in rows):
        raise InputError(f"--predict {texts[0]!r} and others name different letters; give each the same, as N and D")
    return pl.DataFrame(rows)


def describe_places(rows: pl.DataFrame, level: float) -> str:
    """Predictions as a table for people."""
    shown = ("N", "D", "C", "L", "value", "low", "high", "N_low", "N_high", "new_run_low", "new_run_high")
    names = [name for name in shown if name in rows.columns]
    cells = [
        [format_number(row[name]) if row[name] is not None else "unknown" for name in names] for row in rows.to_dicts()
    ]
    widths = [max(len(name), *(len(row[place]) for row in cells)) for place, name in enumerate(names)]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in [names, *cells]]
    return "\n  ".join([f"predicted, with {level:.0%} intervals of the curve and of one new run", *lines])


def save_fit(fit: Fit, path: Path) -> Path:
    """Writes a fit as JSON with its points and refits, so that `load_fit` predicts as it did.

    Raises InputError for a path that cannot be written.
    """
    arrays = {name: None if value is None else value.tolist() for name, value in fit.points.arrays.items()}
    draws = fit.draws
    kept = {
        "format": SAVED,
        **fit.to_json(),
        "values": fit.law.values,
        "value": fit.value,
        "variable": fit.points.variable,
        "data": arrays,
        "residuals": fit.residuals.tolist(),
        "log_residual": fit.log_residual,
        "line": None if fit.line is None else asdict(fit.line),
        "draws": None if draws is None else asdict(draws),
    }
    try:
        path.write_text(json.dumps(kept, default=lambda value: value.tolist()), encoding="utf-8")
    except OSError as error:
        raise InputError(f"the fit cannot be written to {path} ({error.strerror}); give a path in a folder") from error
    return path


def load_fit(path: Path) -> Fit:
    """A fit that `save_fit` wrote. Raises InputError for a file that is none."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["format"] != SAVED:
            raise InputError(f"{path} is a fit of format {kept['format']}; this version reads {SAVED}: fit again")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no saved fit ({error}); give a file that `ladder fit --save` wrote") from error
    arrays: dict[str, Any] = {name: None if v is None else np.array(v) for name, v in kept["data"].items()}
    draws, line, health = kept["draws"], kept["line"], kept["health"]
    if draws is not None:
        draws |= {
            name: {k: np.array(v, dtype=np.float64) for k, v in draws[name].items()} for name in ("values", "pinned")
        }
        draws["noise"] = None if draws["noise"] is None else np.array(draws["noise"])
    if line is not None:
        line["covariance"] = None if line["covariance"] is None else tuple(line["covariance"])
    infinite = {name: float("inf") for name in ("condition_number",) if health[name] is None}
    return Fit(
        law=find_law(kept["law"])(**kept["values"]),
        objective=Objective(kind=kept["objective_kind"], delta=kept["delta"] or Objective().delta),
        value=kept["value"],
        points=Points(variable=kept["variable"], **arrays),
        intervals={name: Interval(low=low, high=high) for name, (low, high) in kept["intervals"].items()},
        level=kept["level"],
        status=Status(kept["status"]),
        reason=kept["reason"],
        misfit=kept["misfit"],
        health=Health(**health | infinite | {"bounds_hit": tuple(health["bounds_hit"])}),
        residuals=np.array(kept["residuals"]),
        log_residual=kept["log_residual"],
        draws=None if draws is None else Draws(**draws),
        line=None if line is None else Line(**line),
    )


def fit(table: Any, *, law: str = "hoffmann", score: str, **choices: Any) -> Found:
    """A law fitted to a polars or pandas frame, or to a file, in one call; columns are named as in `ladder fit`.

    `choices` are the fields of `TableFit`: params, tokens, flops, loss, cluster, where, level, bootstrap ... Raises
    InputError for a column or a choice that is not there.
    """
    known = {one.name for one in fields(TableFit)} - {"path", "law_name", "score"}
    strange = sorted(choices.keys() - known)
    if strange:
        raise InputError(f"fit has no choice {', '.join(strange)}; it has {', '.join(sorted(known))}")
    return fit_table(TableFit(path=as_table(table), law_name=law, score=score, **choices))


def report(table: Any, path: str | Path, *, score: str | Sequence[str], name: str = "table", **columns: Any) -> Path:
    """Writes the report of a polars or pandas frame, or of a file, to a path; columns as in `ladder report --table`."""
    scores = (score,) if isinstance(score, str) else tuple(score)
    rows = as_table(table)
    chosen = TableColumns(scores=scores, **columns)
    if isinstance(rows, Path):
        return write_report(read_table_runs(rows, chosen, name), Path(path))
    return write_report(table_runs(rows, chosen, name, {"table": "a frame in memory"}), Path(path))


def draw_search(table: pl.DataFrame, winners: Mapping[str, float]) -> Any:
    """The runs of a search for learning rates as a matplotlib Figure; the columns are in `search_figure`."""
    from ladder.analysis.report import search_figure

    return search_figure.draw_search(table, winners)


def plot(fit: Fit) -> Any:
    """The fit's points and law with its bands as a matplotlib Figure, on light and dark pages alike.

    A law in N and D is drawn against compute with its frontier, another against what it reads.
    """
    from ladder.analysis.report import canvas, figures

    points = fit.points
    if fit.law.inputs == ("N", "D"):
        columns = {"params_total": points.quantity("params"), "tokens": points.quantity("tokens")}
        table = pl.DataFrame(columns | {"flops_6nd": points.quantity("flops"), "score": points.score})
        return figures.draw_compute(table.with_columns(size=pl.col("params_total").cast(pl.String)), fit)
    variable = points.variable_of(type(fit.law))
    x = points.quantity(variable)
    grid = np.geomspace(x.min(), x.max(), canvas.GRID)
    with canvas.styled():
        figure, axes = canvas.new_figure()
        axes.scatter(x, points.score, color=canvas.PALETTE[0], zorder=3)
        axes.plot(grid, fit.predict({"x": grid}), color=canvas.PALETTE[0])
        canvas.draw_band(axes, grid, fit.band({"x": grid}), canvas.PALETTE[0])
        canvas.draw_new_run(axes, grid, fit.band({"x": grid}, new_run=True), canvas.PALETTE[0])
        canvas.log_axis(axes, "x", variable, canvas.format_tick)
    return figure


def as_table(table: Any) -> Path | pl.DataFrame:
    """A path or a polars frame; pandas frames and whatever else polars reads are converted."""
    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, str | Path):
        return Path(table)
    return pl.from_pandas(table) if hasattr(table, "iloc") else pl.DataFrame(table)
