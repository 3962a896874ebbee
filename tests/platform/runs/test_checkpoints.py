"""A checkpoint is whole and as it was saved, or another one is taken; whoever was taken over publishes none."""

import logging
from pathlib import Path

import pytest
from upath import UPath

from ladder.platform.runs.checkpoints import (
    MARK,
    PARTIAL,
    DamagedCheckpoint,
    list_checkpoints,
    new_checkpoint,
    newest_intact,
    publish_checkpoint,
    remove_partial_checkpoints,
    verify,
)
from ladder.platform.runs.lease import LeaseLost


@pytest.fixture(params=["file", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    return UPath(tmp_path / "run") if request.param == "file" else UPath(f"memory:/{tmp_path}/run")


def held() -> None:
    """The check of a lease that is held."""


def lost() -> None:
    raise LeaseLost("taken over")


def publish(run: UPath, step: int, *, epoch: int = 1, keep: int = 2, content: bytes = b"") -> UPath:
    with new_checkpoint(run, step=step, epoch=epoch) as folder:
        (folder / "training").mkdir()
        (folder / "model.safetensors").write_bytes(content or bytes([step]) * 1000)
        (folder / "training" / "moments.safetensors").write_bytes(bytes([step, step]))
        return publish_checkpoint(folder, run, {"step": step}, keep=keep, check=held)


def names(run: UPath) -> list[str]:
    return [path.name for path in list_checkpoints(run)]


def newest_weights(run: UPath) -> bytes | None:
    with newest_intact(run) as folder:
        return None if folder is None else (folder / "model.safetensors").read_bytes()


def test_the_last_ones_are_kept_newest_first(run: UPath) -> None:
    for step in (3, 6, 9):
        publish(run, step)
    assert names(run) == ["step-00000009.0001", "step-00000006.0001"]
    assert newest_weights(run) == bytes([9]) * 1000
    publish(run, 12, keep=3)
    assert len(names(run)) == 3


def test_a_later_attempt_comes_first_at_the_same_step(run: UPath) -> None:
    publish(run, 6, epoch=1, content=b"first")
    publish(run, 6, epoch=2, content=b"second")
    assert newest_weights(run) == b"second"


def test_without_its_mark_it_is_none(run: UPath) -> None:
    publish(run, 3)
    half = run / "step-00000006.0001"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    assert names(run) == ["step-00000003.0001"]


def damage(path: UPath, how: str) -> None:
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[:-1])
    elif how == "a byte flipped":
        path.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "a byte flipped", "removed"])
def test_a_damaged_one_is_passed_over_with_a_warning(run: UPath, how: str, caplog: pytest.LogCaptureFixture) -> None:
    publish(run, 3)
    damage(publish(run, 6) / "model.safetensors", how)
    with caplog.at_level(logging.WARNING):
        assert newest_weights(run) == bytes([3]) * 1000
    assert "step-00000006.0001" in caplog.text and "taking the one before it" in caplog.text


def test_a_mark_that_cannot_be_read_is_damage_too(run: UPath) -> None:
    publish(run, 3)
    (publish(run, 6) / MARK).write_text('{"step": 6, "fi')
    assert newest_weights(run) == bytes([3]) * 1000


def test_where_all_are_damaged_there_is_none(run: UPath) -> None:
    damage(publish(run, 3) / "model.safetensors", "truncated")
    assert newest_weights(run) is None


def test_whoever_was_taken_over_publishes_nothing_and_removes_nothing(run: UPath) -> None:
    for step in (3, 6):
        publish(run, step)
    with pytest.raises(LeaseLost), new_checkpoint(run, step=9, epoch=1) as folder:
        (folder / "model.safetensors").write_bytes(b"late")
        publish_checkpoint(folder, run, {"step": 9}, keep=1, check=lost)
    assert names(run) == ["step-00000006.0001", "step-00000003.0001"]


def test_what_a_kill_left_half_written_is_removed_by_the_next_attempt(tmp_path: Path) -> None:
    run = UPath(tmp_path / "run")
    half = tmp_path / "run" / f"{PARTIAL}step-00000003.0001"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    remove_partial_checkpoints(run)
    assert not half.exists()


def test_a_file_beside_those_of_the_mark_is_no_damage(tmp_path: Path) -> None:
    kept = publish(UPath(tmp_path / "run"), 3)
    (kept / "notes.txt").write_text("mine")
    verify(Path(kept.path))
    (kept / "training" / "moments.safetensors").unlink()
    with pytest.raises(DamagedCheckpoint, match="has 0 bytes, wanted 2"):
        verify(Path(kept.path))
