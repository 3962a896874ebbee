"""Threads that wait leave the cores to whom they wait for, from the start of the command on."""

import json
import os
import subprocess
import sys

import pytest

from ladder.platform.launching.cluster import ENVIRONMENT, _environment
from ladder.platform.processes import WAIT_POLICY, count_cores, set_wait_policy

MEASURE = """
import sys, time
from ladder.platform.command.main import main
assert "torch" not in sys.modules, "OpenMP reads its environment when torch loads it"
sys.argv = ["ladder", "--version"]
try:
    main()
except SystemExit:
    pass
import json, subprocess, torch
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.platform.evaluation.scorer import Scorer
from ladder.platform.processes import count_cores

model = GPT2(parse_size("2x64", context=128, vocabulary=257)).eval()
scorer = Scorer(model, device="cpu", precision="fp32", start_token=0)
text = list(range(256)) * 4
busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count_cores())]
seconds = {}
try:
    for threads in (1, 2, 1, 2):
        torch.set_num_threads(threads)
        scorer.rolling([text])
        started = time.process_time()
        for _ in range(4):
            scorer.rolling([text])
        seconds[threads] = min(seconds.get(threads, 9e9), time.process_time() - started)
finally:
    for process in busy:
        process.kill()
print(json.dumps(seconds))
"""


@pytest.mark.skipif(count_cores() < 2, reason="two threads on one core never run at once")
def test_beside_busy_processes_two_threads_take_no_more_of_the_processor_than_one() -> None:
    """Spinning, they take five times as much, and as long as others let them."""
    environment = {name: value for name, value in os.environ.items() if name not in {*WAIT_POLICY, "OMP_WAIT_POLICY"}}
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, env=environment)
    seconds = json.loads(done.stdout.splitlines()[-1])
    assert seconds["2"] < 2 * seconds["1"], seconds


def test_a_wait_policy_of_the_users_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WAIT_POLICY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    set_wait_policy()
    assert not WAIT_POLICY.keys() & os.environ.keys()
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setenv("KMP_BLOCKTIME", "3")
    set_wait_policy()
    assert os.environ["GOMP_SPINCOUNT"] == "7" and os.environ["KMP_BLOCKTIME"] == "3"


def test_workers_on_other_machines_get_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**ENVIRONMENT, **WAIT_POLICY}.items():
        monkeypatch.setenv(name, value)
    assert WAIT_POLICY.items() <= _environment().items()
