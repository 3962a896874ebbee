"""What made a result is known on a cluster and in a container too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ladder.platform import provenance
from ladder.platform.launching.submission import stage
from ladder.sweeps.load import sweep_file


def noted(folder: Path) -> str:
    """The commit as the code in a folder knows it."""
    code = "from ladder.platform import provenance as p; print(p.__file__); print(p.commit())"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    place, commit = done.stdout.split()
    assert Path(place).is_relative_to(folder)
    return commit


def test_the_package_that_travels_to_a_cluster_knows_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = tmp_path / "mine.py"
    sweep.write_text(sweep_file("demo").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(provenance, "commit", lambda: "0123456789ab+changes")
    stage(sweep, tmp_path / "known")
    assert noted(tmp_path / "known") == "0123456789ab+changes"
    monkeypatch.setattr(provenance, "commit", lambda: None)
    stage(sweep, tmp_path / "unknown")
    assert noted(tmp_path / "unknown") == "None"


def test_the_user_is_known_without_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    assert provenance.user() == "somebody"
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    pwd = pytest.importorskip("pwd")
    assert provenance.user() == pwd.getpwuid(os.getuid()).pw_name

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert provenance.user() == f"uid-{os.getuid()}"
