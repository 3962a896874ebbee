"""Extractors for tests: they do to their process what real pages do to real parsers."""

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext.workers import Watch


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


def parse_numbers(task: tuple[str, list[int], int], watch: Watch) -> list[int]:
    """0 to n, with those negative that were left out; the poisoned kill the process and leave a line."""
    tries, poisoned, n = task
    done = []
    for number in range(n):
        if not watch.may_parse(str(number)):
            done.append(-number)
            continue
        if number in poisoned:
            with Path(tries).open("a") as file:
                file.write(f"{number}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(number)
    return done


def die(address: str | None, watch: Watch) -> None:
    """Kills its process, at an address that it never leaves out, or before any."""
    if address is not None:
        watch.report(address)
    os.kill(os.getpid(), signal.SIGKILL)


def complain(message: str, watch: Watch) -> None:
    """Raises what a user got wrong."""
    raise InputError(message)


def own_number(task: Any, watch: Watch) -> int:
    """The number of its process."""
    return os.getpid()
