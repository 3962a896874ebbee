"""The report states what was planted, says what it cannot know, and stands on its own."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest

from ladder.analysis.findings import find, largest_budget
from ladder.analysis.fits import FitOptions
from ladder.analysis.health import Status
from ladder.analysis.report import render_report, write_report
from ladder.analysis.runs import SweepData
from ladder.models.errors import InputError

QUICK = FitOptions(bootstrap=100, starts=30)
Planted = Callable[..., SweepData]


def text_of(html: str) -> str:
    """The page's words: no figures, no tags."""
    without = re.sub(r"<svg.*?</svg>|<style.*?</style>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", without))


def test_the_report_stands_on_its_own_and_is_small(planted: Planted, tmp_path: Path) -> None:
    path = write_report(planted(), tmp_path / "reports" / "index.html", QUICK)
    html = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 5e6
    links = re.findall(r"(?:src|href)=\"([^\"#][^\"]*)\"", html)
    assert links == [], "nothing is loaded from elsewhere"
    assert html.count("<svg") == html.count("</svg>") >= 6
    assert "prefers-color-scheme: dark" in html and "width=device-width" in html
    assert "{{" not in html and "None" not in text_of(html) and " nan" not in text_of(html).lower()


def test_every_figure_is_a_whole_svg_with_units_on_its_axes(planted: Planted) -> None:
    figures = re.findall(r"<svg.*?</svg>", render_report(find(planted(), QUICK)), flags=re.DOTALL)
    texts = [" ".join(t for t in ElementTree.fromstring(svg).itertext() if t.strip()) for svg in figures]
    assert all("N, parameters" in text or "tokens seen" in text or "FLOPs" in text for text in texts)
    assert sum("nats per token" in text for text in texts) >= 3
    ids = [set(re.findall(r'id="(axes_\d+|figure_\d+)"', svg)) for svg in figures]
    assert all(ids)


def test_the_answer_comes_first_and_holds_the_planted_exponents(planted: Planted) -> None:
    findings = find(planted(noise=1e-5), QUICK)
    assert findings.fits[0].law.parameters == pytest.approx(
        {"E": 1.1, "A": 60.0, "B": 90.0, "alpha": 0.33, "beta": 0.32}, rel=0.02
    )
    words = text_of(render_report(findings))
    answer = words.index("Held-out loss follows L =")
    assert answer < words.index("Loss", answer + 40) and "Is the loss a power law?" in words[:answer]
    assert "Fitted without the largest size (9 runs), hoffmann predicts" in words
    assert "10 times the compute of the largest run" in words


def test_provenance_conventions_and_failures_are_told(planted: Planted) -> None:
    words = text_of(render_report(find(planted(failed={"6x192-400000": "loss is nan at step 47"}), QUICK)))
    for wanted in ("c0ffee", "abc123", "parent0", "child0", "loss is nan at step 47", "parameters with embeddings"):
        assert wanted in words, wanted


def test_one_tokens_per_parameter_ratio_is_told_in_the_answer(planted: Planted) -> None:
    data = planted()
    rows = [
        {**row, "tokens": 20 * row["params_total"], "flops_6nd": 120.0 * row["params_total"] ** 2}
        for row in largest_budget(data.table).to_dicts()
    ]
    findings = find(planted(rows=rows), QUICK)
    assert findings.fits[0].status is Status.NOT_IDENTIFIABLE
    assert findings.surface is None and findings.next_run is None
    words = text_of(render_report(findings))
    assert "hoffmann is not identifiable: every run has the same 20 tokens per parameter" in words
    assert "unknown" in words


def test_a_single_size_is_reported_with_what_it_cannot_tell(planted: Planted) -> None:
    findings = find(planted(sizes={"2x64": 132_928}), QUICK)
    assert findings.fits == [] or all(fit.status is Status.NOT_IDENTIFIABLE for fit in findings.fits)
    assert "1 sizes" in text_of(render_report(findings)).replace("1 distinct sizes", "1 sizes")


def test_two_runs_make_a_report(planted: Planted) -> None:
    rows = planted().table.head(2).to_dicts()
    words = text_of(render_report(find(planted(rows=rows), QUICK)))
    assert "2 points are fewer than the 5 parameters of hoffmann" in words


def test_missing_scores_are_dashes_and_leave_the_rest_standing(planted: Planted) -> None:
    rows = planted().table.to_dicts()
    rows[0]["cloze/accuracy"] = None
    rows[5] |= {"status": "failed", "heldout/loss": None, "cloze/accuracy": None}
    rows[6] |= {"status": "waiting", "heldout/loss": None, "cloze/accuracy": None, "params_total": None, "size": None}
    findings = find(planted(rows=rows), QUICK)
    assert findings.loss.height == 10
    assert "-" in text_of(render_report(findings))


def test_a_score_that_no_run_has_is_left_out(planted: Planted) -> None:
    rows = [{**row, "cloze/accuracy": None} for row in planted().table.to_dicts()]
    data = planted(rows=rows)
    findings = find(data, QUICK)
    assert findings.scores[-1].fit is None or findings.scores[-1].rows.height
    render_report(findings)


def test_no_finished_run_is_refused_with_what_to_do(planted: Planted, tmp_path: Path) -> None:
    rows = [{**row, "status": "running"} for row in planted().table.to_dicts()]
    with pytest.raises(InputError, match=r"no finished run.*12 running.*ladder run planted"):
        write_report(planted(rows=rows), tmp_path / "index.html", QUICK)
    assert not (tmp_path / "index.html").exists()


def test_no_training_curve_leaves_its_figures_out(planted: Planted) -> None:
    from dataclasses import replace

    data = planted()
    bare = replace(data, curves=data.curves.clear())
    html = render_report(find(bare, QUICK))
    assert "Training loss against tokens" not in html and "Held-out loss against size" in html


def test_a_score_that_bends_back_is_called_not_monotone(planted: Planted) -> None:
    data = planted()
    rows = (
        largest_budget(data.table).sort("params_total").with_columns(pl.Series("cloze/accuracy", [0.3, 0.5, 0.6, 0.55]))
    )
    findings = find(planted(rows=rows.to_dicts()), QUICK)
    score = next(score for score in findings.scores if score.name == "cloze/accuracy")
    assert not score.monotone
    assert "not monotone in size" in text_of(render_report(findings))


def test_words_from_outside_are_escaped(planted: Planted) -> None:
    html = render_report(find(planted(failed={"x": "<script>alert(1)</script>"}), QUICK))
    assert "<script" not in html
