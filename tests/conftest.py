"""Fixtures that every area's tests share: where the real data is, and the GPT-2 vocabulary."""

import os
from pathlib import Path

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
