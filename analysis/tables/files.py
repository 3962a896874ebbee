"""Tables of runs read from files: anyone's CSV, TSV, parquet, JSON or JSON lines, with errors that name the place."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.exceptions import PolarsError

from ladder.models.errors import InputError

READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": lambda path: pl.read_csv(path, infer_schema_length=None),
    ".tsv": lambda path: pl.read_csv(path, separator="\t", infer_schema_length=None),
    ".parquet": lambda path: pl.read_parquet(path),
    ".json": lambda path: pl.read_json(path, infer_schema_length=None),
    ".jsonl": lambda path: pl.read_ndjson(path, infer_schema_length=None),
    ".ndjson": lambda path: pl.read_ndjson(path, infer_schema_length=None),
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


def refuse_duplicates(table: pl.DataFrame, columns: Sequence[str]) -> None:
    """InputError when two rows agree in all of the columns: a point entered twice would count as evidence twice."""
    doubled = table.select(columns).is_duplicated()
    if doubled.any():
        rows = [index + 1 for index, double in enumerate(doubled) if double]
        shown = ", ".join(str(row) for row in rows[:6]) + (" ..." if len(rows) > 6 else "")
        raise InputError(f"rows {shown} repeat the same {', '.join(columns)}; it would count twice: keep one of each")
