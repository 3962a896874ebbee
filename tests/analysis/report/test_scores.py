"""Forms are compared where a score rises with size beyond its noise, and the comparison is by held-out sizes alone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ladder.analysis.fitting.fits import FitOptions
from ladder.analysis.report.answers import Answer, bend_words, form_answer
from ladder.analysis.report.findings import find
from ladder.analysis.report.scores import ScoreFinding, find_scores, holm, largest_budget
from ladder.analysis.tables.sweeps import SweepData
from ladder.analysis.tables.table_runs import TableColumns, table_runs

QUICK = FitOptions(bootstrap=50, starts=30)
SIZES = {f"{place}": round(1e5 * 3**place) for place in range(7)}
Planted = Callable[..., SweepData]


def by_name(data: SweepData, name: str) -> ScoreFinding:
    """One finding, judged beside all others."""
    return next(score for score in find_scores(data, QUICK) if score.name == name)


def found(planted: Planted, scores: np.ndarray) -> ScoreFinding:  # type: ignore[type-arg]
    """The finding of `cloze/accuracy` (standard error 0.01 each) with a score per size, least first."""
    data = planted(sizes=SIZES, budgets=(400_000,))
    rows = data.table.sort("params_total").with_columns(pl.Series("cloze/accuracy", scores))
    return by_name(planted(rows=rows.to_dicts()), "cloze/accuracy")


LOGS = np.log(np.array(list(SIZES.values()), dtype=float))


def test_a_planted_saturation_is_found_and_drawn(planted: Planted) -> None:
    score = found(planted, 0.8 - 0.6 * np.exp(-0.5 * (LOGS - LOGS[0])))
    assert score.best_form == "saturating" and score.bent is not None and score.law is score.bent
    assert score.bent.law.parameters["ceiling"] == pytest.approx(0.8, abs=0.01)
    assert score.errors["saturating"] < 0.1 * score.errors["log-linear"]


def test_a_planted_line_stays_a_line(planted: Planted) -> None:
    score = found(planted, 0.2 + 0.05 * (LOGS - LOGS[0]))
    assert score.best_form == "log-linear" and score.bent is None and score.law is score.fit


def test_scores_that_lie_on_a_line_by_chance_do_not_narrow_its_interval(planted: Planted) -> None:
    """Each has a standard error of 0.01, which the slope's t interval on 5 degrees of freedom carries."""
    score = found(planted, 0.2 + 0.05 * (LOGS - LOGS[0]))
    assert score.fit is not None and score.fit.line is not None
    slope = score.fit.intervals["b"]
    assert slope.low is not None and slope.high is not None
    reach = 2.5706 * 0.01 / np.sqrt(np.sum((LOGS - LOGS.mean()) ** 2))
    assert (slope.high - slope.low) / 2 == pytest.approx(reach, rel=1e-4)


def test_a_curve_that_rises_ever_faster_is_not_said_to_level_off(planted: Planted) -> None:
    """ "A saturating form wins" was said of it."""
    score = found(planted, 0.9 / (1 + np.exp(1 + 0.9 * (LOGS[-1] - LOGS))))
    assert bend_words(score) == "sigmoid, rising ever faster,"
    levelling = found(planted, 0.8 - 0.6 * np.exp(-0.5 * (LOGS - LOGS[0])))
    assert bend_words(levelling) == "saturating, levelling off,"


def test_forms_are_not_compared_on_noise(planted: Planted) -> None:
    """Within four standard errors, or with no direction, the better form would be a draw of lots."""
    flat = found(planted, 0.25 + 0.005 * np.arange(7))
    assert flat.monotone and not flat.resolved and flat.best_form is None and flat.windows == []
    wild = found(planted, np.array([0.1, 0.5, 0.2, 0.4, 0.1, 0.5, 0.2]))
    assert wild.resolved and not wild.rises and wild.best_form is None


def test_forms_are_compared_in_the_same_windows(planted: Planted) -> None:
    score = found(planted, 0.8 - 0.6 * np.exp(-0.5 * (LOGS - LOGS[0])))
    by_form = {
        form: [window.size for window in score.windows if window.law == form]
        for form in ("log-linear", "saturating", "sigmoid")
    }
    assert by_form["log-linear"] == by_form["saturating"] == by_form["sigmoid"] == sorted(by_form["sigmoid"])
    assert by_form["log-linear"][-1] == max(SIZES.values())


def test_the_largest_budget_is_per_size_and_unknown_tokens_keep_all() -> None:
    table = pl.DataFrame({"params_total": [1, 1, 2, 3], "tokens": [10, 1000, 999, None]})
    assert largest_budget(table).rows() == [(1, 1000), (2, 999), (3, None)]


def test_a_lower_score_that_falls_improves() -> None:
    score = perplexity_finding(3000 * np.exp(-0.2 * LOGS))
    assert score.direction == "lower" and score.monotone and score.improves


def test_the_held_out_loss_is_no_score(planted: Planted) -> None:
    """It has the laws of the loss; as a line in ln N, in each unit, it was told four more times."""
    assert [score.name for score in find_scores(planted(), QUICK)] == ["cloze/accuracy"]


def test_of_many_scores_the_surest_must_be_surer() -> None:
    assert holm([0.02], 0.025) == [True]
    assert holm([0.02, 0.6], 0.025) == [False, False]
    assert holm([0.001, 0.02, 0.012], 0.025) == [True, True, True]  # .025 / 3, / 2, / 1
    assert holm([], 0.025) == []


def flat_reports(planted: Planted, simulations: int, n_scores: int) -> float:
    """Share of reports on flat scores, 3 seeds of 4 sizes that share their size's misfit, that call any better."""
    sizes, wrong = np.repeat(list(SIZES.values())[:4], 3), 0
    base = planted(sizes={name: SIZES[name] for name in list(SIZES)[:4]}, budgets=(400_000,)).table.to_dicts()
    for seed in range(simulations):
        generator = np.random.default_rng([4, seed])
        rows = [row | {"run": f"{row['run']}-{s}", "seed": s} for row in base for s in range(3)]
        for number in range(n_scores):
            shared = 0.02 * generator.standard_normal(4)[np.repeat(np.arange(4), 3)]
            values = 0.5 + shared + 0.01 * generator.standard_normal(len(sizes))
            rows = [
                {key: value for key, value in row.items() if key != "cloze/accuracy"}
                | {f"flat{number}/accuracy": value}
                for row, value in zip(rows, values, strict=True)
            ]
        found = find_scores(planted(rows=rows), FitOptions(bootstrap=0, starts=1))
        wrong += any(score.improves for score in found if score.name.startswith("flat"))
    return wrong / simulations


def test_flat_scores_are_seldom_called_better(planted: Planted) -> None:
    """With seeds taken for runs of their own a flat score is called better in 22 to 24 % of the reports."""
    # 2.5 % of 100 has a standard error of 1.6 %; `make test-simulations` counts 1,000.
    assert flat_reports(planted, 100, 1) <= 0.07
    assert flat_reports(planted, 40, 10) <= 0.12


@pytest.mark.simulation
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("n_scores", "most"), [(1, 0.03), (10, 0.05)])
def test_flat_scores_are_called_better_in_3_percent_of_1000_reports(
    planted: Planted, n_scores: int, most: float
) -> None:
    share = flat_reports(planted, 1000, n_scores)
    print(f"{n_scores} flat scores: any called better in {share:.1%} of 1,000 reports")
    assert share <= most


def perplexity_finding(ppl: np.ndarray) -> ScoreFinding:  # type: ignore[type-arg]
    """The finding of a table's perplexities, a size each."""
    table = pl.DataFrame({"N": np.exp(LOGS), "ppl": ppl})
    return next(iter(find_scores(table_runs(table, TableColumns(scores=("ppl",), params="N"), "t", {}), QUICK)))


def test_a_perplexity_that_falls_to_a_floor_is_told_from_one_that_falls_on() -> None:
    noise = np.exp(0.002 * np.random.default_rng(0).standard_normal(7))
    floored = perplexity_finding((20 + 3000 * np.exp(-0.35 * LOGS)) * noise)
    assert floored.best_form == "power-offset" and floored.bent is not None and floored.law is floored.bent
    assert floored.bent.law.parameters["E"] == pytest.approx(20, rel=0.1)
    assert floored.errors["power-offset"] < 0.5 * floored.errors["log-linear"]
    on = perplexity_finding(3000 * np.exp(-0.2 * LOGS) * noise)
    assert on.best_form == "log-linear" or on.errors["log-linear"] < 0.01
    told = " ".join(sentence for answer in form_answer_of(floored) for sentence in answer.sentences)
    assert "ppl (power-offset with a floor of 2" in told


def form_answer_of(score: ScoreFinding) -> list[Answer]:
    """What the first screen says of one score's form."""
    data = table_runs(pl.DataFrame({"N": [1e6], "ppl": [9.0]}), TableColumns(scores=("ppl",), params="N"), "t", {})
    return form_answer(replace(find(data, QUICK), scores=[score]))
