"""Sweeps are found by name and by file, and what is wrong with one is said with file and line."""

from pathlib import Path

import pytest

from ladder.models.errors import InputError
from ladder.sweeps.expand import CorpusFacts, expand
from ladder.sweeps.load import known_sweeps, load_sweep, tracked_name

GOOD = '''"""What is asked."""

from ladder.sweeps.rules import small_recipe
from ladder.sweeps.words import Sweep, grid

SWEEP = Sweep(name="mine", corpus="c", context=64, points=grid(sizes=("2x64",), tokens=(9000,)), recipe=small_recipe)
'''


def write(folder: Path, text: str) -> str:
    (folder / "mine.py").write_text(text)
    return str(folder / "mine.py")


@pytest.mark.parametrize("name", ["demo", "cpu", "gpt2"])
def test_a_sweep_that_comes_with_ladder_loads_and_expands(name: str) -> None:
    sweep = load_sweep(name)
    runs = expand(sweep, CorpusFacts(name="any", vocabulary=257, fingerprint=None), precision="fp32")
    assert sweep.name == name and sweep.question
    assert len({run.size.name for run in runs}) >= 4 and len({run.recipe.tokens for run in runs}) >= 3


def test_sweep_files_stay_short() -> None:
    assert all(len(path.read_text().splitlines()) < 60 for path in known_sweeps().values())


def test_a_file_is_loaded_with_its_docstring_as_question(tmp_path: Path) -> None:
    assert load_sweep(write(tmp_path, GOOD)).question == "What is asked."


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="no sweep named 'dmeo' .did you mean demo... Known: cpu, demo, gpt2"):
        load_sweep("dmeo")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sweep file at .*none.py"):
        load_sweep(str(tmp_path / "none.py"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SWEEP = (", r"mine.py, line 1: .*never closed"),
        ("x = 1\n", "defines no SWEEP"),
        ("SWEEP = 3\n", "is a int, wanted a ladder.sweeps.words.Sweep"),
        ("x = 1\nimport nothing_of_this_name\n", "line 2: ModuleNotFoundError"),
        (GOOD.replace("9000", "-9000"), "tokens: got -9000, wanted a number above 0"),
        (GOOD.replace('name="mine", ', ""), "TypeError: .*'name'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_sweep(write(tmp_path, text))


def test_an_unknown_size_is_refused_when_the_sweep_is_expanded(tmp_path: Path) -> None:
    sweep = load_sweep(write(tmp_path, GOOD.replace("2x64", "118M")))
    with pytest.raises(InputError, match="118M"):
        expand(sweep, CorpusFacts(name="c", vocabulary=257, fingerprint=None), precision="fp32")


def test_one_shape_under_two_names_is_there_twice(tmp_path: Path) -> None:
    sweep = load_sweep(write(tmp_path, GOOD.replace('("2x64",)', '("117M", "12x768")')))
    with pytest.raises(InputError, match="there twice, such as 117M-"):
        expand(sweep, CorpusFacts(name="c", vocabulary=257, fingerprint=None), precision="fp32")


def test_a_recipe_that_names_its_precision_keeps_it(tmp_path: Path) -> None:
    rule = "lambda *given: replace(small_recipe(*given), precision='fp32')"
    text = GOOD.replace("recipe=small_recipe", f"recipe={rule}").replace(
        "from ladder", "from dataclasses import replace\nfrom ladder", 1
    )
    facts = CorpusFacts(name="c", vocabulary=257, fingerprint=None)
    for sweep, wanted in ((GOOD, "bf16"), (text, "fp32")):
        (run,) = expand(load_sweep(write(tmp_path, sweep)), facts, precision="bf16")
        assert run.recipe.precision == wanted


def test_a_budget_may_be_written_as_a_float(tmp_path: Path) -> None:
    sweep = load_sweep(write(tmp_path, GOOD.replace("9000", "9e3")))
    (run,) = expand(sweep, CorpusFacts(name="c", vocabulary=257, fingerprint=None), precision="fp32")
    assert isinstance(run.recipe.tokens, int) and run.recipe.tokens >= 9000


def test_two_points_that_are_the_same_run_are_refused(tmp_path: Path) -> None:
    sweep = load_sweep(write(tmp_path, GOOD.replace("(9000,)", "(9000, 9001)")))
    with pytest.raises(InputError, match="there twice"):
        expand(sweep, CorpusFacts(name="c", vocabulary=257, fingerprint=None), precision="fp32")


def test_completep_wants_one_head_width(tmp_path: Path) -> None:
    text = GOOD.replace("recipe=small_recipe", "recipe=transferring(small_recipe, base='2x64', lr_peak=0.01)").replace(
        "import small_recipe", "import small_recipe, transferring"
    )
    facts = CorpusFacts(name="c", vocabulary=257, fingerprint=None)
    several, one = (text.replace('("2x64",)', sizes) for sizes in ('("2x64", "3x96")', '("2x64", "4x128", "6x256")'))
    assert len(expand(load_sweep(write(tmp_path, one)), facts, precision="fp32")) == 3
    with pytest.raises(InputError, match=r"one head width in all sizes, got 64 \(2x64\), 96 \(3x96\)"):
        expand(load_sweep(write(tmp_path, several)), facts, precision="fp32")


def test_a_sweep_is_a_file_a_known_name_or_a_name_in_the_store(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        '"""Q?"""\nfrom ladder.sweeps.rules import small_recipe\nfrom ladder.sweeps.words import Sweep, grid\n'
        'SWEEP = Sweep(name="own", corpus="c", points=grid(sizes=("2x64",), tokens=(1000,)), recipe=small_recipe)\n'
    )
    assert [tracked_name(name, None) for name in (str(file), "demo", "in-the-store")] == ["own", "demo", "in-the-store"]
    assert tracked_name("demo", "web") == "demo-web"
