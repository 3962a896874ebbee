"""Examples of one or two texts and a label from the columns of a table, which is what most tasks are."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from upath import UPath

from ladder.platform.evaluation.text.rows import Row, read_commas, read_json_lines, read_tabs
from ladder.platform.finetuning.task import Example


def read_labelled(
    path: UPath,
    *,
    texts: Sequence[str],
    label: str,
    labels: Mapping[str, int],
    columns: Sequence[str] | None = None,
    left_out: Collection[str] = (),
) -> list[Example]:
    """The rows of a file: `texts` and `label` are columns, `labels` what its words stand for.

    JSON lines where the name ends in .jsonl, commas for .csv, else tabs, with these `columns` or those of the first
    line. A row whose label's word is in `left_out` is none: annotators did not agree on it.
    """
    return [
        Example(texts=tuple(row.text(column) for column in texts), label=row.label(label, labels))
        for row in read_rows(path, (*texts, label), columns=columns)
        if row.values[label].strip() not in left_out
    ]


def read_rows(path: UPath, wanted: Sequence[str], *, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows of a file of any of these forms."""
    if path.suffix == ".jsonl":
        return read_json_lines(path, wanted)
    if path.suffix == ".csv" and columns is None:
        return read_commas(path, wanted)
    return read_tabs(path, wanted, columns=columns)


def numbered(classes: Sequence[str]) -> dict[str, int]:
    """The labels of classes whose files may have their names or their numbers."""
    return {name: label for label, name in enumerate(classes)} | {str(label): label for label in range(len(classes))}
