"""Real pages and links, and the made-up month that goes with them."""

import importlib.util
import sys
from pathlib import Path

import pytest
from upath import UPath

from ladder.platform.corpus.webtext.engine import Execution

sys.path.insert(0, str(Path(__file__).parent))  # small_web.py and parsers.py, which child processes import too

PACKAGES = ("fastwarc", "msgspec", "resiliparse", "tldextract", "trafilatura")


@pytest.fixture(autouse=True, scope="session")
def _web() -> None:
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"the extra `web` is not installed: {', '.join(absent)}; pip install 'ladder[web]'")


@pytest.fixture(scope="session")
def webtext(shared: Path) -> UPath:
    """The folder of real pages and links."""
    return UPath(shared / "webtext")


@pytest.fixture
def here() -> Execution:
    """This process alone, without a bar."""
    return Execution(workers=1, progress=False)
