"""The commands start fast: no heavy module is imported until a command has something to do with it."""

import json
import os
import subprocess
import sys

import pytest

from ladder.analysis import api
from ladder.platform.command import plan
from ladder.platform.command.main import COMMANDS

HEAVY = {"torch", "ray", "mlflow", "polars", "pandas", "numpy", "scipy", "pyarrow", "matplotlib", "seaborn", "nltk"}

CODE = """
import contextlib, json, sys
from ladder.platform.command.main import cli
with contextlib.suppress(SystemExit):
    cli(sys.argv[1:], prog_name="ladder")
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def call(*arguments: str, **environment: str) -> tuple[list[str], set[str]]:
    """(lines written, modules imported) of a call of `ladder` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    *lines, modules = done.stdout.splitlines()
    return lines, set(json.loads(modules))


HELP = """
import contextlib, io, json, sys
from ladder.platform.command.main import cli
for command in sys.argv[1:]:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as written:
        cli([*command.split(), "--help"], prog_name="ladder")
    modules = sorted({name.partition(".")[0] for name in sys.modules})
    print(json.dumps([command, written.getvalue().partition("\\n")[0], modules]))
"""


def test_help_imports_no_heavy_module() -> None:
    """One process for all: what one command imports, the next ones have."""
    done = subprocess.run([sys.executable, "-c", HELP, "", *COMMANDS], capture_output=True, text=True, check=True)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [command for command, _, _ in told] == ["", *COMMANDS]
    for command, usage, modules in told:
        assert usage.startswith(f"Usage: ladder {command}".rstrip())
        assert not HEAVY & set(modules), command


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("ladder ", sorted(COMMANDS)),
        ("ladder rep", ["report"]),
        ("ladder evaluate --sam", ["--samples"]),
        ("ladder evaluate x --benchmarks copa,winog", ["copa,winograd"]),
    ],
)
def test_completion_imports_no_heavy_module_and_knows_every_command(words: str, wanted: list[str]) -> None:
    place = str(words.count(" "))
    lines, modules = call(_LADDER_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=place)
    assert sorted(line.removeprefix("plain,") for line in lines if line) == wanted
    assert not HEAVY & modules


def test_what_the_help_of_plan_says_is_what_analysis_holds() -> None:
    assert (plan.SEED_NOISE, plan.SIMULATIONS) == (api.SEED_NOISE, api.SIMULATIONS)
    assert {name: reference.source for name, reference in api.REFERENCES.items()} == plan.REFERENCES
