"""`make bench-gpu` needs PyTorch and nothing else: it runs where only torch and what torch requires is installed."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).parents[1]


def requirements(package: str) -> set[str]:
    """A package with what it requires, and so on, of what is installed here; extras are left out."""
    found: set[str] = set()
    waiting = [package]
    while waiting:
        name = waiting.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # meant for another platform
        if distribution.metadata["Name"] in found:
            continue
        found.add(distribution.metadata["Name"])
        required = [line for line in distribution.requires or () if "extra ==" not in line]
        waiting += [re.split(r"[\s;<>=!~\[(]", line)[0] for line in required]
    return found


@pytest.fixture
def bare_site(tmp_path: Path) -> Path:
    """A folder of packages that holds links to torch and what it requires."""
    site = tmp_path / "site"
    site.mkdir()
    for package in requirements("torch"):
        distribution = importlib.metadata.distribution(package)
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
            link, there = site / top, Path(str(distribution.locate_file(top)))
            if top != "__pycache__" and there.exists() and not link.exists():
                link.symlink_to(there)
    return site


def run_bare(site: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A Python without this environment's packages, but for those in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-S", *command]
    return subprocess.run(arguments, env=environment, cwd=REPOSITORY, text=True, capture_output=True, timeout=150)


def test_it_runs_with_torch_alone(bare_site: Path) -> None:
    for absent in ("numpy", "tiktoken", "upath", "ray", "safetensors"):
        assert not (bare_site / absent).exists()
    sizes = ("--sizes", "1x32", "--context", "16", "--batch", "2", "--steps", "1", "--precision", "fp32")
    ended = run_bare(bare_site, "bench/gpu.py", "--cpu", *sizes)
    assert ended.returncode == 0, ended.stderr[-3000:]
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [row["attention"] for row in rows] == ["sdpa", "xformers", "plain PyTorch with sdpa"]
    assert rows[0]["operator"] and "CUDA only" in rows[1]["error"], "a back end that cannot run says why"
    for row in (rows[0], rows[2]):
        assert row["tokens_per_second"] > 0 and 0 < row["mfu"] and 0 < row["matrix_share"]
    assert rows[2]["ours_is_times_faster"] > 0


def test_without_a_gpu_it_says_what_to_run_instead(bare_site: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    ended = run_bare(bare_site, "bench/gpu.py")
    assert ended.returncode == 1 and "no CUDA device here; `make bench`" in ended.stderr


def test_a_row_that_breaks_is_told_and_the_others_are_measured(bare_site: Path) -> None:
    """As where a compiler fails: time on a GPU is lent, and one row must not cost the others theirs."""
    broken = (
        "import sys; sys.path[:0] = ['.', 'bench']; import gpu; "
        "gpu.measure_plain = lambda *_: (_ for _ in ()).throw(RuntimeError('no compiler')); gpu.main()"
    )
    sizes = ("--sizes", "1x32", "2x32", "--context", "16", "--batch", "2", "--steps", "1", "--precision", "fp32")
    ended = run_bare(bare_site, "-c", broken, "--cpu", "--attention", "sdpa", *sizes)
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.returncode == 1 and "2 rows could not be measured" in ended.stderr, ended.stderr[-2000:]
    assert [row.get("error") for row in rows] == [None, "RuntimeError: no compiler"] * 2
