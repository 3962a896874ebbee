"""From the name of a sweep, or a file, to its `SWEEP`."""

import ast
import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from ladder.models.errors import InputError, did_you_mean
from ladder.sweeps.words import Sweep

BENCHMARK_FILES = (".jsonl", ".py", ".yaml")
"""How the names of files that define a benchmark end."""


def known_sweeps() -> dict[str, Path]:
    """The sweeps that come with ladder: name -> file."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.py")) if _defines_sweep(path)}


def load_sweep(name_or_file: str) -> Sweep:
    """The `SWEEP` of a file, or of a sweep that comes with ladder, with the file's docstring as its question.

    Raises InputError where there is no such sweep, the file does not run, or `SWEEP` is missing or no `Sweep`.
    """
    path = sweep_file(name_or_file)
    module = _execute(path)
    if not hasattr(module, "SWEEP"):
        raise InputError(
            f"{path} defines no SWEEP. Write `SWEEP = Sweep(name=..., corpus=..., points=grid(...), ...)`."
        )
    sweep = module.SWEEP
    if not isinstance(sweep, Sweep):
        raise InputError(f"SWEEP in {path} is a {type(sweep).__name__}, wanted a ladder.sweeps.words.Sweep.")
    benchmarks = tuple(_beside(path, benchmark) for benchmark in sweep.benchmarks)
    return replace(sweep, question=(module.__doc__ or "").strip(), benchmarks=benchmarks)


def sweep_file(name_or_file: str) -> Path:
    """The file of a sweep given by name or by path; raises InputError where there is none."""
    path = Path(name_or_file)
    if path.suffix == ".py" or len(path.parts) > 1:
        if path.is_file():
            return path
        raise InputError(f"no sweep file at {path}.")
    known = known_sweeps()
    if name_or_file not in known:
        near = did_you_mean(name_or_file, known)
        raise InputError(
            f"no sweep named {name_or_file!r}{near}. Known: {', '.join(known)}; or give a file, such as my_sweep.py."
        )
    return known[name_or_file]


def tracked_name(sweep: str, corpus: str | None) -> str:
    """The name under which a sweep's runs are tracked: that of its file, or a name in the tracking store as it is."""
    is_file = sweep in known_sweeps() or sweep.endswith(".py") or len(Path(sweep).parts) > 1
    name = load_sweep(sweep).name if is_file else sweep
    return name + (f"-{corpus}" if corpus else "")


def _beside(path: Path, benchmark: str) -> str:
    """A benchmark's file that stands beside the sweep's, or below; any other word as it is."""
    beside = path.parent / benchmark
    return str(beside) if benchmark.endswith(BENCHMARK_FILES) and beside.is_file() else benchmark


def _execute(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"ladder_sweep_{path.stem}", path)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise InputError(f"{path}, line {error.lineno}: {error.msg}.") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # whatever the user's file does wrong is the user's to mend
        raise InputError(f"{path}{_line_in(path, error)}: {type(error).__name__}: {error}") from error
    return module


def _line_in(path: Path, error: Exception) -> str:
    """`, line N` of the user's file in which the error arose, or nothing where it did not."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f", line {lines[-1]}" if lines else ""


def _defines_sweep(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(
        isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "SWEEP" for t in node.targets)
        for node in tree.body
    )
