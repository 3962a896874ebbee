"""Extractors for tests: they do to their process what real pages do to real parsers."""

import os
import re
import signal
import time
from pathlib import Path


def fragile(page: str | bytes, url: str) -> str:
    """The text between tags; a page that says POISON kills the process, as a parser written in C may."""
    text = page if isinstance(page, str) else page.decode("utf-8", "replace")
    if "POISON" in text:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "RAISE" in text:
        raise ValueError("odd page")
    return re.sub(r"<[^>]*>", " ", text)


def slow(page: str | bytes, url: str) -> str:
    """As `fragile`, slow enough to be interrupted; each call leaves its process' number in a file."""
    with Path(os.environ["CALLS"]).open("a") as calls:
        calls.write(f"{os.getpid()} {url}\n")
    time.sleep(0.05)
    return fragile(page, url)
