"""The door of the room: all that the commands, a notebook and other rooms use of it is named here.

What draws is imported when it is called, so that a plan or a fit does not wait for matplotlib.
"""

from pathlib import Path

from ladder.analysis.fitting.fits import Fit, FitOptions, fit_law
from ladder.analysis.fitting.holdout import mean_errors
from ladder.analysis.fitting.intervals import Interval
from ladder.analysis.fitting.points import Points, SeedNoise, make_points, seed_noise
from ladder.analysis.fitting.summaries import describe_holdout, holdout_to_json
from ladder.analysis.laws.law import FLOPS_PER_PARAMETER_TOKEN, FLOPS_PER_PF_DAY, Floats, format_count
from ladder.analysis.laws.surfaces import Surface, find_law
from ladder.analysis.planning.budget import BudgetPlan, Mistake, mistake, plan_budget, surface_of
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
from ladder.analysis.tables.fit_table import TableFit, fit_table, hold_out_table
from ladder.analysis.tables.sweeps import HELDOUT_LOSS, SweepData, read_sweep
from ladder.analysis.tables.table_runs import TableColumns, read_table_runs

__all__ = [
    "BudgetPlan",
    "FLOPS_PER_PARAMETER_TOKEN",
    "FLOPS_PER_PF_DAY",
    "Fit",
    "FitOptions",
    "Floats",
    "HELDOUT_LOSS",
    "Interval",
    "Mistake",
    "Noise",
    "Points",
    "Prospect",
    "Question",
    "REFERENCES",
    "Reference",
    "SEED_NOISE",
    "SEED_NOISE_SOURCE",
    "SIMULATIONS",
    "SeedNoise",
    "Surface",
    "SweepData",
    "TableColumns",
    "TableFit",
    "describe_holdout",
    "find_law",
    "fit_law",
    "fit_table",
    "foresee",
    "format_count",
    "hold_out_table",
    "holdout_to_json",
    "interval_words",
    "leaves_reference",
    "list_candidates",
    "make_points",
    "mean_errors",
    "mistake",
    "plan_budget",
    "read_sweep",
    "read_table_runs",
    "seed_noise",
    "surface_of",
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
