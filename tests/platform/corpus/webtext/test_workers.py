"""Worker processes that die, at a page and elsewhere."""

import os
import time
from pathlib import Path

import parsers
import pytest

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext.workers import TRIES, ChildWorker


@pytest.fixture
def child() -> ChildWorker:
    return ChildWorker()


def test_pages_that_kill_are_left_out_and_the_others_are_done(child: ChildWorker, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    done = child.run(parsers.parse_numbers, (str(tries), [2, 5], 7))
    assert done == [0, 1, -2, 3, 4, -5, 6]
    assert sorted(tries.read_text().split()) == sorted(["2"] * TRIES + ["5"] * TRIES)
    child.close()


def test_a_death_that_comes_back_is_an_error_and_no_endless_loop(child: ChildWorker) -> None:
    with pytest.raises(InputError, match=f"died {TRIES} times at its start .exit code -9"):
        child.run(parsers.die, None)
    with pytest.raises(InputError, match=f"died {TRIES + 1} times at the only file"):
        child.run(parsers.die, "the only file")
    child.close()


def test_what_the_function_raises_comes_back_and_the_child_goes_on(child: ChildWorker) -> None:
    with pytest.raises(InputError, match="no such thing"):
        child.run(parsers.complain, "no such thing")
    assert child.run(parsers.own_number, None) == child.run(parsers.own_number, None) != os.getpid()
    child.close()


def test_a_child_ends_with_its_parent(child: ChildWorker) -> None:
    number = child.run(parsers.own_number, None)
    assert child._connection is not None
    child._connection.close()  # as the system does when the parent is killed
    end = time.monotonic() + 30
    while Path(f"/proc/{number}/stat").exists() and ") Z" not in Path(f"/proc/{number}/stat").read_text():
        assert time.monotonic() < end
        time.sleep(0.02)
