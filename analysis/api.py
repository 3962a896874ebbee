"""The door of the room: what commands, notebooks and other rooms use of it.

`api.fit(frame, law=..., score=..., params=..., tokens=...)` gives `interval("a")`, `optimum(1e21)`, `predict`, `band`.
What draws is imported when called."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ladder.analysis.fitting.fits import Fit, FitOptions, fit_law
from ladder.analysis.fitting.frontiers import EnvelopeFit, Frontier, FrontierDraws, Minima
from ladder.analysis.fitting.health import Health, Status, interval_words
from ladder.analysis.fitting.intervals import Draws, Interval, Line
from ladder.analysis.fitting.isoflop import IsoFlopFit
from ladder.analysis.fitting.parabolas import Budget, BudgetStatus, find_winners
from ladder.analysis.fitting.points import Points, make_points
from ladder.analysis.fitting.predictions import (
    HoldOut,
    describe_conventions,
    describe_holdout,
    describe_places,
    frame_of_places,
    hold_out,
    holdout_to_json,
    mean_errors,
    place_inputs,
    predict_frontier,
    predict_places,
    read_place,
)
from ladder.analysis.fitting.solver import Objective
from ladder.analysis.fitting.two_step import TwoStep, TwoStepFit
from ladder.analysis.laws.law import FLOPS_PER_PARAMETER_TOKEN, FLOPS_PER_PF_DAY, Floats, format_count, format_number
from ladder.analysis.laws.surfaces import LAWS, Allocation, Surface, find_law
from ladder.analysis.planning.budget import (
    BudgetPlan,
    Mistake,
    SeedNoise,
    fit_search,
    mistake,
    plan_budget,
    plan_served,
    seed_noise,
    surface_of,
)
from ladder.analysis.planning.design import (
    REFERENCES,
    SEED_NOISE,
    SEED_NOISE_SOURCE,
    SHARED_NOISE,
    SIMULATIONS,
    Reference,
    leaves_reference,
)
from ladder.analysis.planning.proposal import (
    Noise,
    Prospect,
    Question,
    assess_design,
    list_candidates,
)
from ladder.analysis.tables.fit_table import (
    WHOLE_TABLE,
    Found,
    TableFit,
    fit_options,
    fit_table,
    keep_rows,
    numbers,
    prepare,
    read_points,
    read_table,
    require_column,
    require_inputs,
)
from ladder.analysis.tables.sweeps import HELDOUT_LOSS, SweepData, read_sweep
from ladder.analysis.tables.table_runs import TableColumns, read_table_runs, table_runs, widen
from ladder.models.errors import InputError

__all__ = [
    "BudgetPlan", "Draws", "EnvelopeFit", "FLOPS_PER_PARAMETER_TOKEN", "FLOPS_PER_PF_DAY", "Fit", "FitOptions",
    "Floats", "Found", "HELDOUT_LOSS", "Health", "Interval", "IsoFlopFit", "Line", "Mistake", "Noise", "Objective",
    "Points", "Prospect", "Question", "REFERENCES", "Reference", "SEED_NOISE", "SEED_NOISE_SOURCE", "SHARED_NOISE",
    "SIMULATIONS", "SeedNoise", "Status", "Surface", "SweepData", "TableColumns", "TableFit", "TwoStepFit",
    "as_table", "describe_conventions", "describe_holdout", "describe_places", "draw_search", "find_law",
    "find_winners", "fit", "fit_law", "fit_search", "fit_table", "assess_design", "format_count", "format_number",
    "frame_of_places", "hold_out_table", "holdout_to_json", "interval_words", "keep_rows", "leaves_reference",
    "list_candidates", "load_fits", "make_points", "mean_errors", "mistake", "name_conventions", "numbers",
    "place_inputs", "plan_budget", "plan_served", "plot", "predict_frontier", "predict_places", "prepare",
    "read_place", "read_sweep", "read_table", "read_table_runs", "report", "report_families", "require_column",
    "save_fits", "seed_noise", "split_groups", "surface_of", "table_runs", "write_comparison", "write_report",
]  # fmt: skip


def write_report(data: SweepData, path: Path, options: FitOptions | None = None, example: str | None = None) -> Path:
    """Writes the report of a sweep or a table, with a link to an `example`; InputError where nothing can be said."""
    from ladder.analysis.report.page import write_report as write

    return write(data, path, options, example)


def write_comparison(first: SweepData, second: SweepData, path: Path, options: FitOptions | None = None) -> Path:
    """Writes the report of two sweeps; InputError where one of them has nothing to compare."""
    from ladder.analysis.report.comparison_page import write_comparison as write

    return write(first, second, path, options)


def report_families(table: Path | pl.DataFrame, columns: TableColumns, column: str, name: str, folder: Path) -> Path:
    """Writes a report for each value of a column and a page that sets them side by side; returns that page."""
    from ladder.analysis.report.comparison_page import write_families

    rows = keep_rows(widen(read_table(table) if isinstance(table, Path) else table), columns.where)
    groups = group_rows(rows, column)
    chosen = replace(columns, where=(), pool=True)
    origin = {"table": str(table) if isinstance(table, Path) else "a frame in memory"}
    data = {
        group: table_runs(part, chosen, f"{name}, {column} {group}", origin | {column: group})
        for group, part in groups.items()
    }
    return write_families(name, column, data, folder)


SAVED = 2
"""Version of the files that `save_fits` writes."""
MOST_GROUPS = 100
"""Values of a column that are fitted one by one."""


def group_rows(rows: pl.DataFrame, column: str) -> dict[str, pl.DataFrame]:
    """The rows of each value of a column, by the value; InputError where it is empty somewhere or has too many."""
    values = require_column(rows, column).cast(pl.String)
    if values.null_count():
        raise InputError(f"column {column!r} of --group-by is empty in {values.null_count()} rows; fill or drop them")
    names = values.unique(maintain_order=True).to_list()
    if len(names) > MOST_GROUPS:
        raise InputError(f"column {column!r} has {len(names)} values; --group-by takes at most {MOST_GROUPS}")
    return {name: rows.filter(values == name) for name in names}


def split_groups(request: TableFit, column: str) -> dict[str, TableFit]:
    """A request for each value of a column, by the value: one fit for each family or corpus in a table."""
    table = request.path if isinstance(request.path, pl.DataFrame) else read_table(request.path)
    groups = group_rows(keep_rows(table, request.where), column)
    return {name: replace(request, path=rows, where=()) for name, rows in groups.items()}


def name_conventions(request: TableFit, others: Sequence[str]) -> dict[str, TableFit]:
    """The request, and the same with another column of N, D or C for each AXIS=COLUMN of `others`, by what it is.

    Of three axes tokens is left out, so that D follows from C = 6 N D. Raises InputError for another axis.
    """
    made = {", ".join(request.axes.values()): request}
    for text in others:
        axis, column = text.partition("=")[::2]
        if axis not in ("params", "tokens", "flops") or not column:
            raise InputError(f"--beside {text!r} names no axis; write --beside params=COLUMN, or tokens, or flops")
        other = replace(request, **{axis: column})  # type: ignore[arg-type]
        if len(other.axes) == 3 and axis == "flops":
            other = replace(other, tokens=None)
        made[", ".join(other.axes.values())] = other
    return made


def hold_out_table(request: TableFit, laws: Sequence[str]) -> list[HoldOut]:
    """The laws' predictions of each larger size from those below it, on the windows that all of them can predict."""
    whole = [law for law in laws if law in WHOLE_TABLE]
    if whole:
        raise InputError(f"{whole[0]} has no hold-out; leave out --holdout or choose laws among {', '.join(LAWS)}")
    asked = [replace(request, law_name=law) for law in laws]
    for one in asked:
        require_inputs(one)
    strictest = max(asked, key=lambda one: one.takes_log)
    points = read_points(prepare(strictest)[0], strictest)
    # Each law has its own default of what is minimised, unless one was asked for.
    options = replace(
        fit_options(find_law(laws[0]), request),
        constants={"log_score": float(request.log_score), "chance": request.chance},
        objective=None if request.objective is None else Objective(kind=request.objective, delta=request.delta),
    )
    windows = hold_out(laws, points, options)
    if not windows:
        raise InputError(
            f"no size can be held out: {', '.join(laws)} need more sizes below the largest than the table has; add "
            "sizes, or leave out --holdout"
        )
    return windows


KEPT: dict[str, type] = {
    one.__name__: one
    for one in (
        *LAWS.values(), Allocation, Budget, Draws, EnvelopeFit, Fit, Frontier, FrontierDraws, Health, Interval,
        IsoFlopFit, Line, Minima, Objective, Points, TwoStep, TwoStepFit,
    )
}  # fmt: skip
"""What a saved fit is made of, by name: nothing else is read from a file."""
WORDS: dict[str, type[StrEnum]] = {one.__name__: one for one in (Status, BudgetStatus)}


def encode(value: Any) -> Any:
    """A part of a fit as JSON has it: with the name of its type where JSON has none for it."""
    if isinstance(value, StrEnum):
        return {"word": [type(value).__name__, str(value)]}
    if is_dataclass(value):
        return {"is": type(value).__name__, "fields": {f.name: encode(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, np.ndarray):
        return {"array": encode(value.tolist()), "kind": value.dtype.kind}
    if isinstance(value, Mapping):
        return {"map": {name: encode(one) for name, one in value.items()}}
    if isinstance(value, tuple | list):
        return [encode(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else {"number": str(float(value))}
    return value


def decode(value: Any) -> Any:
    """What `encode` made JSON of; lists come back as tuples. Raises KeyError or TypeError for anything else."""
    if isinstance(value, list):
        return tuple(decode(one) for one in value)
    if not isinstance(value, dict):
        return value
    match value:
        case {"is": name, "fields": parts}:
            return KEPT[name](**{part: decode(one) for part, one in parts.items()})
        case {"word": [name, word]}:
            return WORDS[name](word)
        case {"array": items, "kind": kind}:
            return np.array(decode(items), dtype={"i": np.int64, "b": np.bool_}.get(kind, np.float64))
        case {"map": parts}:
            return {name: decode(one) for name, one in parts.items()}
        case {"number": text}:
            return float(text)
    raise KeyError(", ".join(value))


def save_fits(fits: Mapping[str, Found], path: Path) -> Path:
    """Writes fits by name as JSON with their points and refits, so that `load_fits` predicts as they did.

    Raises InputError for a path that cannot be written.
    """
    kept = [{"name": name, **one.to_json(), "whole": encode(one)} for name, one in fits.items()]
    try:
        path.write_text(json.dumps({"format": SAVED, "fits": kept}), encoding="utf-8")
    except OSError as error:
        raise InputError(f"the fit cannot be written to {path} ({error.strerror}); give a path in a folder") from error
    return path


def load_fits(path: Path) -> dict[str, Found]:
    """Fits that `save_fits` wrote, by name. Raises InputError for a file that holds none."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["format"] != SAVED:
            raise InputError(f"{path} is a fit of format {kept['format']}; this version reads {SAVED}: fit again")
        return {one["name"]: decode(one["whole"]) for one in kept["fits"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no saved fit ({error}); give a file that `ladder fit --save` wrote") from error


def fit(table: Any, *, law: str = "hoffmann", score: str, **choices: Any) -> Found:
    """A law fitted to a polars or pandas frame, or to a file, in one call; columns are named as in `ladder fit`.

    `choices` are the fields of `TableFit`: params, tokens, flops, loss, cluster, where, level, bootstrap ... What the
    command takes as NAME=VALUE may be a mapping: fixed={"E": 1.7}, bounds={"alpha": (0.1, 0.6)}, where={"step": 1000}.
    Raises InputError for a column or a choice that is not there.
    """
    known = {one.name for one in fields(TableFit)} - {"path", "law_name", "score"}
    strange = sorted(choices.keys() - known)
    if strange:
        raise InputError(f"fit has no choice {', '.join(strange)}; it has {', '.join(sorted(known))}")
    return fit_table(TableFit(path=as_table(table), law_name=law, score=score, **as_words(choices)))


def report(table: Any, path: str | Path, *, score: str | Sequence[str], name: str = "table", **columns: Any) -> Path:
    """Writes the report of a polars or pandas frame, or of a file, to a path; columns as in `ladder report --table`."""
    scores = (score,) if isinstance(score, str) else tuple(score)
    rows = as_table(table)
    chosen = TableColumns(scores=scores, **as_words(columns))
    if isinstance(rows, Path):
        return write_report(read_table_runs(rows, chosen, name), Path(path))
    return write_report(table_runs(widen(rows), chosen, name, {"table": "a frame in memory"}), Path(path))


def draw_search(table: pl.DataFrame, winners: Mapping[str, float]) -> Any:
    """The runs of a search for learning rates as a matplotlib Figure: `comparison_page.draw_search`."""
    from ladder.analysis.report import comparison_page

    return comparison_page.draw_search(table, winners)


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


def as_words(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Choices with every fixed, bounds, where and chance, however it was given, as the command's NAME=VALUE words."""

    def words(value: Any) -> tuple[str, ...]:
        if not isinstance(value, Mapping):
            return (value,) if isinstance(value, str) else tuple(value)
        ends = {name: one if isinstance(one, tuple | list) else (one,) for name, one in value.items()}
        return tuple(f"{name}={':'.join(map(str, parts))}" for name, parts in ends.items())

    several = ("fixed", "bounds", "where", "chance")
    return {
        name: words(value) if name in several and not isinstance(value, float | int) else value
        for name, value in choices.items()
    }


def as_table(table: Any) -> Path | pl.DataFrame:
    """A path or a polars frame; lazy and pandas frames and whatever else polars reads are converted."""
    if isinstance(table, pl.DataFrame | pl.LazyFrame):
        return table.lazy().collect()
    if isinstance(table, str | Path):
        return Path(table)
    return pl.from_pandas(table) if hasattr(table, "iloc") else pl.DataFrame(table)
