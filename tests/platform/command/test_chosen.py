"""What the command line changes of a sweep."""

from dataclasses import replace
from typing import Any

import click
import pytest
from click.testing import CliRunner

from ladder.models.errors import InputError
from ladder.models.sizes import Size, parse_size
from ladder.platform.command.chosen import check_memory, execution_arguments, execution_options, with_execution
from ladder.sweeps.expand import CorpusFacts, expand
from ladder.sweeps.load import load_sweep
from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Execution, Recipe, Sweep, grid

SWEEP = Sweep(name="s", corpus="c", points=grid(sizes=("2x64",), tokens=(1,)), recipe=small_recipe)


def test_an_option_changes_what_the_rule_says_of_every_size_and_nothing_else() -> None:
    gpt2 = load_sweep("gpt2")
    changed = with_execution(gpt2, {"checkpoint_seconds": 60.0, "workers": None})
    for size in map(parse_size, ("6x384", "1542M")):
        assert changed.execution_for(size) == replace(gpt2.execution_for(size), checkpoint_seconds=60.0)


def test_an_option_changes_an_execution_that_is_the_same_for_all() -> None:
    assert with_execution(SWEEP, {"workers": 3}).execution_for(parse_size("2x64")) == Execution(workers=3)


def test_no_option_leaves_the_sweep_as_it_is() -> None:
    assert with_execution(SWEEP, {"workers": None, "compile": None}) == SWEEP


def test_an_option_that_does_not_fit_a_size_is_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match="got 0.25 for each of 4 workers.* Ask for 1, or for one worker"):
        with_execution(load_sweep("gpt2"), {"workers": 4}).execution_for(parse_size("6x384"))


@pytest.mark.parametrize("compiled", [True, False])
def test_options_that_are_handed_on_mean_the_same_there(compiled: bool) -> None:
    @click.command()
    @execution_options
    def command(**given: Any) -> None:
        received.append(given)

    received: list[dict[str, Any]] = []
    given = {"workers": 2, "gpus_per_worker": 1.0, "accelerator_type": "H100", "compile": compiled}
    given |= {"strategy": "fsdp2", "activation_checkpointing": compiled}
    given |= {"checkpoint_seconds": 60.0, "keep_checkpoints": 3, "concurrent_runs": None}
    result = CliRunner().invoke(command, execution_arguments(given), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert {name: value for name, value in received[0].items() if value is not None} == {
        name: value for name, value in given.items() if value is not None
    }


def test_a_run_that_cannot_fit_the_gpu_it_names_is_refused_before_it_starts() -> None:
    def recipe(size: Size, tokens: int, seed: int) -> Recipe:
        return Recipe(tokens=tokens, batch_tokens=1 << 17, lr_peak=1e-4, precision="bf16")

    def sweep(gpu: str, size: str) -> Sweep:
        points = grid(sizes=(size,), tokens=(1 << 20,))
        execution = Execution(accelerator_type=gpu, gpus_per_worker=1)
        return Sweep(name="s", corpus="c", points=points, recipe=recipe, execution=execution)

    facts = CorpusFacts(name="c", vocabulary=50257, fingerprint="f")
    for gpu, size in (("H100", "1542M"), ("L4", "117M"), ("A100-80G", "1542M")):
        check_memory(sweep(gpu, size), expand(sweep(gpu, size), facts, precision="bf16"))
    with pytest.raises(InputError, match=r"1542M.* does not fit 1 of L4: one sequence of 1024 .*GiB.*accelerator"):
        check_memory(sweep("L4", "1542M"), expand(sweep("L4", "1542M"), facts, precision="bf16"))
