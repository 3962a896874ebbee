"""What made a result: the commit, the versions of what it ran on, and who ran it."""

import getpass
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("ladder", "torch", "ray", "xformers", "mlflow", "tiktoken", "polars", "numpy")


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
    """The commit of ladder's own checkout, with `+changes` where files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    return head + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def user() -> str:
    """Who runs this: the login name, or `uid-N` where the system knows none, as in many containers."""
    try:
        return getpass.getuser()  # LOGNAME, USER and the like, then the password database
    except (KeyError, OSError):  # OSError from Python 3.13 on
        return f"uid-{os.getuid()}"


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
