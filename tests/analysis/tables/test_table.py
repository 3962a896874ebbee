"""Tables from files, and every way in which they can be wrong."""

from pathlib import Path

import polars as pl
import pytest

from ladder.analysis.tables.fit_table import numbers, read_table, refuse_duplicates
from ladder.models.errors import InputError

TABLE = pl.DataFrame({"n": [1.0, 2.0], "loss": [3.0, 2.5], "name": ["a", "b"]})


@pytest.mark.parametrize("extension", ["csv", "tsv", "parquet", "json", "jsonl"])
def test_every_format_gives_the_same_table(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"runs.{extension}"
    writers = {
        "csv": TABLE.write_csv,
        "tsv": lambda p: TABLE.write_csv(p, separator="\t"),
        "parquet": TABLE.write_parquet,
        "json": TABLE.write_json,
        "jsonl": TABLE.write_ndjson,
    }
    writers[extension](path)
    assert read_table(path).equals(TABLE)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("runs.xlsx", "n,loss\n1,2\n", "extension .xlsx"),
        ("runs", "n,loss\n1,2\n", "extension \\(none\\)"),
        ("runs.csv", "", "is empty"),
        ("runs.csv", "n,loss\n", "no rows"),
        ("runs.json", "{not json", "cannot be read as json"),
        ("runs.parquet", "not parquet", "cannot be read as parquet"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_table(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no table at"):
        read_table(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1", "two"], "'two' in row 2"),
        ([1.0, None], "missing in row 2"),
        ([float("inf"), 1.0], "inf in row 1"),
        ([1.0, -2.0], "-2 in row 2"),
        ([True, False], "Boolean"),
    ],
)
def test_a_column_that_is_not_all_numbers_is_refused_by_row(values: list[object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        numbers(pl.DataFrame({"n": values}), "n", positive=True)


def test_numbers_spelled_as_text_are_numbers() -> None:
    assert numbers(pl.DataFrame({"n": [" 1e6", "2"]}), "n").tolist() == [1e6, 2.0]


def test_a_missing_column_is_refused_with_the_columns_there_are() -> None:
    with pytest.raises(InputError, match="no column 'params'; it has n, loss, name"):
        numbers(TABLE, "params")


def test_a_point_entered_twice_is_refused_by_rows() -> None:
    table = pl.concat([TABLE, TABLE.head(1)])
    with pytest.raises(InputError, match="rows 1, 3 repeat"):
        refuse_duplicates(table, ["n", "loss"])
