"""Anyone's table of runs as a sweep, so that the report can be made of published results as of one's own.

The columns are named by the user; what a score is (a loss, a perplexity, an accuracy ...) follows from the column's
name by `KIND_WORDS` or is said, as `COLUMN=KIND`. What was assumed is written into the report's conventions.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ladder.analysis.laws.law import FLOPS_PER_PARAMETER_TOKEN, LogLinear, format_count
from ladder.analysis.laws.surfaces import LAWS, find_law
from ladder.analysis.tables.fit_table import (
    derive,
    keep_rows,
    labels,
    parse_numbers,
    read_table,
    require_column,
    split_pair,
)
from ladder.analysis.tables.sweeps import (
    COLUMNS,
    CURVES,
    HELDOUT_LOSS,
    MEASUREMENT_FIELDS,
    PARAMS,
    Provenance,
    SweepData,
)
from ladder.models.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a column of scores holds."""

    unit: str
    direction: str
    """lower or higher is better."""
    words: Sequence[str]
    """Parts of a column's name that mean this kind."""


KINDS: Mapping[str, Kind] = {
    "loss": Kind(unit="nats per token", direction="lower", words=("loss", "nll")),
    "perplexity": Kind(unit="perplexity", direction="lower", words=("perplexity", "ppl")),
    "bits": Kind(unit="bits", direction="lower", words=("bits", "bpb", "bpc")),
    "error": Kind(unit="accuracy = 1 - error", direction="higher", words=("err",)),
    "accuracy": Kind(unit="accuracy", direction="higher", words=("acc", "f1", "exact_match", "bleu", "rouge")),
}
"""Kinds of scores; the first kind whose word a column's name holds is taken."""
SIZE_LETTERS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
"""What a letter after a number in a model's name means."""
ERROR_SUFFIXES = ("_stderr", "_standard_error", "_se")
"""COLUMN with one of these is the standard error of COLUMN."""
MOST_FAMILIES = 20
"""Values of a column up to which it may tell families apart; with more it names models."""
PERCENT = 1.5
"""An accuracy above this is in percent."""


@dataclass(frozen=True, kw_only=True)
class TableColumns:
    """Which columns of a table hold what."""

    scores: tuple[str, ...]
    """Columns of scores, each COLUMN or COLUMN=KIND; the first loss is the loss of the laws in N and D."""
    params: str | None = None
    """Column of N."""
    tokens: str | None = None
    """Column of D."""
    flops: str | None = None
    """Column of C; of N, D and C any two give the third by C = 6 N D."""
    run: str | None = None
    """Column of the run's name; None: rows are numbered."""
    size: str | None = None
    """Column of the size's name; None: N to three digits."""
    seed: str | None = None
    """Column of the seed."""
    cluster: str | None = None
    """Column whose equal values are checkpoints of one run; the bootstrap draws them together."""
    where: tuple[str, ...] = ()
    """COLUMN=VALUE: only rows with the value."""
    chance: tuple[str, ...] = ()
    """COLUMN=VALUE: the score of guessing."""
    laws: tuple[str, ...] = ()
    """Laws of the loss; empty: hoffmann where D is known, else log-linear."""
    drop_highest: int = 0
    """Rows of highest loss to leave out."""
    tolerance: float | None = None
    """Width in ln C of one budget of the view at equal compute; None: found."""
    budgets: tuple[float, ...] = ()
    """The budgets, training FLOPs; empty where they are to be found."""
    pool: bool = False
    """Take all rows for one family of models, whatever a column of words says."""

    def __post_init__(self) -> None:
        lossy = [law for law in LAWS.values() if law.log_residual and law.robust and "U" not in law.inputs]
        strange = [law for law in self.laws if find_law(law) not in (*lossy, LogLinear)]
        if strange:
            raise InputError(f"--law {strange[0]} is no law of the loss; curves of accuracies are compared in any case")


def read_table_runs(path: Path, columns: TableColumns, name: str | None = None) -> SweepData:
    """The runs of a file; InputError for a column or value that is not there or no number."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return table_runs(widen(read_table(path)), columns, name or path.stem, {"table": str(path), "sha256": digest})


def widen(table: pl.DataFrame) -> pl.DataFrame:
    """A long table (task, metric, value, and what says which model) with a column TASK_METRIC for each score.

    lm-evaluation-harness and leaderboards have such tables; any other is given back as it is. Raises InputError where
    one model has two values of one score.
    """
    task = next((name for name in ("task", "benchmark") if name in table.columns), None)
    if task is None or not {"metric", "value"} <= set(table.columns):
        return table
    named = table.with_columns(score=pl.col(task).cast(pl.String) + "_" + pl.col("metric").cast(pl.String))
    keys = [name for name in table.columns if name not in (task, "metric", "value")]
    if (doubled := named.filter(pl.struct([*keys, "score"]).is_duplicated())).height or not keys:
        what = f"{doubled['score'][0]} twice for one {', '.join(keys)}" if doubled.height else "no column of the model"
        raise InputError(f"the long table has {what}; keep one value of each score and model")
    return named.pivot(on="score", index=keys, values="value", maintain_order=True)


def size_words(table: pl.DataFrame, columns: TableColumns) -> str:
    """What an axis of sizes says: the column, or where N is from."""
    if columns.params is None:
        return "N = C / 6 D"
    return f"N, by {columns.params}" if has_names(table, columns.params) else columns.params


def has_names(table: pl.DataFrame, column: str | None) -> bool:
    """Whether N is read from the names of models."""
    return column in table.columns and table[column].dtype == pl.String


def size_column(table: pl.DataFrame, column: str) -> list[float | None]:
    """N by numbers, or by the size in a model's name, such as 1.4B in pythia-1.4b."""
    values = derive(table, column)
    if values.dtype != pl.String:
        return number_column(table, column)
    parts = (
        values.str.to_lowercase().str.extract_groups(r"(?:^|[^a-z0-9.])(\d+(?:\.\d+)?)([kmbt])(?:[^a-z0-9]|$)").struct
    )
    numbers = parts[0].cast(pl.Float64) * parts[1].replace_strict(SIZE_LETTERS, default=None, return_dtype=pl.Float64)
    return number_column(table, column) if numbers.null_count() else numbers.to_list()


def table_runs(table: pl.DataFrame, columns: TableColumns, name: str, origin: Mapping[str, str]) -> SweepData:
    """The runs of a table in memory; `origin` says in the report where it is from."""
    rows = keep_rows(table, columns.where)
    if rows.height == 0:
        raise InputError(f"no row of {name} has {' and '.join(columns.where)}; the table has {table.height} rows")
    kinds = dict(score_kind(score) for score in columns.scores)
    if not columns.pool:
        refuse_families(rows, columns)
    main = next((column for column, kind in kinds.items() if kind == "loss"), None)
    names = {column: HELDOUT_LOSS if column == main else column for column in kinds}
    made, left_out = make_rows(rows, columns, kinds, names)
    # N and D as they are given: a table may count them in billions.
    declared = {column.name: column.dtype for column in COLUMNS} | {PARAMS: pl.Float64, "tokens": pl.Float64}
    runs = pl.DataFrame(made, schema=declared | dict.fromkeys(names.values(), pl.Float64))
    known = runs.filter(pl.col("status") == "finished")["tokens"].null_count() == 0
    laws = columns.laws or (("hoffmann",) if known else ("log-linear",))
    told = [] if columns.cluster is None else labels(rows, columns.cluster).tolist()
    return SweepData(
        name=name,
        question=assumptions(columns, kinds, main, name),
        laws=laws if main is not None else (),
        table=runs,
        standard_errors=standard_errors(rows, runs["run"], names),
        measurements=measurements(names, kinds, columns),
        curves=pl.DataFrame(schema={"run": pl.String, "step": pl.Int64} | dict.fromkeys(CURVES.values(), pl.Float64)),
        failed=pl.DataFrame(left_out, schema={"run": pl.String, "reason": pl.String}),
        provenance=Provenance(
            origin={**origin, "columns": ", ".join(used_columns(columns, kinds))},
            commit=None,
            versions={},
            settings={},
            mlflow_run_ids={},
        ),
        clusters=dict(zip(runs["run"], told, strict=bool(told))),
        axes={"N": size_words(rows, columns)} | ({} if main is None else {"loss": main}),
        tolerance=columns.tolerance,
        budgets=columns.budgets,
        source="table",
    )


def refuse_families(rows: pl.DataFrame, columns: TableColumns) -> None:
    """InputError where a column of words that no option names tells several series of sizes apart.

    Models of several families, corpora or optimizers on one line are neither's law, and of equal sizes the one with
    most tokens would stand for all.
    """
    named = {columns.params, columns.run, columns.size, columns.cluster}
    sizes = pl.Series("N", find_quantities(rows, columns)["params"])
    found = []
    for values in rows.select(pl.col(pl.String, pl.Boolean).exclude([name for name in named if name])):
        series = pl.DataFrame({"family": values, "N": sizes}).drop_nulls().group_by("family", maintain_order=True)
        several = series.agg(pl.col("N").n_unique()).filter(pl.col("N") > 1)["family"].to_list()
        if 1 < len(several) <= MOST_FAMILIES:
            found.append(f"{values.name} ({', '.join(map(str, several[:4]))})")
    if columns.params in rows.columns and rows[columns.params].dtype == pl.String and columns.seed is None:
        named_at = pl.DataFrame({"name": rows[columns.params], "N": sizes}).unique(maintain_order=True)
        if twins := named_at.filter(pl.col("N").is_duplicated()).sort("N")["name"].to_list():
            found.append(f"{columns.params} (of one size are {' and '.join(twins[:2])})")
    if found:
        raise InputError(
            f"{' and '.join(found)} may tell families of models apart, which have no law in common; give --group-by "
            "COLUMN for a report of each, --where COLUMN=VALUE for one, or --pool to take all rows for one family"
        )


def score_kind(text: str) -> tuple[str, str]:
    """The column of COLUMN or COLUMN=KIND with its kind."""
    column, equals, kind = text.rpartition("=")
    if equals and kind in KINDS:
        return column, kind
    found = [kind for kind, known in KINDS.items() if any(word in text.lower() for word in known.words)]
    if not found:
        raise InputError(
            f"the name of the score {text!r} does not say what it is; write --score {text}=KIND, KIND one of "
            f"{', '.join(KINDS)}"
        )
    return text, found[0]


def number_column(table: pl.DataFrame, column: str) -> list[float | None]:
    """A column as numbers, None where it is empty or not finite; InputError for other words."""
    values = derive(table, column)
    if values.dtype == pl.String:
        values = parse_numbers(values.replace("", None))
    if not values.dtype.is_numeric() and values.dtype != pl.Null:
        raise InputError(f"column {column!r} holds {values.dtype}, not numbers; name a numeric column")
    return [value if value is not None and np.isfinite(value) else None for value in values.cast(pl.Float64)]


def make_rows(
    table: pl.DataFrame, columns: TableColumns, kinds: Mapping[str, str], names: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Rows of the table of runs, and those that had to be left out with the reason."""
    quantities = find_quantities(table, columns)
    scores = {column: find_scores(table, column, kind) for column, kind in kinds.items()}
    named = columns.run or (columns.params if has_names(table, columns.params) else None)
    numbered = [f"row {i + 1}" for i in range(table.height)]
    labels = require_column(table, named).cast(pl.String).fill_null("").to_list() if named else numbered
    if len(set(labels)) < len(labels):  # a name may stand for several rows, such as checkpoints
        labels = [f"{label} (row {index + 1})" for index, label in enumerate(labels)]
    sizes = require_column(table, columns.size).cast(pl.String).fill_null("").to_list() if columns.size else None
    seeds = number_column(table, columns.seed) if columns.seed else None
    highest = set(find_highest(scores, kinds, columns.drop_highest))
    made, left_out = [], []
    for index, label in enumerate(labels):
        given = {name: values[index] for name, values in quantities.items()}
        reason = why_left_out(given, index in highest, [values[index] for values in scores.values()])
        params, tokens, flops = given["params"], given.get("tokens"), given.get("flops")
        if reason:
            left_out.append({"run": label, "reason": reason})
        made.append(
            {
                "run": label,
                "size": sizes[index] if sizes else None if params is None else format_count(params),
                "params_total": None if reason else params,
                "tokens": None if reason else tokens,
                "flops_6nd": flops,
                "seed": None if seeds is None or seeds[index] is None else int(seeds[index]),  # type: ignore[arg-type]
                "status": "left out" if reason else "finished",
                **{names[column]: values[index] for column, values in scores.items()},
            }
        )
    return made, left_out


def why_left_out(given: Mapping[str, float | None], dropped: bool, scores: Sequence[float | None]) -> str:
    """Why a row is no run; empty where it is one."""
    if dropped:
        return "among the highest losses, dropped as asked"
    missing = [name for name, value in given.items() if value is None or value <= 0]
    if missing:
        return f"{', '.join(missing)} missing or not above 0"
    return "no score" if all(score is None for score in scores) else ""


def find_quantities(table: pl.DataFrame, columns: TableColumns) -> dict[str, list[float | None]]:
    """N, and D and C where they are given or follow by C = 6 N D."""
    pairs = {"params": columns.params, "tokens": columns.tokens, "flops": columns.flops}
    read = {"params": size_column}
    found = {name: read.get(name, number_column)(table, column) for name, column in pairs.items() if column is not None}
    if "params" not in found and len(found) < 2:
        raise InputError("the size of the runs is not known; give --params COLUMN, or both --tokens and --flops")
    if len(found) == 2:
        n, d, c = (found.get(name) for name in ("params", "tokens", "flops"))
        if n is None:
            found["params"] = combine(c, d, lambda flops, tokens: flops / (FLOPS_PER_PARAMETER_TOKEN * tokens))
        elif d is None:
            found["tokens"] = combine(c, n, lambda flops, params: flops / (FLOPS_PER_PARAMETER_TOKEN * params))
        else:
            found["flops"] = combine(n, d, lambda params, tokens: FLOPS_PER_PARAMETER_TOKEN * params * tokens)
    return {name: found[name] for name in pairs if name in found}


def combine(
    first: Sequence[float | None] | None,
    second: Sequence[float | None] | None,
    formula: Callable[[float, float], float],
) -> list[float | None]:
    """A formula of two columns; None where either is missing or 0."""
    assert first is not None and second is not None, "two of the three are given"
    return [formula(a, b) if a and b else None for a, b in zip(first, second, strict=True)]


def find_scores(table: pl.DataFrame, column: str, kind: str) -> list[float | None]:
    """The scores of a column; errors are turned into accuracies, so that forms that saturate apply to them."""
    values = number_column(table, column)
    if kind != "error":
        row = next((place for place, value in enumerate(values, 1) if value is not None and value <= 0), None)
        if row and KINDS[kind].direction == "lower":
            raise InputError(f"column {column!r} is {values[row - 1]:g} in row {row}; it must be above 0: mend it")
        return values
    whole = 100.0 if max((value for value in values if value is not None), default=0.0) > PERCENT else 1.0
    return [None if value is None else whole - value for value in values]


def find_highest(scores: Mapping[str, Sequence[float | None]], kinds: Mapping[str, str], count: int) -> list[int]:
    """Places of the rows of highest loss, `count` of them."""
    if count == 0:
        return []
    main = next((column for column, kind in kinds.items() if kind == "loss"), None)
    if main is None:
        raise InputError("--drop-highest leaves out the highest losses, and no --score is a loss; omit it")
    known = [(value, place) for place, value in enumerate(scores[main]) if value is not None]
    return [place for _, place in sorted(known, reverse=True)[:count]]


def standard_errors(table: pl.DataFrame, runs: pl.Series, names: Mapping[str, str]) -> pl.DataFrame:
    """run, name, standard_error, count: from the columns that are named after a score with one of ERROR_SUFFIXES."""
    rows: list[dict[str, Any]] = []
    for column, name in names.items():
        found = next((column + suffix for suffix in ERROR_SUFFIXES if column + suffix in table.columns), None)
        if found is None:
            continue
        pairs = zip(runs, number_column(table, found), strict=True)
        rows += [{"run": run, "name": name, "standard_error": error, "count": None} for run, error in pairs]
    schema = {"run": pl.String, "name": pl.String, "standard_error": pl.Float64, "count": pl.Int64}
    return pl.DataFrame(rows, schema=schema)


def measurements(names: Mapping[str, str], kinds: Mapping[str, str], columns: TableColumns) -> pl.DataFrame:
    """name, then MEASUREMENT_FIELDS, of every column of scores."""
    chances = {}
    for text in columns.chance:
        column, value = split_pair("--chance", text)
        try:
            chances[column] = float(value)
        except ValueError as error:
            raise InputError(f"--chance {text!r}: {value!r} is no number; write COLUMN=0.25") from error
    unknown = chances.keys() - names.keys()
    if unknown:
        raise InputError(f"--chance names {', '.join(sorted(unknown))}, which is no --score; give it as one too")
    rows = [
        dict.fromkeys(("name", *MEASUREMENT_FIELDS))
        | {"name": name, "benchmark": column, "metric": column, "unit": KINDS[kinds[column]].unit}
        | {"direction": KINDS[kinds[column]].direction, "chance": chances.get(column)}
        for column, name in names.items()
    ]
    schema = {name: pl.Float64 if name == "chance" else pl.String for name in ("name", *MEASUREMENT_FIELDS)}
    return pl.DataFrame(rows, schema=schema)


def used_columns(columns: TableColumns, kinds: Mapping[str, str]) -> list[str]:
    """Every column that was read, with what it was read as."""
    pairs = {"N": columns.params, "D": columns.tokens, "C": columns.flops, "run": columns.run, "size": columns.size}
    pairs |= {"seed": columns.seed, "cluster": columns.cluster}
    told = [f"{column} as {what}" for what, column in pairs.items() if column is not None]
    return [*told, *(f"{column} as {kind}" for column, kind in kinds.items()), *columns.where]


def assumptions(columns: TableColumns, kinds: Mapping[str, str], main: str | None, name: str) -> str:
    """What the report's conventions say about a table."""
    told = [f"N is column {columns.params} of {name}" if columns.params else "N follows from C = 6 N D"]
    if columns.tokens or columns.flops:
        told.append(f"D is column {columns.tokens}" if columns.tokens else "D follows from C = 6 N D")
    else:
        told.append("the tokens that a run saw are not known, so that no law in N and D is fitted")
    if main is not None:
        told.append(f"held-out loss is column {main}, taken to be in nats per token")
    errors = [column for column, kind in kinds.items() if kind == "error"]
    if errors:
        told.append(f"errors are shown as accuracies, 1 - error: {', '.join(errors)}")
    return "; ".join(told) + "."
