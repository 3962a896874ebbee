"""From a file or a table and column names to a fit: what `ladder fit` does, usable from a notebook.

Anyone's CSV, TSV, parquet, JSON or JSON lines are read, with errors that name the place.
"""

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.exceptions import PolarsError

from ladder.analysis.fitting.fits import Fit, FitOptions, fit_law
from ladder.analysis.fitting.formulation import default_objective
from ladder.analysis.fitting.frontiers import EnvelopeFit, EnvelopeOptions, fit_envelope
from ladder.analysis.fitting.intervals import Progress
from ladder.analysis.fitting.isoflop import IsoFlopFit, fit_isoflop
from ladder.analysis.fitting.parabolas import IsoFlopOptions
from ladder.analysis.fitting.points import NOISES, Points, make_points
from ladder.analysis.fitting.solver import Kind, Objective
from ladder.analysis.fitting.two_step import TwoStep, TwoStepFit, fit_two_step
from ladder.analysis.laws.law import Law
from ladder.analysis.laws.surfaces import LAWS, Hoffmann, find_law
from ladder.models.errors import InputError

Found = Fit | TwoStepFit | IsoFlopFit | EnvelopeFit

TWO_STEP, ISOFLOP, ENVELOPE = TwoStep.name, "isoflop", "envelope"
WHOLE_TABLE = (TWO_STEP, ISOFLOP, ENVELOPE)
"""What is fitted by more than one form over the points, and so has no hold-out."""
OF_ONE_LAW = {
    "fixed": "--fix", "bounds": "--bound", "errors": "--standard-error", "weights": "--weight", "trials": "--trials",
}  # fmt: skip
"""Choices that only a single law has, by their option."""
NAMES = (*LAWS, *WHOLE_TABLE)
"""Every name that --law knows."""


@dataclass(frozen=True, kw_only=True)
class TableFit:
    """Which law to fit to which columns of which file, and how."""

    path: Path | pl.DataFrame
    """A CSV, TSV, parquet, JSON or JSON lines file with a run a row, or such a table."""
    law_name: str
    """One of NAMES."""
    score: str
    """Column of the score: a loss, or (for two-step and the laws of accuracy) an accuracy or error. This and the other
    columns may be arithmetic over columns, such as N*1e9."""
    params: str | None = None
    """Column of N."""
    tokens: str | None = None
    """Column of D."""
    flops: str | None = None
    """Column of C; of the three any two give the third."""
    loss: str | None = None
    """Column of the loss that two-step, loss-sigmoid and loss-error read."""
    unique: str | None = None
    """Column of the unique tokens that `repeated` reads."""
    errors: str | None = None
    """Column of the score's standard error."""
    weights: str | None = None
    """Column of the weight of a row's squared residual."""
    trials: str | None = None
    """Column of the number of items that the score, a share of successes, was counted over."""
    fixed: tuple[str, ...] = ()
    """NAME=VALUE: parameters that are not fitted."""
    bounds: tuple[str, ...] = ()
    """NAME=LOW:HIGH: bounds of parameters."""
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
    """Column whose equal values are one run: the bootstrap draws them together."""
    anchored: bool = True
    """For two-step: a loss of 0 is the score's maximum, 1 or 100."""
    level: float = 0.95
    """Confidence level of the intervals."""
    progress: Progress | None = None
    """Told how many refits are done."""
    where: tuple[str, ...] = ()
    """COLUMN=VALUE: only rows with the value."""
    drop_missing: bool = False
    """Leave out rows with an empty cell in a used column, in place of refusing the table."""
    window: float | None = None
    """For isoflop: factor in N around each budget's best run; None: all runs."""
    tolerance: float = 0.1
    """For isoflop: width in ln C of one budget."""
    budgets: tuple[float, ...] = ()
    """For isoflop: the budgets, training FLOPs; empty where they are to be found."""

    def __post_init__(self) -> None:
        if self.law_name not in NAMES:
            raise InputError(f"law {self.law_name!r} is unknown; choose one of {', '.join(NAMES)}")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; give 0 or more")

    @property
    def axes(self) -> dict[str, str]:
        """The columns given of N, D and C."""
        pairs = {"params": self.params, "tokens": self.tokens, "flops": self.flops}
        return {name: column for name, column in pairs.items() if column is not None}

    @property
    def inputs(self) -> dict[str, str]:
        """The columns given of N, D, C, the loss, unique tokens, and of what is known of each row's noise."""
        names = ("loss", "unique", *NOISES)
        return self.axes | {name: column for name in names if (column := getattr(self, name)) is not None}

    @property
    def takes_log(self) -> bool:
        """True where the score must be above 0."""
        if self.law_name in LAWS:
            return find_law(self.law_name).log_residual or self.log_score
        return self.law_name != TWO_STEP


def fit_table(request: TableFit) -> Found:
    """Reads, checks and fits; every mistake in the table or the request is an InputError."""
    require_inputs(request)
    points = read_points(prepare(request)[0], request)
    drawing = {"bootstrap": request.bootstrap, "seed": request.seed, "level": request.level}
    if request.law_name == ISOFLOP:
        given = {"tolerance": request.tolerance, "flops": request.budgets or None, "window": request.window}
        return fit_isoflop(points, IsoFlopOptions(**given, **drawing))  # type: ignore[arg-type]
    if request.law_name == ENVELOPE:
        return fit_envelope(points, EnvelopeOptions(**drawing))  # type: ignore[arg-type]
    if request.law_name == TWO_STEP:
        return fit_two_step(
            points.quantity("params"),
            points.quantity("tokens"),
            points.quantity("loss"),
            points.score,
            clusters=points.clusters,
            anchored=request.anchored,
            options=fit_options(Hoffmann, request),
        )
    return fit_law(request.law_name, points, fit_options(find_law(request.law_name), request))


def require_inputs(request: TableFit) -> None:
    """InputError when the columns given cannot give what the law reads."""
    law = LAWS.get(request.law_name)
    reads_loss = request.law_name == TWO_STEP or (law is not None and law.reads == "loss")
    if reads_loss and request.loss is None:
        raise InputError(f"{request.law_name} needs --loss, the column of the loss that the score is a function of")
    if request.law_name == ENVELOPE and request.cluster is None:
        raise InputError("envelope needs --cluster, the column that says of which run's curve a row is")
    if request.law_name == TWO_STEP and request.drop_highest:
        raise InputError("--drop-highest is about losses, and two-step's score is an accuracy; drop the rows yourself")
    given = [option for name, option in OF_ONE_LAW.items() if getattr(request, name)]
    if given and law is None:
        raise InputError(f"{request.law_name} takes no {' and '.join(given)}; choose one of {', '.join(LAWS)}")
    if law is not None and "U" in law.inputs and request.unique is None:
        raise InputError(f"{request.law_name} needs --unique, the column of the unique tokens that D repeats")
    needed = 0 if law is not None and law.reads else 1 if law is not None and law.inputs == ("x",) else 2
    if len(request.axes) < needed:
        wanted = "one of --params, --tokens, --flops" if needed == 1 else "two of --params, --tokens, --flops"
        raise InputError(
            f"{request.law_name} needs {wanted} and got {len(request.axes)}; name the columns of the table"
        )


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
        level=request.level,
        progress=request.progress,
        constants=constants,
        log_residual=False if request.raw_residual else None,
        fixed={name: value[0] for name, value in (read_setting("--fix", text, 1) for text in request.fixed)},
        bounds=dict(read_setting("--bound", text, 2) for text in request.bounds),  # type: ignore[misc]
    )


def read_setting(option: str, text: str, count: int) -> tuple[str, tuple[float, ...]]:
    """NAME=VALUE, or NAME=LOW:HIGH where two numbers are wanted, in its parts."""
    name, value = split_pair(option, text)
    try:
        found = tuple(float(part) for part in value.split(":"))
    except ValueError:
        found = ()
    if len(found) != count:
        wanted = f"{option} E=1.7" if count == 1 else f"{option} alpha=0.1:0.6"
        raise InputError(f"{option} {text!r} does not give {count} numbers; write such as {wanted}")
    return name, found


def read_points(table: pl.DataFrame, request: TableFit) -> Points:
    """The table's columns as points, highest scores dropped as asked."""
    score = numbers(table, request.score, positive=request.takes_log)
    inputs = {name: numbers(table, column, positive=True) for name, column in request.inputs.items()}
    told_apart = [column for column in ("seed", request.cluster) if column is not None and column in table.columns]
    refuse_duplicates(table, list(dict.fromkeys([*request.inputs.values(), request.score, *told_apart])))
    clusters = None if request.cluster is None else labels(table, request.cluster)
    if request.drop_highest >= len(score):
        raise InputError(f"--drop-highest {request.drop_highest} of {len(score)} points leaves none; drop fewer")
    points = make_points(score, clusters=clusters, **inputs)  # type: ignore[arg-type]
    kept = np.sort(np.argsort(score, kind="stable")[: len(score) - request.drop_highest])
    return points.subset(kept)


READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": lambda path: pl.read_csv(path, infer_schema_length=None),
    ".tsv": lambda path: pl.read_csv(path, separator="\t", infer_schema_length=None),
    ".parquet": lambda path: pl.read_parquet(path),
    ".json": lambda path: pl.read_json(path, infer_schema_length=None),
    ".jsonl": lambda path: pl.read_ndjson(path, infer_schema_length=None),
    ".ndjson": lambda path: pl.read_ndjson(path, infer_schema_length=None),
}
OPERATORS: dict[type[ast.operator], Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}
SHOWN_COLUMNS = 30
"""How many column names an error lists."""


def read_table(path: Path) -> pl.DataFrame:
    """The table in a file, by its extension; InputError where it is missing, empty, unknown or broken."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} has the extension {path.suffix or '(none)'}; a table is one of {', '.join(READERS)}")
    if not path.is_file():
        raise InputError(f"there is no table at {path}; give the path of a CSV, parquet or JSON file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; give a table with a header and at least one row")
    try:
        table = reader(path)
    except (PolarsError, OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path} cannot be read as {path.suffix[1:]}: {first}; mend the file or its extension"
        ) from error
    if table.height == 0:
        raise InputError(f"{path} has columns but no rows; give at least one run a row")
    return table


def numbers(table: pl.DataFrame, column: str, *, positive: bool = False) -> NDArray[np.float64]:
    """A column as float64 [n]; InputError for a column that is absent, not numeric, missing or non-finite somewhere."""
    if column not in table.columns:
        known = ", ".join(table.columns[:SHOWN_COLUMNS])
        raise InputError(f"the table has no column {column!r}; it has {known}")
    values = table[column]
    if values.dtype == pl.String:
        values = parse_numbers(values)
    if not values.dtype.is_numeric():
        raise InputError(f"column {column!r} holds {values.dtype}, not numbers; name a numeric column")
    array = values.cast(pl.Float64).to_numpy()
    bad = values.is_null().to_numpy() | ~np.isfinite(array)
    if bad.any():
        row = int(np.argmax(bad))
        what = "missing" if values.is_null()[row] else str(array[row])
        raise InputError(
            f"column {column!r} is {what} in row {row + 1}; every row needs a finite number: drop or mend it"
        )
    if positive and (array <= 0).any():
        row = int(np.argmax(array <= 0))
        raise InputError(
            f"column {column!r} is {array[row]:g} in row {row + 1}; it must be above 0: drop or mend that row"
        )
    return np.asarray(array, dtype=np.float64)


def parse_numbers(values: pl.Series) -> pl.Series:
    """Text that spells numbers, as numbers (one stray word makes a whole CSV column text)."""
    parsed = values.str.strip_chars().cast(pl.Float64, strict=False)
    bad = parsed.is_null() & values.is_not_null()
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise InputError(
            f"column {values.name!r} holds {values[row]!r} in row {row + 1}, not a number; drop or mend that row"
        )
    return parsed


def labels(table: pl.DataFrame, column: str) -> NDArray[np.str_]:
    """Which run each row is of; InputError for a row that does not say, since all such would count as one run."""
    words = require_column(table, column).cast(pl.String).str.strip_chars()
    empty = (words.is_null() | (words == "")).to_numpy()
    if empty.any():
        row = int(np.argmax(empty))
        raise InputError(f"column {column!r} is empty in row {row + 1}; every row needs the run it is of: fill it in")
    return np.asarray(words.to_list(), dtype=np.str_)


def refuse_duplicates(table: pl.DataFrame, columns: Sequence[str]) -> None:
    """InputError when two rows agree in all of the columns: a point entered twice would count as evidence twice."""
    doubled = table.select(columns).is_duplicated()
    if doubled.any():
        rows = [index + 1 for index, double in enumerate(doubled) if double]
        shown = ", ".join(str(row) for row in rows[:6]) + (" ..." if len(rows) > 6 else "")
        raise InputError(f"rows {shown} repeat the same {', '.join(columns)} and would count twice; keep one of each")


def keep_rows(table: pl.DataFrame, where: Sequence[str]) -> pl.DataFrame:
    """The rows that have every COLUMN=VALUE; a * in a value stands for anything."""
    for condition in where:
        column, value = split_pair("--where", condition)
        pattern = ".*".join(re.escape(part) for part in value.split("*"))
        table = table.filter(require_column(table, column).cast(pl.String).str.contains(f"^(?s:{pattern})$"))
    return table


def split_pair(option: str, text: str) -> tuple[str, str]:
    """COLUMN=VALUE in its parts."""
    column, equals, value = text.rpartition("=")
    if not equals or not column:
        raise InputError(f"{option} {text!r} has no value; write {option} COLUMN=VALUE")
    return column, value


def require_column(table: pl.DataFrame, column: str) -> pl.Series:
    """A column of the table, or an InputError that lists those it has."""
    if column not in table.columns:
        raise InputError(f"the table has no column {column!r}; it has {', '.join(table.columns[:40])}")
    return table[column]


def derive(table: pl.DataFrame, column: str) -> pl.Series:
    """A column by its name, or by arithmetic over columns such as `N*1e9` or `N - 50304*width`.

    Raises InputError for a name that the table does not have and for anything but numbers, names, + - * / ** and
    parentheses.
    """
    if column in table.columns or not any(sign in column for sign in "+-*/"):
        return require_column(table, column)
    try:
        tree = ast.parse(column, mode="eval").body
    except SyntaxError:
        return require_column(table, column)
    return table.select(arithmetic(table, tree, column).alias(column))[column]


def arithmetic(table: pl.DataFrame, node: ast.expr, text: str) -> pl.Expr:
    """A parsed expression over columns as polars has it."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](arithmetic(table, node.left, text), arithmetic(table, node.right, text))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -arithmetic(table, node.operand, text)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return pl.lit(float(node.value))
    if isinstance(node, ast.Name):
        if not require_column(table, node.id).dtype.is_numeric():
            raise InputError(f"{text!r} reckons with column {node.id!r}, which holds no numbers; name another")
        return pl.col(node.id).cast(pl.Float64)
    raise InputError(
        f"{text!r} is neither a column nor arithmetic over columns; write such as N*1e9 or N - 50304*width"
    )


def prepare(request: TableFit) -> tuple[pl.DataFrame, int]:
    """The rows that a request is about, with derived columns, and how many were dropped for missing cells."""
    table = request.path if isinstance(request.path, pl.DataFrame) else read_table(request.path)
    rows = keep_rows(table, request.where)
    if rows.height == 0:
        raise InputError(f"no row has {' and '.join(request.where)}; the table has {table.height} rows")
    used = list(dict.fromkeys([*request.inputs.values(), request.score]))
    rows = rows.with_columns(*(derive(rows, column).alias(column) for column in used if column not in rows.columns))
    if not request.drop_missing:
        return rows, 0
    empty = [pl.col(column).is_null() | (pl.col(column).cast(pl.String).str.strip_chars() == "") for column in used]
    broken = [~pl.col(c).is_finite().fill_null(False) for c in used if rows[c].dtype in (pl.Float32, pl.Float64)]
    kept = rows.filter(~pl.any_horizontal(*empty, *broken))
    if kept.height == 0:
        raise InputError(f"every row lacks one of {', '.join(used)}; name other columns")
    return kept, rows.height - kept.height
