"""Benchmarks of other packages: the entry point group `ladder.benchmarks`, each a Benchmark or several.

[project.entry-points."ladder.benchmarks"]
capitals = "my_package.capitals:BENCHMARK"
"""

import hashlib
import inspect
import logging
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from ladder.platform.evaluation.benchmark import Benchmark

logger = logging.getLogger(__name__)

GROUP = "ladder.benchmarks"


@cache
def installed_benchmarks() -> dict[str, Benchmark]:
    """Benchmark by name; one that cannot be loaded is left out with a warning, so that the others still serve."""
    found: dict[str, Benchmark] = {}
    for point in entry_points(group=GROUP):
        try:
            for benchmark in _benchmarks(point):
                found[benchmark.name] = replace(benchmark, definition=_definition(point, benchmark))
        except Exception as error:
            logger.warning("benchmarks of %s are left out: %s: %s", point.value, type(error).__name__, error)
    return found


def _benchmarks(point: EntryPoint) -> Iterable[Benchmark]:
    loaded = point.load()
    benchmarks = (loaded,) if isinstance(loaded, Benchmark) else tuple(loaded)
    wrong = [one for one in benchmarks if not isinstance(one, Benchmark)]
    if wrong:
        raise TypeError(f"wanted a Benchmark or several, got a {type(wrong[0]).__name__}")
    return benchmarks


def _definition(point: EntryPoint, benchmark: Benchmark) -> str:
    """Hash of the package's version, of the module's source and of the benchmark's own definition."""
    version = "" if point.dist is None else f"{point.dist.name} {point.dist.version}"
    source = inspect.getsource(sys.modules[point.module])
    return hashlib.sha256(f"{version}\n{benchmark.definition}\n{source}".encode()).hexdigest()
