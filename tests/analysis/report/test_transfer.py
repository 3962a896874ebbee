"""Transfer against size, data and loss: planted laws come back, intervals cover, what does not move is said to."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from ladder.analysis.fitting.fits import Fit, FitOptions, fit_law
from ladder.analysis.fitting.points import make_points
from ladder.analysis.fitting.two_step import TwoStepFit
from ladder.analysis.report.captions import transfer_limits, transfer_sentences
from ladder.analysis.report.findings import (
    MOVES,
    OPEN,
    STILL,
    Findings,
    TransferFinding,
    find,
    find_transfer,
    training_lines,
    transfer_score,
)
from ladder.analysis.report.page import render_report
from ladder.analysis.report.scores import transfer_rows
from ladder.analysis.tables.sweeps import OVER_TRAINING_SCHEMA, TRANSFER_SCHEMA, SweepData

QUICK = FitOptions(bootstrap=100, starts=30)
Planted = Callable[..., SweepData]
PARAMS = (20_000, 60_000, 180_000, 540_000, 1_600_000, 5_000_000)
SEEDS = 5


def beside(value: float, low: float | None, high: float | None) -> dict[str, Any]:
    difference = {"value": value, "error_seeds": 0.01, "error_items": 0.01, "low": low, "high": high}
    return {"value": 0.6, "name": "other", "difference": difference}


def transfer(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """A table of transfer, the columns that a row lacks filled."""
    common = {
        "tokens": 1_000_000, "task": "sst2", "metric": "accuracy", "unit": "share of items", "direction": "higher",
        "chance": 0.5, "setting": "", "layers": "all", "standard_error_seeds": 0.01, "standard_error_items": 0.017,
        "collapsed": 0, "missing": 0, "cut_share": 0.25,
        "beside": {"bag_of_words": beside(-0.1, -0.14, -0.06), "majority": beside(0.1, 0.02, 0.18),
                   "scratch": beside(0.05, 0.01, 0.09)},
    }  # fmt: skip
    made = [common | row for row in rows]
    for row in made:
        row.setdefault("checkpoint", f"{row['params_total']}-{row['tokens']}")
        row.setdefault("run", row["checkpoint"])
        row.setdefault("size", f"n{row['params_total']}")
    return pl.DataFrame([{name: row[name] for name in TRANSFER_SCHEMA} for row in made], schema=TRANSFER_SCHEMA)


def curve(
    draw: np.random.Generator, law: Callable[[float], float], *, seed_noise: float, seeds: int = SEEDS, **more: Any
) -> list[dict[str, Any]]:
    """A row for each size and seed."""
    return [
        {"params_total": n, "seed": seed, "score": law(n) + seed_noise * draw.standard_normal()} | more
        for n in PARAMS
        for seed in range(seeds)
    ]


def straight(n: float) -> float:
    return 0.2 + 0.03 * float(np.log(n))


def of_table(planted: Planted, table: pl.DataFrame, **changes: Any) -> Findings:
    return find(replace(planted(), transfer=table, **changes), QUICK)


def test_what_rises_moves_and_what_is_flat_does_not(planted: Planted) -> None:
    draw = np.random.default_rng(0)
    rows = curve(draw, straight, seed_noise=0.01)
    rows += curve(draw, lambda n: 0.01, seed_noise=0.02, task="cola", metric="mcc", chance=0.0)
    rows += curve(draw, lambda n: 0.0, seed_noise=0.0, task="wnli", collapsed=5)
    rows += curve(draw, straight, seed_noise=0.3, task="rte", seeds=1)
    found = find_transfer(replace(planted(), transfer=transfer(rows)), QUICK)
    told = {one.score.name.split("/")[0]: one.movement for one in found}
    assert told == {"sst2": MOVES, "cola": STILL, "wnli": STILL, "rte": OPEN}
    assert [one.laws == {} for one in found] == [False, True, True, False], "no law describes what does not move"
    slope = found[0].score.fit
    assert slope is not None and slope.law.parameters["b"] == pytest.approx(0.03, abs=0.005)


def test_what_has_a_slope_beyond_zero_is_never_said_not_to_move() -> None:
    """Six sizes that differ by less than their two seeds let show, of which a line through all rises."""
    scores = [0.49, 0.51, 0.48, 0.52, 0.51, 0.53, 0.50, 0.55, 0.53, 0.56, 0.52, 0.58]
    rows = [{"params_total": n, "seed": s, "score": scores[2 * k + s]} for k, n in enumerate(PARAMS) for s in (0, 1)]
    score = transfer_score(transfer(rows), False, QUICK)
    assert score.fit is not None and (score.fit.intervals["b"].low or 0) > 0
    finding = TransferFinding(score=score, of_scratch=False, rows=transfer(rows), laws={})
    assert finding.movement == OPEN


def test_the_gain_over_scratch_is_a_curve_of_its_own_by_seed(planted: Planted) -> None:
    draw = np.random.default_rng(1)
    rows, shared = [], draw.normal(0, 0.05, SEEDS)
    for n in PARAMS:
        for seed in range(SEEDS):
            of_seed = float(shared[seed]) + 0.02 * float(draw.standard_normal())
            rows.append({"params_total": n, "seed": seed, "score": straight(n) + of_seed})
            rows.append({"params_total": n, "seed": seed, "score": 0.5 + of_seed, "layers": "nothing"})
    score, gain = find_transfer(replace(planted(), transfer=transfer(rows)), QUICK)
    assert not score.of_scratch and gain.of_scratch and gain.movement == MOVES
    assert gain.rows["score"].to_list() == pytest.approx([straight(n) - 0.5 for n in PARAMS for _ in range(SEEDS)])
    assert gain.score.name == "sst2/accuracy gained over scratch" and gain.score.chance is None


def slope_holds(rows: list[dict[str, Any]], truth: float) -> tuple[bool, float]:
    """Whether the slope's 95 % interval holds the truth, and its width."""
    score = transfer_score(transfer(rows), False, QUICK)
    assert score.fit is not None
    ends = score.fit.intervals["b"]
    assert ends.low is not None and ends.high is not None
    return ends.low <= truth <= ends.high, ends.high - ends.low


def test_intervals_of_a_slope_cover_with_known_noise_of_seeds_and_of_runs() -> None:
    """500 draws of six sizes and five seeds: seeds alone, and sizes that miss the line as well."""
    draw = np.random.default_rng(2)
    held = np.zeros(2)
    for _ in range(500):
        rows = curve(draw, straight, seed_noise=0.03)
        held[0] += slope_holds(rows, 0.03)[0]
        missed = dict(zip(PARAMS, draw.normal(0, 0.03, len(PARAMS)), strict=True))
        held[1] += slope_holds([row | {"score": row["score"] + missed[row["params_total"]]} for row in rows], 0.03)[0]
    assert ((held / 500 >= 0.92) & (held / 500 <= 0.98)).all(), held / 500


def test_paired_slopes_cover_and_are_narrower_than_unpaired() -> None:
    """300 draws; what a size and a seed share with scratch drops out of the difference of the two."""
    draw = np.random.default_rng(3)
    held, ratios = 0, []
    for _ in range(300):
        shared = draw.normal(0, 0.04, (len(PARAMS), SEEDS))
        ours, theirs = (shared + draw.normal(0, 0.01, shared.shape) for _ in range(2))
        gains = {}
        for name, other in (("paired", theirs), ("unpaired", np.roll(theirs, 1, axis=1)[np.roll(np.arange(6), 1)])):
            gains[name] = [
                {"params_total": n, "seed": seed, "score": straight(n) + float(ours[i, seed] - other[i, seed])}
                for i, n in enumerate(PARAMS)
                for seed in range(SEEDS)
            ]
        holds, width = slope_holds(gains["paired"], 0.03)
        held += holds
        ratios.append(width / slope_holds(gains["unpaired"], 0.03)[1])
    assert 0.92 <= held / 300 <= 0.98 and np.median(ratios) < 0.5


@pytest.mark.simulation
@pytest.mark.parametrize("law", ["saturating", "sigmoid"])
def test_intervals_of_bent_laws_cover(law: str) -> None:
    """500 draws of six sizes and five seeds; an unknown end counts as holding."""
    draw, options = np.random.default_rng(4), FitOptions(bootstrap=400, starts=30)
    truth: dict[str, Callable[[float], float]] = {
        "saturating": lambda n: 0.9 - 4.0 * n**-0.25,
        "sigmoid": lambda n: 0.5 + 0.35 / (1 + float(np.exp(12 - np.log(n)))),
    }
    wanted = {"saturating": ("alpha", 0.25), "sigmoid": ("b", 1.0)}[law]
    options = replace(options, constants={"chance": 0.5} if law == "sigmoid" else {})
    held = unknown = 0
    for _ in range(500):
        rows = curve(draw, truth[law], seed_noise=0.01)
        points = make_points([row["score"] for row in rows], params=[row["params_total"] for row in rows])
        ends = fit_law(law, points, options).intervals[wanted[0]]
        unknown += not ends.known
        low, high = (-np.inf if ends.low is None else ends.low), (np.inf if ends.high is None else ends.high)
        held += low <= wanted[1] <= high
    print(law, held / 500, "unknown", unknown / 500)
    assert 0.92 <= held / 500


def test_laws_in_data_in_loss_and_by_way_of_it_come_back(planted: Planted) -> None:
    """The sweep of the planted Hoffmann law, its scores a sigmoid of its loss."""
    data, draw, rows = planted(noise=1e-3), np.random.default_rng(5), []
    for run in data.table.to_dicts():
        score = 0.45 / (1 + np.exp(4.0 * (run["heldout/loss"] - 2.2))) + 0.5
        rows += [
            {name: run[name] for name in ("run", "size", "params_total", "tokens")}
            | {"checkpoint": run["run"], "seed": seed, "score": score + 0.002 * draw.standard_normal()}
            for seed in range(3)
        ]
    (found,) = find_transfer(replace(data, transfer=transfer(rows)), QUICK)
    by_loss, both = found.laws["held-out loss"], found.laws["N and D by way of held-out loss"]
    assert isinstance(by_loss, Fit) and by_loss.law.name == "loss-sigmoid"
    assert by_loss.law.parameters["k"] == pytest.approx(4.0, rel=0.15)
    assert isinstance(both, TwoStepFit) and both.law.parameters["alpha"] == pytest.approx(0.33, rel=0.1)
    in_data = next(law for axis, law in found.laws.items() if axis.startswith("tokens"))
    assert isinstance(in_data, Fit | str)


def test_where_no_law_can_be_fitted_the_reason_is_told(planted: Planted) -> None:
    rows = curve(np.random.default_rng(6), straight, seed_noise=0.01, tokens=None, run=None)
    (found,) = find_transfer(replace(planted(), transfer=transfer(rows)), QUICK)
    assert all(isinstance(law, str) and law for law in found.laws.values())


def test_the_report_says_what_is_not_above_and_what_it_cannot_show(planted: Planted) -> None:
    rows = curve(np.random.default_rng(7), straight, seed_noise=0.01)
    findings = of_table(planted, transfer(rows))
    told = " ".join(transfer_sentences(findings))
    assert "6 of 6 are not above bag of words beyond doubt" in told and "All are above majority beyond doubt" in told
    assert MOVES in told and "Per doubling of N" in told
    assert "6 sizes and 5 seeds." in transfer_limits(findings) and "Up to 25%" in transfer_limits(findings)
    (first, *_) = transfer_rows(findings.data)
    assert first[3].startswith("0.4") and "se of seeds 0.01, items 0.017\n5 seeds" in first[3]
    assert first[-1] == "+0.05\n+0.01 to +0.09"
    html = render_report(findings)
    assert 'id="transfer"' in html and "bag of words" in html
    assert 'id="transfer"' not in render_report(find(planted(), QUICK))


def test_recipes_of_a_task_are_never_mixed(planted: Planted) -> None:
    """Few examples give half of what many give: each setting has its own curve, gain, sentences and rows."""
    draw, rows = np.random.default_rng(9), []
    for setting, share in (("train examples 500", 0.5), ("train examples 4000", 1.0)):
        for layers, worse in (("all", 0.0), ("nothing", 0.1)):
            rows += curve(draw, lambda n, share=share, worse=worse: share * (straight(n) - worse), seed_noise=0.001,
                          setting=setting, layers=layers)  # type: ignore[misc]  # fmt: skip
    findings = of_table(planted, transfer(rows))
    names = [one.score.name for one in findings.transfer]
    assert names == [
        f"sst2/accuracy (train examples {n}) {what}" for n in (500, 4000)
        for what in ("after fine-tuning", "gained over scratch")
    ]  # fmt: skip
    few, gain_few, many, gain_many = (one.rows["score"].to_numpy() for one in findings.transfer)
    assert len(few) == len(many) == len(PARAMS) * SEEDS and np.allclose(2 * few, many, atol=0.02)
    assert np.allclose(gain_few, 0.05, atol=0.01) and np.allclose(gain_many, 0.1, atol=0.01)
    table = transfer_rows(findings.data)
    assert len(table) == 4 * len(PARAMS) and {row[2] for row in table} == {
        f"{layers}\ntrain examples {n}" for layers in ("all", "nothing") for n in (500, 4000)
    }
    assert "12 are not above bag of words" in " ".join(transfer_sentences(findings))


def test_scores_over_training_are_drawn_raw_and_between_chance_and_the_reference(planted: Planted) -> None:
    """Two sizes of two budgets: of each the longest run alone; one score has no reference."""
    data, rows = planted(), []
    for run in data.table.to_dicts():
        for tokens in (0, run["tokens"] // 4, run["tokens"]):
            common = {"run": run["run"], "tokens": tokens, "unit": "share of items", "chance": 0.5, "count": 872}
            value = 0.5 + 0.01 * np.log1p(tokens)
            sst2 = {"value": value, "normalised": (value - 0.5) / 0.432, "normalised_error": 0.04, "metric": "accuracy"}
            rows.append(common | sst2 | {"benchmark": "sst2", "standard_error": 0.017, "reference": "0.932, mLSTM"})
            rows.append(common | {"benchmark": "dprd", "metric": "accuracy", "value": value, "standard_error": None})
    findings = of_table(planted, transfer([]))
    findings = replace(findings, data=replace(data, over_training=pl.DataFrame(rows, schema=OVER_TRAINING_SCHEMA)))
    lines = training_lines(findings.data)
    assert lines["line"].unique(maintain_order=True).to_list() == ["2x64", "3x96", "4x128", "6x192"]
    assert set(lines["tokens"]) == {0, 1_600_000, 6_400_000}
    html = render_report(findings)
    assert 'id="over-training"' in html and html.count("tokens seen") >= 3
    assert "1 stands for: sst2/accuracy 0.932, mLSTM. Without a reference: dprd/accuracy." in html
    assert "6x192, normalised" in html and "untrained network: 2. Items:" in html
    assert 'id="over-training"' not in render_report(find(data, QUICK))


def test_what_is_taken_over_is_drawn_where_more_than_all_and_nothing_was(planted: Planted) -> None:
    draw, rows = np.random.default_rng(8), []
    for place, layers in enumerate(("nothing", "embeddings", "1", "all")):
        rows += curve(draw, lambda n, place=place: straight(n) + 0.02 * place, seed_noise=0.01, layers=layers)  # type: ignore[misc]
    assert "by what is taken over" in render_report(of_table(planted, transfer(rows)))
    few = transfer([row for row in rows if row["layers"] in ("nothing", "all")])
    assert "by what is taken over" not in render_report(of_table(planted, few))
