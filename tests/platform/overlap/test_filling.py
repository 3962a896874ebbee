"""One process or several fill the same filter, within the memory that was stated, and leave nothing behind."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.corpus.build import BuildOptions, build_from_records
from ladder.platform.corpus.documents import Record
from ladder.platform.corpus.store import Corpus
from ladder.platform.overlap import plan as plan_module
from ladder.platform.overlap import stretches
from ladder.platform.overlap.filling import Filled, filled_filter
from ladder.platform.overlap.ngrams import find_words
from ladder.platform.overlap.plan import FillPlan, bound_ngrams, plan_filling


def fill(corpus: Corpus, plan: FillPlan) -> tuple[np.ndarray, list[Filled]]:
    """The bits, and what was reported."""
    reported: list[Filled] = []
    with filled_filter(corpus, plan, reported.append) as bloom:
        return bloom.bits.copy(), reported


def test_processes_fill_the_same_filter_as_one(overlapping_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretches.cut_stretches, "__defaults__", (1_000,))
    alone, one_by_one = fill(overlapping_corpus, plan_filling(overlapping_corpus, n=8, processes=1))
    together, reported = fill(overlapping_corpus, plan_filling(overlapping_corpus, n=8, processes=2))
    assert np.array_equal(alone, together) and alone.any()
    for parts in (one_by_one, reported):
        assert len(parts) > 40
        assert sum(part.tokens for part in parts) == overlapping_corpus.train.n_tokens
        assert sum(part.documents for part in parts) == overlapping_corpus.splits["train"].documents
    assert sum(part.ngrams for part in one_by_one) == sum(part.ngrams for part in reported)


def test_processes_that_set_bits_at_the_same_time_lose_none(tmp_path: Path) -> None:
    draw = random.Random(0)
    pages = [" ".join(f"{draw.getrandbits(24):x}" for _ in range(2_000)).encode() for _ in range(160)]
    records = [Record(source="made", data=page, is_json=False, position=0) for page in pages]
    options = BuildOptions(tokenizer="bytes", heldout=0.02, progress=False)
    corpus = build_from_records(UPath(tmp_path), "random", records, source="made", n_bytes=None, options=options)
    alone, _ = fill(corpus, plan_filling(corpus, n=8, processes=1))
    together, reported = fill(corpus, plan_filling(corpus, n=8, processes=2))
    assert np.array_equal(alone, together)
    assert sum(part.ngrams for part in reported) > 300_000


@pytest.mark.parametrize("n", [1, 3, 8])
def test_the_bound_on_ngrams_holds(overlapping_corpus: Corpus, n: int) -> None:
    _, reported = fill(overlapping_corpus, plan_filling(overlapping_corpus, n=n, processes=1))
    assert 0 < sum(part.ngrams for part in reported) <= bound_ngrams(overlapping_corpus)


def test_no_token_of_gpt2_begins_two_words(gpt2_vocabulary: None) -> None:
    tokenizer = load_tokenizer("gpt2")
    continuations = bytes(range(0x80, 0xC0))
    for token in range(tokenizer.end_of_text):
        # Bytes at the start that go on with a character begin none; a character cut at the end may be a letter.
        text = tokenizer.decode_bytes([token]).lstrip(continuations).decode(errors="replace").replace("\ufffd", "x")
        assert len(find_words(text)) <= 1, (token, text)


def test_more_memory_than_is_free_is_refused_before_anything_is_read(
    overlapping_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(processes: int, free: int) -> str:
        monkeypatch.setattr(plan_module.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
        plan = plan_filling(overlapping_corpus, n=8, processes=processes)
        with pytest.raises(InputError) as error:
            fill(overlapping_corpus, plan)
        return str(error.value)

    assert "give --processes 3" in refuse(5, 900 << 20)
    assert "take a machine with more" in refuse(1, 10 << 20)
    assert "5 processes (256 MiB each)" in refuse(5, 900 << 20) and "900 MiB are free" in refuse(5, 900 << 20)


def test_too_little_shared_memory_is_refused(
    overlapping_corpus: Corpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(plan_module, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(plan_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match="--shm-size.*--processes 1"):
        fill(overlapping_corpus, plan_filling(overlapping_corpus, n=8, processes=2))
    fill(overlapping_corpus, plan_filling(overlapping_corpus, n=8, processes=1))


def test_processes_are_one_for_a_small_corpus_and_never_none(overlapping_corpus: Corpus) -> None:
    assert plan_filling(overlapping_corpus, n=8, processes=None).processes == 1
    with pytest.raises(InputError, match="got 0 processes"):
        plan_filling(overlapping_corpus, n=8, processes=0)


SLOW_FILLING = """
import sys, time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from upath import UPath
from ladder.platform.corpus.store import open_corpus
from ladder.platform.overlap import filling
from ladder.platform.overlap.ngrams import find_words
from ladder.platform.overlap.plan import plan_filling
storage, told = sys.argv[1:]
class Told(SharedMemory):
    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self.told = self.name
def report(filled):
    Path(told).with_suffix(".tmp").write_text(memory[0].told)
    Path(told).with_suffix(".tmp").rename(told)
    time.sleep(60)
if __name__ == "__main__":
    memory = []
    filling.SharedMemory = lambda **named: memory.append(Told(**named)) or memory[0]
    corpus = open_corpus(UPath(storage), "pages")
    with filling.filled_filter(corpus, plan_filling(corpus, n=8, processes=2), report):
        pass
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_filling_leaves_no_process_and_no_shared_memory(
    overlapping_corpus: Corpus, storage: Path, tmp_path: Path, how: signal.Signals
) -> None:
    script, told = tmp_path / "slow_filling.py", tmp_path / "told"
    script.write_text(SLOW_FILLING)
    process = subprocess.Popen(
        [sys.executable, str(script), str(storage), str(told)], start_new_session=True, stderr=subprocess.PIPE
    )
    wait_until(told.exists, seconds=60)
    name = told.read_text()
    os.killpg(process.pid, how) if how == signal.SIGINT else os.kill(process.pid, how)
    _, errors = process.communicate(timeout=60)
    wait_until(lambda: not is_group_alive(process.pid), seconds=30)
    with pytest.raises(FileNotFoundError):
        SharedMemory(name=name)
    if how == signal.SIGINT:
        assert errors.count(b"Traceback") == 1, errors.decode()  # the parent's own; a worker shows none
        assert errors.rstrip().endswith(b"KeyboardInterrupt")


def wait_until(true: Callable[[], bool], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def is_group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
