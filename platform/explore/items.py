"""The items of scored benchmarks, as `ladder evaluate --samples` wrote them, with who got which right."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ladder.models.errors import InputError
from ladder.platform.explore.catalogue import Entry

MOST_ITEMS = 2_000
"""Items that the page holds at most; of more the first of each benchmark are shown."""


def read_items(files: Sequence[Path], entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """One record an item of a metric: its prompt, its candidates or its answer, and `right` by checkpoint.

    Records of checkpoints that the page does not show are left out; InputError where none are left of a file.
    """
    names = {str(entry.folder): entry.name for entry in entries} | {entry.name: entry.name for entry in entries}
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    for file in files:
        n_before = len(found)
        for record in _records(file):
            name = _name_of(record["checkpoint"], names)
            if name is None or "prompt" not in record:
                continue
            key = (record["benchmark"], record["metric"], record["item"])
            item = found.setdefault(key, {field: record.get(field) for field in _FIELDS} | {"right": {}})
            item["right"][name] = bool(record.get("right"))
        if len(found) == n_before and not found:
            raise InputError(f"{file} has no item of a checkpoint on this page; score those that it shows")
    return [found[key] for key in sorted(found)][:MOST_ITEMS]


_FIELDS = ("benchmark", "metric", "item", "prompt", "candidates", "answer")


def _records(file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            yield record | {field: record[field] for field in ("checkpoint", "benchmark", "metric", "item")}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file}, line {number}: no record of `ladder evaluate --samples` ({error!r})") from error


def _name_of(checkpoint: str, names: dict[str, str]) -> str | None:
    """The page's name of a checkpoint that was scored by the same path, whole or relative."""
    return names.get(checkpoint) or names.get(str(Path(checkpoint).resolve()))
