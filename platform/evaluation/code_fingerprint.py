"""A hash of the code that scores are made by, so that what was kept is not taken for what a changed metric gives."""

import ast
import hashlib
import importlib.util
from functools import cache
from pathlib import Path

SCORING = ("ladder.models", "ladder.platform.evaluation")
"""The packages whose modules are hashed."""

NOT_SCORING = frozenset({"checkpoints", "files"})
"""Folders of them that bring files and keep scores, and change none."""


@cache
def code_fingerprint() -> str:
    """The first 16 hex digits of a sha256 over the syntax of the scoring modules: comments and layout do not count."""
    digest = hashlib.sha256()
    for package in SCORING:
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.submodule_search_locations, package
        folder = Path(next(iter(spec.submodule_search_locations)))
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder)
            if name.parts[0] not in NOT_SCORING:
                digest.update(f"{package} {name.as_posix()}\n{syntax(path.read_text(encoding='utf-8'))}\n".encode())
    return digest.hexdigest()[:16]


def syntax(source: str) -> str:
    """Source code without comments, layout and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
    return ast.unparse(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
