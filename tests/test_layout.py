"""The house stands: links, no `__init__.py` in the areas, imports one way, and a README whose tree is the tree."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
AREAS = ("models", "sweeps", "platform", "analysis")
MAY_IMPORT = {
    "models": {"models"},
    "sweeps": {"sweeps", "models"},
    "analysis": {"analysis", "models"},
    "platform": {"platform", "sweeps", "analysis", "models"},
}


def python_files(area: str) -> list[Path]:
    return sorted((ROOT / area).rglob("*.py"))


@pytest.mark.parametrize("area", AREAS)
def test_each_area_is_a_relative_link_under_ladder(area: str) -> None:
    link = ROOT / "ladder" / area
    assert link.is_symlink() and link.readlink() == Path("..") / area


@pytest.mark.parametrize("area", AREAS)
def test_no_area_holds_an_init_file(area: str) -> None:
    assert not list((ROOT / area).rglob("__init__.py"))


def imported_areas(path: Path) -> set[str]:
    areas = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        areas |= {name.split(".")[1] for name in names if name.startswith("ladder.")}
    return areas


@pytest.mark.parametrize("area", AREAS)
def test_imports_run_one_way(area: str) -> None:
    wrong = {str(path): imported_areas(path) - MAY_IMPORT[area] for path in python_files(area)}
    assert not {path: areas for path, areas in wrong.items() if areas}


def test_the_standard_library_platform_is_not_shadowed_from_the_root() -> None:
    code = "import platform; print(platform.python_implementation())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "CPython", done.stderr


@pytest.mark.parametrize("area", AREAS)
def test_no_file_is_too_long_to_be_one_noun(area: str) -> None:
    assert not {str(p): n for p in python_files(area) if (n := len(p.read_text().splitlines())) > 400}
