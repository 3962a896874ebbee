"""The files of tasks as rows of named columns: tables with tabs or commas, JSON lines, files of lines that belong
together.

In tables with tabs a quote is text like any other: read as in comma-separated values, a stray one swallows the lines up
to the next, which is how copies of SciTail, MNLI, QNLI and STS-B have lost rows.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.text.lines import load_json, read_text_lines


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a file."""

    where: str
    """File and line, for messages."""
    values: Mapping[str, str]
    """Text by column."""

    def text(self, column: str) -> str:
        """A column's text without space around it; InputError where it is empty."""
        value = self.values[column].strip()
        if not value:
            raise InputError(f"{self.where}: wanted text in the column {column}, got none")
        return value

    def label(self, column: str, labels: Mapping[str, int]) -> int:
        """The label that a column's word stands for; InputError for another word."""
        value = self.values[column].strip()
        if value not in labels:
            raise InputError(f"{self.where}: wanted {', '.join(labels)} in the column {column}, got {value!r:.40}")
        return labels[value]

    def number(self, column: str, largest: float) -> float:
        """A number from 0 to the largest; InputError for anything else."""
        value = self.values[column].strip()
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number <= largest:
            raise InputError(
                f"{self.where}: wanted a number from 0 to {largest:g} in the column {column}, got {value!r:.40}"
            )
        return number


def read_tabs(path: UPath, wanted: Sequence[str], *, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows of a table with tabs; the columns' names are those given, or else the first line.

    Columns after the last that is named are left out where the names are given. InputError for a row with fewer, or
    with more than the first line names.
    """
    lines = [line.removesuffix("\r") for line in read_text_lines(path)]
    names = list(columns or lines[0].removeprefix("\ufeff").split("\t"))
    if columns is None:
        _check_columns(f"{path}, line 1", names, wanted)
    first = 1 if columns is None else 0
    for number, line in enumerate(lines[first:], start=first + 1):
        values = line.split("\t")
        where = f"{path}, line {number}"
        if len(values) < len(names) or (columns is None and len(values) > len(names)):
            raise InputError(f"{where}: wanted {len(names)} columns between tabs, got {len(values)}: {line!r:.80}")
        yield Row(where=where, values=dict(zip(names, values, strict=False)))


def first_line(path: UPath) -> str:
    """The first line of a file."""
    return read_text_lines(path)[0].removeprefix("\ufeff").removesuffix("\r")


def read_commas(path: UPath, wanted: Sequence[str]) -> Iterator[Row]:
    """The rows of comma-separated values, whose first line names the columns."""
    rows = csv.reader((line + "\n" for line in read_text_lines(path)), strict=True)
    try:
        names = next(rows)
        _check_columns(f"{path}, line 1", names, wanted)
        for values in rows:
            where = f"{path}, line {rows.line_num}"
            if len(values) != len(names):
                raise InputError(f"{where}: wanted {len(names)} columns as in line 1, got {len(values)}")
            yield Row(where=where, values=dict(zip(names, values, strict=True)))
    except csv.Error as error:
        raise InputError(f"{path}, line {rows.line_num}: not comma-separated values: {error}") from error


def read_json_lines(path: UPath, wanted: Sequence[str]) -> Iterator[Row]:
    """The rows of a file with one JSON object a line, whose keys are the columns."""
    for number, line in enumerate(read_text_lines(path), start=1):
        where = f"{path}, line {number}"
        try:
            values = load_json(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: not JSON ({error}); wanted an object a line") from error
        if not isinstance(values, dict):
            raise InputError(f"{where}: wanted a JSON object with {', '.join(wanted)}, got {line!r:.60}")
        _check_columns(where, list(values), wanted)
        yield Row(where=where, values={name: str(values[name]) for name in wanted})


def read_side_by_side(paths: Mapping[str, UPath]) -> Iterator[Row]:
    """The rows of files of as many lines, each a column."""
    columns = {name: read_text_lines(path) for name, path in paths.items()}
    counts = {str(paths[name]): len(lines) for name, lines in columns.items()}
    if len(set(counts.values())) > 1:
        got = ", ".join(f"{count} in {path}" for path, count in counts.items())
        raise InputError(f"wanted as many lines in each file of a split, got {got}")
    where = next(iter(paths.values()))
    for number, values in enumerate(zip(*columns.values(), strict=True), start=1):
        yield Row(where=f"{where}, line {number}", values=dict(zip(columns, values, strict=True)))


def _check_columns(where: str, names: Sequence[str], wanted: Sequence[str]) -> None:
    absent = [name for name in wanted if name not in names]
    if absent:
        raise InputError(
            f"{where}: wanted the columns {', '.join(wanted)}, got no {absent[0]} in {', '.join(names)[:200]}"
        )
