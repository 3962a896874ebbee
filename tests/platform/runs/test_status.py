"""Where a run stands is read from its folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from ladder.models.sizes import parse_size
from ladder.platform.runs import status as status_module
from ladder.platform.runs.lease import Lease, acquire
from ladder.platform.runs.status import list_run_files, read_status, read_statuses
from ladder.platform.storage import run_folder, write_json
from ladder.sweeps.words import Recipe, Run

RUN = Run(
    size=parse_size("2x32", context=32, vocabulary=257),
    recipe=Recipe(tokens=1024, batch_tokens=256, lr_peak=1e-3, precision="fp32"),
    corpus="c",
    corpus_fingerprint="f",
)


@pytest.fixture
def root(tmp_path: Path) -> UPath:
    return UPath(tmp_path)


def held(root: UPath, **progress: Any) -> Lease:
    lease = acquire(run_folder(root, "s", RUN.key), "a")
    assert lease is not None
    lease.renew(**progress)
    return lease


def test_a_run_without_a_folder_waits(root: UPath) -> None:
    assert read_status(root, "s", RUN).to_json() == {"run": RUN.key, "status": "waiting", "tokens": 0, "reason": None}


def test_a_run_whose_lease_is_held_is_running(root: UPath) -> None:
    held(root, tokens=512)
    status = read_status(root, "s", RUN)
    assert status.status == "running" and status.tokens == 512


@pytest.mark.parametrize(
    ("outcome", "status", "reason"),
    [
        ("released", "waiting", "interrupted at step 2 of 4; `ladder run` takes it up again"),
        ("crashed", "waiting", "a worker failed at step 2 of 4 and it is tried again: why"),
        ("trained", "waiting", "trained, to be scored"),
        ("failed", "failed", "why"),
    ],
)
def test_a_run_whose_lease_was_ended_says_why(root: UPath, outcome: Any, status: str, reason: str) -> None:
    held(root, step=2).end(outcome, "why")
    found = read_status(root, "s", RUN)
    assert (found.status, found.reason) == (status, reason)


def test_a_run_whose_lease_expired_waits(root: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    held(root, step=2)
    monkeypatch.setattr("ladder.platform.runs.lease.time.time", lambda: 4e9)
    status = read_status(root, "s", RUN)
    assert status.status == "waiting" and "interrupted at step 2" in str(status.reason)


def finish(root: UPath, *benchmarks: str) -> None:
    measurements = [{"benchmark": name} for name in ("heldout", *benchmarks)]
    write_json(run_folder(root, "s", RUN.key) / "result.json", {"measurements": measurements})


def test_a_run_with_a_result_is_finished(root: UPath) -> None:
    held(root).end("finished")
    finish(root)
    assert read_status(root, "s", RUN).tokens == 1024


def test_a_run_that_lacks_a_score_is_not_finished_for_a_sweep_that_asks_for_it(root: UPath) -> None:
    held(root).end("finished")
    finish(root, "pages-bytes")
    assert read_status(root, "s", RUN, benchmarks={"pages-bytes": ""}).status == "finished"
    status = read_status(root, "s", RUN, benchmarks={"pages-bytes": "", "lambada": ""})
    assert status.status == "waiting" and status.trained


@pytest.fixture
def claims_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Epochs of the claims that were read."""
    read: list[int] = []
    real = status_module.read_claim

    def read_claim(folder: UPath, epoch: int) -> Any:
        read.append(epoch)
        return real(folder, epoch)

    monkeypatch.setattr(status_module, "read_claim", read_claim)
    yield read


def test_of_a_listing_only_the_newest_claims_of_open_runs_are_read(root: UPath, claims_read: list[int]) -> None:
    held(root).end("released")
    held(root).end("released")
    files = list_run_files(root, "s")
    assert files == {RUN.key: {"claims/000001.json", "claims/000002.json"}}
    read_statuses(root, "s", [RUN])
    assert claims_read == [2]
    finish(root)
    read_statuses(root, "s", [RUN])
    assert claims_read == [2], "a finished run costs no look"
