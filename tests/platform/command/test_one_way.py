"""One way on the command line: names that are completed, options that are read, exit codes and JSON alike."""

import json
import math

import click
import pytest

from ladder.models.errors import did_you_mean
from ladder.platform.command.options import echo_json
from ladder.platform.evaluation.names import BENCHMARK_NAMES, GROUP_NAMES
from ladder.platform.evaluation.registry import BENCHMARKS, GROUPS


def test_the_names_that_the_shell_completes_are_the_registrys() -> None:
    assert tuple(BENCHMARKS) == BENCHMARK_NAMES
    assert tuple(GROUPS) == GROUP_NAMES


def test_json_has_null_for_what_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    echo_json({"a": [math.nan, (1.5, -math.inf)], "b": 2, "c": "NaN"})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "a": [None, [1.5, None]],
        "b": 2,
        "c": "NaN",
    }


def test_a_word_like_a_known_one_is_proposed_and_another_is_not() -> None:
    assert did_you_mean("lambda", BENCHMARK_NAMES).startswith(" (did you mean lambada")
    assert did_you_mean("xyz", BENCHMARK_NAMES) == ""


def test_a_wrong_command_proposes_the_right_one() -> None:
    from click.testing import CliRunner

    from ladder.platform.command.main import cli

    ended = CliRunner().invoke(cli, ["evalaute"])
    assert ended.exit_code == 2 and "did you mean evaluate" in ended.output
    assert isinstance(cli, click.Group)
