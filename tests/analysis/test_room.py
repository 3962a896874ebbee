"""The room stands: folders that import one way, no circle, few files, short functions."""

import ast
from pathlib import Path

import pytest

ROOM = Path(__file__).parents[2] / "analysis"
ORDER = ("laws", "fitting", "tables", "planning", "report")
"""Folders from the ground up: each imports those before it. The door, `api.py`, may import them all."""
MOST_FILES, MOST_LINES = 30, 60


def files() -> dict[str, Path]:
    """Every module of the room by its dotted name within it."""
    return {".".join(path.relative_to(ROOM).with_suffix("").parts): path for path in sorted(ROOM.rglob("*.py"))}


def imported(path: Path) -> set[str]:
    """Modules of the room that a module imports when it runs; what is imported for its types alone does not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    known, found = files(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ladder.analysis"):
            module = (node.module or "").removeprefix("ladder.analysis").removeprefix(".")
            names = [module, *(f"{module}.{alias.name}".removeprefix(".") for alias in node.names)]
            found |= {name for name in names if name in known}
    return found


def test_no_module_imports_itself_by_way_of_others() -> None:
    imports = {name: imported(path) for name, path in files().items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' -> '.join((*way, name))}"
        if name not in done:
            for other in imports[name]:
                visit(other, (*way, name))
            done.add(name)

    for name in imports:
        visit(name, ())


@pytest.mark.parametrize("folder", ORDER)
def test_folders_import_those_below_them_only(folder: str) -> None:
    allowed = ORDER[: ORDER.index(folder) + 1]
    wrong = {
        name: above
        for name, path in files().items()
        if name.startswith(f"{folder}.") and (above := {m for m in imported(path) if m.split(".")[0] not in allowed})
    }
    assert not wrong


def test_the_room_has_at_most_thirty_files() -> None:
    assert len(files()) <= MOST_FILES


def test_no_function_is_longer_than_sixty_lines() -> None:
    long = {
        f"{name}.{node.name}": size
        for name, path in files().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and (size := (node.end_lineno or 0) - node.lineno + 1) > MOST_LINES
    }
    assert not long


def test_other_rooms_come_in_by_the_door() -> None:
    wrong = {
        str(path): node.module
        for area in ("models", "platform", "sweeps")
        for path in sorted((ROOM.parent / area).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("ladder.analysis")
        and node.module != "ladder.analysis.api"
    }
    assert not wrong
