"""Fixtures that every area's tests share: where the real data is, and the GPT-2 vocabulary."""

import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # There are as many processes as cores: several threads of each would spend the time waiting for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the repository (or LADDER_SHARED); skips where it is absent."""
    folder = Path(os.environ.get("LADDER_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "DATA.md").exists():
        pytest.skip(f"the real data is not at {folder}; set LADDER_SHARED to its folder")
    return folder.resolve()


@pytest.fixture
def gpt2_vocabulary(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points tiktoken at the GPT-2 vocabulary on disk, so that no test needs a network."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(shared / "tiktoken"))


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a process keeps an empty MLflow database once it has made one."""
    return tmp_path_factory.mktemp("migrated") / "mlflow.db"


@pytest.fixture(autouse=True)
def copied_databases(migrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new MLflow database is a copy of the first one: its seventy migrations take more than a second."""
    if (mlflow := sys.modules.get("mlflow.store.db.utils")) is None:
        return
    make: Callable[[Any], None] = mlflow._initialize_tables

    def copy(engine: Any) -> None:
        if engine.dialect.name != "sqlite":
            return make(engine)
        here, there = (migrated, engine.url.database) if migrated.exists() else (engine.url.database, migrated)
        if there is migrated:
            make(engine)
        with closing(sqlite3.connect(here)) as source, closing(sqlite3.connect(there)) as target:
            source.backup(target)
        return None

    monkeypatch.setattr(mlflow, "_initialize_tables", copy)
