"""The comparison with scipy compares the same thing."""

import pytest

from ladder.analysis import bench_fit
from ladder.analysis.objectives import Objective


def test_the_loop_and_the_solver_end_at_the_same_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_fit, "STARTS", 8)
    monkeypatch.setattr(bench_fit, "REFITS", 8)
    monkeypatch.setattr(bench_fit, "SCIPY_CALLS", 2)
    # Squares are smooth enough for L-BFGS-B to arrive; with Huber 1e-3 it often does not, which is the point.
    timings = bench_fit.measure(bench_fit.planted_points(60), Objective(kind="squares"))
    assert [timing.task for timing in timings] == ["fit from 8 starts", "8 refits"]
    assert all(timing.ours > 0 and timing.loop > 0 for timing in timings)
    assert timings[1].reached > 0


def test_the_table_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    timing = bench_fit.Timing(task="fit", ours=0.5, loop=50.0, reached=0.25)
    monkeypatch.setattr(bench_fit, "measure", lambda points, objective: [timing])
    bench_fit.main()
    assert "100  25%" in capsys.readouterr().out
