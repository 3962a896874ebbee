"""Fine-tuning runs shared by several processes, and one that is killed: the same results, each run trained once."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.weights import save_weights
from ladder.platform.finetuning.grid import expand
from ladder.platform.finetuning.job import FineTuneJob
from ladder.platform.finetuning.local import JobState, run_here
from ladder.platform.finetuning.registry import TASKS
from ladder.platform.finetuning.starting import open_start
from ladder.platform.launching.finetuning import fine_tune_all
from ladder.platform.runs.checkpoints import list_checkpoints
from ladder.platform.runs.curve import read_curve
from ladder.platform.runs.lease import newest_claim
from ladder.sweeps.finetuning import FineTuning
from ladder.sweeps.words import Execution
from tests.platform.finetuning.conftest import write_sst2

CPU = torch.device("cpu")


def quiet(state: JobState, known: int, total: int) -> None:
    """Shows nothing."""


def jobs(tmp_path: Path, storage: str, *, seeds: int, train: int = 128) -> list[FineTuneJob]:
    checkpoint = tmp_path / "checkpoint"
    if not checkpoint.exists():
        save_weights(GPT2(parse_size("2x32h2", context=48, vocabulary=257)), checkpoint, tokenizer="bytes")
    cells = expand(
        [open_start(str(checkpoint))],
        [TASKS["sst2"]],
        recipe=FineTuning(lr_peak=1.0, precision="fp32", batch_examples=16),
        lr=1e-3,
        lr_factors=[1.0],
        layers=["all"],
        seeds=range(seeds),
        data=str(write_sst2(tmp_path / "data", train=train, dev=40)),
        storage=str(tmp_path / storage),
        execution=Execution(log_every_steps=1),
    )
    return [cell.job for cell in cells]


@pytest.mark.slow
def test_over_ray_the_results_are_those_of_one_process(tmp_path: Path) -> None:
    states = fine_tune_all(jobs(tmp_path, "ray", seeds=3), CPU, show=quiet, concurrent=2)
    assert [(state.state, state.worked_on) for state in states] == [("finished", True)] * 6
    run_here(jobs(tmp_path, "here", seeds=3), CPU, show=quiet)
    for over_ray, here in zip(jobs(tmp_path, "ray", seeds=3), jobs(tmp_path, "here", seeds=3), strict=True):
        results: list[dict[str, Any]] = [job.result() or {} for job in (over_ray, here)]
        assert results[0]["measurements"] == results[1]["measurements"]
        claim = newest_claim(over_ray.folder)
        assert claim is not None and (claim.epoch, claim.outcome) == (1, "finished"), "each was taken up once"


@pytest.mark.slow
def test_what_a_user_got_wrong_comes_back_from_ray_as_it_is(tmp_path: Path) -> None:
    made = jobs(tmp_path, "ray", seeds=2)
    write_sst2(tmp_path / "data", train=127, dev=40)
    with pytest.raises(InputError, match="are no longer those that the run is of"):
        fine_tune_all(made, CPU, show=quiet, concurrent=2)


def _run_slowly(job: FineTuneJob) -> None:
    torch.set_num_threads(1)
    execution = replace(job.execution, checkpoint_seconds=1e-9)
    run_here([replace(job, execution=execution)], CPU, show=quiet)


@pytest.mark.slow
def test_a_run_whose_process_is_killed_goes_on_to_the_same_result(tmp_path: Path) -> None:
    killed, straight = (jobs(tmp_path, storage, seeds=1, train=2048)[0] for storage in ("killed", "straight"))
    process = multiprocessing.get_context("spawn").Process(target=_run_slowly, args=(killed,))
    process.start()
    assert process.pid is not None
    end = time.monotonic() + 120
    while len(list_checkpoints(killed.folder)) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert killed.result() is None and list_checkpoints(killed.folder)
    run_here([killed], CPU, show=quiet)
    run_here([straight], CPU, show=quiet)
    results: list[dict[str, Any]] = [job.result() or {} for job in (killed, straight)]
    assert results[0]["measurements"] == results[1]["measurements"]
    losses = [[point["train/loss"] for point in read_curve(job.folder)] for job in (killed, straight)]
    assert losses[0] == losses[1] and len(losses[0]) == 384
    claim = newest_claim(killed.folder)
    assert claim is not None and claim.epoch == 2
