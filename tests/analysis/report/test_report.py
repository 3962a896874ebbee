"""The report states what was planted, says what it cannot know, and stands on its own."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest

from ladder.analysis.fitting.fits import FitOptions
from ladder.analysis.fitting.health import Status
from ladder.analysis.laws.surfaces import Hoffmann
from ladder.analysis.report.answers import answers
from ladder.analysis.report.captions import conventions, resolution
from ladder.analysis.report.findings import Findings, find
from ladder.analysis.report.page import render_report, write_report
from ladder.analysis.report.scores import largest_budget
from ladder.analysis.tables.sweeps import REFERENCE_SCHEMA, SweepData, make_references
from ladder.models.errors import InputError

QUICK = FitOptions(bootstrap=100, starts=30)
Planted = Callable[..., SweepData]


def text_of(html: str) -> str:
    """The page's words: no figures, no tags."""
    without = re.sub(r"<svg.*?</svg>|<style.*?</style>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", without))


def told(findings: Findings) -> str:
    """The first screen and the lists, without drawing anything."""
    first = [part for answer in answers(findings) for part in (answer.label, answer.lead, *answer.sentences)]
    return " ".join([*first, *resolution(findings), *conventions(findings)])


@pytest.fixture(scope="module")
def page(planted: Planted) -> str:
    """The report of the planted sweep as it is; one rendering for the tests that only read it."""
    return render_report(find(planted(), QUICK), "explore.html")


def test_the_report_links_to_the_example_that_was_saved(page: str) -> None:
    assert '<a href="explore.html">One text through every checkpoint</a>' in page


@pytest.fixture(scope="module")
def referenced() -> pl.DataFrame:
    """The paper's scores as two runs would state them."""
    entry = {"benchmark": "cloze", "metric": "accuracy", "paper_scores": {"1542M": 0.93, "117M": 0.87}}
    return make_references([entry, entry, {"benchmark": "other", "metric": "loss"}])


def test_the_report_stands_on_its_own_and_is_small(planted: Planted, tmp_path: Path) -> None:
    path = write_report(planted(), tmp_path / "reports" / "index.html", QUICK)
    html = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 5e6
    links = re.findall(r"(?:src|href)=\"([^\"#][^\"]*)\"", html)
    assert links == [], "nothing is loaded from elsewhere"
    assert not re.search(r"url\((?!#)|@import|<script|<link", html)
    assert html.count("<svg") == html.count("</svg>") >= 6
    assert "prefers-color-scheme: dark" in html and "width=device-width" in html and "@media print" in html
    assert "{{" not in html and "None" not in text_of(html) and " nan" not in text_of(html).lower()
    ids = re.findall(r'<(?!clipPath|path)\w+[^>]* id="([^"]+)"', html)
    assert len(ids) == len(set(ids)), "a name stands on the page once"
    targets = re.findall(r'href="#([a-z]+)"', re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL))
    assert set(targets) <= set(ids), "every link leads somewhere on the page"


def test_every_figure_is_a_whole_svg_with_units_on_its_axes(page: str) -> None:
    figures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    texts = [" ".join(t for t in ElementTree.fromstring(svg).itertext() if t.strip()) for svg in figures]
    assert all("N, parameters" in text or "tokens seen" in text or "FLOPs" in text for text in texts)
    assert sum("nats per token" in text for text in texts) >= 3
    assert all('aria-label="' in svg for svg in figures)


def test_the_answer_comes_first_and_holds_the_planted_exponents(planted: Planted) -> None:
    findings = find(planted(noise=1e-5), QUICK)
    assert findings.fits[0].law.parameters == pytest.approx(
        {"E": 1.1, "A": 60.0, "B": 90.0, "alpha": 0.33, "beta": 0.32}, rel=0.02
    )
    words = text_of(render_report(findings))
    answer = words.index("Held-out loss follows L =")
    assert answer < words.index("Loss and compute") and "Is the loss a power law?" in words[:answer]
    labels = [found.label for found in answers(findings)]
    assert labels == ["Train next", "Held out", "Law", "Band", "Which law", "Zero-shot", "Which form"]


def test_the_next_runs_are_the_planted_laws_optima_and_lie_in_their_intervals(
    planted: Planted, planted_law: Hoffmann
) -> None:
    findings = find(planted(noise=1e-3), QUICK)
    most = float(findings.loss["flops_6nd"].max())  # type: ignore[arg-type]
    assert [run.best.flops / most for run in findings.next_runs] == pytest.approx([1, 10, 100])
    for run in findings.next_runs[:2]:
        true = planted_law.optimum(run.best.flops)
        for interval, value in ((run.params, true.params), (run.tokens, true.tokens), (run.loss, true.loss)):
            assert interval.low is not None and interval.high is not None and interval.low < value < interval.high


def test_a_new_run_is_less_sure_than_the_curve(planted: Planted) -> None:
    band = next(answer for answer in answers(find(planted(), QUICK)) if answer.label == "Band")
    curve, run = (
        [float(end) for end in re.search(rf"{what} ([\d.]+) to ([\d.]+)", band.lead).groups()]  # type: ignore[union-attr]
        for what in ("curve lies in", "new run in")
    )
    assert run[0] < curve[0] < curve[1] < run[1]


def test_the_band_is_given_at_the_run_of_most_compute(planted: Planted) -> None:
    """The largest size may have been the shortest run."""
    rows = [row for row in planted().table.to_dicts() if row["size"] != "6x192" or row["tokens"] == 400_000]
    band = next(answer for answer in answers(find(planted(rows=rows), QUICK)) if answer.label == "Band")
    assert "at the run of most compute, N 859k on 6.4M tokens" in band.sentences[0]


def test_the_largest_size_is_held_out_by_the_law_that_is_drawn(planted: Planted) -> None:
    findings = find(planted(laws=("log-linear", "gadre")), QUICK)
    assert findings.drawn is not None and [window.law for window in findings.windows] == ["gadre"]
    assert findings.drawn.law.name == "gadre"
    held = next(answer for answer in answers(findings) if answer.label == "Held out")
    side = "inside" if findings.windows[0].inside else "outside"
    assert f"Its run of most compute lies {side} the predicted 95% interval" in held.sentences[1]


def test_provenance_conventions_and_failures_are_told(planted: Planted) -> None:
    words = text_of(render_report(find(planted(failed={"6x192-400000": "loss is nan at step 47"}), QUICK)))
    for wanted in ("c0ffee", "abc123", "parent0", "child0", "loss is nan at step 47", "parameters with embeddings"):
        assert wanted in words, wanted


def test_one_tokens_per_parameter_ratio_is_told_in_the_answer_with_the_runs_to_add(planted: Planted) -> None:
    data = planted()
    rows = [
        {**row, "tokens": 20 * row["params_total"], "flops_6nd": 120.0 * row["params_total"] ** 2}
        for row in largest_budget(data.table).to_dicts()
    ]
    findings = find(planted(rows=rows), QUICK)
    assert findings.fits[0].status is Status.NOT_IDENTIFIABLE
    assert findings.surface is None and findings.next_runs == []
    words = told(findings)
    assert "hoffmann is not identifiable: every run has the same 20 tokens per parameter" in words
    assert "Train next Runs that determine a law come first." in words
    assert re.search(r"The cheapest runs that determine the law most: \dx\d+ on \d", words)


def test_runs_to_add_leave_the_one_ratio(planted: Planted) -> None:
    rows = [{**row, "tokens": 20 * row["params_total"]} for row in largest_budget(planted().table).to_dicts()]
    findings = find(planted(rows=rows), QUICK)
    assert findings.additions is not None
    assert any(abs(run.tokens / run.params / 20 - 1) > 0.5 for run in findings.additions.proposal.runs)


def test_a_single_size_is_reported_with_what_it_cannot_tell(planted: Planted) -> None:
    findings = find(planted(sizes={"2x64": 132_928}), QUICK)
    assert findings.fits == [] or all(fit.status is Status.NOT_IDENTIFIABLE for fit in findings.fits)
    words = text_of(render_report(findings))
    assert "3 runs with a loss: 1 size," in words
    assert "1 distinct sizes; hoffmann needs 3" in words or "3 points are fewer" in words


def test_one_run_makes_a_report_that_says_what_is_missing(planted: Planted) -> None:
    words = text_of(render_report(find(planted(rows=planted().table.head(1).to_dicts()), QUICK)))
    assert "These runs do not determine a law of the loss." in words
    assert "1 points are fewer than the 5 parameters of hoffmann" in words


def test_two_runs_make_a_report(planted: Planted) -> None:
    words = text_of(render_report(find(planted(rows=planted().table.head(2).to_dicts()), QUICK)))
    assert "2 points are fewer than the 5 parameters of hoffmann" in words


def test_missing_scores_are_dashes_and_leave_the_rest_standing(planted: Planted) -> None:
    rows = planted().table.to_dicts()
    rows[0]["cloze/accuracy"] = None
    rows[2]["cloze/accuracy"] = None  # a size at its largest token count
    rows[5] |= {"status": "failed", "heldout/loss": None, "cloze/accuracy": None}
    rows[6] |= {"status": "waiting", "heldout/loss": None, "cloze/accuracy": None, "params_total": None, "size": None}
    findings = find(planted(rows=rows), QUICK)
    assert findings.loss.height == 10
    html = render_report(findings)
    assert re.search(r'<td class="text">2x64, 6.4M tokens</td><td>-</td></tr>', html)
    assert "Not finished yet" in html


def test_a_score_that_no_run_has_is_left_out(planted: Planted) -> None:
    rows = [{**row, "cloze/accuracy": None} for row in planted().table.to_dicts()]
    findings = find(planted(rows=rows), QUICK)
    assert findings.scores[-1].fit is None and findings.scores[-1].rows.height == 0
    assert 'aria-label="cloze/accuracy"' not in render_report(findings)


def test_a_score_that_never_changes_has_no_line(planted: Planted) -> None:
    rows = [{**row, "cloze/accuracy": 0.0} for row in planted().table.to_dicts()]
    score = find(planted(rows=rows), QUICK).scores[-1]
    assert score.fit is None and score.refusal == "every size scores the same 0"


def test_no_finished_run_is_refused_with_what_to_do(planted: Planted, tmp_path: Path) -> None:
    rows = [{**row, "status": "running"} for row in planted().table.to_dicts()]
    with pytest.raises(InputError, match=r"no finished run.*12 running.*ladder run planted"):
        write_report(planted(rows=rows), tmp_path / "index.html", QUICK)
    assert not (tmp_path / "index.html").exists()


def test_a_sweep_of_failed_runs_is_refused_with_their_reasons(planted: Planted) -> None:
    rows = [{**row, "status": "failed", "heldout/loss": None} for row in planted().table.to_dicts()]
    failed = {str(row["run"]): f"loss is nan at step {place}" for place, row in enumerate(rows)}
    with pytest.raises(InputError, match=r"12 failed.*Failed: 2x64-400000: loss is nan at step 0.*and 9 more"):
        find(planted(rows=rows, failed=failed), QUICK)


def test_no_training_curve_leaves_its_figures_out(planted: Planted, page: str) -> None:
    data = planted()
    assert "Training loss against tokens" in page
    html = render_report(find(replace(data, curves=data.curves.clear()), QUICK))
    assert "Training loss against tokens" not in html and "Held-out loss against size" in html


def test_a_score_that_bends_back_is_called_not_monotone(planted: Planted) -> None:
    bent = pl.Series("cloze/accuracy", [0.3, 0.5, 0.6, 0.55])
    rows = largest_budget(planted().table).sort("params_total").with_columns(bent)
    findings = find(planted(rows=rows.to_dicts()), QUICK)
    score = next(score for score in findings.scores if score.name == "cloze/accuracy")
    assert not score.monotone
    assert "Not monotone in size: cloze/accuracy" in told(findings)


def test_repeated_seeds_are_told_with_their_noise(planted: Planted) -> None:
    rows = planted().table.to_dicts()
    again = [
        {**row, "run": f"{row['run']}-s1", "seed": 1, "heldout/loss": row["heldout/loss"] * 1.02} for row in rows[:4]
    ]
    findings = find(planted(rows=rows + again), QUICK)
    assert findings.noise is not None
    assert findings.noise.standard_deviation == pytest.approx(0.0198 / 2**0.5, rel=0.01)
    assert "Seeds repeated at 4 settings (8 runs): standard deviation 1.40%" in told(findings)
    assert "Runs that differ in the seed alone differ by 1.40%" in told(findings)


def test_the_papers_models_stand_below_ones_own_in_the_table(planted: Planted, referenced: pl.DataFrame) -> None:
    html = render_report(find(replace(planted(), references=referenced), QUICK))
    words = text_of(html)
    table = words[words.index("Scores beside the paper") :]
    own, mark, paper = (table.index(text) for text in ("6x192, 6.4M tokens", "Radford et al. 2019", "GPT-2 117M"))
    assert own < mark < paper < table.index("GPT-2 1542M")
    assert "0.87" in table[paper:] and "0.93" in table[paper:]
    panel = re.search(r'<svg[^>]*aria-label="cloze/accuracy".*?</svg>', html, flags=re.DOTALL)
    assert panel is not None and "GPT-2 paper" in panel.group()


def test_references_carry_the_papers_parameters_once_each(referenced: pl.DataFrame) -> None:
    assert referenced.schema == REFERENCE_SCHEMA
    assert referenced.rows() == [
        ("cloze/accuracy", "117M", 124_439_808, 0.87),
        ("cloze/accuracy", "1542M", 1_557_611_200, 0.93),
    ]


def test_a_measurement_without_the_papers_scores_has_no_diamonds(page: str) -> None:
    assert "GPT-2 paper</text>" not in page and "Radford et al. 2019" not in page


def test_words_from_outside_are_escaped(planted: Planted) -> None:
    html = render_report(find(planted(failed={"x": "<script>alert(1)</script>"}), QUICK))
    assert "<script" not in html


def test_no_budget_with_three_sizes_is_said(planted: Planted) -> None:
    findings = find(planted(), QUICK)
    assert findings.isoflop is not None and not findings.isoflop.used
    assert "No view at equal compute: no budget of this design has three sizes" in told(findings)


def test_a_design_at_equal_compute_is_drawn_as_parabolas(planted: Planted, planted_law: Hoffmann) -> None:
    rows = planted().table.head(1).to_dicts()
    made = []
    for flops in (1e13, 1e14, 1e15):
        best = planted_law.optimum(flops)
        for factor in (0.4, 0.7, 1.0, 1.5, 2.5):
            params = round(best.params * factor)
            tokens = round(flops / (6 * params))
            loss = float(planted_law.score(N=params, D=tokens))
            made.append(
                rows[0] | {"run": f"{flops}-{factor}", "size": str(params), "params_total": params, "tokens": tokens}
                | {"flops_6nd": 6.0 * params * tokens, "heldout/loss": loss, "params_non_embedding": params}
            )  # fmt: skip
    findings = find(planted(rows=made), QUICK)
    assert findings.isoflop is not None and len(findings.isoflop.used) == 3
    words = text_of(render_report(findings))
    assert "Loss at equal compute" in words and "Best size against compute" in words
    assert findings.isoflop.frontier is not None
    assert findings.isoflop.frontier.a == pytest.approx(planted_law.a, abs=0.02)


def test_thousands_of_runs_still_make_a_small_page(planted: Planted) -> None:
    data = planted()
    rows = data.table.to_dicts()
    many = [{**row, "run": f"{row['run']}-{seed}", "seed": seed} for seed in range(200) for row in rows]
    findings = find(planted(rows=many), FitOptions(bootstrap=2, starts=2))
    html = render_report(replace_curves(findings))
    assert findings.loss.height == 2400
    assert len(html.encode()) < 2e6 and "1900 more are not shown" in html
    assert "data:image/png;base64" in html


def replace_curves(findings: Findings) -> Findings:
    """The findings without training curves, which are not what is weighed."""
    return replace(findings, data=replace(findings.data, curves=findings.data.curves.clear()))


def test_names_with_dollar_signs_are_no_formulas(planted: Planted) -> None:
    html = render_report(find(planted(sizes={"$a^b$": 132_928, "4x128": 859_008}), QUICK))
    assert "$a^b$" in html


def test_the_held_out_loss_is_shown_in_one_unit_and_told_in_the_others(planted: Planted) -> None:
    rows = [
        {**row, "heldout/perplexity": 2.718 ** row["heldout/loss"], "heldout/bits_per_byte": row["heldout/loss"] / 2.5}
        for row in planted().table.to_dicts()
    ]
    html = render_report(find(planted(rows=rows), QUICK))
    for other in ("heldout/perplexity", "heldout/bits_per_byte"):
        assert other not in html, "neither a panel nor a column"
    words = text_of(html)
    assert "Held-out loss is shown in nats per token." in words
    assert re.search(r"in other units: bits per byte [\d.]+, perplexity [\d.]+\.", words)
    assert [score.name for score in find(planted(rows=rows), QUICK).scores] == ["cloze/accuracy"]


def test_every_table_scrolls_on_a_phone_and_keeps_its_first_column(page: str) -> None:
    tables = [match.start() for match in re.finditer("<table", page)]
    assert tables and all('<div class="scroll"' in page[start - 60 : start] for start in tables)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "overflow-x: auto" in style
    assert re.search(r"\.scroll td:first-child, \.scroll th:first-child { position: sticky; left: 0;", style)
    narrow = style[style.index("max-width: 560px") : style.index("@media print")]
    assert "white-space: normal; }" not in narrow.split(".scroll th:first-child")[0], "other columns do not wrap"


def test_other_conventions_of_size_and_compute_stand_beside_the_first(planted: Planted) -> None:
    rows = [
        {**row, "params_non_embedding": int(5 * row["params_total"] ** 0.85), "flops_exact": 1.3 * row["flops_6nd"]}
        for row in planted(noise=1e-4).table.to_dicts()
    ]
    findings = find(planted(rows=rows), QUICK)
    assert list(findings.conventions) == ["N total, 6 N D", "N without embeddings", "FLOPs with attention"]
    first, other, attention = findings.conventions.values()
    assert first is findings.fits[0]
    assert other.law.values["alpha"] == pytest.approx(first.law.values["alpha"] / 0.85, rel=0.02)
    assert attention.law.values["B"] == pytest.approx(first.law.values["B"] * 1.3 ** first.law.values["beta"], rel=0.02)
    html = render_report(findings)
    table = html[html.index("The same law under other conventions") :]
    row = table[table.index('<td class="text">a</td>') :].split("</tr>")[0]
    assert row.count("<td") == 4 and " *" in row, "the exponent of the optimum leaves the first one's interval"


def test_a_sweep_with_one_convention_has_no_table_of_them(planted: Planted) -> None:
    rows = [{**row, "params_non_embedding": None, "flops_exact": None} for row in planted().table.to_dicts()]
    assert find(planted(rows=rows), QUICK).conventions == {}
