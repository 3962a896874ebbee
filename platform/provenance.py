"""What made a result: the commit, the versions of what it ran on, and the user."""

import getpass
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("ladder", "torch", "ray", "xformers", "mlflow", "tiktoken", "polars", "numpy")

COMMIT_FILE = "COMMIT"
"""Names the commit of a copy of the package that is no checkout, such as the one that travels to a cluster."""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result rests on; a package that is not installed is absent."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str | None:
    """The commit of the code at hand: of its checkout, with `+changes` where files differ from it, or the one that
    `write_commit` noted in a copy; None where neither is there."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        noted = root / COMMIT_FILE
        return noted.read_text().strip() if noted.exists() else None
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    return head + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def write_commit(package: Path) -> None:
    """Note our commit in a copy of the package, where it is known."""
    ours = commit()
    if ours is not None:
        (package / COMMIT_FILE).write_text(ours + "\n")


def user() -> str:
    """Who runs this: the login name of the environment or of the password database, or `uid-N` where neither has one,
    as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # KeyError and ImportError before Python 3.13
        return f"uid-{os.getuid()}"


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
