"""A benchmark of a user's own, in a file: JSON lines, Python that defines BENCHMARK, or YAML of a harness task.

The file's content travels to whoever scores, on this machine or on another, and its hash is part of what a score that
is kept depends on. A Python file is run where it scores: what else it reads must be there too, as files of the storage
are (`Benchmark.files`).
"""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.benchmark import Benchmark, Setting
from ladder.platform.evaluation.harness.names import FILE_SUFFIX
from ladder.platform.evaluation.item_scores import ItemScores
from ladder.platform.evaluation.own.rows import NAME, benchmark_of_rows
from ladder.platform.evaluation.text.lines import load_json, read_text_lines

SUFFIXES = (".jsonl", ".py", FILE_SUFFIX)

WANTED = "JSON lines, a Python file that defines BENCHMARK, or a task's YAML file of lm-evaluation-harness"

HEADER_KEYS = ("name", "metric", "citation", "source")
"""Keys of the first line; a name is needed."""


def is_own_file(word: str) -> bool:
    """Whether a word names a file and no benchmark that ladder knows."""
    return word.endswith(SUFFIXES)


@dataclass(frozen=True, kw_only=True)
class OwnFile:
    """A file that defines a benchmark; it travels to workers as it is."""

    path: str
    """Where the user has it, for messages."""
    content: str
    """Its text."""

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of its text."""
        return hashlib.sha256(self.content.encode()).hexdigest()

    def benchmark(self) -> Benchmark:
        """The benchmark that it defines; InputError names the line that is wrong."""
        return _load(self)


def read_own_file(word: str) -> OwnFile:
    """The file at a path; InputError where it cannot be read as text."""
    path = Path(word)
    if not path.is_file():
        raise InputError(f"no benchmark file at {word}: wanted {WANTED}")
    lines = read_text_lines(UPath(path))
    return OwnFile(path=word, content="\n".join(lines) + "\n")


@lru_cache(maxsize=64)
def _load(file: OwnFile) -> Benchmark:
    if file.path.endswith(FILE_SUFFIX):
        from ladder.platform.evaluation.harness.tasks import task_of_file

        return task_of_file(file.path, file.fingerprint)
    benchmark = _of_python(file) if file.path.endswith(".py") else _of_lines(file)
    return replace(benchmark, definition=file.fingerprint)


def _of_lines(file: OwnFile) -> Benchmark:
    """The benchmark of a header and rows, a JSON object a line; empty lines are left out."""
    numbered = [
        (f"{file.path}, line {number}", line)
        for number, line in enumerate(file.content.splitlines(), start=1)
        if line.strip()
    ]
    places, values = [where for where, _ in numbered], [_object(where, line) for where, line in numbered]
    header = values[0] if values else {}
    unknown = [key for key in header if key not in HEADER_KEYS]
    if not isinstance(header.get("name"), str) or unknown:
        wanted = f'wanted a first line such as {{"name": "capitals"}}, with keys of {", ".join(HEADER_KEYS)}'
        raise InputError(f"{file.path}, line 1: {wanted}, got {json.dumps(header, ensure_ascii=False):.100}")
    given: dict[str, Any] = {key: header[key] for key in ("metric", "citation", "source") if key in header}
    try:
        return benchmark_of_rows(header["name"], values[1:], where=lambda index: places[index + 1], **given)
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(file.path) else f"{file.path}: {error}") from error


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        value = load_json(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error}); wanted an object a line") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: wanted a JSON object, got {line.strip()!r:.60}")
    return value


def _of_python(file: OwnFile) -> Benchmark:
    """The BENCHMARK of a Python file, whose own errors name their line."""
    module = ModuleType(f"ladder_benchmark_{Path(file.path).stem}")
    module.__file__ = file.path
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        exec(compile(file.content, file.path, "exec"), vars(module))
    except SyntaxError as error:
        raise InputError(f"{file.path}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        raise _in_file(file, error) from error
    found = getattr(module, "BENCHMARK", None)
    if not isinstance(found, Benchmark):
        got = "defines no BENCHMARK" if found is None else f"has a BENCHMARK that is a {type(found).__name__}"
        raise InputError(f"{file.path} {got}: wanted a Benchmark, such as benchmark_of_rows(...) gives")
    if NAME.fullmatch(found.name) is None:
        raise InputError(f"{file.path}: name of a benchmark: got {found.name!r}, wanted letters, digits, '-', '_', '.'")
    return replace(found, score=_named(file, found.score))


def _named(file: OwnFile, score: Callable[[Setting], list[ItemScores]]) -> Callable[[Setting], list[ItemScores]]:
    """The same, with errors of the user's code as InputError that names the file and line."""

    def guarded(setting: Setting) -> list[ItemScores]:
        try:
            scores = score(setting)
        except Exception as error:
            if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
                raise
            raise _in_file(file, error) from error
        if not isinstance(scores, list) or not all(isinstance(one, ItemScores) for one in scores):
            raise InputError(f"{file.path}: score gave a {type(scores).__name__}, wanted a list of ItemScores")
        return scores

    return guarded


def _in_file(file: OwnFile, error: Exception) -> InputError:
    """What went wrong, with the last line of the file that it went through."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file.path:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    where = f"{file.path}, line {lines[-1]}" if lines else file.path
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return InputError(f"{where}: {kind}{error}")
