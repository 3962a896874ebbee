"""A stage's folder: one part for each piece of input, each whole or absent, so that a stage is resumed at every
file.

A part is some data files and `part-00000.json`, written last, with the part's key: the sha256 of the stage's recipe
and of the input's identity (name, bytes, time of change). A part whose key is as wanted is not made again; any other
is. When all parts are there `stage.json` is written with the recipe and the sums. What a part holds depends on
nothing but its input and the recipe: not on workers, on their order, on interruptions.
"""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.storage import is_local, read_json, write_json

Recipe = Mapping[str, Any]
ERRORS_KEPT = 100
SAMPLES_KEPT = 5


@dataclass(frozen=True, kw_only=True)
class Task:
    """The work that makes one part."""

    index: int
    """The part's number, from 0, in the order of the input."""
    folder: UPath
    """The stage's folder."""
    key: str
    """What the part is made of: equal keys, equal parts."""
    spec: Any
    """What the stage's function needs to know; it can be pickled."""

    def path(self, suffix: str) -> UPath:
        """A data file of the part."""
        return self.folder / f"part-{self.index:05d}{suffix}"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of one corpus: its folder and what its output depends on."""

    name: str
    """links, pages, text or duplicates."""
    folder: UPath
    """Where its parts are."""
    recipe: Recipe
    """All that decides its output but the input, the stages before included; JSON."""

    @property
    def recipe_sha256(self) -> str:
        """sha256 (hex) of the recipe."""
        return sha256_of(self.recipe)

    def task(self, index: int, spec: Any, identity: Any) -> Task:
        """The work of one part, whose input is told apart from others by `identity` (JSON)."""
        key = sha256_of({"recipe": self.recipe, "input": identity})
        return Task(index=index, folder=self.folder, key=key, spec=spec)

    def finish(self, tasks: Sequence[Task], **values: Any) -> dict[str, Any]:
        """Removes parts of other inputs, sums up and marks the stage as complete; what `stage.json` then holds."""
        summaries = [read_json(task.path(".json")) for task in tasks]
        _remove_parts(self.folder, beyond=len(tasks))
        content = {
            "stage": self.name,
            "recipe": self.recipe,
            "recipe_sha256": self.recipe_sha256,
            "output_sha256": sha256_of([task.key for task in tasks]),
            "parts": len(tasks),
            **sum_parts([summary for summary in summaries if summary is not None]),
            **values,
        }
        write_json(self.folder / "stage.json", content)
        return content

    def reopen(self) -> None:
        """Takes back that the stage is complete, before its parts change."""
        (self.folder / "stage.json").unlink(missing_ok=True)


def open_stage(folder: UPath) -> dict[str, Any]:
    """What a completed stage says of itself; InputError, with the command that makes it, if it is not complete."""
    content = read_json(folder / "stage.json")
    if not isinstance(content, dict):
        raise InputError(
            f"the stage {folder.name!r} of {folder.parent.name!r} is not complete in {folder}; "
            f"run it first: ladder corpus webtext {folder.parent.name} --stage {folder.name} ..."
        )
    return content


def sha256_of(value: Any) -> str:
    """sha256 (hex) of a value's JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def identify(file: UPath) -> dict[str, Any]:
    """What tells a version of an input file from another, without reading it: name, bytes, time of change."""
    try:
        information = file.fs.info(file.path)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    changed = next((information[name] for name in ("ETag", "etag", "mtime", "created") if name in information), None)
    return {"file": str(file), "bytes": information.get("size"), "changed": str(changed)}


def is_done(task: Task) -> bool:
    """Whether the part is there, made of the same input by the same recipe."""
    summary = read_json(task.path(".json"))
    return isinstance(summary, dict) and summary.get("key") == task.key


def write_summary(task: Task, summary: Mapping[str, Any]) -> None:
    """Marks the part as whole."""
    write_json(task.path(".json"), {"key": task.key, **summary})


def write_table(path: UPath, table: pl.DataFrame) -> None:
    """Writes a parquet file that is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_or_absent(path) as file:
        table.write_parquet(file, compression="zstd", compression_level=3)


def write_tables(path: UPath, tables: Iterable[pa.Table]) -> None:
    """Writes tables of the same columns, at least one, to one parquet file that is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_or_absent(path) as file:
        writer = None
        for table in tables:
            writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd", compression_level=3)
            writer.write_table(table)
        assert writer is not None, f"no table for {path}"
        writer.close()


@contextlib.contextmanager
def whole_or_absent(path: UPath) -> Iterator[IO[bytes]]:
    """A file to write, which has its name only when it is whole; nothing of it stays when writing raises."""
    target = path.with_name(f"{path.name}.partial") if is_local(path) else path
    try:
        with target.open("wb") as file:
            yield file
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    if is_local(path):
        target.rename(path)


def read_table(path: UPath, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A parquet file of a stage; InputError if it is missing or damaged."""
    try:
        with path.open("rb") as file:
            return pl.read_parquet(file, columns=None if columns is None else list(columns))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"{path} is missing or damaged ({error}); remove its folder and run the stage again"
        ) from error


def table_parts(folder: UPath, stage: Mapping[str, Any], suffix: str = ".parquet") -> list[UPath]:
    """The data files of a completed stage, in order."""
    return [folder / f"part-{index:05d}{suffix}" for index in range(stage["parts"])]


def sum_parts(summaries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts added up, errors and samples of the first parts kept, in the order of the parts."""
    counts: Counter[str] = Counter()
    errors: list[Any] = []
    samples: dict[str, list[Any]] = {}
    for summary in summaries:
        counts.update(summary.get("counts", {}))
        errors += summary.get("errors", [])[: ERRORS_KEPT - len(errors)]
        for reason, some in summary.get("samples", {}).items():
            kept = samples.setdefault(reason, [])
            kept += some[: SAMPLES_KEPT - len(kept)]
    return {"counts": dict(sorted(counts.items())), "errors": errors, "samples": dict(sorted(samples.items()))}


def _remove_parts(folder: UPath, *, beyond: int) -> None:
    for file in folder.iterdir():
        number = file.name.removeprefix("part-")[:5]
        if file.name.startswith("part-") and number.isdigit() and int(number) >= beyond:
            file.unlink()
