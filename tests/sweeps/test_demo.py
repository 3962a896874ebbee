"""A newcomer's first report says something: the demo's law, scores and prediction, for any of three seeds.

Each seed takes about four minutes on two quiet cores; `make test-endurance`.
"""

from pathlib import Path

import pytest
from upath import UPath

from ladder.analysis.fitting.health import Status
from ladder.analysis.report.findings import find
from ladder.analysis.tables.sweeps import is_heldout
from ladder.platform.command.chosen import begin
from ladder.platform.command.fitted import read_finished
from ladder.platform.launching.sweep import run_sweep
from ladder.platform.tracking.database import tracking_uri

SEEDED = """
from dataclasses import replace

from ladder.sweeps.demo import SWEEP as DEMO

SWEEP = replace(DEMO, points=tuple(replace(point, seed={seed}) for point in DEMO.points))
"""


@pytest.mark.endurance
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demo_converges_establishes_three_scores_and_holds_its_prediction(seed: int, tmp_path: Path) -> None:
    file, storage = tmp_path / "seeded.py", UPath(tmp_path / "storage")
    file.write_text('"""The demo."""\n' + SEEDED.format(seed=seed))
    chosen = begin(str(file), storage, None, {})
    assert chosen.corpus is not None
    where = tracking_uri(None, storage)
    outcome = run_sweep(chosen.sweep, chosen.runs, corpus=chosen.corpus, storage=storage, tracking=where)
    assert {status.status for status in outcome.statuses} == {"finished"}

    findings = find(read_finished(str(file), None, storage, None))
    law = findings.drawn
    assert law is not None and law.law.name == "hoffmann" and law.status is Status.CONVERGED, law
    ends = {name: (interval.low, interval.high) for name, interval in law.intervals.items()}
    assert all(low is not None and high is not None for low, high in ends.values()), ends
    sure = [score.name for score in findings.scores if score.established and not is_heldout(score.name)]
    assert len(sure) >= 3, sure
    (window,) = findings.windows
    assert window.inside, window
