"""Published tables become reports: what a column holds is said or follows from its name; nothing is lost silently."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ladder.analysis.fitting.fits import FitOptions
from ladder.analysis.laws.law import format_count
from ladder.analysis.report.answers import answers
from ladder.analysis.report.captions import conventions
from ladder.analysis.report.findings import Findings, find
from ladder.analysis.report.page import write_report
from ladder.analysis.tables.sweeps import HELDOUT_LOSS
from ladder.analysis.tables.table_runs import TableColumns, read_table_runs, score_kind, table_runs, widen
from ladder.models.errors import InputError

QUICK = FitOptions(bootstrap=100, starts=30)
PYTHIA_SIZES = {
    "70m": 70_426_624, "160m": 162_322_944, "410m": 405_334_016, "1b": 1_011_781_632, "1.4b": 1_414_647_808,
    "2.8b": 2_775_208_960, "6.9b": 6_857_302_016, "12b": 11_846_072_320,
}  # fmt: skip
"""Parameters with embeddings (Biderman et al. 2023, table 1); the table itself has names alone."""
PYTHIA_STEPS, PYTHIA_BATCH = 143_000, 2_097_152


def little() -> pl.DataFrame:
    """Four rows, one without N and one that belongs to another data set."""
    return pl.DataFrame(
        {
            "N": [1e6, None, 4e6, 1.6e7],
            "D": [1e8, 1e8, 2e8, 4e8],
            "loss": [4.0, 3.9, 3.5, 3.0],
            "err_cloze": [0.8, 0.7, 0.6, 0.4],
            "err_cloze_stderr": [0.01, 0.01, 0.01, 0.01],
            "data": ["a", "a", "a", "b"],
        }
    )


def of(**changes: object) -> TableColumns:
    """Columns of `little`."""
    columns: dict[str, object] = {"scores": ("loss", "err_cloze"), "params": "N", "tokens": "D"}
    return TableColumns(**(columns | changes))  # type: ignore[arg-type]


def sentences(findings: Findings) -> str:
    """The first screen in one string."""
    return " ".join(part for answer in answers(findings) for part in (answer.lead, *answer.sentences))


def test_the_kind_of_a_score_follows_from_its_name_or_is_said() -> None:
    names = ("loss_c4", "LAMBADA_PPL", "LAMBADA_ACC", "enwik8_BPB", "err_piqa", "piqa_acc_norm")
    assert [score_kind(name)[1] for name in names] == ["loss", "perplexity", "accuracy", "bits", "error", "accuracy"]
    assert score_kind("piqa=accuracy") == ("piqa", "accuracy")
    with pytest.raises(InputError, match=r"'piqa' does not say what it is; write --score piqa=KIND"):
        score_kind("piqa")


def test_a_row_without_a_size_is_left_out_with_the_reason() -> None:
    data = table_runs(little(), of(), "little", {})
    assert data.failed.rows() == [("row 2", "params, flops missing or not above 0")]
    assert data.finished.height == 3 and data.table["status"].to_list()[1] == "left out"


def test_errors_become_accuracies_with_their_standard_errors() -> None:
    data = table_runs(little(), of(), "little", {})
    assert data.finished["err_cloze"].to_list() == pytest.approx([0.2, 0.4, 0.6])
    assert data.describe("err_cloze")["direction"] == "higher"
    assert data.standard_errors["standard_error"].to_list() == [0.01] * 4
    assert "errors are shown as accuracies, 1 - error: err_cloze" in data.question


def test_errors_in_percent_become_accuracies_in_percent() -> None:
    table = little().with_columns(pl.col("err_cloze") * 100)
    assert table_runs(table, of(), "little", {}).finished["err_cloze"].to_list() == pytest.approx([20, 40, 60])


def test_the_third_of_size_data_and_compute_follows_from_the_other_two() -> None:
    table = little().drop_nulls().with_columns(C=6 * pl.col("N") * pl.col("D"))
    both = table_runs(table, of(tokens=None, flops="C"), "little", {})
    assert both.table["tokens"].to_list() == [100_000_000, 200_000_000, 400_000_000]
    sizes = table_runs(table, of(params=None, flops="C"), "little", {})
    assert sizes.table["params_total"].to_list() == [1_000_000, 4_000_000, 16_000_000]


def test_only_rows_with_the_value_are_kept_and_the_highest_losses_dropped() -> None:
    data = table_runs(little(), of(where=("data=a",)), "little", {})
    assert data.table.height == 3
    assert table_runs(little(), of(where=("data=*a*",)), "little", {}).table.height == 3
    dropped = table_runs(little(), of(drop_highest=1), "little", {})
    assert dropped.failed["reason"].to_list()[0] == "among the highest losses, dropped as asked"
    with pytest.raises(InputError, match="no row of little has data=c"):
        table_runs(little(), of(where=("data=c",)), "little", {})


def test_checkpoints_of_one_run_are_drawn_together() -> None:
    data = table_runs(little(), of(cluster="data", run="data"), "little", {})
    assert data.table["run"].to_list() == ["a (row 1)", "a (row 2)", "a (row 3)", "b (row 4)"]
    assert list(data.clusters.values()) == ["a", "a", "a", "b"]
    findings = find(table_runs(little().drop_nulls(), of(cluster="data", laws=("power",)), "little", {}), QUICK)
    assert findings.fits[0].points.clusters is not None
    assert findings.fits[0].points.clusters.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (of(params="M"), r"no column 'M'; it has N, D, loss"),
        (of(params=None), r"size of the runs is not known; give --params"),
        (of(scores=("data=accuracy",)), r"'data' holds 'a' in row 1, not a number"),
        (of(chance=("loss",)), r"--chance 'loss' has no value; write --chance COLUMN=VALUE"),
        (of(chance=("cloze=0.1",)), r"--chance names cloze, which is no --score"),
        (of(scores=("err_cloze",), drop_highest=2), r"no --score is a loss"),
    ],
)
def test_wrong_columns_are_refused_with_what_to_do(columns: TableColumns, message: str) -> None:
    with pytest.raises(InputError, match=message):
        table_runs(little(), columns, "little", {})


def test_a_table_of_one_row_still_makes_a_report(tmp_path: Path) -> None:
    data = table_runs(little().head(1), of(), "little", {})
    html = write_report(data, tmp_path / "index.html", QUICK).read_text()
    assert "These runs do not determine a law of the loss." in html


def test_the_papers_table_has_two_degrees_of_freedom_and_a_score_that_is_not_monotone(shared: Path) -> None:
    names = ("LAMBADA_PPL", "LAMBADA_ACC", "CBT-CN_ACC", "CBT-NE_ACC", "WikiText2_PPL", "PTB_PPL", "enwik8_BPB")
    names += ("text8_BPC", "WikiText103_PPL", "1BW_PPL")
    table = pl.read_csv(shared / "laws" / "gpt2_table3.tsv", separator="\t")
    # The published R2 are over the paper's names of the sizes; the row of earlier results has none.
    table = table.with_columns(N=pl.col("model_paper").str.extract(r"^(\d+)M$").cast(pl.Float64) * 1e6)
    data = table_runs(table, TableColumns(scores=names, params="N", run="model_paper"), "gpt2", {})
    assert data.failed["run"].to_list() == ["SOTA_pre_GPT2"]
    findings = find(data, QUICK)
    published = [0.967, 0.977, 0.811, 0.935, 0.978, 0.981, 0.937, 0.970, 0.995, 0.966]
    fits = [score.fit for score in findings.scores]
    assert all(fit is not None and fit.health.degrees_of_freedom == 2 for fit in fits)
    assert [fit.health.r_squared for fit in fits if fit is not None] == pytest.approx(published, abs=0.0006)
    assert [score.name for score in findings.scores if not score.monotone] == ["CBT-CN_ACC"]
    assert "Not monotone in size: CBT-CN_ACC." in sentences(findings)
    assert "after a correction for 10 scores" in sentences(findings)


def test_for_pythias_lambada_accuracy_the_report_says_that_a_saturating_form_wins(shared: Path) -> None:
    long = pl.read_csv(shared / "laws" / "pythia_zeroshot" / "pythia_v1_zeroshot.csv")
    last = long.filter((pl.col("step") == PYTHIA_STEPS) & pl.col("model").str.ends_with("deduped"))
    named = last.with_columns(
        score=pl.col("task") + "_" + pl.col("metric"), size=pl.col("model").str.extract(r"pythia-([\d.]+[mb])")
    )
    table = named.pivot(on="score", index=["model", "size"], values="value").with_columns(
        N=pl.col("size").replace_strict(PYTHIA_SIZES, return_dtype=pl.Int64), D=pl.lit(PYTHIA_STEPS * PYTHIA_BATCH)
    )
    assert table.height == 8
    columns = TableColumns(
        scores=("lambada_openai_acc", "winogrande_acc", "logiqa_acc"), params="N", tokens="D", run="model", size="size"
    )
    findings = find(table_runs(table, columns, "pythia", {}), QUICK)
    score = findings.scores[0]
    assert score.fit is not None and score.fit.health.r_squared == pytest.approx(0.898, abs=0.0005)
    assert score.best_form == "saturating" and score.errors["saturating"] < 0.3 * score.errors["log-linear"]
    largest = {window.law: window.relative_error for window in score.windows[-3:]}
    assert largest["saturating"] < 0.01 < 0.1 < largest["log-linear"]
    words = sentences(findings)
    assert (
        "A curve predicts better for lambada_openai_acc (saturating, levelling off, 2.17% off, log-linear 14.59%"
        in words
    )
    assert "The straight line in ln N predicts better for winogrande_acc" in words


def test_hoffmanns_points_give_the_published_law_in_the_report(shared: Path) -> None:
    path = shared / "laws" / "epoch_chinchilla" / "svg_extracted_data.csv"
    columns = TableColumns(scores=("loss",), params="Model Size", flops="Training FLOP", drop_highest=5)
    findings = find(read_table_runs(path, columns), QUICK)
    fit = findings.fits[0]
    assert len(fit.points) == 240
    assert fit.law.parameters["alpha"] == pytest.approx(0.3473, abs=1e-4)
    assert fit.law.parameters["beta"] == pytest.approx(0.3672, abs=1e-4)
    assert "L = 1.817 + 477.8 / N^0.3473 + 2143 / D^0.3672" in sentences(findings)
    assert len(findings.next_runs) == 3


def test_gadres_models_are_filtered_by_their_data_set(shared: Path) -> None:
    path = shared / "laws" / "gadre_overtraining" / "gadre_104_models.csv"
    columns = TableColumns(
        scores=("loss_c4_val", "err_lambada_openai"), params="N", tokens="D", run="name", size="model_name",
        where=("dataset_name=rpj",), laws=("gadre",),
    )  # fmt: skip
    data = read_table_runs(path, columns, "gadre")
    assert data.finished.height == 35 and data.finished[HELDOUT_LOSS].null_count() == 0
    assert "dataset_name=rpj" in data.provenance.origin["columns"] and len(data.provenance.origin["sha256"]) == 64
    findings = find(data, QUICK)
    assert findings.fits[0].law.name == "gadre" and findings.scores[0].references.height == 0
    assert conventions(findings)[0].startswith("N is column N of gadre; D is column D; held-out loss is column loss_c4")


def test_numbers_in_billions_keep_their_digits() -> None:
    """Rounded to whole numbers 32.5 billion was 32, and below half a billion a division by zero."""
    sizes = np.array([0.07, 0.4, 1.4, 6.9, 32.5])
    table = pl.DataFrame({"n": sizes, "d": 300.0, "acc": np.linspace(0.3, 0.6, 5)})
    data = table_runs(table, TableColumns(scores=("acc",), params="n", tokens="d"), "billions", {})
    assert data.table["params_total"].to_list() == sizes.tolist()
    assert find(data, QUICK).scores[0].fitted["params_total"].to_list() == sizes.tolist()


def test_compute_beyond_a_thousand_trillions_is_written_with_an_exponent() -> None:
    assert (format_count(1.8e21), format_count(1.4e12), format_count(9.997e14)) == ("1.8e21", "1.4T", "1e15")


def test_the_last_of_two_checkpoints_within_a_percent_is_the_size() -> None:
    rows = [(1e7, 1e9, 0.30, "a"), (1e7, 0.995e9, 0.29, "a"), (1e8, 1e9, 0.40, "b"), (1e8, 0.995e9, 0.39, "b")]
    rows += [(1e9, 1e9, 0.50, "c"), (1e9, 0.995e9, 0.49, "c")]
    table = pl.DataFrame(rows, schema=["n", "d", "acc", "run"], orient="row")
    columns = TableColumns(scores=("acc",), params="n", tokens="d", cluster="run")
    score = find(table_runs(table, columns, "checkpoints", {}), QUICK).scores[0]
    assert score.fitted["score"].to_list() == [0.30, 0.40, 0.50]


def test_axes_bear_the_names_of_a_tables_own_columns(tmp_path: Path) -> None:
    """They said "N, parameters with embeddings" of a column whose convention nobody knows."""
    N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e6, 1e8, 4), np.geomspace(2e7, 2e9, 3)))
    table = pl.DataFrame({"size of mine": N, "seen": D, "valid loss": 1.8 + 480 / N**0.35 + 2000 / D**0.37})
    columns = TableColumns(scores=("valid loss=loss",), params="size of mine", tokens="seen")
    html = write_report(table_runs(table, columns, "mine", {}), tmp_path / "index.html", QUICK).read_text()
    assert "parameters with embeddings" not in html and "held-out loss, nats per token" not in html
    assert html.count("size of mine</text>") >= 2 and html.count("valid loss</text>") >= 3


def test_a_law_of_accuracies_is_no_law_of_the_loss() -> None:
    with pytest.raises(InputError, match="--law sigmoid is no law of the loss"):
        TableColumns(scores=("loss",), params="n", laws=("sigmoid",))


def test_a_loss_below_zero_is_refused_by_its_row() -> None:
    with pytest.raises(InputError, match="column 'loss' is -3 in row 2; it must be above 0"):
        table_runs(little().with_columns(loss=pl.Series([4.0, -3.0, 3.5, 3.0])), of(), "little", {})


def test_a_refusal_says_why_no_row_can_be_used() -> None:
    table = pl.DataFrame({"n": [1e6, 2e6], "d": [None, None], "loss": [3.0, 2.9]}, schema_overrides={"d": pl.Float64})
    with pytest.raises(InputError, match="2 rows: tokens, flops missing or not above 0"):
        find(table_runs(table, TableColumns(scores=("loss",), params="n", tokens="d"), "empty", {}), QUICK)


def test_the_nine_budgets_of_hoffmanns_figure_are_found_without_a_tolerance(shared: Path) -> None:
    path = shared / "laws" / "epoch_chinchilla" / "svg_extracted_data.csv"
    columns = TableColumns(scores=("loss",), params="Model Size", flops="Training FLOP")
    found = find(read_table_runs(path, columns), FitOptions(bootstrap=50, starts=20)).isoflop
    assert found is not None and len(found.used) == 9
    assert found.frontier is not None and abs(found.frontier.a - 0.5) < 0.05


def test_a_long_table_is_taken_as_it_is(shared: Path) -> None:
    """Model, step, task, metric, value: what lm-evaluation-harness and leaderboards give; N is in the model's name."""
    path = shared / "laws" / "pythia_zeroshot" / "pythia_v1_zeroshot.csv"
    last = str(pl.read_csv(path)["step"].max())
    scores = ("lambada_openai_acc", "winogrande_acc")
    columns = TableColumns(scores=scores, params="model", run="model", where=(f"step={last}",))
    with pytest.raises(InputError, match="of one size are pythia-70m.* and pythia-70m.*; give --group-by"):
        read_table_runs(path, columns)  # deduplicated and not: two families
    data = read_table_runs(path, replace(columns, pool=True))
    sizes = data.finished["params_total"].to_list()
    assert len(sizes) >= 8 and min(sizes) < 2e8 and max(sizes) == 12e9
    one = replace(columns, run=None, where=(*columns.where, "model=*-deduped"))  # one family, its runs named by model
    assert "pythia-1.4b-deduped" in read_table_runs(path, one).finished["run"].to_list()
    assert data.finished["lambada_openai_acc"].null_count() == 0
    twice = pl.DataFrame({"model": ["a", "a"], "task": ["t", "t"], "metric": ["acc", "acc"], "value": [0.1, 0.2]})
    with pytest.raises(InputError, match="t_acc twice for one model"):
        widen(twice)
