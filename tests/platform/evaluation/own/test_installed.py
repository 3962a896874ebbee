"""Benchmarks of installed packages are found by their entry points, under names that ladder does not have."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ladder.platform.evaluation.own.installed import installed_benchmarks
from ladder.platform.evaluation.registry import definitions, find_benchmarks, known_benchmarks

MODULE = """from ladder.platform.evaluation.own.rows import benchmark_of_rows

BENCHMARK = benchmark_of_rows("theirs", [{"text": "a"}])
SEVERAL = (benchmark_of_rows("lambada", [{"text": "a"}]), benchmark_of_rows("more", [{"text": "b"}]))
"""

POINTS = """[ladder.benchmarks]
one = their_benchmarks:BENCHMARK
several = their_benchmarks:SEVERAL
broken = their_benchmarks:ABSENT
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package on the path with entry points, as pip would install it."""
    info = tmp_path / "their_benchmarks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-benchmarks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    (tmp_path / "their_benchmarks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    installed_benchmarks.cache_clear()
    yield tmp_path
    installed_benchmarks.cache_clear()
    sys.modules.pop("their_benchmarks", None)


def test_those_of_a_package_are_known_and_what_cannot_be_loaded_is_left_out_with_a_warning(
    package: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert [benchmark.name for benchmark in find_benchmarks(["theirs", "more"])] == ["theirs", "more"]
    assert known_benchmarks()["lambada"].files, "ladder's own is not replaced"
    assert "benchmarks of their_benchmarks:ABSENT are left out: AttributeError" in caplog.text
    before = find_benchmarks(["theirs"])[0].definition
    assert definitions(["theirs", "lambada"], ()) == {"theirs": before, "lambada": ""}
    (package / "their_benchmarks-1.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: their-benchmarks\nVersion: 1.1\n"
    )
    installed_benchmarks.cache_clear()
    assert find_benchmarks(["theirs"])[0].definition not in ("", before)
