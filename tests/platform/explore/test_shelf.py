"""Checkpoints are found in order, and few of them are in memory."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import PAPER_SIZES, parse_size
from ladder.models.weights import save_weights
from ladder.platform.command.explore import command
from ladder.platform.explore.catalogue import find_entries
from ladder.platform.explore.shelf import SHELF_BYTES, Shelf
from tests.platform.explore.conftest import BATCH, CPU, SIZES, save_run


def nothing(_: object) -> None:
    """A computation that only opens the model."""


def test_a_sweep_is_sorted_by_parameters_and_then_by_tokens(swept: UPath) -> None:
    entries = find_entries(["mine"], swept)
    order = [(entry.size.params_total, entry.tokens) for entry in entries]
    assert order == sorted(order) and len(order) == 3 * len(SIZES)
    assert [entry.size.name for entry in entries[::3]] == ["1x16", "2x32h2", "10x16", "3x48h3"]
    assert [entry.tokens for entry in entries[:3]] == [10 * BATCH, 20 * BATCH, 40 * BATCH]
    assert entries[0].heldout == pytest.approx(2.1) and entries[0].seed == 0


def test_the_folder_of_a_run_shows_its_steps(tmp_path: Path) -> None:
    storage = UPath(tmp_path)
    last = save_run(storage, "1x16", 40)
    shutil.copytree(last.path, Path(last.path).with_name("step-00000010.0001"))
    mark = Path(last.path).with_name("step-00000010.0001") / "training.json"
    mark.write_text(mark.read_text().replace('"step": 40', '"step": 10'))
    entries = find_entries([str(last.parent)], storage)
    assert [(entry.step, entry.heldout is None) for entry in entries] == [(10, True), (40, False)]


def test_a_folder_of_hugging_face_and_a_uri_open_by_the_name_given(tmp_path: Path, swept: UPath) -> None:
    folder = tmp_path / "released"
    save_weights(GPT2(parse_size("1x16", context=16, vocabulary=257)), folder, tokenizer="bytes")
    for source in (str(folder), f"file://{folder}", f"local://{folder}"):
        (entry,) = find_entries([source], swept)
        assert (entry.name, entry.tokens, entry.heldout) == (source, None, None)
        Shelf([entry], device=CPU).compute(entry.name, nothing)


@pytest.mark.parametrize(
    ("source", "said"),
    [("absent/folder/x", "no folder absent"), ("", "holds no checkpoint"), ("file:///absent", "holds no checkpoint")],
)
def test_what_is_no_checkpoint_is_said(source: str, said: str, swept: UPath, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        find_entries([source or str(tmp_path)], swept)


def test_the_least_recently_used_model_leaves(swept: UPath) -> None:
    entries = find_entries(["mine"], swept)[:3]  # of one size
    each = 4 * entries[0].size.params_total
    shelf = Shelf(entries, device=CPU, most_bytes=2 * each)
    a, b, c = (entry.name for entry in entries)
    for name in (a, b, a, c):
        shelf.compute(name, nothing)
    assert shelf.opened == [a, c]
    shelf.compute(b, nothing)
    assert shelf.opened == [c, b]


def test_four_models_of_the_size_of_gpt2_are_in_memory_at_most() -> None:
    assert SHELF_BYTES == 4 * 4 * PAPER_SIZES["117M"].params_total


def test_a_model_larger_than_the_bound_is_alone(swept: UPath) -> None:
    entries = find_entries(["mine"], swept)
    shelf = Shelf(entries, device=CPU, most_bytes=4 * entries[0].size.params_total)
    shelf.compute(entries[0].name, nothing)
    shelf.compute(entries[-1].name, nothing)
    assert shelf.opened == [entries[-1].name]


def test_filling_opens_the_largest_that_fit_and_passes_over_a_damaged_one(tmp_path: Path) -> None:
    storage = UPath(tmp_path)
    folders = [save_run(storage, "1x16", steps) for steps in (10, 20, 30)]
    (folders[1] / "model.safetensors").write_bytes(b"no weights")
    entries = find_entries(["mine"], storage)
    shelf = Shelf(entries, device=CPU)
    shelf.fill()
    assert shelf.opened == [entries[2].name, entries[0].name]
    with pytest.raises(InputError, match="truncated or damaged"):
        shelf.compute(entries[1].name, nothing)


def test_a_checkpoint_that_was_deleted_meanwhile_is_a_message(tmp_path: Path) -> None:
    storage = UPath(tmp_path)
    folder = save_run(storage, "1x16", 10)
    (entry,) = find_entries(["mine"], storage)
    shelf = Shelf([entry], device=CPU)
    shutil.rmtree(folder.path)
    with pytest.raises(InputError, match="is gone"):
        shelf.compute(entry.name, nothing)


def test_the_command_saves_the_example_beside_the_report_of_its_sweep(tmp_path: Path) -> None:
    save_run(UPath(tmp_path), "1x16", 10)
    result = CliRunner().invoke(command, ["mine", "--storage", str(tmp_path), "--save"], catch_exceptions=False)
    assert result.stdout.strip() == str(tmp_path / "reports" / "mine" / "explore.html")
    assert "because it was too" in (tmp_path / "reports" / "mine" / "explore.html").read_text()
