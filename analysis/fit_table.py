"""From a file and column names to a fit: what `ladder fit` does, usable from a notebook."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ladder.analysis.fits import Fit, FitOptions, default_objective, fit_law
from ladder.analysis.laws import Law, find_law
from ladder.analysis.objectives import Kind, Objective
from ladder.analysis.points import Points, make_points
from ladder.analysis.table import numbers, read_table, refuse_duplicates
from ladder.models.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TableFit:
    """Which law to fit to which columns of which file, and how."""

    path: Path
    """A CSV, TSV, parquet, JSON or JSON lines file with a run a row."""
    law_name: str
    """One of `laws.LAWS`."""
    score: str
    """Column of the score."""
    params: str | None = None
    """Column of N."""
    tokens: str | None = None
    """Column of D."""
    flops: str | None = None
    """Column of C; of the three any two give the third."""
    objective: Kind | None = None
    """None: the law's default."""
    delta: float = 1e-3
    """Huber's delta."""
    drop_highest: int = 0
    """Points of highest score to leave out."""
    bootstrap: int = 1000
    """Refits for the intervals."""
    seed: int = 0
    """Seeds starts and resampling."""
    starts: int = 200
    """Starting points."""
    log_score: bool = False
    """For log-linear: the line is in ln score."""
    raw_residual: bool = False
    """Residuals of the loss itself in place of its logarithm."""
    chance: float = 0.0
    """For sigmoid: the score of guessing."""
    cluster: str | None = None
    """Column whose equal values the bootstrap draws together."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; give 0 or more")

    @property
    def inputs(self) -> dict[str, str]:
        """The columns given of N, D and C."""
        pairs = {"params": self.params, "tokens": self.tokens, "flops": self.flops}
        return {name: column for name, column in pairs.items() if column is not None}


def fit_table(request: TableFit) -> Fit:
    """Reads, checks and fits; every mistake in the table or the request is an InputError."""
    law = find_law(request.law_name)
    require_inputs(law, request)
    points = read_points(read_table(request.path), request, positive_score=law.log_residual or request.log_score)
    return fit_law(request.law_name, points, fit_options(law, request))


def require_inputs(law: type[Law], request: TableFit) -> None:
    """InputError when the columns given cannot give what the law reads."""
    needed = 1 if law.inputs == ("x",) else 2
    if len(request.inputs) < needed:
        wanted = "one of --params, --tokens, --flops" if needed == 1 else "two of --params, --tokens, --flops"
        raise InputError(f"{law.name} needs {wanted} and got {len(request.inputs)}; name the columns of the table")


def fit_options(law: type[Law], request: TableFit) -> FitOptions:
    """The options of a request, with only the constants that its law has."""
    objective = Objective(kind=request.objective or default_objective(law).kind, delta=request.delta)
    constants: dict[str, float] = {}
    if law.name == "log-linear":
        constants["log_score"] = float(request.log_score)
    if law.name == "sigmoid":
        constants["chance"] = request.chance
    return FitOptions(
        objective=objective,
        bootstrap=request.bootstrap,
        seed=request.seed,
        starts=request.starts,
        constants=constants,
        log_residual=False if request.raw_residual else None,
    )


def read_points(table: pl.DataFrame, request: TableFit, *, positive_score: bool) -> Points:
    """The table's columns as points, highest scores dropped as asked."""
    score = numbers(table, request.score, positive=positive_score)
    inputs = {name: numbers(table, column, positive=True) for name, column in request.inputs.items()}
    told_apart = [column for column in ("seed", request.cluster) if column is not None and column in table.columns]
    refuse_duplicates(table, [*request.inputs.values(), request.score, *told_apart])
    if request.cluster is not None and request.cluster not in table.columns:
        raise InputError(f"the table has no column {request.cluster!r}; it has {', '.join(table.columns)}")
    clusters = None if request.cluster is None else table[request.cluster].cast(pl.String).fill_null("").to_numpy()
    if request.drop_highest >= len(score):
        raise InputError(f"--drop-highest {request.drop_highest} of {len(score)} points leaves none; drop fewer")
    points = make_points(score, clusters=clusters, **inputs)  # type: ignore[arg-type]
    kept = np.sort(np.argsort(score, kind="stable")[: len(score) - request.drop_highest])
    return points.subset(kept)
