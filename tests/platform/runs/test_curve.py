"""Each step of a curve has one point, made once, whoever is killed or slow when."""

from pathlib import Path

import pytest
from upath import UPath

from ladder.platform.runs.curve import Curve, read_curve


@pytest.fixture(params=["file", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    return UPath(tmp_path / "run") if request.param == "file" else UPath(f"memory:/{tmp_path}/run")


def point(step: int, time_ms: int) -> dict[str, float]:
    return {"step": step, "time_ms": time_ms, "train/loss": 5.0 - step}


def times(run: UPath) -> list[tuple[float, float]]:
    return [(p["step"], p["time_ms"]) for p in read_curve(run)]


def test_points_are_read_back_as_they_were_added(run: UPath) -> None:
    curve = Curve(run, 1)
    for step in range(3):
        curve.add(point(step, 100 + step))
        curve.publish()
    assert times(run) == [(0, 100), (1, 101), (2, 102)] == [(p["step"], p["time_ms"]) for p in curve.published()]


def test_what_was_not_published_was_not_said(run: UPath) -> None:
    curve = Curve(run, 1)
    curve.publish()
    curve.add(point(1, 100))
    assert curve.published() == [] and times(run) == []


def test_an_attempt_that_trains_steps_again_keeps_their_first_points(run: UPath) -> None:
    first = Curve(run, 1)
    for step in (1, 2, 3):
        first.add(point(step, 100 + step))
    first.publish()
    second = Curve(run, 2)  # resumed at step 1
    second.publish()
    for step in (2, 3, 4):
        second.add(point(step, 200 + step))
    second.publish()
    assert times(run) == [(1, 101), (2, 102), (3, 103), (4, 204)]


def test_a_worker_that_was_taken_over_changes_nothing(run: UPath) -> None:
    zombie = Curve(run, 1)
    zombie.add(point(1, 101))
    zombie.publish()
    following = Curve(run, 2)
    following.publish()
    zombie.add(point(2, 102))
    zombie.publish()
    following.add(point(2, 202))
    following.publish()
    assert times(run) == [(1, 101), (2, 202)]


def test_half_a_line_of_a_killed_worker_is_left_out_and_not_continued(tmp_path: Path) -> None:
    run = UPath(tmp_path / "run")
    first = Curve(run, 1)
    first.add(point(1, 101))
    first.publish()
    with Path(first.path.path).open("a") as file:
        file.write('{"step": 2, "ti')
    second = Curve(run, 2)
    second.add(point(2, 202))
    second.publish()
    assert times(run) == [(1, 101), (2, 202)]


def test_a_refused_write_is_made_good_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = UPath(tmp_path / "run")
    curve = Curve(run, 1)
    curve.add(point(1, 101))
    curve.publish()
    curve.add(point(2, 102))

    def half(self: Path, *_: object) -> object:
        with open(str(self), "ab") as file:
            file.write(b'{"st')
        raise OSError("no space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(Path, "open", half)
        curve.publish()
    assert [p["step"] for p in curve.published()] == [1]
    curve.publish()
    assert times(run) == [(1, 101), (2, 102)]
